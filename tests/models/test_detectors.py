import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mammoscope.config import DetectionConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.models.detectors import Truth, build_detector
from mammoscope.models.detectors.anchored import anchor_places, anchors
from mammoscope.models.detectors.pooling import BoxPool, pooled
from mammoscope.models.detectors.pyramid import local_contrast
from mammoscope.models.detectors.selection import best_candidates, overlaps, suppressed

SIZE = (64, 32)


def build(**settings):
    config = DetectionConfig.model_validate(settings)
    return build_detector(config, kinds=1, size=SIZE, max_value=255)


def greedy(boxes, iou):
    """The usual loop."""
    left_out = np.zeros(len(boxes), bool)
    table = overlaps(boxes[None], boxes[None])[0]
    for later in range(len(boxes)):
        left_out[later] = any(
            table[later, earlier] > iou and not left_out[earlier] for earlier in range(later)
        )
    return left_out


@pytest.mark.parametrize("seed", range(5))
def test_suppression_at_once_is_the_usual_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(2, 60, 2, generator=generator) * 30
    boxes = torch.cat([low, low + 4 + 10 * torch.rand(2, 60, 2, generator=generator)], dim=2)
    made = suppressed(boxes, 0.3)
    for ours, own in zip(made, boxes, strict=True):
        np.testing.assert_array_equal(ours, greedy(own, 0.3))
    assert 0 < made.sum() < made.numel()


def test_a_box_suppressed_by_a_suppressed_one_stays():
    # Each overlaps its neighbour by a half and the one after that not at all.
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10]]])
    assert suppressed(boxes, 0.3).tolist() == [[False, True, False]]


def test_overlap_of_boxes_worked_by_hand():
    one = torch.tensor([[[0.0, 0, 4, 4]]])
    others = torch.tensor([[[2.0, 2, 6, 6], [4, 4, 8, 8], [1, 1, 1, 3]]])
    np.testing.assert_allclose(overlaps(one, others)[0, 0], [4 / 28, 0, 0])


def test_candidates_below_the_floor_are_none_and_boxes_end_at_the_border():
    boxes = torch.tensor([[[-5.0, -5, 10, 10], [20, 20, 60, 60], [0, 30, 8, 38]]])
    scores = torch.tensor([[[0.2, 0.6], [0.5, 0.1], [0.001, 0.002]]])
    config = DetectionConfig(score_floor=0.01, most_candidates=3)
    found, score, kind = best_candidates(boxes, scores, SIZE, config)
    assert found[0].tolist() == [[0, 0, 10, 10], [20, 20, 32, 60], [0, 0, 0, 0]]
    np.testing.assert_allclose(score[0], [0.6, 0.5, 0])
    assert kind[0, :2].tolist() == [1, 0]


def test_pooled_features_are_those_at_the_cells_of_the_box():
    # A plane is its own bilinear interpolation: x + 10 y in pixels of the image.
    stride = 4
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(8.0), indexing="ij")
    plane = ((x + 0.5) + 10 * (y + 0.5))[None, None] * stride
    boxes = torch.tensor([[[8.0, 12, 16, 28]]])
    made = pooled(plane, boxes, cells=2, stride=stride)
    at_x, at_y = torch.tensor([10.0, 14.0]), torch.tensor([16.0, 24.0])
    np.testing.assert_allclose(made[0, 0, 0], at_x[None] + 10 * at_y[:, None], rtol=1e-5)


def test_boxes_are_pooled_from_the_level_of_their_size():
    levels = [torch.full((1, 1, 16 >> k, 8 >> k), float(k)) for k in range(3)]
    pool = BoxPool((4, 8, 16), reference=16.0, cells=1)
    boxes = torch.tensor([[[8.0, 24, 15, 31], [8, 24, 27, 43], [0, 16, 32, 48]]])
    assert pool(levels, boxes).flatten().tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "fcos", "ssd"])
