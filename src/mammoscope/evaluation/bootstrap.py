"""Intervals by the bootstrap over patients: a patient's images are drawn together or not.

Drawing images one by one would treat the four views of a patient as four witnesses and
give intervals that are too narrow (Obuchowski, Biometrics 53, 1997, on clustered data).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.tables import Scored

__all__ = ["Interval", "Measure", "intervals"]

#: A measure of scores, labels and weights; ``None`` where it is undefined.
Measure = Callable[[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]], float | None]


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
        """Return value, low and high, as reports hold them."""
        return {"value": self.value, "low": self.low, "high": self.high}


def intervals(
    data: Scored,
    measures: Mapping[str, Measure],
    *,
    replicates: int,
    confidence: float,
    seed: int,
) -> dict[str, Interval]:
    """Measure once, and again on each replicate.

    Args:
        data: Scores, labels and patients.
        measures: What to measure, by name; all see the same replicates.
        replicates: How many; 0 gives values without intervals.
        confidence: Share of replicates inside the interval.
        seed: Same seed, same interval.
    """
    whole = np.ones_like(data.score)
    values = {name: measure(data.score, data.label, whole) for name, measure in measures.items()}
    samples: dict[str, list[float]] = {name: [] for name in measures}
    rng = np.random.default_rng(seed)
    patients = int(data.patient.max()) + 1 if data.patient.size else 0
    for _ in range(replicates if patients else 0):
        # How often each patient was drawn, with replacement; her images weigh as much.
        times = np.bincount(rng.integers(0, patients, patients), minlength=patients)
        weight = times[data.patient].astype(np.float64)
        for name, measure in measures.items():
            sample = measure(data.score, data.label, weight)
            if sample is not None:
                samples[name].append(sample)
    tail = (1 - confidence) / 2
    result: dict[str, Interval] = {}
    for name, value in values.items():
        drawn = samples[name]
        low = high = None
        if value is not None and drawn:
            low, high = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
        result[name] = Interval(value, low, high, replicates - len(drawn))
    return result
