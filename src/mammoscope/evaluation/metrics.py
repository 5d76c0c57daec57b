"""Measures of scores against labels. What is undefined is ``None``, never 0.

Every measure takes weights, so that a bootstrap replicate is a vector of counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Confusion",
    "auroc",
    "average_precision",
    "confusion",
    "pf1",
    "precision_recall_curve",
    "roc_curve",
]

_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts at a threshold; a score equal to the threshold is positive."""

    tp: float
    fp: float
    tn: float
    fn: float

    @property
    def sensitivity(self) -> float | None:
        """True positives over positives."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """True negatives over negatives."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float | None:
        """True positives over all called positive (PPV)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def accuracy(self) -> float | None:
        """Right over all."""
        return _ratio(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of sensitivity and precision."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def confusion(
    score: _Floats, label: _Bools, threshold: float, weight: _Floats | None = None
) -> Confusion:
    """Count at a threshold."""
    weights = np.ones_like(score) if weight is None else weight
    called = score >= threshold
    return Confusion(
        tp=float(weights[called & label].sum()),
        fp=float(weights[called & ~label].sum()),
        tn=float(weights[~called & ~label].sum()),
        fn=float(weights[~called & label].sum()),
    )


def auroc(score: _Floats, label: _Bools, weight: _Floats | None = None) -> float | None:
    """Area under the ROC curve: chance that a positive outscores a negative, ties half.

    Source: Hanley and McNeil, Radiology 143, 1982.
    """
    false_rate, true_rate = roc_curve(score, label, weight)
    if false_rate.size == 0:
        return None
    return float(np.trapezoid(true_rate, false_rate))


def roc_curve(
    score: _Floats, label: _Bools, weight: _Floats | None = None
) -> tuple[_Floats, _Floats]:
    """Return false- and true-positive rates from (0, 0) to (1, 1); empty if a class is."""
    positive, negative = _cumulated(score, label, weight)
    if positive.size == 0 or positive[-1] == 0 or negative[-1] == 0:
        return np.empty(0), np.empty(0)
    start = np.zeros(1)
    return (
        np.concatenate([start, negative / negative[-1]]),
        np.concatenate([start, positive / positive[-1]]),
    )


def precision_recall_curve(
    score: _Floats, label: _Bools, weight: _Floats | None = None
) -> tuple[_Floats, _Floats]:
    """Return sensitivity and precision at each distinct score, from the highest."""
    positive, negative = _cumulated(score, label, weight)
    if positive.size == 0 or positive[-1] == 0:
        return np.empty(0), np.empty(0)
    called = positive + negative
    kept = called > 0
    return positive[kept] / positive[-1], positive[kept] / called[kept]


def average_precision(score: _Floats, label: _Bools, weight: _Floats | None = None) -> float | None:
    """Precision averaged over the steps of sensitivity, without interpolation."""
    sensitivity, precision = precision_recall_curve(score, label, weight)
    if sensitivity.size == 0:
        return None
    return float(np.sum(np.diff(sensitivity, prepend=0.0) * precision))


def pf1(score: _Floats, label: _Bools, weight: _Floats | None = None) -> float | None:
    """Probabilistic F1 of the RSNA Screening Mammography challenge.

    With p the score as a probability, pTP the sum of p over positives and pFP that over
    negatives: pPrecision = pTP / (pTP + pFP), pSensitivity = pTP / positives, and
    pF1 = 2 pPrecision pSensitivity / (pPrecision + pSensitivity). Depends on calibration.

    Source: the challenge's evaluation page; Yacouby and Axman, Eval4NLP 2020.
    """
    weights = np.ones_like(score) if weight is None else weight
    positives = float(weights[label].sum())
    true_mass = float((weights * score)[label].sum())
    mass = float((weights * score).sum())
    return _ratio(2 * true_mass, mass + positives)


def _cumulated(score: _Floats, label: _Bools, weight: _Floats | None) -> tuple[_Floats, _Floats]:
    """Return positives and negatives at or above each distinct score, from the highest."""
    if score.size == 0:
        return np.empty(0), np.empty(0)
    weights = np.ones_like(score) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last_of_ties = np.append(ranked[1:] != ranked[:-1], [True])
    positive = np.cumsum(np.where(label, weights, 0.0)[order])[last_of_ties]
    negative = np.cumsum(np.where(label, 0.0, weights)[order])[last_of_ties]
    return positive, negative


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
