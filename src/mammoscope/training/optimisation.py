"""What moves and how fast: parameter groups, optimisers, frozen and recomputed backbones."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mammoscope.config import ModelConfig, TrainConfig
from mammoscope.errors import ConfigError
from mammoscope.models import BASELINES, Classifier
from mammoscope.models.weights import holds_head

__all__ = [
    "build_optimizer",
    "check_frozen_part",
    "check_optimisation",
    "cosine_with_warmup",
    "is_frozen",
    "parameter_groups",
    "recompute_activations",
    "sorted_parameters",
]

# Parameters of one dimension are norms and biases, which weight decay would only shrink.
_DECAYED_DIMENSIONS = 2


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Return the share of the peak rate at a step: a linear rise, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def check_optimisation(
    classifier: Classifier, model: ModelConfig, config: TrainConfig, missed: Sequence[str] = ()
) -> str:
    """Check that a network can be trained as configured.

    Args:
        classifier: The network.
        model: What it was built from.
        config: How it is to be trained.
        missed: Why weights to start from could not be had, if they could not.

    Returns:
        A sentence that a user should read, or nothing.

    Raises:
        ConfigError: If its backbone does not say which of its layers is deeper than which, or is
            to stay at weights that could not be had.
    """
    if config.layer_decay < 1:
        _depths(classifier, model.backbone)
    if config.frozen_epochs != "all" or model.weights is not None:
        return ""
    if missed:
        raise ConfigError(
            f"train.frozen_epochs=all would keep the backbone there: {missed[0]}; name a file with "
            "model.weights, or let it learn"
        )
    if not model.pretrained or model.backbone in BASELINES:
        return (
            "the backbone is frozen at random weights (train.frozen_epochs=all without weights): "
            "only the layers behind it learn"
        )
    return ""


def check_frozen_part(classifier: Classifier, model: ModelConfig, config: TrainConfig) -> None:
    """Check that a training that begins has what it is to leave as it is, and more to learn.

    Args:
        classifier: The network that looks at single images.
        model: What it was built from.
        config: How it is to be trained.

    Raises:
        ConfigError: If an image model is to stay as it is, and nothing else is there, or none was
            taken over.
    """
    if config.frozen_part == "backbone":
        return
    if model.level == "image":
        raise ConfigError(
            "train.frozen_part=image_model leaves a model of images nothing to learn; set "
            "model.level to breast or exam, or freeze the backbone alone"
        )
    if model.weights is None or not holds_head(classifier, model.weights):
        raise ConfigError(
            "train.frozen_part=image_model would keep layers that have learnt nothing; name with "
            "model.weights the weights of a run with the same layers behind its backbone"
        )


def recompute_activations(classifier: Classifier, model: ModelConfig) -> None:
    """Have a network compute its backbone's activations twice instead of keeping them.

    Raises:
        ConfigError: If its backbone cannot.
    """
    if not classifier.backbone.recompute_activations():
        raise ConfigError(
            f"train.gradient_checkpointing: {model.backbone} cannot recompute its activations; "
            "set it to false"
        )


def is_frozen(config: TrainConfig, epoch: int) -> bool:
    """Say whether what is to be frozen stays as it is in an epoch, counted from 0."""
    return config.frozen_epochs == "all" or epoch < config.frozen_epochs


def parameter_groups(
    classifier: Classifier, others: Iterable[nn.Parameter], config: TrainConfig
) -> list[dict[str, Any]]:
    """Sort parameters by whether they decay and by their learning rate.

    The rate of a backbone's layer is ``layer_decay`` times that of the layer behind it (Clark et
    al., ELECTRA, ICLR 2020); what lies behind the backbone learns at the full rate.

    Args:
        classifier: The network.
        others: Parameters beside it that learn at the full rate.
        config: Rates and decay.
    """
    shares = _rate_shares(classifier, config)
    undecayed = {f"backbone.{name}" for name in classifier.backbone.undecayed()}
    named = [*classifier.named_parameters(), *(("", parameter) for parameter in others)]
    return sorted_parameters(named, config, shares, undecayed)


def sorted_parameters(
    named: Iterable[tuple[str, nn.Parameter]],
    config: TrainConfig,
    shares: Mapping[str, float] | None = None,
    undecayed: Container[str] = (),
) -> list[dict[str, Any]]:
    """Sort parameters by whether they decay and by their learning rate; norms and biases do not.

    Args:
        named: The parameters with their names.
        config: Rate and decay.
        shares: Of the full rate, by name; 1 where none is named.
        undecayed: Names of further parameters that decay would only shrink.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        decays = parameter.ndim >= _DECAYED_DIMENSIONS and name not in undecayed
        groups.setdefault(((shares or {}).get(name, 1.0), decays), []).append(parameter)
    # The full rate first, which is the one that history.csv tells.
    return [
        {
            "params": groups[share, decays],
            "lr": config.lr * share,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for share, decays in sorted(groups, reverse=True)
    ]


def build_optimizer(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    """Return the configured optimiser over groups of parameters."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov
        )
    # Adam adds the decay to the gradient, AdamW to the step.
    kinds: dict[str, type[torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    return kinds[config.optimizer](groups, lr=config.lr)  # type: ignore[call-arg]


def _rate_shares(classifier: Classifier, config: TrainConfig) -> dict[str, float]:
    if config.layer_decay == 1:
        return {}
    depths = _depths(classifier, "")
    behind = 1 + max(depths.values())
    return {
        f"backbone.{name}": config.layer_decay ** (behind - depth) for name, depth in depths.items()
    }


def _depths(classifier: Classifier, name: str) -> dict[str, int]:
    try:
        return classifier.backbone.depths()
    except (NotImplementedError, AttributeError) as error:
        raise ConfigError(
            f"train.layer_decay: {name} does not say which of its layers is deeper; set it to 1"
        ) from error
