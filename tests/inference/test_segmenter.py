from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mammoscope.errors import BundleError
from mammoscope.inference import MaskSettings, Outliner, Segmenter
from mammoscope.masks import rasterise_polygon
from mammoscope.preprocessing import Geometry
from mammoscope.types import Box

SETTINGS = {
    "threshold": 0.5,
    "candidate_threshold": 0.2,
    "min_area_px": 3,
    "overlap": 0.5,
    "blend": "gaussian",
}


def outliner(size, look=None, **settings):
    """The logit of a pixel is its grey value - 100, unless a look says otherwise."""
    look = look or (lambda images: np.stack(images).astype(np.float32) - 100)
    return Outliner(look, size, MaskSettings(**{**SETTINGS, **settings}))


def image(height=40, width=30):
    pixels = np.full((height, width), 50, np.uint8)
    pixels[5:10, 4:12] = 110
    return pixels


def test_parts_above_a_threshold_are_masks_and_above_a_lower_one_candidates():
    pixels = image()
    pixels[20:24, 20:24] = 99  # a score of 0.27: a candidate, no mask
    pixels[30, 2] = 200  # too small
    made = outliner(pixels.shape)(pixels)
    expected = np.zeros(pixels.shape, bool)
    expected[5:10, 4:12] = True
    np.testing.assert_array_equal(made.mask, expected)
    assert [candidate.box for candidate in made.candidates] == [
        Box(4, 5, 12, 10),
        Box(20, 20, 24, 24),
    ]
    assert made.candidates[0].score > made.candidates[1].score > 0.2
    assert made.candidates[0].mask.all()
    assert made.logit == 100
    assert made.scores.max() == 1


def test_a_part_that_is_sure_throughout_ranks_before_a_sure_pixel_and_a_large_doubt():
    pixels = np.full((60, 40), 50, np.uint8)
    pixels[2:12, 2:12] = 112  # sure
    pixels[20, 2] = 130
    pixels[20, 3:12] = 100  # one pixel surer still, the others unsure
    pixels[30:58, 2:38] = 99  # large and unlikely
    highest = outliner(pixels.shape)(pixels).candidates
    assert [candidate.box.y_min for candidate in highest] == [20, 2, 30]
    whole = outliner(pixels.shape, candidate_score="whole")(pixels).candidates
    assert [candidate.box.y_min for candidate in whole] == [2, 20, 30]
    # An image scores as its highest candidate.
    sure = outliner(pixels.shape, candidate_score="whole")(pixels)
    assert 1 / (1 + np.exp(-sure.logit)) == pytest.approx(whole[0].score)
    assert outliner(pixels.shape)(pixels).logit == 30
    # 100 pixels of logit 12, which are 12 + 1.386 above that of the threshold, 0.2.
    evidence = 100 * (12 + np.log(4)) / 10
    assert whole[0].score == pytest.approx(evidence / (evidence + 10))


def test_a_sure_network_does_not_give_all_its_parts_one_score():
    pixels = np.full((60, 40), 50, np.uint8)
    for place, grey in enumerate((170, 180, 190)):
        pixels[20 * place : 20 * place + 8, 5:15] = grey
    highest, whole = (
        [c.score for c in outliner(pixels.shape, candidate_score=how)(pixels).candidates]
        for how in ("highest", "whole")
    )
    assert highest == [1, 1, 1]
    assert 0.98 < whole[2] < whole[1] < whole[0] < 1
    assert np.diff(whole).max() < -0.0005
    # What lies at the threshold and no further speaks for nothing.
    pixels[:] = 50
    pixels[5:10, 5:10] = 100
    made = outliner(pixels.shape, candidate_score="whole", candidate_threshold=0.5)(pixels)
    assert [c.score for c in made.candidates] == [0]


@pytest.mark.parametrize("blend", ["gaussian", "mean"])
@pytest.mark.parametrize("size", [(64, 64), (70, 90), (20, 50)])
def test_windows_that_agree_give_what_a_look_at_the_whole_would(blend, size):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, size).astype(np.uint8)
    whole = outliner(size)(pixels)
    joined = outliner((32, 32), blend=blend)(pixels)
    np.testing.assert_allclose(joined.logits, whole.logits, atol=1e-3)
    np.testing.assert_array_equal(joined.mask, whole.mask)


def test_the_middle_of_a_window_weighs_most():
    """Windows whose logit is their number: what joins them lies nearest to the nearest middle."""

    def look(images):
        return np.stack([np.full(i.shape, float(i.max()), np.float32) for i in images])

    pixels = np.ones((32, 48), np.uint8)
    pixels[:, 32:] = 9  # windows at columns 0 and 16: the second has seen a 9
    joined = outliner((32, 32), look)(pixels).logits
    assert joined[16, 2] == 1
    assert joined[16, 45] == 9
    assert 1 < joined[16, 18] < 5 < joined[16, 29] < 9
    plain = outliner((32, 32), look, blend="mean")(pixels).logits
    assert plain[16, 18] == plain[16, 29] == 5


def test_windows_without_tissue_are_not_looked_at():
    looked = []

    def look(images):
        looked.extend(images)
        return np.zeros((len(images), 32, 32), np.float32)

    pixels = np.zeros((32, 128), np.uint8)
    pixels[:, :10] = 80
    made = outliner((32, 32), look)(pixels)
    assert len(looked) == 1
    assert (made.logits[:, 40:] < -10).all()
    assert made.logits[0, 0] == 0


