"""Evaluate a run: choose on validation, freeze, measure on test, write the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from mammoscope.artefacts import (
    check_output,
    new_folder,
    sha256_file,
    write_json,
)
from mammoscope.config import EvaluationConfig
from mammoscope.errors import ConfigError
from mammoscope.evaluation.attributes import (
    CohortTable,
    cohort_folder,
    read_cohort_table,
    with_attributes,
)
from mammoscope.evaluation.baseline import baseline
from mammoscope.evaluation.calibration import calibration_of
from mammoscope.evaluation.evidence import gather
from mammoscope.evaluation.figures import draw_figures
from mammoscope.evaluation.folds import OF_SINGLE_FOLDS, fold_rows
from mammoscope.evaluation.levels import (
    as_validated,
    at_prevalence,
    by_level,
    measured_levels,
)
from mammoscope.evaluation.measures import CALIBRATION_MEASURES, estimated, shown
from mammoscope.evaluation.model_card import write_model_card
from mammoscope.evaluation.operating_points import choose
from mammoscope.evaluation.overfitting import (
    broken_promises,
    calling_all_warnings,
    few_warnings,
    fitted_warnings,
)
from mammoscope.evaluation.page import render_page
from mammoscope.evaluation.pointing import pointing, read_lesions
from mammoscope.evaluation.reliability import reliability
from mammoscope.evaluation.run_folder import (
    POINTS_FILE,
    Report,
    check_splits,
    checked_predictions,
)
from mammoscope.evaluation.subgroups import subgroups
from mammoscope.evaluation.tables import Level, Scored, read_predictions, scored, uncalibrated

__all__ = [
    "check_calibration",
    "evaluate",
    "freeze",
    "head",
    "notes_of",
    "of_scores",
    "summary_rows",
    "write_score_figures",
]

_NO_EXAMS = (
    "Nothing is measured by exam: the exams of the validation or the measured images are all of "
    "one class."
)
_NO_TEST = "There is no test split: all figures are of validation images."


def evaluate(
    run: Path,
    facts: dict[str, Any],
    config: EvaluationConfig,
    *,
    overwrite: bool,
    cohort: Path | None,
) -> Report:
    """Measure a classifier's finished run; see :func:`evaluate_run`.

    Thresholds are chosen on the validation rows and written to ``operating_points.json``
    before a score of the test split is read; that none is missing or no number is known by then.
    """
    check_calibration(run, facts, config)
    predictions = checked_predictions(run, facts)
    folder = run / "report"
    check_output(folder, overwrite=overwrite, marker="report.json")
    table, where = read_cohort_table(facts, cohort), cohort_folder(facts, cohort)
    check_splits(predictions, facts, table)
    validation = read_predictions(predictions, "val")
    on_validation = at_prevalence(by_level(validation, facts), config)
    points = {level: choose(data, config) for level, data in on_validation.items()}
    freeze(run, facts, config, points)
    test = read_predictions(predictions, "test")
    rows = with_attributes(test if test.height else validation, table)
    measured_on = as_validated(by_level(rows, facts), on_validation)
    tested, threshold = bool(test.height), _primary(points["image"])
    report = {
        **head(facts, config, tested=tested),
        "operating_points_sha256": sha256_file(run / POINTS_FILE),
        **of_scores(rows, measured_on, on_validation, points, facts, config, tested=tested),
        "folds": fold_rows(validation, threshold, facts),
        "baseline": baseline(rows, table, facts, config, tuple(measured_on)),
        "pointing": pointing(rows, read_lesions(where, table), facts, threshold, config),
        "run": {key: value for key, value in facts.items() if key != "platform"},
        "notes": notes_of(facts, table, tested=tested)
        + ([] if "exam" in measured_on else [_NO_EXAMS]),
    }
    with new_folder(folder, overwrite=overwrite, marker="report.json") as fresh:
        _write(fresh, report, measured_on, points)
        write_model_card(fresh, gather(run, facts, report, table, where))
    return Report(folder / "index.html", report)


def of_scores(
    rows: pl.DataFrame,
    measured_on: dict[Level, Scored],
    on_validation: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    facts: dict[str, Any],
    config: EvaluationConfig,
    *,
    tested: bool,
) -> dict[str, Any]:
    """Measure scores at their frozen thresholds; of no level nothing is told.

    Args:
        rows: Predictions that are measured, with what the cohort knows of them.
        measured_on: Their levels.
        on_validation: The levels of validation.
        points: Operating points that those chose.
        facts: What ``run.json`` holds.
        config: What to measure.
        tested: Whether the rows are held-out ones.
    """
    levels = measured_levels(measured_on, points, config)
    return {
        "levels": levels,
        "validation": measured_levels({k: on_validation[k] for k in measured_on}, points, config),
        "warnings": _warnings(levels, on_validation, points, config, tested=tested),
        "calibration": _calibration(facts, rows, measured_on, config),
        "subgroups": {k: subgroups(rows, k, _primary(points[k]), config) for k in measured_on},
    }


def head(facts: dict[str, Any], config: EvaluationConfig, *, tested: bool) -> dict[str, Any]:
    """Return what the record says of itself and of what was asked."""
    return {
        "format_version": 1,
        "kind": "report",
        "synthetic": bool(facts["synthetic"]),
        "measured_on": "test" if tested else "val",
        "label": facts["config"]["train"]["label"],
        "primary": config.operating_points[0],
        "evaluation": config.model_dump(mode="json"),
    }


def _primary(points: list[dict[str, Any]]) -> float:
    """Return the threshold of a level's primary operating point."""
    return float(points[0]["threshold"])


