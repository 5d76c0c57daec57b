from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from mammoscope.config import ModelConfig
from mammoscope.errors import ConfigError
from mammoscope.models import build_classifier

SIZE = (128, 64)


def build(size=SIZE, **settings):
    torch.manual_seed(0)
    config = ModelConfig(**{"backbone": "resnet10t", "pretrained": False, "shrink": 2} | settings)
    return build_classifier(config, max_value=255, size=size)[0].eval()


def test_the_map_is_as_fine_as_that_of_one_resolution():
    image = torch.rand(2, 1, *SIZE) * 255
    with torch.no_grad():
        both, one = build()(image), build(shrink=1)(image)
    assert both.heatmap.shape == one.heatmap.shape == (2, 4, 2)


def test_each_cell_sees_its_own_place_at_both_resolutions():
    backbone = build(backbone="baseline_cnn").backbone
    image = torch.rand(16, 1, *SIZE, requires_grad=True)
    cell = backbone(image)[:, :, 8, 4]
    for channels in (cell[:, : backbone.coarse.channels], cell[:, backbone.coarse.channels :]):
        (slope,) = torch.autograd.grad(channels.sum(), image, retain_graph=True)
        weight = slope[:, 0].abs().mean(dim=0)
        rows, columns = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
        # Cells are of 8 x 8 pixels; those of the shrunk image are of 16.
        assert abs(float((rows * weight).sum() / weight.sum()) - 68) < 6
        assert abs(float((columns * weight).sum() / weight.sum()) - 36) < 6


def test_a_speck_that_shrinking_wipes_out_reaches_the_fine_features():
    backbone = build().backbone
    plain = torch.zeros(1, 1, *SIZE)
    # Bright and dark by turns: every square of four has the mean of nothing.
    speck = plain.clone()
    speck[0, 0, 40:44, 20:24] = torch.tensor([[4.0, -4.0], [-4.0, 4.0]]).repeat(2, 2)
    with torch.no_grad():
        change = (backbone(speck) - backbone(plain)).abs().amax(dim=(0, 2, 3))
    assert change[: backbone.coarse.channels].max() == 0
    assert change[backbone.coarse.channels :].max() > 0.01


def test_weights_of_one_network_are_those_of_the_one_that_sees_the_shrunk_image(tmp_path):
    torch.manual_seed(1)
    body = timm.create_model("resnet10t", in_chans=1, num_classes=0)
    state = {key: value.contiguous() for key, value in body.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    loaded = build(weights=tmp_path / "w.safetensors")
    assert torch.equal(loaded.backbone.coarse.body.conv1[0].weight, state["conv1.0.weight"])


def test_a_run_of_both_starts_another_of_both(tmp_path):
    first = build(backbone="baseline_cnn")
    torch.nn.init.normal_(first.backbone.fine.blocks[0].body[0].weight)
    state = {key: value.contiguous() for key, value in first.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    second = build(backbone="baseline_cnn", weights=tmp_path / "w.safetensors")
    image = torch.rand(2, 1, *SIZE) * 255
    with torch.no_grad():
        assert torch.equal(first(image).logit, second(image).logit)


@pytest.mark.parametrize(
    ("size", "shrink", "words"),
    [
        ((129, 64), 2, "model.shrink=2 does not divide images of 129x64"),
        ((64, 32), 2, "do not cover each other; sides that are multiples of 64 do"),
    ],
)
def test_an_image_that_cannot_be_shrunk_evenly_is_refused(size, shrink, words):
    with pytest.raises(ConfigError, match=words):
        build(size=size, shrink=shrink)


def test_the_small_network_learns_as_fast_as_what_lies_behind_the_large_one():
    backbone = build().backbone
    depths = backbone.depths()
    assert set(depths) == {name for name, _ in backbone.named_parameters()}
    assert depths["fine.blocks.0.body.0.weight"] == max(depths.values())
