import numpy as np
import onnx
import pytest
import torch

from mammoscope.config import DetectionConfig
from mammoscope.errors import BundleError
from mammoscope.export.detection import export_detector
from mammoscope.inference.detector import (
    METADATA_KEY,
    Detector,
    DetectorContract,
    image_score,
    in_original,
)
from mammoscope.inference.fusion import Boxes
from mammoscope.models.detectors import Candidates
from mammoscope.models.detectors.contract import Detector as Network
from mammoscope.models.detectors.contract import DetectorSpec
from mammoscope.preprocessing import Geometry

SIDE = 32


class Brightest(Network):
    """Finds the one brightest pixel, and draws a box of 4 pixels around it."""

    def forward(self, images):
        width = self.size[1]
        flat = images.flatten(1)
        place = flat.argmax(dim=1)
        x, y = (place % width).float() + 0.5, (place // width).float() + 0.5
        boxes = torch.stack([x - 2, y - 2, x + 2, y + 2], dim=1)[:, None]
        return Candidates(boxes, flat.amax(dim=1)[:, None] / 255, torch.zeros_like(place)[:, None])


def write(path, size, **contract):
    config = DetectionConfig(most_candidates=1)
    network = Brightest(DetectorSpec(config, 1, size, 255))
    values = {"kinds": (), "tile_px": 0, "overlap": 0.25, "fusion_iou": 0.4, "most": 5}
    told = DetectorContract(height=size[0], width=size[1], **(values | contract))
    export_detector(network, told, path)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Detector(write(tmp_path_factory.mktemp("whole") / "model.onnx", (64, 48)), threads=1)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("tiled") / "model.onnx", (SIDE, SIDE), tile_px=SIDE)
    return Detector(path, threads=1)


def spot(shape, y, x, grey=200):
    image = np.zeros(shape, np.uint8)
    image[y, x] = grey
    return image


def test_a_whole_image_gives_a_box_on_its_grid(whole):
    found = whole(spot((64, 48), 30, 10))
    np.testing.assert_allclose(found.box, [[8.5, 28.5, 12.5, 32.5]])
    assert found.score[0] == pytest.approx(200 / 255)


def test_an_image_of_another_size_is_refused_by_name(whole):
    with pytest.raises(BundleError, match="takes images of 64x48, not 64x40"):
        whole(spot((64, 40), 3, 3))


@pytest.mark.parametrize(("y", "x"), [(5, 5), (40, 30), (75, 51)])
def test_tiles_give_one_box_where_several_see_it(tiled, y, x):
    found = tiled(spot((80, 56), y, x))
    assert len(found) == 1
    np.testing.assert_allclose(found.box[0], [x - 1.5, y - 1.5, x + 2.5, y + 2.5])
    assert found.score[0] == pytest.approx(200 / 255)


def test_an_image_without_tissue_has_no_candidates(tiled):
    assert len(tiled(np.zeros((80, 56), np.uint8))) == 0


def test_findings_lie_in_original_pixels_and_within_the_image(whole):
    geometry = Geometry.fit((128, 96), (0, 0, 96, 128), (64, 48), mirrored=True)
    (finding,) = whole.findings(spot((64, 48), 0, 10), geometry)
    # The grid is half as fine and mirrored; what lies above the image is cut off.
    assert (finding.box.x_min, finding.box.x_max) == (71, 79)
    assert (finding.box.y_min, finding.box.y_max) == (0, 5)
    assert finding.found_by == "detector"
    assert finding.kind == "suspicious"


def test_kinds_have_their_names():
    found = Boxes(np.array([[1.0, 1, 4, 4]]), np.array([0.5]), np.array([1]))
    geometry = Geometry.fit((8, 8), (0, 0, 8, 8), (8, 8), mirrored=False)
    assert in_original(found, geometry, ("mass", "calcification"))[0].kind == "calcification"


def test_other_graphs_are_refused(tmp_path, whole):
    path = write(tmp_path / "model.onnx", (64, 48))
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(BundleError, match=METADATA_KEY):
        Detector(tmp_path / "bare.onnx")
    onnx.helper.set_model_props(model, {METADATA_KEY: '{"kinds": []}'})
    onnx.save(model, tmp_path / "short.onnx")
    with pytest.raises(BundleError, match="cannot be read"):
        Detector(tmp_path / "short.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="cannot be loaded"):
        Detector(tmp_path / "noise.onnx")


def test_an_image_has_the_score_of_its_highest_candidate_and_without_one_comes_last():
    logit, score = image_score(np.array([0.2, 0.8, 0.5]))
    assert score == 0.8
    assert logit == pytest.approx(np.log(4))
    without, least = image_score([])
    assert 0 < least < 1e-5
    assert np.isfinite(without)
    assert image_score([0.0]) == (without, least)
    assert np.isfinite(image_score([1.0])[0])
