"""Thresholds chosen on validation images for a target, and frozen before any test image.

``best_pf1`` is the target of the RSNA challenge. Its measure counts scores as shares of a call,
pF1 = 2 Σ s y / (Σ s + Σ y). With calls at threshold t for the score, that is F1(t); and since a
score is the share of thresholds below it, Σ s y and Σ s are the means of the hits and the calls
over all t in [0, 1], so pF1 is a weighted mean of F1(t) and never above the best of them. Those
who ranked high therefore sent zeros and ones, and the threshold that is best for pF1 of what is
sent is the one with the best F1. Both names choose it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.config import EvaluationConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation.bootstrap import Measure, draw, intervals
from mammoscope.evaluation.measures import measures_at
from mammoscope.evaluation.tables import Scored
from mammoscope.evaluation.weighted import Weighted
from mammoscope.types import Floats

__all__ = ["aim", "choose", "choose_threshold", "midpoints", "over_calling_all", "point_measures"]

# The choice is repeated on so many replicates at most.
_CHOICES = 500
_CELLS = 2_000_000
_MEASURED = ("sensitivity", "specificity", "precision", "f1", "recall_rate")
_NOT_CHOSEN = {"replicates": 0, "low": None, "high": None, "optimism": None}
# A share that was computed may miss a whole count by the last digit.
_ROUNDING = 1e-9


def aim(target: str) -> str | None:
    """Return the measure that a target is about; a given threshold is about none."""
    name = target.partition("=")[0]
    if name == "threshold":
        return None
    return "f1" if name in ("best_f1", "best_pf1") else name


def point_measures(threshold: float) -> dict[str, Measure]:
    """Return the measures at a threshold, ``recall_rate`` among them: the share that is called.

    Of data with a prevalence q it is q · sensitivity + (1 - q) · (1 - specificity).
    """

    def recall_rate(data: Weighted) -> Floats:
        return np.asarray(data.calls(threshold).recalls_per_1000 / 1000)

    return {**measures_at(threshold), "recall_rate": recall_rate}


def over_calling_all(threshold: float) -> Measure:
    """Return by how much the F1 at a threshold is above that of calling everyone, as a measure."""

    def gain(data: Weighted) -> Floats:
        calls = data.calls(threshold)
        positives = calls.tp + calls.fn
        return np.asarray(calls.f1 - 2 * positives / (positives + calls.all))

    return gain


def choose(data: Scored, config: EvaluationConfig) -> list[dict[str, Any]]:
    """Choose every configured operating point, with its measures on the same data.

    Args:
        data: Validation scores of one level, and the prevalence that is meant.
        config: Targets, replicates and confidence.

    Returns:
        A plain record for each: name, target, threshold, confidence; sensitivity, specificity,
        precision, F1 and recall rate with intervals; and ``choice``: how far the threshold moves
        when patients are drawn anew (``low``, ``high``), the ``optimism`` of the measure that it
        was chosen by, and over how many ``replicates``.
    """
    points = []
    for target in config.operating_points:
        threshold = choose_threshold(data, target)
        measured = intervals(
            data,
            point_measures(threshold),
            replicates=config.bootstrap,
            confidence=config.confidence,
            seed=config.seed,
            threshold=threshold,
        )
        points.append(
            {
                "name": target,
                "target": target,
                "threshold": threshold,
                "confidence": config.confidence,
                **{name: measured[name].as_dict() for name in _MEASURED},
                "choice": _repeated(data, target, config),
            }
        )
    return points


def choose_threshold(data: Scored, target: str) -> float:
    """Return the threshold that meets a target.

    ``best_f1`` and ``best_pf1`` take the highest F1 of those that do not call everyone, the higher
    threshold among equals.
    ``specificity=S`` takes the lowest threshold whose specificity is at least S,
    ``recall_rate=R`` the lowest that calls a share of at most R; ``sensitivity=S`` the highest
    whose sensitivity is at least S; ``threshold=T`` is T itself. Thresholds that are chosen lie
    midway between neighbouring scores, so that none is tied to the last digit of one image.

    Args:
        data: Scores of one level; their prevalence is the one at which F1 and a recall rate are
            meant.
        target: The target.

    Raises:
        RunError: If a class is missing, so that nothing can be chosen.
    """
    if data.positives in (0, data.label.size):
        raise RunError("an operating point needs validation images with and without cancer")
    name, _, value = target.partition("=")
    if name == "threshold":
        return float(value)
    curve = _Curve(data)
    whole = np.ones((1, data.score.size))
    return float(curve.candidates[curve.picked(target, whole)[0][0]])


class _Curve:
    """Every threshold that can be told from the next, and what it calls under given weights."""

    def __init__(self, data: Scored) -> None:
        order = np.argsort(-data.score, kind="stable")
        ranked = data.score[order]
        self.candidates = midpoints(data.score)
        self.patient, self.label = data.patient[order], data.label[order]
        self._prevalence = data.prevalence
        # (C,) how many scores reach each candidate.
        self._reach = np.searchsorted(-ranked, -self.candidates, side="right")

    def picked(self, target: str, weight: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Return which candidate each weighting chooses, (R,), and the measure aimed at, (R, C).

        Args:
            target: The target.
            weight: (R, N), images in falling order of score.
        """
        found, wrong = self._summed(weight * self.label), self._summed(weight * ~self.label)
        if self._prevalence is not None:
            # The first candidate calls everyone.
            found = found * (self._prevalence / found[:, :1])
            wrong = wrong * ((1 - self._prevalence) / wrong[:, :1])
        called, positives = found + wrong, found[:, :1]
        sensitivity = found / positives
        specificity = 1 - wrong / wrong[:, :1]
        name, _, value = target.partition("=")
        if name in ("best_f1", "best_pf1"):
            f1 = 2 * found / (called + positives)
            # The last of equals: the higher threshold. The first calls everyone, as needs no model.
            return f1.shape[1] - 1 - np.argmax(f1[:, :0:-1], axis=1), f1
        if name == "specificity":
            return np.argmax(specificity >= float(value) - _ROUNDING, axis=1), specificity
        if name == "sensitivity":
            reached = (sensitivity >= float(value) - _ROUNDING).sum(axis=1)
            return reached - 1, sensitivity
        if name == "recall_rate":
            recalled = called / called[:, :1]
            return np.argmax(recalled <= float(value) + _ROUNDING, axis=1), recalled
        raise ConfigError(f"unknown operating point {target!r}")

    def _summed(self, weight: Floats) -> Floats:
        """Return the weight that reaches each candidate, (R, C)."""
        sums = np.zeros((weight.shape[0], weight.shape[1] + 1))
        np.cumsum(weight, axis=1, out=sums[:, 1:])
        return sums[:, self._reach]


