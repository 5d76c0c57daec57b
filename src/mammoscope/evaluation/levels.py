"""Images, breasts and exams of a run: which can be measured, at what prevalence, and how well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.bootstrap import Measure, intervals
from mammoscope.evaluation.calibration import prevalence_of
from mammoscope.evaluation.measures import measures_at, measures_of_ranks
from mammoscope.evaluation.metrics import confusion
from mammoscope.evaluation.operating_points import point_measures
from mammoscope.evaluation.tables import Level, Scored, scored

__all__ = ["as_validated", "at_prevalence", "by_level", "measured_levels"]

_LEVELS: tuple[Level, ...] = ("image", "breast", "exam")


def by_level(rows: pl.DataFrame, facts: dict[str, Any]) -> dict[Level, Scored]:
    """Return scores of each level; exams only where they have both classes, or are scored."""
    made = {level: scored(rows, level) for level in _LEVELS}
    one_class = made["exam"].positives in (0, made["exam"].label.size)
    if one_class and facts["config"]["model"].get("level") != "exam":
        del made["exam"]
    return made


def at_prevalence(made: dict[Level, Scored], config: EvaluationConfig) -> dict[Level, Scored]:
    """Say at which share of positives each level is meant, where one of images was given."""
    shares = {k: data.positives / max(1, data.label.size) for k, data in made.items()}
    return {
        level: replace(
            data,
            prevalence=config.prevalence
            if level == "image"
            else prevalence_of(shares[level], shares["image"], config.prevalence),
        )
        for level, data in made.items()
    }


def as_validated(
    made: dict[Level, Scored], on_validation: dict[Level, Scored]
) -> dict[Level, Scored]:
    """Keep the levels for which validation chose thresholds, at the prevalences that it chose for.

    Raises:
        RunError: If one of them holds one class only.
    """
    kept = {
        level: replace(data, prevalence=on_validation[level].prevalence)
        for level, data in made.items()
        if level in on_validation
    }
    for level, data in kept.items():
        if data.positives in (0, data.label.size):
            raise RunError(f"the {level}s to measure hold one class only; both are needed")
    return kept


def measured_levels(
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    config: EvaluationConfig,
) -> dict[Level, dict[str, Any]]:
    """Measure every level at its frozen thresholds; the first of each is the primary one."""
    return {level: _level(data, points[level], config) for level, data in measured_on.items()}


def _level(data: Scored, points: list[dict[str, Any]], config: EvaluationConfig) -> dict[str, Any]:
    """Measure one level with frozen thresholds; ``points[0]`` is the primary one."""
    threshold = float(points[0]["threshold"])

    def measure(measures: dict[str, Measure], at: float) -> dict[str, dict[str, float | None]]:
        found = intervals(
            data,
            measures,
            replicates=config.bootstrap,
            confidence=config.confidence,
            seed=config.seed,
            threshold=at,
        )
        return {name: interval.as_dict() for name, interval in found.items()}

    counts = confusion(data.score, data.label, threshold)
    return {
        "n": int(data.label.size),
        "positives": data.positives,
        "patients": data.patients,
        "unlabelled": data.unlabelled,
        "prevalence": data.prevalence,
        "threshold": threshold,
        "metrics": measure({**measures_of_ranks(config), **measures_at(threshold)}, threshold),
        "confusion": {name: int(getattr(counts, name)) for name in ("tp", "fp", "tn", "fn")},
        "operating_points": [
            {
                "name": point["name"],
                "threshold": point["threshold"],
                "chosen_on_validation": {
                    key: point[key] for key in ("sensitivity", "specificity", "recall_rate")
                },
                "choice": point["choice"],
                "measured": measure(
                    point_measures(float(point["threshold"])), float(point["threshold"])
                ),
            }
            for point in points
        ],
    }
