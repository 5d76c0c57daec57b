"""Measures of scores against labels. What is undefined is ``None``, never 0.

Every measure takes weights. The formulas are those of :mod:`mammoscope.evaluation.weighted`,
which computes them for thousands of weightings at once; here they are for one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammoscope.evaluation.weighted import Calls, Ranking, Steps, Weighted
from mammoscope.types import Bools, Floats

__all__ = [
    "Confusion",
    "auroc",
    "average_precision",
    "best_f1",
    "confusion",
    "mcclish",
    "partial_auroc",
    "pf1",
    "pf1_of",
    "precision_recall_curve",
    "roc_curve",
    "sensitivity_at",
]


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
        return _one(self._calls().sensitivity)

    @property
    def specificity(self) -> float | None:
        """True negatives over negatives."""
        return _one(self._calls().specificity)

    @property
    def precision(self) -> float | None:
        """True positives over all called positive (PPV)."""
        return _one(self._calls().precision)

    @property
    def accuracy(self) -> float | None:
        """Right over all."""
        return _one(self._calls().accuracy)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of sensitivity and precision."""
        return _one(self._calls().f1)

    def _calls(self) -> Calls:
        return Calls(*(np.array([n]) for n in (self.tp, self.fp, self.tn, self.fn)))


def confusion(
    score: Floats, label: Bools, threshold: float, weight: Floats | None = None
) -> Confusion:
    """Count at a threshold."""
    calls = _weighted(score, label, weight).calls(threshold)
    return Confusion(*(float(n[0]) for n in (calls.tp, calls.fp, calls.tn, calls.fn)))


def auroc(score: Floats, label: Bools, weight: Floats | None = None) -> float | None:
    """Area under the ROC curve: chance that a positive outscores a negative, ties half.

    Source: Hanley and McNeil, Radiology 143, 1982.
    """
    return _one(_steps(score, label, weight).auroc())


def partial_auroc(
    score: Floats,
    label: Bools,
    low: float,
    high: float = 1.0,
    weight: Floats | None = None,
) -> float | None:
    """Area under the ROC curve where the specificity lies between ``low`` and ``high``.

    It lies between 0 and ``high - low``; :func:`mcclish` puts it on the scale of the AUROC.

    Source: McClish, Med. Decis. Making 9, 1989.
    """
    return _one(_steps(score, label, weight).partial_auroc(low, high))


def mcclish(area: Floats, low: float, high: float) -> Floats:
    """Standardise a partial area: 0.5 is chance and 1 is perfect, whatever the range.

    With a = 1 - high and b = 1 - low the area of chance is (b² - a²) / 2 and the largest one
    is b - a; the result is (1 + (area - chance) / (largest - chance)) / 2.

    Source: McClish, Med. Decis. Making 9, 1989.
    """
    left, right = 1 - high, 1 - low
    chance, largest = (right**2 - left**2) / 2, right - left
    return (1 + (area - chance) / (largest - chance)) / 2


def sensitivity_at(
    score: Floats, label: Bools, specificity: float, weight: Floats | None = None
) -> float | None:
    """Highest sensitivity of any threshold whose specificity is at least this.

    The threshold is taken from the same scores, so this is a point of the ROC curve and no
    promise: a frozen threshold's sensitivity is measured at an operating point.
    """
    return _one(_steps(score, label, weight).sensitivity_at(specificity))


def best_f1(score: Floats, label: Bools, weight: Floats | None = None) -> float | None:
    """Highest F1 of any threshold, taken from the same scores: an upper bound, no promise."""
    return _one(_steps(score, label, weight).best_f1())


def average_precision(score: Floats, label: Bools, weight: Floats | None = None) -> float | None:
    """Precision averaged over the steps of sensitivity, without interpolation."""
    return _one(_steps(score, label, weight).average_precision())


def pf1(score: Floats, label: Bools, weight: Floats | None = None) -> float | None:
    """Probabilistic F1 of the RSNA Screening Mammography challenge.

    With p the score as a probability, pTP the sum of p over positives and pFP that over
    negatives: pPrecision = pTP / (pTP + pFP), pSensitivity = pTP / positives, and
    pF1 = 2 pPrecision pSensitivity / (pPrecision + pSensitivity). Depends on calibration.

    Source: the challenge's evaluation page; Yacouby and Axman, Eval4NLP 2020.
    """
    return _one(pf1_of(_weighted(score, label, weight)))


def pf1_of(data: Weighted) -> Floats:
    """Return :func:`pf1` under each vector of weights; undefined is NaN."""
    score, label = data.ranking.score, data.ranking.label
    whole = data.total(score + label)
    empty = np.full(whole.shape, np.nan)
    shares: Floats = np.divide(2 * data.total(score * label), whole, out=empty, where=whole > 0)
    return shares


def roc_curve(score: Floats, label: Bools, weight: Floats | None = None) -> tuple[Floats, Floats]:
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
    score: Floats, label: Bools, weight: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return sensitivity and precision at each distinct score, from the highest."""
    positive, negative = _cumulated(score, label, weight)
    if positive.size == 0 or positive[-1] == 0:
        return np.empty(0), np.empty(0)
    called = positive + negative
    kept = called > 0
    return positive[kept] / positive[-1], positive[kept] / called[kept]


def _cumulated(score: Floats, label: Bools, weight: Floats | None) -> tuple[Floats, Floats]:
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


def _weighted(score: Floats, label: Bools, weight: Floats | None) -> Weighted:
    weights = np.ones_like(score) if weight is None else weight
    return Weighted(Ranking(score, label), weights[None])


def _steps(score: Floats, label: Bools, weight: Floats | None) -> Steps:
    return _weighted(score, label, weight).steps


def _one(values: Floats) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])
