from __future__ import annotations

import socket
import time

import pytest
import torch
from huggingface_hub import constants

from mammoscope.config import ModelConfig
from mammoscope.errors import ConfigError
from mammoscope.models import BASELINES, build_classifier, check_backbone, registry, weights


def build(name: str, size: tuple[int, int] = (64, 32), **settings):
    config = ModelConfig(backbone=name, **{"pretrained": False, **settings})
    return build_classifier(config, max_value=255, size=size)


def test_an_unknown_backbone_gets_the_nearest_names():
    with pytest.raises(ConfigError, match=r"unknown backbone 'resnet81'; nearest: .*resnet18"):
        check_backbone("resnet81")
    with pytest.raises(ConfigError, match="nearest: baseline_cnn"):
        check_backbone("baseline-cnn")
    with pytest.raises(ConfigError, match=r"'resnet18\.none'; nearest: .*resnet18\.a1_in1k"):
        check_backbone("resnet18.none")


def test_names_of_ours_and_of_timm_with_and_without_a_tag_are_known():
    for name in (*BASELINES, "resnet18", "resnet18.a1_in1k", "test_vit"):
        check_backbone(name)


def test_a_backbone_that_cannot_take_the_size_says_so():
    with pytest.raises(ConfigError, match=r"test_vit cannot be used on images of 60x30: .*patch"):
        build("test_vit", (60, 30))


def test_a_network_without_a_map_says_so():
    with pytest.raises(ConfigError, match="cannot be used on images of 64x32"):
        build("deit_tiny_distilled_patch16_224")


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("test_vit", (4, 2)),  # tokens with a class token
        ("test_vit2", (4, 2)),  # tokens with register tokens
        ("test_resnet", (2, 1)),  # a map
        ("test_mambaout", (2, 1)),  # a map with channels last
    ],
)
def test_whatever_a_backbone_gives_becomes_a_map(name, grid):
    classifier, _ = build(name)
    features = classifier.backbone(torch.rand(2, 1, 64, 32))
    assert features.shape == (2, classifier.backbone.channels, *grid)


def test_tokens_keep_their_place_in_the_image():
    torch.manual_seed(0)
    classifier, _ = build("test_vit", (64, 32))
    features = torch.arange(8.0)[None, :, None].expand(1, 8, 3)
    tokens = torch.cat([torch.full((1, 1, 3), -1.0), features], dim=1)
    mapped = classifier.backbone._as_map(tokens)
    assert torch.equal(mapped[0, 0], torch.arange(8.0).reshape(4, 2))


@pytest.fixture
def deaf_hub(monkeypatch, tmp_path):
    """A hub that takes connections and never answers, and an empty cache."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield


def test_a_hub_that_never_answers_costs_a_moment_and_a_note(deaf_hub, monkeypatch):
    fault = registry.hub_fault
    monkeypatch.setattr(registry, "hub_fault", lambda: fault(0.3))
    begun = time.perf_counter()
    classifier, notes = build("test_resnet", pretrained=True)
    assert time.perf_counter() - begun < 8
    assert len(notes) == 1
    assert notes[0].startswith("ImageNet weights for test_resnet could not be had (http://127")
    assert notes[0].endswith("training starts from random weights")
    assert torch.isfinite(classifier(torch.zeros(2, 1, 64, 32)).logit).all()
    assert constants.HF_HUB_OFFLINE is False
    assert socket.getdefaulttimeout() is None


def test_a_hub_that_refuses_says_what_it_said(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fault = weights.hub_fault(1.0)
    assert fault is not None
    assert "refused" in fault


def test_a_user_who_is_offline_on_purpose_is_not_probed(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights.hub_fault(0.0) == "HF_HUB_OFFLINE is set"


def test_weights_that_were_not_asked_for_are_not_looked_for(monkeypatch):
    monkeypatch.setattr(registry, "hub_fault", lambda: pytest.fail("asked the hub"))
    assert build("test_resnet")[1] == []
    assert build("baseline_cnn", pretrained=True)[1] == []