def check_calibration(run: Path, facts: dict[str, Any], config: EvaluationConfig) -> None:
    """Refuse settings that the run's graph and scores were not made with.

    A prevalence moves scores where they are calibrated, and weights measures alone where not.
    """
    if "calibration" not in facts:
        return
    own = EvaluationConfig.model_validate(facts["config"]["evaluation"])
    # Runs of earlier versions name no task.
    task = facts["config"].get("task", "classify")
    keys = ("calibration", "prevalence", "breast_score")
    for key in keys if task == "classify" else ("calibration", "breast_score"):
        made, asked = (
            "null" if getattr(settings, key) is None else getattr(settings, key)
            for settings in (own, config)
        )
        if made == asked:
            continue
        if task != "classify" and key == "calibration":
            raise ConfigError(
                f"evaluation.calibration is {asked}: the scores of {run}, of task {task}, are "
                "ranks and no chances, and are not calibrated: leave the setting out"
            )
        setting = f"--set evaluation.{key}={asked}"
        todo = f"run mammoscope calibrate {run} {setting} first"
        if task != "classify":
            todo = f"train anew with {setting}, as only a classifier can be calibrated"
        raise ConfigError(
            f"evaluation.{key} is {asked}, the scores of {run} were made with {made}: {todo}"
        )


