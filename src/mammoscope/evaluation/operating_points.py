"""Thresholds chosen on validation images for a target, and frozen before any test image."""

from __future__ import annotations

from typing import Any

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation.bootstrap import intervals
from mammoscope.evaluation.measures import measures_at
from mammoscope.evaluation.tables import Scored
from mammoscope.types import Floats

__all__ = ["choose", "choose_threshold"]


def choose(data: Scored, config: EvaluationConfig) -> list[dict[str, Any]]:
    """Choose every configured operating point, with its measures on the same data.

    Args:
        data: Validation scores of one level.
        config: Targets, replicates and confidence.

    Returns:
        A plain record for each: name, target, threshold, confidence, and sensitivity,
        specificity, precision and F1 with intervals.
    """
    points = []
    for target in config.operating_points:
        threshold = choose_threshold(data, target)
        measured = intervals(
            data,
            measures_at(threshold),
            replicates=config.bootstrap,
            confidence=config.confidence,
            seed=config.seed,
        )
        kept = ("sensitivity", "specificity", "precision", "f1")
        points.append(
            {
                "name": target,
                "target": target,
                "threshold": threshold,
                "confidence": config.confidence,
                **{name: measured[name].as_dict() for name in kept},
            }
        )
    return points


def choose_threshold(data: Scored, target: str) -> float:
    """Return the threshold that meets a target.

    ``best_f1`` takes the highest F1, the higher threshold among equals. ``specificity=S``
    takes the lowest threshold whose specificity is at least S; ``sensitivity=S`` the
    highest whose sensitivity is at least S; ``threshold=T`` is T itself. Thresholds that are
    chosen lie midway between neighbouring scores, so that none is tied to the last digit of one
    image.

    Raises:
        RunError: If a class is missing, so that nothing can be chosen.
    """
    if data.positives in (0, data.label.size):
        raise RunError("an operating point needs validation images with and without cancer")
    candidates = _midpoints(data.score)
    order = np.argsort(-data.score, kind="stable")
    ranked, labels = data.score[order], data.label[order]
    called = np.searchsorted(-ranked, -candidates, side="right")
    positives = np.concatenate([[0], np.cumsum(labels)])[called]
    sensitivity = positives / data.positives
    specificity = 1 - (called - positives) / (data.label.size - data.positives)
    name, _, value = target.partition("=")
    if name == "threshold":
        return float(value)
    if name == "best_f1":
        f1 = 2 * positives / (called + data.positives)
        return float(candidates[np.flatnonzero(f1 == f1.max())[-1]])
    if name == "specificity":
        return float(candidates[np.flatnonzero(specificity >= float(value))[0]])
    if name == "sensitivity":
        return float(candidates[np.flatnonzero(sensitivity >= float(value))[-1]])
    raise ConfigError(f"unknown operating point {target!r}")


def _midpoints(score: Floats) -> Floats:
    """Return ascending thresholds: 0, midway between neighbours, and one above all scores."""
    distinct = np.unique(score)
    inner = (distinct[1:] + distinct[:-1]) / 2
    top = (distinct[-1] + 1) / 2 if distinct[-1] < 1 else np.nextafter(1.0, 2.0)
    return np.concatenate([[0.0], inner, [top]])
