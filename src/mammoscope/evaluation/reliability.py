"""How far scores can be read as chances: Brier score, calibration error, slope, intercept.

Sources: Brier, Mon. Weather Rev. 78, 1950; Murphy, J. Appl. Meteorol. 12, 1973 (its parts);
Naeini, Cooper and Hauskrecht, AAAI 2015 (expected calibration error); Cox, Biometrika 45, 1958
(slope and intercept); Van Calster et al., J. Clin. Epidemiol. 74, 2016 (how to read them).
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Interval, draw, interval_of, intervals
from mammoscope.evaluation.tables import Scored
from mammoscope.statistics import wilson_interval
from mammoscope.types import Bools, Floats, Ints

__all__ = ["bins_of", "reliability"]

_BINS = 10
# Scores of 0 and 1 have no logit.
_CLIP = 1e-6
_STEPS = 50
# Replicates that are weighed together, for memory's sake.
_BLOCK = 200
# Where all chances are near 0 or 1 the likelihood is flat, and a whole step leads astray.
_LONGEST = 2.0


def reliability(data: Scored, config: EvaluationConfig) -> dict[str, Any]:
    """Measure the calibration of scores.

    Where the data have a prevalence q and p is the share of positives here, positives weigh
    q / p and negatives (1 - q) / (1 - p): the figures are those of the place of use, as far as
    its cases are like these.

    Args:
        data: Scores, labels and patients of one level, with both classes.
        config: Replicates, confidence and seed.

    Returns:
        ``brier``, ``ece`` (ten bins of equal size), ``intercept`` (with a slope of 1; 0 is
        right) and ``slope`` (1 is right), each with value, low and high; ``parts`` of the Brier
        score of the binned scores: reliability, resolution, uncertainty; ``mean_score``,
        ``share``; and ``bins``.
    """
    weight, bins = data.weight, _binned(data.score)
    label, total = data.label.astype(np.float64), weight.sum()
    squared, one = (data.score - label) ** 2, np.ones_like(label)
    found = intervals(
        data,
        {"brier": lambda drawn: drawn.total(squared) / drawn.total(one)},
        replicates=config.bootstrap,
        confidence=config.confidence,
        seed=config.seed,
    )
    found["ece"] = _calibration_error(data, bins, config)
    logit = np.log(np.clip(data.score, _CLIP, 1 - _CLIP))
    logit -= np.log1p(-np.clip(data.score, _CLIP, 1 - _CLIP))
    sides = np.stack([np.ones_like(logit), logit], axis=1)
    intercept = _logistic(sides[:, :1], logit, data, weight, config.confidence)
    slope = _logistic(sides, np.zeros_like(logit), data, weight, config.confidence)
    return {
        **{name: interval.as_dict() for name, interval in found.items()},
        "intercept": intercept.as_dict(),
        "slope": slope.as_dict(),
        "parts": _parts(data, bins, weight),
        "mean_score": float(weight @ data.score / total),
        "share": float(weight @ label / total),
        "bins": bins_of(data, config.confidence),
    }


def _calibration_error(data: Scored, bins: Ints, config: EvaluationConfig) -> Interval:
    """Return how far the bins miss, on average, with an interval that keeps its promise.

    Noise within bins raises the error, and raises that of replicates once more, so that their
    percentiles leave out 0 where scores are right. The error is a norm of what the bins miss by,
    which differs from the true norm by no more than the norm of the noise; of that, replicates
    around what was found are a sample. The lower end is lower by what nearly all of them keep, 0
    at least. The upper end is the percentile of the error of replicates, which lies above the
    truth already. In simulations (tests) such intervals hold the truth as often as they say, or
    more often.
    """
    patients = int(data.patient.max()) + 1
    draws = draw(patients, config.bootstrap, config.seed)
    (found,) = _missed(data, bins, np.ones((1, patients)))
    drawn = [_missed(data, bins, draws[k : k + _BLOCK]) for k in range(0, len(draws), _BLOCK)]
    each = np.concatenate([np.zeros((0, found.size)), *drawn])
    error = float(np.abs(found).sum())
    noise = interval_of(error, np.abs(each - found).sum(axis=1), config.confidence)
    again = interval_of(error, np.abs(each).sum(axis=1), config.confidence)
    low = None if noise.high is None else max(0.0, error - noise.high)
    return Interval(error, low, again.high, again.undefined)


def _missed(data: Scored, bins: Ints, times: NDArray[Any]) -> Floats:
    """Return what each bin's labels lie above its scores, as a share of all (R, bins).

    Args:
        data: Scores, labels and patients.
        bins: (N,) of each score.
        times: (R, patients) how often each is drawn; where a class is not, there may be no share.
    """
    patients, number = times.shape[1], int(bins.max()) + 1
    cells, drawn = data.patient * number + bins, times.astype(np.float64)

    def summed(side: Bools) -> tuple[Floats, Floats]:
        own = (data.label - data.score)[side]
        of_patients = np.bincount(cells[side], own, minlength=patients * number)
        count = drawn @ np.bincount(data.patient[side], minlength=patients)
        return drawn @ of_patients.reshape(patients, number), count[:, None]

    above, positives = summed(data.label)
    below, negatives = summed(~data.label)
    if data.prevalence is None:
        return np.asarray((above + below) / (positives + negatives))
    share = data.prevalence
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(share * above / positives + (1 - share) * below / negatives)


def bins_of(data: Scored, confidence: float) -> list[dict[str, float]]:
    """Return ten bins of equal size: n, mean score, share of positives with Wilson's interval.

    Its trials are the patients of a bin, whose images are not witnesses of their own.

    Args:
        data: Scores, labels and patients of one level, with both classes.
        confidence: Of the interval.
    """
    weight, bins = data.weight, _binned(data.score)
    number = int(bins.max()) + 1
    total = np.bincount(bins, minlength=number).astype(np.float64)
    positives = np.bincount(bins[data.label], minlength=number).astype(np.float64)
    mean = np.bincount(bins, weight * data.score) / np.bincount(bins, weight)
    share = positives / total
    patients = np.array([np.unique(data.patient[bins == k]).size for k in range(number)])
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = wilson_interval(share * patients, patients, z)
    ratio = float(weight[data.label][0] / weight[~data.label][0])
    shifted = [ratio * p / (ratio * p + 1 - p) for p in (share, low, high)]
    columns = (total, mean, *shifted)
    names = ("n", "mean_score", "share", "low", "high")
    return [
        dict(zip(names, (float(v) for v in row), strict=True)) for row in zip(*columns, strict=True)
    ]


def _binned(score: Floats) -> Ints:
    """Return the bin of each score, (N,): bins of equal size, but equal scores in one bin."""
    _, place, times = np.unique(score, return_inverse=True, return_counts=True)
    # Where the middle of each score's images stands in the order of all.
    middle = np.cumsum(times) - times / 2
    bins = (middle * min(_BINS, score.size) / score.size).astype(np.int64)
    return np.unique(bins[place], return_inverse=True)[1]


def _parts(data: Scored, bins: Ints, weight: Floats) -> dict[str, float]:
    """Part the Brier score of binned scores: reliability - resolution + uncertainty."""
    held = np.bincount(bins, weight)
    share = np.bincount(bins, weight * data.label) / held
    mean = np.bincount(bins, weight * data.score) / held
    overall = float(weight @ data.label / weight.sum())
    return {
        "reliability": float(held @ (mean - share) ** 2 / held.sum()),
        "resolution": float(held @ (share - overall) ** 2 / held.sum()),
        "uncertainty": overall * (1 - overall),
    }


def _logistic(
    sides: Floats, offset: Floats, data: Scored, weight: Floats, confidence: float
) -> Interval:
    """Fit label on sides by logistic regression; return the last coefficient.

    By Newton's steps, cut to a length, since from far off a whole one overshoots. Its standard
    error is the sandwich over patients (Liang and Zeger, Biometrika 73, 1986): images of a
    patient are not witnesses of their own.

    Args:
        sides: (N, D).
        offset: (N,) added with a coefficient of 1.
        data: Labels and patients.
        weight: (N,).
        confidence: Level of the interval.
    """
    undefined = Interval(None, None, None)
    label = data.label.astype(np.float64)
    coefficient = np.zeros(sides.shape[1])
    for _ in range(_STEPS):
        logit = sides @ coefficient + offset
        chance = 1 / (1 + np.exp(-np.clip(logit, -500, 500)))
        score = sides * (weight * (label - chance))[:, None]
        curvature = (sides * (weight * chance * (1 - chance))[:, None]).T @ sides
        if np.linalg.cond(curvature) > 1 / np.finfo(np.float64).eps:
            return undefined
        step = np.linalg.solve(curvature, score.sum(axis=0))
        longest = float(np.abs(step).max())
        if longest < 1e-10:
            break
        step *= min(1.0, _LONGEST / longest)
        coefficient += step
    else:
        # The classes do not overlap: there is no finite slope.
        return undefined
    patients = np.unique(data.patient, return_inverse=True)[1]
    summed = np.stack([np.bincount(patients, column) for column in score.T])
    bread = np.linalg.inv(curvature)
    count = summed.shape[1]
    spread = bread @ (summed @ summed.T) @ bread * count / max(1, count - 1)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt(spread[-1, -1]))
    value = float(coefficient[-1])
    return Interval(value, value - half, value + half)
