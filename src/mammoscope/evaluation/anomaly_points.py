"""Thresholds of an anomaly score, chosen on normal validation images and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.bootstrap import Interval, draw, intervals
from mammoscope.evaluation.measures import measures_at
from mammoscope.evaluation.operating_points import midpoints
from mammoscope.evaluation.tables import Scored
from mammoscope.types import Floats

__all__ = ["choose_on_normal", "normal_only", "threshold_on_normal"]

# What cannot be known where there is no positive.
_UNKNOWN = ("sensitivity", "precision", "f1", "recall_rate")
_CHOICES = 500
# A share that was computed may miss a whole count by the last digit.
_ROUNDING = 1e-9


def normal_only(data: Scored) -> Scored:
    """Return the normal ones of scores with known labels."""
    kept = ~data.label
    return Scored(data.score[kept], data.label[kept], data.patient[kept])


def threshold_on_normal(score: Floats, specificity: float) -> float:
    """Return the lowest threshold below which at least a share of normal scores lies.

    Like all our thresholds it lies midway between neighbouring scores.

    Args:
        score: (N,) of normal images, in [0, 1].
        specificity: The share.

    Raises:
        RunError: If there is no score.
    """
    if not score.size:
        raise RunError("an anomaly threshold needs normal validation images")
    candidates = midpoints(score)
    return float(candidates[_picked(candidates, score, np.ones((1, score.size)), specificity)[0]])


def choose_on_normal(
    data: Scored, specificities: tuple[float, ...], config: EvaluationConfig
) -> list[dict[str, Any]]:
    """Choose a threshold for each target specificity.

    Args:
        data: Normal validation scores of one level.
        specificities: The targets; the first is the primary one.
        config: Replicates, confidence and seed.

    Returns:
        Records as :func:`mammoscope.evaluation.operating_points.choose` gives them; what needs
        positives is null.
    """
    points = []
    for specificity in specificities:
        threshold = threshold_on_normal(data.score, specificity)
        measured = intervals(
            data,
            {"specificity": measures_at(threshold)["specificity"]},
            replicates=config.bootstrap,
            confidence=config.confidence,
            seed=config.seed,
            threshold=threshold,
        )
        name = f"specificity={specificity:g}"
        points.append(
            {
                "name": name,
                "target": name,
                "threshold": threshold,
                "confidence": config.confidence,
                "specificity": measured["specificity"].as_dict(),
                **{key: Interval(None, None, None).as_dict() for key in _UNKNOWN},
                "choice": _repeated(data, specificity, config),
            }
        )
    return points


def _repeated(data: Scored, specificity: float, config: EvaluationConfig) -> dict[str, Any]:
    """Choose again on replicates of patients: where thresholds fall, and how they flatter."""
    patient = np.unique(data.patient, return_inverse=True)[1]
    times = draw(int(patient.max()) + 1, min(config.bootstrap, _CHOICES), config.seed)
    if not times.size:
        return {"replicates": 0, "low": None, "high": None, "optimism": None}
    weight = times[:, patient].astype(np.float64)
    candidates = midpoints(data.score)
    chosen = candidates[_picked(candidates, data.score, weight, specificity)]
    below = data.score[None] < chosen[:, None]
    own = (weight * below).sum(axis=1) / weight.sum(axis=1)
    tail = (1 - config.confidence) / 2
    low, high = (float(end) for end in np.quantile(chosen, [tail, 1 - tail]))
    return {
        "replicates": int(chosen.size),
        "low": low,
        "high": high,
        "optimism": float((own - below.mean(axis=1)).mean()),
    }


def _picked(candidates: Floats, score: Floats, weight: Floats, specificity: float) -> Any:
    """Return which candidate each weighting (R, N) chooses, (R,)."""
    order = np.argsort(score, kind="stable")
    sums = np.zeros((weight.shape[0], score.size + 1))
    np.cumsum(weight[:, order], axis=1, out=sums[:, 1:])
    reach = np.searchsorted(score[order], candidates, side="left")
    share = sums[:, reach] / sums[:, -1:]
    return np.argmax(share >= specificity - _ROUNDING, axis=1)