def _repeated(data: Scored, target: str, config: EvaluationConfig) -> dict[str, Any]:
    """Choose again on replicates of patients, and see how well that does on all.

    The optimism is how much better the measure looks on the patients who chose the threshold
    than on all of them, on average (Efron, JASA 78, 1983; Harrell et al., Stat. Med. 15, 1996).
    """
    if aim(target) is None:
        return dict(_NOT_CHOSEN)
    replicates = min(config.bootstrap, _CHOICES)
    curve = _Curve(data)
    _, whole = curve.picked(target, np.ones((1, data.score.size)))
    chosen: list[Floats] = []
    optimism: list[Floats] = []
    for weight in _replicates(curve, replicates, config.seed):
        index, measure = curve.picked(target, weight)
        chosen.append(curve.candidates[index])
        optimism.append(measure[np.arange(index.size), index] - whole[0, index])
    thresholds = np.concatenate(chosen) if chosen else np.empty(0)
    if not thresholds.size:
        return dict(_NOT_CHOSEN)
    tail = (1 - config.confidence) / 2
    low, high = (float(q) for q in np.quantile(thresholds, [tail, 1 - tail]))
    return {
        "replicates": int(thresholds.size),
        "low": low,
        "high": high,
        "optimism": float(np.concatenate(optimism).mean()),
    }


def _replicates(curve: _Curve, replicates: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of weights (R, N) of replicates that drew both classes."""
    times = draw(int(curve.patient.max()) + 1, replicates, seed)
    block = max(1, _CELLS // curve.patient.size)
    for start in range(0, replicates, block):
        weight = times[start : start + block][:, curve.patient].astype(np.float64)
        positives = weight @ curve.label
        kept = (positives > 0) & (positives < weight.sum(axis=1))
        if kept.any():
            yield weight[kept]


def midpoints(score: Floats) -> Floats:
    """Return ascending thresholds: 0, midway between neighbours, and one above all scores."""
    distinct = np.unique(score)
    inner = (distinct[1:] + distinct[:-1]) / 2
    top = (distinct[-1] + 1) / 2 if distinct[-1] < 1 else np.nextafter(1.0, 2.0)
    return np.concatenate([[0.0], inner, [top]])
