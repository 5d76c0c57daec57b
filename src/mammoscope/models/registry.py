"""From a configuration to a network: our own baselines, and every backbone of timm by name."""

from __future__ import annotations

import difflib

import timm

from mammoscope.config import ModelConfig
from mammoscope.errors import ConfigError
from mammoscope.models.backbones import BASELINES, TimmBackbone
from mammoscope.models.classifier import Classifier, FeatureExtractor
from mammoscope.models.multiview import MultiViewClassifier
from mammoscope.models.two_resolution import TwoResolutionBackbone
from mammoscope.models.weights import (
    bounded_hub,
    hub_fault,
    load_backbone_weights,
    load_head,
    load_judge,
)

__all__ = ["build_backbone", "build_classifier", "build_multiview", "check_backbone"]


def build_classifier(
    config: ModelConfig, *, max_value: int, size: tuple[int, int], prior: float = 0.5
) -> tuple[Classifier, list[str]]:
    """Build the network that a configuration names.

    Args:
        config: Which backbone, weights and pool.
        max_value: Largest grey value of the input.
        size: (H, W) of the input.
        prior: Share of positives among the training images.

    Returns:
        The network, and sentences that a user should read (weights that could not be had).

    Raises:
        ConfigError: If the backbone is unknown (the nearest names are given), cannot take
            images of that size, or has no residual paths to drop; or the image cannot be shrunk.
        RunError: If a weights file does not fit; the keys are given.
    """
    backbone, notes = build_backbone(config, size)
    classifier = Classifier(
        backbone,
        max_value=max_value,
        pool=config.pool,
        dropout=config.dropout,
        prior=prior,
        head=config.head,
        test_flips=config.test_flips,
    )
    if config.weights is not None:
        notes += load_head(classifier, config.weights)
    return classifier, notes


def build_backbone(
    config: ModelConfig, size: tuple[int, int]
) -> tuple[FeatureExtractor, list[str]]:
    """Build the backbone alone, with its weights, for images of (H, W); see the classifier's."""
    check_backbone(config.backbone)
    notes: list[str] = []
    backbone = _backbone(config, size, notes)
    if config.weights is not None:
        load_backbone_weights(backbone, config.weights)
    return backbone, notes


def build_multiview(
    config: ModelConfig, *, max_value: int, size: tuple[int, int], prior: float = 0.5
) -> tuple[MultiViewClassifier, list[str]]:
    """Build the breast or exam model that a configuration names.

    Weights of an image model's run give it the whole image classifier to start from, so that
    it begins as the mean of that model's logits. Those of a breast or exam model's run give it how
    that one judges views together as well.

    Args:
        config: As for :func:`build_classifier`; ``level`` is breast or exam.
        max_value: Largest grey value of the input.
        size: (H, W) of the input.
        prior: Share of positives among the training images.

    Returns:
        The network, and sentences that a user should read.

    Raises:
        ConfigError: If the backbone is unknown or unfit, or the level is image.
        RunError: If a weights file does not fit; the keys are given.
    """
    if config.level == "image":
        raise ConfigError("model.level=image has no views to join; accepted: breast, exam")
    classifier, notes = build_classifier(config, max_value=max_value, size=size, prior=prior)
    model = MultiViewClassifier(
        classifier, level=config.level, facts=config.facts, dropout=config.dropout
    )
    if config.weights is not None:
        notes += load_judge(model, config.weights)
    return model, notes


def check_backbone(name: str) -> None:
    """Check that a backbone is one of ours or of timm, without building it.

    Raises:
        ConfigError: If it is not; the nearest names are given.
    """
    if name in BASELINES:
        return
    architecture, _, tag = name.partition(".")
    if timm.is_model(architecture):
        tagged = timm.list_pretrained(f"{architecture}.*")
        if not tag or name in tagged:
            return
        # An architecture has a handful of tags, all worth showing.
        near = tagged
    else:
        known = [*BASELINES, *timm.list_models()]
        near = difflib.get_close_matches(architecture, known, n=3, cutoff=0.4)
    raise ConfigError(
        f"model.backbone: unknown backbone {name!r}; nearest: {', '.join(near) or 'none'}. "
        f"Accepted: {', '.join(BASELINES)} and every name of timm.list_models()"
    )


def _backbone(config: ModelConfig, size: tuple[int, int], notes: list[str]) -> FeatureExtractor:
    """Build the backbone for images of a size, beside a small network if it sees them shrunk."""
    seen = (size[0] // config.shrink, size[1] // config.shrink)
    backbone: FeatureExtractor
    if config.backbone in BASELINES:
        if config.drop_path:
            raise ConfigError(f"model.drop_path: {config.backbone} has none; set it to 0")
        backbone = BASELINES[config.backbone]()
    elif config.pretrained and config.weights is None:
        backbone = _pretrained(config, seen, notes)
    else:
        backbone = TimmBackbone(config.backbone, seen, pretrained=False, drop_path=config.drop_path)
    if config.shrink == 1:
        return backbone
    return TwoResolutionBackbone(backbone, config.shrink, size)


def _pretrained(config: ModelConfig, size: tuple[int, int], notes: list[str]) -> FeatureExtractor:
    """Build a backbone with timm's weights, or with random ones and a note that says why."""
    name = config.backbone
    fault = hub_fault()
    try:
        # Without the hub, weights may still lie in its local cache.
        with bounded_hub(offline=fault is not None):
            return TimmBackbone(name, size, pretrained=True, drop_path=config.drop_path)
    # The hub's client raises its own classes over several transports; all are OSError,
    # RuntimeError or ValueError, and each means: no weights.
    except (OSError, RuntimeError, ValueError) as error:
        reason = fault or str(error).strip().partition("\n")[0][:200] or type(error).__name__
        notes.append(
            f"ImageNet weights for {name} could not be had ({reason}); "
            "training starts from random weights"
        )
        return TimmBackbone(name, size, pretrained=False, drop_path=config.drop_path)