def _calibration(
    facts: dict[str, Any],
    rows: pl.DataFrame,
    measured_on: dict[Level, Scored],
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Measure calibration by level, and what it was before where its scores were calibrated."""
    levels = {}
    for level, data in measured_on.items():
        made, fitted_on = calibration_of(facts.get("calibration", {}), level)
        before = None
        if not made.is_identity:
            plain = replace(scored(uncalibrated(rows), level), prevalence=data.prevalence)
            before = reliability(plain, config)
        levels[level] = {
            "method": made.method,
            "fitted_on": fitted_on,
            "sentence": made.sentence(fitted_on),
            "after": reliability(data, config),
            "before": before,
        }
    told = {str(found["sentence"]): str(found["fitted_on"]) for found in levels.values()}
    several = len(told) > 1
    sentence = " ".join(f"By {own}: {text}" if several else text for text, own in told.items())
    return {"sentence": sentence, "levels": levels}


def _warnings(
    levels: dict[Level, dict[str, Any]],
    on_validation: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    config: EvaluationConfig,
    *,
    tested: bool,
) -> list[str]:
    """Say of every frozen threshold what speaks against it."""
    said = []
    pairs = []
    for level, values in levels.items():
        chosen = points[level]
        said += few_warnings(on_validation[level].positives, level)
        for point, found in zip(chosen, values["operating_points"], strict=True):
            said += calling_all_warnings(point, on_validation[level], level, config)
            said += fitted_warnings(point, level)
            pairs.append((point, found["measured"], level))
    return said + (broken_promises(pairs) if tested else [])


def _write(
    folder: Path,
    report: dict[str, Any],
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
) -> None:
    figures = write_score_figures(folder, measured_on, points, report)
    names = shown(EvaluationConfig.model_validate(report["evaluation"]))
    (folder / "index.html").write_text(render_page(report, figures, names), encoding="utf-8")
    write_json(folder / "report.json", report)


def freeze(
    run: Path,
    facts: dict[str, Any],
    config: EvaluationConfig,
    points: dict[Level, list[dict[str, Any]]],
    **others: Any,
) -> None:
    """Write down what validation chose, before anything else is read.

    Args:
        run: The run folder.
        facts: What ``run.json`` holds.
        config: Its first operating point is the primary one.
        points: Operating points of each level.
        others: What else was chosen, by name.
    """
    write_json(
        run / POINTS_FILE,
        {
            "format_version": 1,
            "chosen_on": "val",
            "scored_by": "folds" if facts["fold"] is None else "model",
            "primary": config.operating_points[0],
            "points": points,
            **others,
        },
    )


def notes_of(facts: dict[str, Any], table: CohortTable, *, tested: bool) -> list[str]:
    """Return the sentences that a reader of any run's report should know."""
    return [
        *([] if tested else [_NO_TEST]),
        *([OF_SINGLE_FOLDS] if facts["fold"] is None else []),
        *([table.note] if table.note else []),
        *facts.get("notes", []),
        *facts.get("calibration", {}).get("notes", []),
    ]


def summary_rows(report: Report) -> list[list[str]]:
    """Return header and rows of a table for the terminal: measure, then a column per level."""
    levels = report.report["levels"]
    confidence = report.report["evaluation"]["confidence"]
    rows = [[f"measure ({confidence:.0%} interval)", *levels]]
    rows.append(
        [
            f"n (with {report.report['label']})",
            *(f"{levels[k]['n']} ({levels[k]['positives']})" for k in levels),
        ]
    )
    config = EvaluationConfig.model_validate(report.report["evaluation"])
    for name, title in shown(config).items():
        rows.append([title, *(estimated(name, levels[level]["metrics"][name]) for level in levels)])
    found = report.report["calibration"]["levels"]
    for name, title in CALIBRATION_MEASURES.items():
        rows.append([title, *(estimated(name, found[level]["after"][name]) for level in levels)])
    return rows


def write_score_figures(
    folder: Path,
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    report: dict[str, Any],
) -> dict[str, dict[str, str]]:
    """Draw every level into a report's folder; returns SVG text by level and name."""
    kind = "SYNTHETIC images" if report["synthetic"] else "images"
    figures: dict[str, dict[str, str]] = {}
    (folder / "figures").mkdir()
    for level, data in measured_on.items():
        thresholds = {point["name"]: float(point["threshold"]) for point in points[level]}
        title = f"{report['measured_on']} split, {level} level, {kind}"
        # Scores of other tasks are ranks: nobody asks whether they meet shares of positives.
        chances = report.get("task", "classify") == "classify"
        calibration = report["calibration"]["levels"][level] if chances else None
        figures[level] = draw_figures(data, thresholds, title, calibration)
        for name, svg in figures[level].items():
            (folder / "figures" / f"{level}_{name}.svg").write_text(svg, encoding="utf-8")
    return figures
