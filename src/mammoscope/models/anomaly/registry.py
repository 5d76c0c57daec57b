"""From settings to an anomaly model."""

from __future__ import annotations

from collections.abc import Callable

from mammoscope.config import ModelConfig
from mammoscope.config.anomaly import AnomalyConfig
from mammoscope.models.anomaly.contract import AnomalyModel
from mammoscope.models.anomaly.features import FeatureMaps
from mammoscope.models.anomaly.patchcore import PatchCore
from mammoscope.models.anomaly.vae import ConvVae, TermWeights
from mammoscope.models.registry import build_backbone

__all__ = ["ANOMALY_MODELS", "build_anomaly"]

# Inputs of the graph by the manifest's column.
_INPUTS = {"view": "projection", "density": "density"}


def build_anomaly(
    config: AnomalyConfig, *, max_value: int, size: tuple[int, int], fresh: bool = True
) -> tuple[AnomalyModel, list[str]]:
    """Build the model that settings name.

    Args:
        config: Method and its settings.
        max_value: Largest grey value of the input.
        size: (H, W) of the input.
        fresh: Load the feature network's weights; not where a run's own are loaded next.

    Returns:
        The model, and sentences that a user should read: of random features, among others.

    Raises:
        ConfigError: If the feature network is unknown, unfit, or lacks the layers.
        RunError: If a weights file does not fit; the keys are given.
    """
    return ANOMALY_MODELS[config.method](config, max_value, size, fresh)


def _vae(
    config: AnomalyConfig, max_value: int, size: tuple[int, int], fresh: bool
) -> tuple[AnomalyModel, list[str]]:
    features: FeatureMaps | None = None
    notes: list[str] = []
    seen = (size[0] // config.shrink, size[1] // config.shrink)
    if config.score_perceptual:
        features, notes = _features(config, seen, fresh)
    model = ConvVae(
        max_value=max_value,
        width=config.width,
        latent_width=config.latent_width,
        shrink=config.shrink,
        conditions=[_INPUTS[name] for name in config.conditions],
        weights=TermWeights(
            config.score_l2, config.score_ssim, config.score_perceptual, config.score_kl
        ),
        features=features,
        edge_px=config.edge_px,
        top_share=config.top_share,
    )
    return model, notes


def _patchcore(
    config: AnomalyConfig, max_value: int, size: tuple[int, int], fresh: bool
) -> tuple[AnomalyModel, list[str]]:
    features, notes = _features(config, size, fresh)
    model = PatchCore(
        features,
        max_value=max_value,
        bank_size=config.bank_size,
        edge_px=config.edge_px,
        top_share=config.top_share,
    )
    return model, notes


def _features(
    config: AnomalyConfig, size: tuple[int, int], fresh: bool
) -> tuple[FeatureMaps, list[str]]:
    """Build the feature network, and say where its weights are from."""
    asked = ModelConfig(
        backbone=config.backbone,
        pretrained=config.pretrained and fresh,
        weights=config.weights if fresh else None,
    )
    backbone, notes = build_backbone(asked, size)
    if config.weights is not None:
        told = (
            f"features are those of {config.weights}: if that network has learnt from cancers, "
            "so has what is built on it"
        )
        notes.append(told)
    elif not config.pretrained or notes:
        notes.append(f"features of {config.backbone} are random: no weights were given")
    return FeatureMaps(backbone, config.layers, size), notes


#: Every anomaly model, by its method.
ANOMALY_MODELS: dict[
    str,
    Callable[[AnomalyConfig, int, tuple[int, int], bool], tuple[AnomalyModel, list[str]]],
] = {"vae": _vae, "patchcore": _patchcore}
