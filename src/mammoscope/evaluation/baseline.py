"""A model that sees no pixel: age and machine only. What a network must beat to see anything.

In the RSNA challenge's table cancers are older and some machines see more of them, so that a
network can score by reading the machine off the picture's style. The baseline says how far
that alone goes, on the same held-out women.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.attributes import CohortTable
from mammoscope.evaluation.paired import Pair, area_difference
from mammoscope.evaluation.tables import Level, labelled, units
from mammoscope.types import Floats

__all__ = ["baseline"]

# In standardised units: as much as one image per coefficient; thousands of images outweigh it.
_RIDGE = 1.0
# Years: ages that spread less than this are all the same.
_NO_SPREAD = 1e-9


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How ages and machines become numbers; learnt from training rows alone."""

    mean: float | None
    spread: float
    gaps: bool
    machines: tuple[str, ...]

    @classmethod
    def of(cls, training: pl.DataFrame) -> _Encoding:
        age = training["age"].drop_nulls().to_numpy().astype(np.float64)
        known = age.size > 0 and float(age.std()) > _NO_SPREAD
        machines = tuple(sorted(training["machine_id"].drop_nulls().unique().to_list()))
        return cls(
            mean=float(age.mean()) if known else None,
            spread=float(age.std()) if known else 1.0,
            gaps=known and training["age"].null_count() > 0,
            machines=machines if len(machines) > 1 else (),
        )

    def features(self, rows: pl.DataFrame) -> Floats:
        """Return (N, D): age, whether it is missing, and a column per machine."""
        columns: list[Floats] = []
        if self.mean is not None:
            age = rows["age"].fill_null(self.mean).to_numpy().astype(np.float64)
            columns.append((age - self.mean) / self.spread)
        if self.gaps:
            columns.append(rows["age"].is_null().to_numpy().astype(np.float64))
        machine = rows["machine_id"].fill_null("").to_numpy()
        columns += [(machine == name).astype(np.float64) for name in self.machines]
        return np.stack(columns, axis=1) if columns else np.empty((rows.height, 0))


def baseline(
    rows: pl.DataFrame,
    table: CohortTable,
    facts: dict[str, Any],
    config: EvaluationConfig,
    levels: tuple[Level, ...],
) -> dict[str, Any] | None:
    """Fit on the training images and measure beside the model on the measured ones.

    Args:
        rows: Predictions of the measured split, with ``age`` and ``machine_id``.
        table: The cohort, whose training rows are used.
        facts: What ``run.json`` holds: fold and label.
        config: Replicates, confidence and seed.
        levels: What to measure at.

    Returns:
        ``None`` without a cohort. Else ``sees``, ``notes``, ``training_images`` and, where
        anything is seen, by level the AUROCs of ``baseline`` and ``model`` and the paired
        ``difference``, and a ``sentence`` each.
    """
    if table.rows is None:
        return None
    label = str(facts["config"]["train"]["label"])
    training = _training_rows(rows, table.rows, facts).filter(pl.col(label).is_not_null())
    encoding = _Encoding.of(training)
    sees = [
        *(["age"] if encoding.mean is not None else []),
        *(["machine"] if encoding.machines else []),
    ]
    made: dict[str, Any] = {
        "sees": sees,
        "training_images": training.height,
        "notes": _notes(training, encoding),
        "levels": {},
    }
    target = training[label].to_numpy().astype(np.float64)
    if not sees or not 0 < target.sum() < target.size:
        made["notes"].append("There is nothing to fit, so there is no baseline.")
        return made
    regression = LogisticRegression(C=1 / _RIDGE, solver="newton-cholesky")
    regression.fit(encoding.features(training), target)
    chance = regression.predict_proba(encoding.features(rows))[:, 1]
    of_breasts = ("breast_score", "exam_score")
    blind = rows.drop(*of_breasts, strict=False).with_columns(score=pl.Series(chance))
    for level in levels:
        data, _ = labelled(units(rows, level))
        other, _ = labelled(units(blind, level))
        pair = Pair(other.score, data.score, data.label, data.patient)
        made["levels"][level] = _level(pair, sees, level, config)
    return made


def _training_rows(rows: pl.DataFrame, cohort: pl.DataFrame, facts: dict[str, Any]) -> pl.DataFrame:
    """Return the rows that the model has learnt from, none of them of a measured patient."""
    training = cohort.filter(pl.col("split") == "train")
    if facts["fold"] is not None:
        # What has no fold is there for training only.
        return training.filter(pl.col("fold").ne_missing(int(facts["fold"])))
    return training.join(rows.select("patient_id").unique(), on="patient_id", how="anti")


def _level(pair: Pair, sees: list[str], level: Level, config: EvaluationConfig) -> dict[str, Any]:
    first, second, difference = area_difference(pair, config)
    only = " and ".join(sees)
    by = "DeLong's method for clustered data"
    found = difference["delong"]
    start = f"By {level}, {only} alone reach an AUROC of {first['value']:.3f}"
    if len(sees) == 1:
        start = start.replace(" reach ", " reaches ")
    if found["low"] is None:
        sentence = f"{start}, the model {second['value']:.3f}; too few patients to compare them."
    else:
        word = "more" if difference["value"] >= 0 else "less"
        ends = f"{found['low']:+.3f} to {found['high']:+.3f}"
        verdict = (
            f"pixels add to what {only} tell{'s' if len(sees) == 1 else ''}"
            if found["low"] > 0
            else "the model does worse than they do"
            if found["high"] < 0
            else "these data do not show that pixels add anything"
        )
        sentence = (
            f"{start}; the model reaches {second['value']:.3f}, {abs(difference['value']):.3f} "
            f"{word} ({config.confidence:.0%} interval of the difference {ends}, {by}): {verdict}."
        )
    return {"baseline": first, "model": second, "difference": difference, "sentence": sentence}


def _notes(training: pl.DataFrame, encoding: _Encoding) -> list[str]:
    if training.is_empty():
        return ["Every patient with a fold is measured; none is left to fit a baseline on."]
    notes = []
    ages, machines = (training[name].drop_nulls() for name in ("age", "machine_id"))
    if encoding.mean is None:
        what = "no training image has an age" if ages.is_empty() else "all have the same age"
        notes.append(f"Age is left out: {what}.")
    elif encoding.gaps:
        missing = training["age"].null_count() / training.height
        notes.append(f"Age is unknown in {missing:.1%} of training images; that too is seen.")
    if not encoding.machines:
        what = (
            "no training image names its machine"
            if machines.is_empty()
            else f"all training images are of machine {machines[0]}"
        )
        notes.append(f"Machine is left out: {what}.")
    return notes