def test_an_image_of_another_size_than_a_graph_of_whole_images_is_refused():
    with pytest.raises(BundleError, match="whole images of 40 x 30; this one is 41 x 30"):
        outliner((40, 30))(image(41, 30))


@pytest.mark.parametrize("mirrored", [False, True])
def test_findings_lie_in_original_pixels_with_their_outlines(mirrored):
    geometry = Geometry.fit((80, 60), (0, 0, 60, 80), (40, 30), mirrored=mirrored)
    (finding,) = outliner((40, 30))(image()).findings(geometry, kind="mass")
    left, right = (36, 52) if mirrored else (8, 24)
    assert finding.box == Box(left, 10, right, 20)
    assert (finding.kind, finding.found_by) == ("mass", "segmenter")
    ring = [value for point in finding.outline for value in point]
    inside = rasterise_polygon(ring, (80, 60))
    expected = np.zeros((80, 60), bool)
    expected[10:20, left:right] = True
    # A quarter of a pixel of the grid within the edge, which is half an original pixel.
    assert (inside != expected).mean() < 0.02


def test_a_finding_is_outlined_as_its_mask_and_boxed_as_its_candidate():
    pixels = image()
    pixels[3:12, 2:20] = np.maximum(pixels[3:12, 2:20], 99)  # 0.27: around it, no mask
    pixels[25:30, 4:10] = 99  # a candidate without a mask
    geometry = Geometry.fit((40, 30), (0, 0, 30, 40), (40, 30), mirrored=False)
    sure, doubtful = outliner((40, 30))(pixels).findings(geometry)
    assert (sure.box, doubtful.box) == (Box(2, 3, 20, 12), Box(4, 25, 10, 30))
    for finding, rows, columns in (
        (sure, slice(5, 10), slice(4, 12)),
        (doubtful, slice(25, 30), slice(4, 10)),
    ):
        expected = np.zeros((40, 30), bool)
        expected[rows, columns] = True
        ring = [value for point in finding.outline for value in point]
        np.testing.assert_array_equal(rasterise_polygon(ring, (40, 30)), expected)


# --- the file -----------------------------------------------------------------------


def write_graph(path, settings=SETTINGS, *, output="mask_logit", slope=1.0):
    """A graph whose logit is the grey value times a slope, less 100."""
    nodes = [
        helper.make_node("Mul", ["image", "slope"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "level"], [output]),
    ]
    constants = [
        helper.make_tensor("slope", TensorProto.FLOAT, [], [slope]),
        helper.make_tensor("level", TensorProto.FLOAT, [], [100.0]),
    ]
    shape = ["images", 1, 40, 30]
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=onnx.IR_VERSION_2024_3_25
    )
    if settings is not None:
        entry = model.metadata_props.add()
        entry.key = "mammoscope.segment"
        entry.value = settings if isinstance(settings, str) else json.dumps(settings)
    onnx.save(model, path)
    return path


def test_a_graph_says_itself_what_its_map_is_made_into(tmp_path):
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx", {**SETTINGS, "min_area_px": 1}))
    assert segmenter.size == (40, 30)
    pixels = image()
    pixels[30, 2] = 200
    first, second = segmenter([pixels, image()])
    assert first.mask.sum() == 41
    assert second.mask.sum() == 40


def test_a_graph_that_does_not_say_how_its_candidates_score_is_of_a_version_that_took_the_highest(
    tmp_path,
):
    old = Segmenter(write_graph(tmp_path / "old.onnx"))
    assert old.settings.candidate_score == "highest"
    told = Segmenter(write_graph(tmp_path / "new.onnx", {**SETTINGS, "candidate_score": "whole"}))
    (before,), (after,) = (one([image()])[0].candidates for one in (old, told))
    # A frozen cut-off is of one of them.
    assert before.score == pytest.approx(1 / (1 + np.exp(-10)))
    assert after.score == pytest.approx(1 - 10 / (np.sqrt(40) * (10 + np.log(4)) + 10))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({**SETTINGS, "candidate_score": "newer"}, "by 'newer'; this version knows highest, whole"),
        (None, "does not say its threshold"),
        ({k: v for k, v in SETTINGS.items() if k != "blend"}, "does not say its blend"),
        ("{", "mammoscope.segment is no JSON"),
    ],
)
def test_a_graph_that_does_not_say_is_refused(tmp_path, settings, words):
    with pytest.raises(BundleError, match=words):
        Segmenter(write_graph(tmp_path / "m.onnx", settings))


def test_another_graph_is_refused(tmp_path):
    with pytest.raises(BundleError, match="a mammoscope segmenter takes"):
        Segmenter(write_graph(tmp_path / "m.onnx", output="logit"))
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="cannot be loaded"):
        Segmenter(tmp_path / "broken.onnx")


def test_a_number_that_is_none_and_an_image_that_does_not_fit_are_refused(tmp_path):
    segmenter = Segmenter(write_graph(tmp_path / "m.onnx", slope=float("nan")))
    with pytest.raises(BundleError, match="not a finite number"):
        segmenter([image()])
    with pytest.raises(BundleError, match="whole images of 40 x 30"):
        segmenter([image(20, 20)])
