"""How far scores can be read as chances: Brier score, calibration error, slope, intercept.

Sources: Brier, Mon. Weather Rev. 78, 1950; Murphy, J. Appl. Meteorol. 12, 1973 (its parts);
Naeini, Cooper and Hauskrecht, AAAI 2015 (expected calibration error); Cox, Biometrika 45, 1958
(slope and intercept); Van Calster et al., J. Clin. Epidemiol. 74, 2016 (how to read them).
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Interval, Measure, draw, interval_of, samples, values
from mammoscope.evaluation.tables import Scored
from mammoscope.statistics import wilson_interval
from mammoscope.types import Floats, Ints

__all__ = ["bins_of", "reliability"]

_BINS = 10
# Scores of 0 and 1 have no logit.
_CLIP = 1e-6
_STEPS = 50
_STEEPEST = 1e3


def reliability(data: Scored, config: EvaluationConfig) -> dict[str, Any]:
    """Measure the calibration of scores.

    Where ``evaluation.prevalence`` q is set and p is the share of positives here, positives weigh
    q / p and negatives (1 - q) / (1 - p): the figures are those of the place of use, as far as
    its cases are like these.

    Args:
        data: Scores, labels and patients of one level, with both classes.
        config: Replicates, confidence, seed and prevalence.

    Returns:
        ``brier``, ``ece`` (ten bins of equal size), ``intercept`` (with a slope of 1; 0 is
        right) and ``slope`` (1 is right), each with value, low and high; ``parts`` of the Brier
        score of the binned scores: reliability, resolution, uncertainty; ``mean_score``,
        ``share``; and ``bins``.
    """
    weight = _weights(data, config.prevalence)
    bins = _binned(data)
    found = _resampled(data, bins, weight, config)
    label, total = data.label.astype(np.float64), weight.sum()
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
        "bins": bins_of(data, config.prevalence),
    }


def bins_of(data: Scored, prevalence: float | None = None) -> list[dict[str, float]]:
    """Return ten bins of equal size: n, mean score, share of positives with Wilson's interval.

    Args:
        data: Scores and labels.
        prevalence: Share of positives that the bins are to speak of, see :func:`reliability`.
    """
    weight, bins = _weights(data, prevalence), _binned(data)
    number = int(bins.max()) + 1
    total = np.bincount(bins, minlength=number).astype(np.float64)
    positives = np.bincount(bins[data.label], minlength=number).astype(np.float64)
    mean = np.bincount(bins, weight * data.score) / np.bincount(bins, weight)
    share = positives / total
    low, high = wilson_interval(positives, total)
    ratio = float(weight[data.label][0] / weight[~data.label][0])
    shifted = [ratio * p / (ratio * p + 1 - p) for p in (share, low, high)]
    columns = (total, mean, *shifted)
    names = ("n", "mean_score", "share", "low", "high")
    return [
        dict(zip(names, (float(v) for v in row), strict=True)) for row in zip(*columns, strict=True)
    ]


def _weights(data: Scored, prevalence: float | None) -> Floats:
    """Return what each image counts, (N,)."""
    if prevalence is None:
        return np.ones_like(data.score)
    share = data.positives / data.label.size
    return np.where(data.label, prevalence / share, (1 - prevalence) / (1 - share))


def _binned(data: Scored) -> Ints:
    """Return the bin of each image, (N,): bins of equal size by score."""
    order = np.argsort(data.score, kind="stable")
    bins = np.empty(order.size, np.int64)
    for number, part in enumerate(np.array_split(order, min(_BINS, order.size))):
        bins[part] = number
    return bins


def _resampled(
    data: Scored, bins: Ints, weight: Floats, config: EvaluationConfig
) -> dict[str, Interval]:
    label = data.label.astype(np.float64)
    squared, missed = weight * (data.score - label) ** 2, weight * (label - data.score)
    parts = [np.where(bins == number, missed, 0.0) for number in range(int(bins.max()) + 1)]
    measures: dict[str, Measure] = {
        "brier": lambda drawn: drawn.total(squared) / drawn.total(weight),
        "ece": lambda drawn: sum(np.abs(drawn.total(part)) for part in parts) / drawn.total(weight),
    }
    found = values(data, measures)
    draws = draw(int(data.patient.max()) + 1, config.bootstrap, config.seed)
    drawn = samples(data, measures, draws)
    made = {name: interval_of(found[name], drawn[name], config.confidence) for name in measures}
    # Noise within bins adds to an absolute error: replicates lie above the value by about as
    # much as the value lies above the truth, so their interval is moved back.
    ece = made["ece"]
    if ece.value is not None and ece.low is not None and ece.high is not None:
        shift = float(np.nanmean(drawn["ece"])) - ece.value
        low, high = max(0.0, ece.low - shift), max(ece.value, ece.high - shift)
        made["ece"] = replace(ece, low=min(low, ece.value), high=high)
    return made


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

    By Newton's steps. Its standard error is the sandwich over patients (Liang and Zeger,
    Biometrika 73, 1986): images of a patient are not witnesses of their own.

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
        chance = 1 / (1 + np.exp(-np.clip(sides @ coefficient + offset, -500, 500)))
        score = sides * (weight * (label - chance))[:, None]
        curvature = (sides * (weight * chance * (1 - chance))[:, None]).T @ sides
        if np.linalg.cond(curvature) > 1 / np.finfo(np.float64).eps:
            return undefined
        step = np.linalg.solve(curvature, score.sum(axis=0))
        coefficient += step
        if np.abs(coefficient).max() > _STEEPEST:
            # The classes do not overlap: there is no finite slope.
            return undefined
        if np.abs(step).max() < 1e-10:
            break
    else:
        return undefined
    patients = np.unique(data.patient, return_inverse=True)[1]
    summed = np.stack([np.bincount(patients, column) for column in score.T])
    bread = np.linalg.inv(curvature)
    count = summed.shape[1]
    spread = bread @ (summed @ summed.T) @ bread * count / max(1, count - 1)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt(spread[-1, -1]))
    value = float(coefficient[-1])
    return Interval(value, value - half, value + half)
