"""Scores ranked once and weighted many times: what makes a bootstrap of thousands quick.

A replicate of the bootstrap is a weight per patient. The order of the scores is the same in
every one, so it is found once; a block of replicates is then a matrix, and a measure of all
of them is a few sums over its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mammoscope.types import Bools, Floats, Ints

__all__ = ["Calls", "Ranking", "Steps", "Weighted"]

_Weights = Floats | NDArray[np.int32]
# A share that was computed may miss a whole count by the last digit.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Calls:
    """Weights of who was called at a threshold, (R,) each; undefined rates are NaN."""

    tp: Floats
    fp: Floats
    tn: Floats
    fn: Floats

    @property
    def all(self) -> Floats:
        """Everyone."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def sensitivity(self) -> Floats:
        """True positives over positives."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> Floats:
        """True negatives over negatives."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> Floats:
        """True positives over all called positive (PPV)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def accuracy(self) -> Floats:
        """Right over all."""
        return _ratio(self.tp + self.tn, self.all)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of sensitivity and precision."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def detections_per_1000(self) -> Floats:
        """Positives that were called, of a thousand screened: the cancer detection rate."""
        return _ratio(1000 * self.tp, self.all)

    @property
    def recalls_per_1000(self) -> Floats:
        """All that were called, of a thousand screened: the recall rate."""
        return _ratio(1000 * (self.tp + self.fp), self.all)


@dataclass(frozen=True, slots=True)
class Steps:
    """The ROC curve of R weightings, written at the scores that positives have.

    From the highest score down, step g is a distinct score with at least one positive.
    Between two steps the curve runs level, so nothing is lost.

    Attributes:
        positive: (R, G) weight of positives at each step.
        above: (R, G) weight of negatives above it.
        tied: (R, G) weight of negatives at the same score.
        positives: (R,) weight of all positives.
        negatives: (R,) weight of all negatives.
    """

    positive: Floats
    above: Floats
    tied: Floats
    positives: Floats
    negatives: Floats

    def auroc(self) -> Floats:
        """Chance that a positive outscores a negative, ties half."""
        below = self.negatives[:, None] - self.above - self.tied / 2
        return _ratio((self.positive * below).sum(axis=1), self.positives * self.negatives)

    def average_precision(self) -> Floats:
        """Precision averaged over the steps of sensitivity, without interpolation."""
        found = np.cumsum(self.positive, axis=1)
        called = found + self.above + self.tied
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return _ratio((self.positive * precision).sum(axis=1), self.positives)

    def best_f1(self) -> Floats:
        """Highest F1 of any threshold: one that lies just below a positive's score."""
        found = np.cumsum(self.positive, axis=1)
        called = found + self.above + self.tied
        ends = called + self.positives[:, None]
        f1 = np.divide(2 * found, ends, out=np.zeros_like(found), where=ends > 0)
        return np.where(self.positives > 0, f1.max(axis=1, initial=0.0), np.nan)

    def sensitivity_at(self, specificity: float) -> Floats:
        """Highest sensitivity of any threshold whose specificity is at least this."""
        found = np.cumsum(self.positive, axis=1)
        spared = self.negatives[:, None] - self.above - self.tied
        # Counts are compared, so that 0.9 of 10 negatives is 9 of them, not 8.999.
        met = spared >= (specificity - _ROUNDING) * self.negatives[:, None]
        best = np.where(met, found, 0.0).max(axis=1, initial=0.0)
        defined = np.where(self.negatives > 0, self.positives, 0.0)
        return _ratio(best, defined)

    def partial_auroc(self, low: float, high: float) -> Floats:
        """Area under the ROC curve where the specificity lies between ``low`` and ``high``.

        The curve is joined by straight lines, as for the whole area.
        """
        share = self.positives * self.negatives
        if self.positive.shape[1] == 0:
            return np.full(share.shape, np.nan)
        left, right = 1 - high, 1 - low
        scale = np.where(self.negatives > 0, self.negatives, 1.0)[:, None]
        starts, ends = self.above / scale, (self.above + self.tied) / scale
        found = np.cumsum(self.positive, axis=1)
        before = found - self.positive
        came_from = np.concatenate([np.zeros_like(ends[:, :1]), ends[:, :-1]], axis=1)
        level = before * (np.clip(starts, left, right) - np.clip(came_from, left, right))
        # Where negatives tie with positives the curve rises along a slanted line.
        begin, end = np.clip(starts, left, right), np.clip(ends, left, right)
        width = ends - starts
        slope = np.divide(self.positive, width, out=np.zeros_like(width), where=width > 0)
        slanted = (end - begin) * (before + slope * ((begin + end) / 2 - starts))
        last = found[:, -1] * (right - np.clip(ends[:, -1], left, right))
        area = level.sum(axis=1) + slanted.sum(axis=1) + last
        return np.where(share > 0, _ratio(area, self.positives), np.nan)