def test_anchors_lie_around_the_middles_of_cells(name):
    places = build(name=name)[0].places
    middles = (places[:, :2] + places[:, 2:]) / 2
    assert set(middles.unique(dim=0)[:, 0].tolist()) == {
        stride * (cell + 0.5) for stride in (4, 8, 16) for cell in range(SIZE[1] // stride)
    }
    # No side of the image is nearer to them than the other.
    turned = torch.tensor([SIZE[1], SIZE[0]]) - middles
    assert torch.equal(middles.unique(dim=0), turned.unique(dim=0))


def test_anchors_are_those_of_32_bits_where_features_have_fewer():
    """Training in bfloat16 must not learn from other boxes than are decoded after it."""

    class Halves(torch.nn.Module):
        dtype = torch.float32

        def forward(self, images):
            sides = [(images.shape[2] // s, images.shape[3] // s) for s in (4, 8, 16)]
            return {
                str(i): torch.zeros(1, 1, *side, dtype=self.dtype) for i, side in enumerate(sides)
            }

    generator, maps = anchors(DetectionConfig()), Halves()
    exact = anchor_places(maps, generator, (1024, 512))
    maps.dtype = torch.bfloat16
    fewer = anchor_places(maps, generator, (1024, 512))
    assert fewer.dtype == torch.float32
    assert torch.equal(exact, fewer)


def test_a_lesion_between_cells_still_has_a_centre():
    detector, _ = build()
    heat, weight, box = detector._targets(
        Truth(torch.tensor([[7.0, 15.0, 9.0, 17.0]]), torch.tensor([0]))
    )
    assert heat.max() == 1
    assert (box[weight > 0] == torch.tensor([7.0, 15.0, 9.0, 17.0])).all()
    assert detector.middle[weight.argmax()].sub(torch.tensor([8.0, 16.0])).abs().max() <= 2


def test_of_two_lesions_each_cell_learns_the_nearer():
    detector, _ = build()
    small, large = [10.0, 30.0, 16.0, 36.0], [2.0, 20.0, 30.0, 60.0]
    _, weight, box = detector._targets(Truth(torch.tensor([large, small]), torch.tensor([0, 0])))
    at_small = (detector.middle - torch.tensor([14.0, 34.0])).abs().sum(dim=1).argmin()
    assert box[at_small].tolist() == small
    assert weight[at_small] > 0.2


def test_weights_of_a_detector_and_of_a_backbone_begin_another(tmp_path):
    first, _ = build(backbone="mobilenetv3_small_050")
    save_file(first.state_dict(), tmp_path / "whole.safetensors")
    second, notes = build(
        backbone="mobilenetv3_small_050", weights=str(tmp_path / "whole.safetensors")
    )
    assert notes == []
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    body = {k: v.contiguous() for k, v in first.backbone.body.state_dict().items()}
    # As libraries publish them: three input channels, and layers that are not used here.
    stem = body["conv_stem.weight"]
    body["conv_stem.weight"] = (stem / 3).repeat(1, 3, 1, 1)
    save_file(body | {"classifier.weight": torch.zeros(3)}, tmp_path / "body.safetensors")
    third, notes = build(
        backbone="mobilenetv3_small_050", weights=str(tmp_path / "body.safetensors")
    )
    assert torch.allclose(third.backbone.body.state_dict()["conv_stem.weight"], stem, atol=1e-6)
    assert "its backbone's are taken" in notes[0]


def test_weights_of_something_else_are_refused(tmp_path):
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(RunError, match="do not fit the detector centre nor its backbone"):
        build(weights=str(tmp_path / "other.safetensors"))
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        build(weights=str(tmp_path / "noise.safetensors"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet1x"}, r"detect\.backbone: unknown backbone 'resnet1x'"),
        ({"backbone": "vit_tiny_patch16_224"}, "no maps at strides 4, 8, 16"),
    ],
)
def test_backbones_that_do_not_do_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(**settings)


# Of one, two and three powers of two, and larger than the picture.
@pytest.mark.parametrize("window", [5, 7, 13, 65])
@pytest.mark.parametrize("exported", [False, True], ids=["trained", "exported"])
def test_local_contrast_is_distance_from_the_mean_around_in_deviations_of_tissue_alone(
    window, exported, monkeypatch
):
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: exported)
    rng = np.random.default_rng(0)
    picture = rng.integers(1, 200, (20, 16)).astype(np.float32)
    picture[:, 12:] = 0
    image = torch.from_numpy(picture)[None, None]
    found = local_contrast(image, 255.0, window)[0, 0].numpy()
    reach = window // 2
    assert found.shape == picture.shape
    assert (found[:, 12:] == 0).all()

    def around(y, x, values):
        part = np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        return values[part][picture[part] > 0].mean()

    grey = picture / 255
    off = np.array([[grey[y, x] - around(y, x, grey) for x in range(12)] for y in range(20)])
    off = np.pad(off, ((0, 0), (0, 4)))
    for y, x in ((0, 0), (10, 5), (19, 11), (7, 10)):
        deviation = np.sqrt(around(y, x, off**2))
        assert found[y, x] == pytest.approx(off[y, x] / deviation, rel=1e-3)
    # Twice the contrast is no other picture, and where nothing differs there is none.
    assert np.allclose(local_contrast(image / 2, 255.0, window)[0, 0].numpy(), found, atol=1e-3)
    flat = torch.full((1, 1, 20, 16), 90.0)
    assert local_contrast(flat, 255.0, window).abs().max() < 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contrast_px": [24]}, "are odd"),
        ({"contrast_px": [25], "backbone": "resnet10t"}, "pyramid_cnn alone"),
        ({"contrast_px": [25], "name": "rt_detr_v2"}, "pyramid_cnn alone"),
    ],
)
def test_local_contrast_that_cannot_be_seen_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DetectionConfig.model_validate(settings)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ConfigError, match="multiples of 16"):
        build_detector(DetectionConfig(), kinds=1, size=(60, 32), max_value=255)


