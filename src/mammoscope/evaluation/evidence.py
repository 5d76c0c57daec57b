"""What a run can testify to: its record, its report, its cohort's tables, as plain values.

A model card and the checklists are filled from this and from nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mammoscope.artefacts import read_json
from mammoscope.config import Config, EligibilityConfig, validated
from mammoscope.errors import RunError
from mammoscope.evaluation.attributes import CohortTable

__all__ = ["Evidence", "gather", "kind", "measured_split"]

#: ``run``, ``config`` (resolved), ``report``, ``eligibility``, ``cohort``, ``parts``,
#: ``refused`` (images by ``prepare``), ``shared_patients`` and ``explanation``; null where they
#: were not found.
Evidence = dict[str, Any]

_QUARTILES = (0.25, 0.5, 0.75)
# What the reports of some tasks do not measure.
_UNMEASURED: dict[str, Any] = {
    "levels": {},
    "baseline": None,
    "calibration": {"sentence": "", "levels": {}},
    "subgroups": {},
    "pointing": {"groups": []},
}


def gather(
    run: Path, facts: dict[str, Any], report: dict[str, Any], table: CohortTable, cohort: Path
) -> Evidence:
    """Collect the evidence of a run.

    Args:
        run: The run folder.
        facts: What ``run.json`` holds.
        report: What ``report.json`` will hold.
        table: Manifest and splits, or why they could not be read.
        cohort: Where the cohort lies.
    """
    config = validated(Config, facts["config"], f"{run}/run.json").model_dump(mode="json")
    parts = None if table.rows is None else _parts(table.rows, facts)
    return {
        "run": facts,
        "config": config,
        "report": {**_UNMEASURED, **report},
        "eligibility": _eligibility(facts),
        "cohort": _cohort(cohort, facts, table),
        "parts": None
        if parts is None
        else {name: _part(rows, config["train"]["label"]) for name, rows in parts.items()},
        "refused": None if table.rows is None else table.refused,
        "shared_patients": None if table.rows is None else _shared(table.rows, facts),
        "explanation": _explanation(run, facts),
    }


def kind(evidence: Evidence) -> str:
    """Return the words that stand before figures of generated images."""
    return "SYNTHETIC images. " if evidence["run"]["synthetic"] else ""


def measured_split(evidence: Evidence) -> str:
    """Return what was measured, as a sentence about it begins."""
    told = {"test": "Test split", "val": "Validation (not held-out) split"}
    return kind(evidence) + told[evidence["report"]["measured_on"]]


def _cohort(folder: Path, facts: dict[str, Any], table: CohortTable) -> dict[str, Any] | None:
    """Return what ``cohort.json`` says, if it is of the run's cohort."""
    path = folder / "cohort.json"
    if table.rows is None or not path.is_file():
        return None
    values = read_json(path, RunError)
    manifest = values.get("hashes", {}).get("manifest.parquet")
    if manifest != facts["cohort"]["manifest_sha256"]:
        return None
    kept = ("source", "source_roots", "images", "patients", "positives", "findings", "rejects")
    return {name: values.get(name) for name in kept}


def _eligibility(facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return how many rules refuse and which differ from the defaults."""
    if "eligibility" not in facts:
        return None
    rules = facts["eligibility"]
    defaults = EligibilityConfig().model_dump(mode="json")
    return {
        "refuse": sorted(name for name, action in rules.items() if action == "refuse"),
        "changed": {name: value for name, value in rules.items() if defaults.get(name) != value},
    }


def _explanation(run: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return what ``mammoscope explain`` found, if it was of the same predictions."""
    path = run / "explanation" / "explanation.json"
    if not path.is_file():
        return None
    values = read_json(path, RunError)
    same = values.get("predictions_sha256") == facts["hashes"].get("predictions.parquet")
    return values if same else None


def _parts(rows: pl.DataFrame, facts: dict[str, Any]) -> dict[str, pl.DataFrame]:
    trained, test = rows.filter(pl.col("split") == "train"), rows.filter(pl.col("split") == "test")
    if facts["fold"] is None:
        # Of all folds each is trained on, and validates once.
        return {"train": trained, "test": test}
    validates = pl.col("fold").eq_missing(facts["fold"])
    return {"train": trained.filter(~validates), "val": trained.filter(validates), "test": test}


def _shared(rows: pl.DataFrame, facts: dict[str, Any]) -> int:
    """Count patients that are in more than one part; each fold is one where each validates."""
    part = pl.col("fold") if facts["fold"] is None else pl.col("fold").eq_missing(facts["fold"])
    placed = rows.select("patient_id", "split", part=pl.when(pl.col("split") == "train").then(part))
    counted = placed.unique().group_by("patient_id").len()
    return int((counted["len"] > 1).sum())


def _part(rows: pl.DataFrame, label: str) -> dict[str, Any]:
    """Describe the images of one part."""
    ages = rows["age"].drop_nulls()
    return {
        "images": rows.height,
        "patients": rows["patient_id"].n_unique(),
        "positives": int((rows[label] == 1).sum()),
        "unlabelled": rows[label].null_count(),
        "age_quartiles": [ages.quantile(share) for share in _QUARTILES] if ages.len() else None,
        "age_unknown": rows.height - ages.len(),
        **{
            name: _counts(rows, name)
            for name in ("machine_id", "site_id", "density", "view", "source", "implant")
        },
    }


def _counts(rows: pl.DataFrame, column: str) -> dict[str, int]:
    """Count the known values of a column; none where there is no such column."""
    if column not in rows.columns:
        return {}
    known = rows.get_column(column).drop_nulls().cast(pl.String)
    return {
        str(value): int(count) for value, count in known.value_counts().sort(column).iter_rows()
    }
