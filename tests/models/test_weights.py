from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from mammoscope.config import ModelConfig
from mammoscope.errors import RunError
from mammoscope.models import Classifier, build_classifier


def build(name: str, path: Path | None) -> Classifier:
    config = ModelConfig(backbone=name, weights=path)
    if path is None:
        config = ModelConfig(backbone=name, pretrained=False)
    classifier, notes = build_classifier(config, max_value=255, size=(64, 32))
    assert notes == []
    return classifier.eval()


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
    return path


def test_three_colour_weights_see_a_grey_image_as_three_equal_channels(tmp_path):
    torch.manual_seed(0)
    colour = timm.create_model("test_resnet", in_chans=3, num_classes=10).eval()
    grey = build("test_resnet", saved(tmp_path / "w.safetensors", colour.state_dict()))
    image = torch.rand(2, 1, 64, 32)
    with torch.no_grad():
        expected = colour.forward_features(image.expand(-1, 3, -1, -1))
        assert torch.allclose(grey.backbone(image), expected, atol=1e-5)


def test_the_weights_of_a_run_start_another(tmp_path):
    torch.manual_seed(0)
    for name in ("test_resnet", "baseline_cnn"):
        first = build(name, None)
        second = build(name, saved(tmp_path / f"{name}.safetensors", first.state_dict()))
        image = torch.rand(2, 1, 64, 32)
        with torch.no_grad():
            assert torch.equal(first.backbone(image), second.backbone(image))
            assert torch.equal(first(image).logit, second(image).logit)


def test_a_run_of_another_head_is_refused(tmp_path):
    state = build("baseline_cnn", None).state_dict()
    state["local_logits.weight"] = torch.zeros(2, 128, 1, 1)
    with pytest.raises(RunError, match=r"local_logits\.weight of another shape"):
        build("baseline_cnn", saved(tmp_path / "w.safetensors", state))


def test_weights_of_a_larger_network_are_not_taken_in_part(tmp_path):
    larger = timm.create_model("resnet34", in_chans=1, num_classes=0)
    with pytest.raises(RunError, match=r"do not fit the backbone: \d+ unknown \(layer1\.2\."):
        build("resnet18", saved(tmp_path / "w.safetensors", larger.state_dict()))


def test_missing_keys_and_other_shapes_are_named(tmp_path):
    state = timm.create_model("test_resnet", in_chans=1, num_classes=0).state_dict()
    stem = next(key for key, value in state.items() if value.ndim == 4)
    path = saved(tmp_path / "a.safetensors", {k: v for k, v in state.items() if k != stem})
    with pytest.raises(RunError, match=rf"1 missing \({stem}\)"):
        build("test_resnet", path)
    path = saved(tmp_path / "b.safetensors", {**state, stem: torch.zeros(4, 1, 9, 9)})
    with pytest.raises(RunError, match=rf"1 of another shape \({stem}\)"):
        build("test_resnet", path)


def test_a_file_that_is_not_safetensors_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"\x80\x02 a pickle")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        build("test_resnet", tmp_path / "w.pth")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        build("test_resnet", tmp_path / "absent.safetensors")
