"""Whether a breast or an exam is unusual: where any image of it reaches the images' threshold.

So says a service's result. It is not how breasts and exams are scored, whose thresholds are their
own: an exam of four images has four chances of a false alarm.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Interval, intervals
from mammoscope.evaluation.measures import measures_at
from mammoscope.evaluation.tables import Level, Scored, scored, with_breast_score

__all__ = ["UNUSUAL_MEASURES", "called_unusual"]

#: Names for people of what is told of every level.
UNUSUAL_MEASURES = {
    "sensitivity": "Sensitivity, any image unusual",
    "false_positive_rate": "False-positive rate, any image unusual",
}
_LEVELS: tuple[Level, ...] = ("image", "breast", "exam")


def called_unusual(
    rows: pl.DataFrame, point: dict[str, Any], config: EvaluationConfig
) -> dict[str, Any]:
    """Measure the frozen threshold of images as results use it.

    Args:
        rows: Predictions that are measured.
        point: The primary operating point of images.
        config: Replicates, confidence and seed.

    Returns:
        The point's ``name`` and ``threshold``, and for each level in which any label is known n,
        positives, patients, how many are ``called``, and with intervals over patients
        ``sensitivity`` and ``false_positive_rate``.
    """
    threshold = float(point["threshold"])
    # The highest of its images reaches the threshold where any does, and of its breasts too.
    highest = with_breast_score(rows.drop("exam_score", strict=False), "max")
    told = {level: scored(highest, level) for level in _LEVELS}
    return {
        "name": point["name"],
        "threshold": threshold,
        "levels": {
            k: _told(data, threshold, config) for k, data in told.items() if data.label.size
        },
    }


def _told(data: Scored, threshold: float, config: EvaluationConfig) -> dict[str, Any]:
    measures = measures_at(threshold)
    found = intervals(
        data,
        {name: measures[name] for name in ("sensitivity", "specificity")},
        replicates=config.bootstrap,
        confidence=config.confidence,
        seed=config.seed,
    )
    return {
        "n": int(data.label.size),
        "positives": data.positives,
        "patients": data.patients,
        "called": int((data.score >= threshold).sum()),
        "sensitivity": found["sensitivity"].as_dict(),
        "false_positive_rate": _rest(found["specificity"]).as_dict(),
    }


def _rest(share: Interval) -> Interval:
    """Return what a share leaves of 1."""
    value, low, high = (
        None if end is None else 1 - end for end in (share.value, share.high, share.low)
    )
    return Interval(value, low, high, share.undefined)
