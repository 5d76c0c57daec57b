"""Intervals by the bootstrap over patients: a patient's images are drawn together or not.

Drawing images one by one would treat the four views of a patient as four witnesses and
give intervals that are too narrow (Obuchowski, Biometrics 53, 1997, on clustered data).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.tables import Scored
from mammoscope.evaluation.weighted import Ranking, Weighted
from mammoscope.types import Floats

__all__ = [
    "Draws",
    "Interval",
    "Measure",
    "draw",
    "honest",
    "interval_of",
    "intervals",
    "samples",
    "values",
    "widened",
    "widened_share",
    "with_interval",
]


#: A measure of scores and labels under R vectors of weights, (R,); NaN where undefined.
Measure = Callable[[Weighted], Floats]
#: How often each patient was drawn, (replicates, patients).
Draws = NDArray[np.uint16]

# Replicates are weighted in blocks of about so many numbers, which a processor's cache holds.
_CELLS = 500_000
# Sums of weights may miss a value that all replicates share by the last digit.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with a percentile interval; ``None`` where undefined or not asked for.

    ``undefined`` counts replicates without a value, such as those that drew one class.
    """

    value: float | None
    low: float | None
    high: float | None
    undefined: int = 0

    def as_dict(self) -> dict[str, float | None]:
        """Return value, low, high and undefined, as reports hold them."""
        return asdict(self)


def intervals(
    data: Scored,
    measures: Mapping[str, Measure],
    *,
    replicates: int,
    confidence: float,
    seed: int,
    threshold: float | None = None,
) -> dict[str, Interval]:
    """Measure once, and again on each replicate.

    Args:
        data: Scores, labels and patients.
        measures: What to measure, by name; all see the same replicates.
        replicates: How many; 0 gives values without intervals.
        confidence: Share of replicates inside the interval.
        seed: Same seed, same interval.
        threshold: Of the measures that need one, see :func:`widened`.
    """
    found = values(data, measures)
    patients = int(data.patient.max()) + 1 if data.patient.size else 0
    drawn = samples(data, measures, draw(patients, replicates, seed))
    made = {name: interval_of(found[name], drawn[name], confidence) for name in measures}
    return widened(made, data, confidence, threshold) if replicates else made


def widened(
    made: dict[str, Interval], data: Scored, confidence: float, threshold: float | None = None
) -> dict[str, Interval]:
    """Give shares without exception an interval with a width, and others without one none.

    Where every replicate repeats the value, percentiles would claim certainty. Shares of
    patients have an exact bound, see :func:`widened_share`; of a precision they are those
    called at the threshold. What has no such bound, an AUROC of 1 or a precision at another
    prevalence, is left without an interval.
    """
    every = np.ones_like(data.label)
    sides = {"sensitivity": (data.label, 1.0), "specificity": (~data.label, 1.0)}
    if data.prevalence is None and threshold is not None:
        sides["precision"] = (data.score >= threshold, 1.0)
        sides |= dict.fromkeys(("accuracy", "recall_rate"), (every, 1.0))
        sides |= dict.fromkeys(("detections_per_1000", "recalls_per_1000"), (every, 1000.0))
    exact = {
        name: widened_share(made[name], np.unique(data.patient[side]).size, confidence, top)
        for name, (side, top) in sides.items()
        if name in made
    }
    return {name: honest(exact.get(name, found)) for name, found in made.items()}


def honest(found: Interval) -> Interval:
    """Leave out an interval without a width: replicates that all repeat a value say nothing."""
    if found.low is None or found.high is None or found.high - found.low > _ROUNDING:
        return found
    return Interval(found.value, None, None, found.undefined)


def widened_share(found: Interval, patients: int, confidence: float, top: float = 1.0) -> Interval:
    """Give a share of 0 or 1 an interval with a width; any other is returned as it is.

    Every replicate repeats a share without exception, so its percentiles say nothing. The
    exact bound of as many independent patients takes their place: with all n right, the
    lower end is (tail)^(1/n).

    Args:
        found: The share with its percentile interval.
        patients: How many it is of.
        confidence: Of the interval.
        top: What all of them are written as, 1 or 1,000.

    Source: Clopper and Pearson, Biometrika 26, 1934.
    """
    if found.value not in (0.0, top) or found.low is None or found.low != found.high:
        return found
    bound = ((1 - confidence) / 2) ** (1 / patients)
    low, high = (bound * top, top) if found.value else (0.0, (1 - bound) * top)
    return Interval(found.value, low, high, found.undefined)


def draw(patients: int, replicates: int, seed: int) -> Draws:
    """Draw patients with replacement, as many as there are, in each replicate.

    Same seed, same draws: what is measured on the same draws can be subtracted.
    """
    rng = np.random.default_rng(seed)
    times = np.zeros((replicates, patients), np.uint16)
    for row in times if patients else ():
        row[:] = np.bincount(rng.integers(0, patients, patients), minlength=patients)
    return times


def values(data: Scored, measures: Mapping[str, Measure]) -> dict[str, float | None]:
    """Measure the data as they are; ``None`` where undefined."""
    ranking = Ranking(data.score, data.label, prevalence=data.prevalence)
    whole = Weighted(ranking, np.ones((1, data.score.size)))
    found = {name: float(measure(whole)[0]) for name, measure in measures.items()}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def samples(data: Scored, measures: Mapping[str, Measure], draws: Draws) -> dict[str, Floats]:
    """Measure every replicate.

    Args:
        data: Scores, labels and patients, numbered as the columns of the draws. They may be
            a part of all images.
        measures: What to measure, by name.
        draws: From :func:`draw`.

    Returns:
        A value per replicate and measure, NaN where undefined.
    """
    drawn = {name: np.full(draws.shape[0], np.nan) for name in measures}
    if data.score.size == 0:
        return drawn
    present, owner = np.unique(data.patient, return_inverse=True)
    ranking = Ranking(data.score, data.label, owner, data.prevalence)
    block = max(1, _CELLS // data.score.size)
    for start in range(0, draws.shape[0], block):
        # Her images weigh as much as the patient was often drawn.
        weight = draws[start : start + block, present].astype(np.int32)
        view = Weighted(ranking, weight)
        for name, measure in measures.items():
            drawn[name][start : start + block] = measure(view)
    return drawn


def interval_of(value: float | None, sample: Floats, confidence: float) -> Interval:
    """Return a value with the percentile interval of its replicates.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    defined = sample[~np.isnan(sample)]
    low = high = None
    if value is not None and defined.size:
        tail = (1 - confidence) / 2
        low, high = (float(q) for q in np.quantile(defined, [tail, 1 - tail]))
    return Interval(value, low, high, int(sample.size - defined.size))


def with_interval(value: float, sample: Floats, confidence: float) -> dict[str, float | None]:
    """Return a value with the interval of its replicates as reports hold it; NaN is undefined."""
    known = None if np.isnan(value) else float(value)
    return honest(interval_of(known, sample, confidence)).as_dict()