class Ranking:
    """Scores and labels in falling order of score.

    Args:
        score: (N,).
        label: (N,).
        owner: (N,) column of the weights that is each image's; by default its own.
        prevalence: Share of positives that measures speak of; that of the data by default.
    """

    def __init__(
        self,
        score: Floats,
        label: Bools,
        owner: Ints | None = None,
        prevalence: float | None = None,
    ) -> None:
        self.score, self.label, self.prevalence = score, label, prevalence
        self.owner = np.arange(score.size) if owner is None else owner
        positive, negative = (np.flatnonzero(side) for side in (label, ~label))
        positive = positive[np.argsort(-score[positive], kind="stable")]
        negative = negative[np.argsort(-score[negative], kind="stable")]
        distinct, first = np.unique(-score[positive], return_index=True)
        fallen = -score[negative]
        self._positive, self._negative = self.owner[positive], self.owner[negative]
        self._ends = np.append(first[1:], positive.size) if positive.size else first
        self._above = np.searchsorted(fallen, distinct, side="left")
        self._upto = np.searchsorted(fallen, distinct, side="right")
        self._tallies: dict[float, Floats] = {}

    def steps(self, weight: _Weights) -> Steps:
        """Return the curve under each row of weights, (R, columns)."""
        found = _running(weight, self._positive)
        passed = _running(weight, self._negative)
        above = passed[:, self._above].astype(np.float64)
        return Steps(
            positive=np.diff(found[:, self._ends].astype(np.float64), axis=1, prepend=0.0),
            above=above,
            tied=passed[:, self._upto] - above,
            positives=found[:, -1].astype(np.float64),
            negatives=passed[:, -1].astype(np.float64),
        )

    def tally(self, threshold: float, columns: int) -> Floats:
        """Return tp, fp, tn and fn of each column of the weights, (columns, 4)."""
        if threshold not in self._tallies:
            called, label = self.score >= threshold, self.label
            sides = (called & label, called & ~label, ~called & ~label, ~called & label)
            counts = [np.bincount(self.owner[side], minlength=columns) for side in sides]
            self._tallies[threshold] = np.stack(counts, axis=1).astype(np.float64)
        return self._tallies[threshold]


class Weighted:
    """A ranking under R vectors of weights; what several measures need is computed once.

    Where the ranking has a prevalence q, the positives of each vector are scaled to weigh q
    together and its negatives 1 - q, so that every measure is that of a place with this share.

    Args:
        ranking: Scores and labels.
        weight: (R, columns), whole numbers or any; running sums of whole ones are quicker.
    """

    def __init__(self, ranking: Ranking, weight: _Weights) -> None:
        self.ranking, self.weight = ranking, weight
        self._calls: dict[float, Calls] = {}

    @cached_property
    def steps(self) -> Steps:
        """The ROC curve."""
        made = self.ranking.steps(self.weight)
        if self._scale is None:
            return made
        a, b = self._scale
        return Steps(
            positive=made.positive * a[:, None],
            above=made.above * b[:, None],
            tied=made.tied * b[:, None],
            positives=made.positives * a,
            negatives=made.negatives * b,
        )

    @cached_property
    def _scale(self) -> tuple[Floats, Floats] | None:
        """What positives and negatives count, (R,) each; NaN of a class that was not drawn."""
        share, label = self.ranking.prevalence, self.ranking.label
        if share is None:
            return None
        one = np.ones(label.size)
        return (
            _ratio(np.array(share), self._summed(one, label)),
            _ratio(np.array(1 - share), self._summed(one, ~label)),
        )

    @cached_property
    def _float_weight(self) -> Floats:
        return self.weight.astype(np.float64)

    def total(self, values: Floats) -> Floats:
        """Return the weighted sum of a value per image, (R,)."""
        label = self.ranking.label
        if self._scale is None:
            return self._summed(values, np.ones_like(label))
        a, b = self._scale
        return a * self._summed(values, label) + b * self._summed(values, ~label)

    def _summed(self, values: Floats, side: Bools) -> Floats:
        """Return the sum of the values of one side under each vector, (R,)."""
        columns = self.weight.shape[1]
        of_column = np.bincount(self.ranking.owner[side], values[side], minlength=columns)
        summed: Floats = self._float_weight @ of_column
        return summed

    def calls(self, threshold: float) -> Calls:
        """Count at a threshold; a score equal to it is called."""
        if threshold not in self._calls:
            tally = self.ranking.tally(threshold, self.weight.shape[1])
            tp, fp, tn, fn = (self._float_weight @ tally).T
            if self._scale is not None:
                a, b = self._scale
                tp, fp, tn, fn = a * tp, b * fp, b * tn, a * fn
            self._calls[threshold] = Calls(tp, fp, tn, fn)
        return self._calls[threshold]


def _running(weight: _Weights, columns: Ints) -> _Weights:
    """Return sums of the first 0, 1, 2 … of these columns, (R, columns + 1)."""
    sums: _Weights = np.zeros((weight.shape[0], columns.size + 1), weight.dtype)
    np.cumsum(np.take(weight, columns, axis=1), axis=1, out=sums[:, 1:])
    return sums


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide; what has no whole is NaN."""
    empty = np.full(np.broadcast(part, whole).shape, np.nan)
    divided: Floats = np.divide(part, whole, out=empty, where=whole > 0)
    return divided
