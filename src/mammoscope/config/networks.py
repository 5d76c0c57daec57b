"""What a task's network is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mammoscope.config.detection import OWN_BACKBONES

__all__ = ["network_of"]


def network_of(config: Mapping[str, Any]) -> str:
    """Name the network that a run's task trains, for people: ``unet on efficientnet-b0``.

    Each task reads a section of its own, and ``model.backbone`` stands in every configuration,
    whether it is read or not.

    Args:
        config: As ``run.json`` keeps it, also that of an earlier version.
    """
    task = config.get("task", "classify")
    if task == "detect":
        name, backbone = config["detect"]["name"], config["detect"]["backbone"]
        return str(name) if name in OWN_BACKBONES else f"{name} on {backbone}"
    if task == "segment":
        return f"{config['segment']['decoder']} on {config['segment']['encoder']}"
    if task == "anomaly":
        method, backbone = config["anomaly"]["method"], config["anomaly"]["backbone"]
        return f"{method} on {backbone}" if method == "patchcore" else str(method)
    backbone = config["model"]["backbone"]
    if task == "segment-then-classify":
        return f"{backbone} on cut-outs"
    return str(backbone)