def test_a_transformer_from_scratch_tells_places_of_an_image_apart():
    """Where all have one score, chance says which become queries: nothing of it can be exported."""
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    detector, _ = build(name="rt_detr_v2")
    scores = []
    detector.net.model.enc_score_head.register_forward_hook(lambda *told: scores.append(told[2]))
    noise = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(1)) * 255
    with torch.no_grad():
        detector.eval()(noise)
    # As the library begins, 1e-9.
    assert scores[0].std() > 0.05


def test_a_transformer_keeps_its_places_where_features_have_16_bits():
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    detector = build(name="rt_detr_v2")[0].eval()
    # A query's box is then the anchor of its place; rounded, it is up to 0.1 pixels away.
    for parameter in detector.net.model.enc_bbox_head.parameters():
        torch.nn.init.zeros_(parameter)
    made = []
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            made.append(detector.dense(torch.zeros(1, 1, *SIZE))[0][0])
    apart = (made[1][:, None] - made[0][None]).abs().amax(dim=2).min(dim=1).values
    assert apart.max() < 1e-3


@pytest.mark.parametrize(
    ("name", "library", "words"),
    [("yolov8", "ultralytics", "AGPL-3.0"), ("rt_detr_v2", "transformers", "Apache-2.0")],
)
def test_a_missing_extra_is_named_with_its_licence(monkeypatch, name, library, words):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=words) as raised:
        build(name=name)
    assert "pip install 'mammoscope[" in str(raised.value)


def test_weights_that_cannot_be_had_are_told(monkeypatch):
    from mammoscope.models.detectors import pyramid

    def out_of_reach():
        return "no answer"

    monkeypatch.setattr(pyramid, "hub_fault", out_of_reach)
    _, notes = build(backbone="resnet10t", pretrained=True)
    assert "ImageNet weights for resnet10t could not be had (no answer" in notes[0]
