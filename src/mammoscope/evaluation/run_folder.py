"""A run folder as evaluation reads it: finished, of a known format, and not edited."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mammoscope.artefacts import read_json, sha256_file
from mammoscope.config import (
    Config,
    EvaluationConfig,
    PreprocessConfig,
    load_config,
    validated,
)
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation.attributes import CohortTable
from mammoscope.evaluation.tables import named_images

__all__ = [
    "POINTS_FILE",
    "Report",
    "check_complete",
    "check_preprocess",
    "check_splits",
    "checked_predictions",
    "checked_table",
    "frozen_points",
    "read_report",
    "read_run",
    "run_evaluation_config",
]

#: Thresholds as they were chosen on validation; the report knows its hash.
POINTS_FILE = "operating_points.json"


@dataclass(frozen=True, slots=True)
class Report:
    """A report on disk.

    Attributes:
        path: Its page.
        report: What ``report.json`` holds.
    """

    path: Path
    report: dict[str, Any]


def read_run(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` holds.

    Raises:
        RunError: If it is missing or of another format.
    """
    facts = read_json(Path(run) / "run.json", RunError)
    if facts.get("kind") != "run" or facts.get("format_version") != 1:
        raise RunError(
            f"{run}/run.json is of kind {facts.get('kind')!r}, format "
            f"{facts.get('format_version')!r}; this version reads run format 1"
        )
    return facts


def checked_predictions(run: Path, facts: dict[str, Any]) -> Path:
    """Return where the predictions lie, if they are those that the run made.

    Raises:
        RunError: If the run is not finished, or its predictions were edited.
    """
    return checked_table(run, facts, "predictions.parquet")


def checked_table(run: Path, facts: dict[str, Any], name: str) -> Path:
    """Return where a table of a run lies, if it is the one that the run made.

    Raises:
        RunError: If the run is not finished, or the table is missing or was edited.
    """
    path = run / name
    expected = facts.get("hashes", {}).get(name)
    if facts.get("status") == "finished" and expected is None:
        task = facts["config"].get("task", "classify")
        raise RunError(f"{run} has no {name}: a run of task {task} leaves none")
    if facts.get("status") != "finished" or not path.is_file():
        lacks = f"{run} is {facts.get('status')}, not finished"
        if facts.get("status") == "finished":
            lacks = f"{path} is missing"
        raise RunError(f"{lacks}: train it first")
    if sha256_file(path) != expected:
        raise RunError(f"{path} was edited: its SHA-256 is not {expected} of run.json")
    return path


def frozen_points(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run's operating points and its report, which must be of one evaluation.

    Raises:
        RunError: If the run was not evaluated, or its thresholds are not those of the report:
            edited, or chosen anew by an evaluation that failed.
    """
    path = Path(run) / POINTS_FILE
    if not path.is_file():
        raise RunError(f"{run} has no operating points: run mammoscope evaluate {run} first")
    report = read_json(Path(run) / "report" / "report.json", RunError)
    if sha256_file(path) != report.get("operating_points_sha256"):
        raise RunError(
            f"{path} is not the one that {run}/report measured: it was edited, or written by an "
            f"evaluation that failed or of another version; run mammoscope evaluate {run} "
            "--overwrite"
        )
    return read_json(path, RunError), report


def check_preprocess(
    run: Path, facts: dict[str, Any], cohort: Path, prepared: PreprocessConfig
) -> None:
    """Refuse images that were prepared otherwise than those that the weights have seen.

    Args:
        run: The run folder, for the message.
        facts: What ``run.json`` holds.
        cohort: Where the images lie, for the message.
        prepared: How they are prepared now.

    Raises:
        RunError: If they were; what differs is named.
    """
    learnt, found = facts["preprocess"], prepared.model_dump(mode="json")
    changed = [
        f"{name} is {found.get(name)!r} and was {learnt.get(name)!r}"
        for name in {**found, **learnt}
        if found.get(name) != learnt.get(name)
    ]
    if changed:
        raise RunError(
            f"{cohort} is prepared otherwise than when {run} was trained: "
            f"{', '.join(changed)}. Prepare it as it was, or train a new run"
        )


def check_complete(
    path: Path, facts: dict[str, Any], split: str, rows: pl.DataFrame, table: CohortTable
) -> None:
    """Refuse predictions that lack an image which the run scored.

    Args:
        path: Where the predictions lie, for the message.
        facts: What ``run.json`` holds; runs of earlier versions do not count their predictions.
        split: Val or test.
        rows: Its predictions.
        table: The cohort, which can name the image.

    Raises:
        RunError: If an image is missing; the message counts, and names one where it can.
    """
    expected = facts.get("predicted", {}).get(split, rows.height)
    if rows.height == expected:
        return
    named = ""
    if table.rows is not None and rows.height < expected:
        own = table.rows.filter(pl.col("split") == ("test" if split == "test" else "train"))
        if split == "val" and facts["fold"] is not None:
            own = own.filter(pl.col("fold") == facts["fold"])
        elif split == "val":
            # What is there for training only is never scored.
            own = own.filter(pl.col("fold").is_not_null())
        missing = own.join(rows, on="image_id", how="anti")["image_id"]
        named = f", {missing[0]} is not there" if len(missing) else ""
    raise RunError(
        f"{path} holds {rows.height} {split} images, the run scored {expected}{named}; a missing "
        "image is never 'no cancer': train the run again"
    )


def check_splits(path: Path, facts: dict[str, Any], table: CohortTable) -> None:
    """Check both splits of a run's predictions before either is used; see :func:`check_complete`.

    Raises:
        RunError: If an image is missing, twice there, or without a finite score.
    """
    splits: tuple[Literal["val"], Literal["test"]] = ("val", "test")
    for split in splits:
        check_complete(path, facts, split, named_images(path, split), table)


def run_evaluation_config(run: Path, overrides: Iterable[str] = ()) -> EvaluationConfig:
    """Return the evaluation section of a run's configuration, with overrides.

    Raises:
        ConfigError: If an override is not of that section, or not accepted.
    """
    facts = read_run(run)
    stored = validated(Config, facts["config"], f"{run}/run.json").evaluation
    given = load_config(None, overrides)
    strange = given.model_fields_set - {"evaluation"}
    if strange:
        raise ConfigError(
            f"evaluate takes settings of section evaluation, not of {', '.join(sorted(strange))}"
        )
    changed = given.evaluation.model_dump(exclude_unset=True)
    return validated(EvaluationConfig, {**stored.model_dump(), **changed}, "evaluation")


def read_report(run: Path) -> Report:
    """Read the report of an evaluated run."""
    folder = Path(run) / "report"
    return Report(folder / "index.html", read_json(folder / "report.json", RunError))
