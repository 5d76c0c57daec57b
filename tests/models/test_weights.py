from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from mammoscope.config import ModelConfig, SegmentConfig
from mammoscope.errors import RunError
from mammoscope.models import (
    Classifier,
    MultiViewClassifier,
    build_classifier,
    build_multiview,
    build_segmenter,
)


def build(name: str, path: Path | None) -> Classifier:
    config = ModelConfig(backbone=name, weights=path)
    if path is None:
        config = ModelConfig(backbone=name, pretrained=False)
    classifier, notes = build_classifier(config, max_value=255, size=(64, 32))
    assert notes == []
    return classifier.eval()


def joined(
    level: str, path: Path | None, words: Sequence[str] = (), head: Sequence[str] = ()
) -> MultiViewClassifier:
    """Build a breast or exam model, which says ``words`` of the weights that it starts from."""
    config = ModelConfig(backbone="baseline_cnn", level=level, weights=path, head=head)
    model, notes = build_multiview(config, max_value=255, size=(64, 32))
    assert len(notes) == len(words)
    assert all(word in note for word, note in zip(words, notes, strict=True))
    return model


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


def test_layers_behind_other_layers_are_not_taken(tmp_path):
    plain = build("baseline_cnn", None)
    path = saved(tmp_path / "w.safetensors", plain.state_dict())
    config = ModelConfig(backbone="baseline_cnn", weights=path, head=("conv",))
    torch.manual_seed(1)
    started, notes = build_classifier(config, max_value=255, size=(64, 32))
    assert len(notes) == 1
    assert "the backbone alone is taken" in notes[0]
    assert "head." in notes[0]
    assert not torch.equal(started.local_logits.weight, plain.local_logits.weight)
    own, theirs = started.backbone.state_dict(), plain.backbone.state_dict()
    assert all(torch.equal(own[key], theirs[key]) for key in own)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("breast", "breast", []),
        ("exam", "exam", []),
        ("breast", "exam", ["what judges the exam begins anew"]),
        ("exam", "breast", ["what judges the exam is not taken"]),
    ],
)
def test_a_breast_or_exam_models_judgement_starts_another(tmp_path, first, second, words):
    model = joined(first, None)
    with torch.no_grad():
        for parameter in model.own_parameters():
            parameter.add_(0.25)
    again = joined(second, saved(tmp_path / "w.safetensors", model.state_dict()), words)
    own, theirs = again.state_dict(), model.state_dict()
    shared = [key for key in own if key in theirs]
    assert any(key.startswith("breast.") for key in shared)
    assert all(torch.equal(own[key], theirs[key]) for key in shared)


def test_a_judgement_of_other_layers_features_is_not_taken(tmp_path):
    model = joined("breast", None)
    with torch.no_grad():
        model.breast.sharpness.add_(1.0)
    path = saved(tmp_path / "w.safetensors", model.state_dict())
    again = joined("breast", path, ["the backbone alone is taken"], head=("conv",))
    assert again.breast.sharpness.item() == 0


def test_an_image_models_weights_leave_the_judgement_to_be_learnt(tmp_path):
    path = saved(tmp_path / "w.safetensors", build("baseline_cnn", None).state_dict())
    assert joined("breast", path).breast.sharpness.item() == 0


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


def segmenter(encoder: str, path: Path | None):
    config = SegmentConfig(encoder=encoder, weights=path, pretrained=False)
    return build_segmenter(config, max_value=255, size=(64, 64))


def test_a_segmentation_run_starts_another(tmp_path):
    torch.manual_seed(0)
    first, _ = segmenter("small", None)
    second, notes = segmenter("small", saved(tmp_path / "w.safetensors", first.state_dict()))
    assert notes == []
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(first.eval()(image), second.eval()(image))


def test_a_backbone_of_timm_in_three_colours_starts_an_encoder(tmp_path):
    torch.manual_seed(0)
    colour = timm.create_model("test_resnet", in_chans=3, num_classes=10).eval()
    path = saved(tmp_path / "w.safetensors", colour.state_dict())
    grey, notes = segmenter("tu-test_resnet", path)
    assert len(notes) == 1
    assert "the encoder alone is taken" in notes[0]
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = colour.forward_features(image.expand(-1, 3, -1, -1))
        assert torch.allclose(grey.eval().encoder(image)[-1], expected, atol=1e-5)


def test_weights_of_another_encoder_are_refused_by_their_keys(tmp_path):
    path = saved(tmp_path / "w.safetensors", {"conv.weight": torch.zeros(1)})
    with pytest.raises(RunError, match=r"keys are missing \(0.body.0.weight"):
        segmenter("small", path)
