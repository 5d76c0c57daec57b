"""Evaluate a run: choose on validation, freeze, measure on test, write the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mammoscope.artefacts import check_output, new_folder, read_json, write_json
from mammoscope.config import Config, EvaluationConfig, load_config, validated
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation.attributes import (
    CohortTable,
    cohort_folder,
    read_cohort_table,
    with_attributes,
)
from mammoscope.evaluation.baseline import baseline
from mammoscope.evaluation.bootstrap import Measure, intervals
from mammoscope.evaluation.calibration import IDENTITY, Calibration
from mammoscope.evaluation.evidence import gather
from mammoscope.evaluation.figures import draw_figures
from mammoscope.evaluation.folds import fold_rows
from mammoscope.evaluation.measures import (
    CALIBRATION_MEASURES,
    measures_at,
    measures_of_ranks,
    shown,
    written,
)
from mammoscope.evaluation.metrics import confusion
from mammoscope.evaluation.model_card import write_model_card
from mammoscope.evaluation.operating_points import choose, point_measures
from mammoscope.evaluation.overfitting import few_warnings, threshold_warnings
from mammoscope.evaluation.page import render_page
from mammoscope.evaluation.pointing import pointing, read_lesions
from mammoscope.evaluation.reliability import reliability
from mammoscope.evaluation.run_folder import check_complete, checked_predictions, read_run
from mammoscope.evaluation.subgroups import subgroups
from mammoscope.evaluation.tables import Level, Scored, read_predictions, scored, uncalibrated

__all__ = ["Report", "evaluate_run", "read_report", "run_evaluation_config", "summary_rows"]

_LEVELS: tuple[Level, ...] = ("image", "breast", "exam")
_NO_EXAMS = (
    "Nothing is measured by exam: the exams of the validation or the measured images are all of "
    "one class."
)
_NO_TEST = "There is no test split: all figures are of validation images."


@dataclass(frozen=True, slots=True)
class Report:
    """A report on disk.

    Attributes:
        path: Its page.
        report: What ``report.json`` holds.
    """

    path: Path
    report: dict[str, Any]


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


def evaluate_run(
    run: Path,
    config: EvaluationConfig | None = None,
    *,
    overwrite: bool = False,
    cohort: Path | None = None,
) -> Report:
    """Measure a finished run from its predictions.

    Thresholds are chosen on the validation rows and written to ``operating_points.json``
    before a test row is read.

    Args:
        run: The run folder.
        config: What to measure; the run's own by default.
        overwrite: Replace a report that is there.
        cohort: Where the run's cohort lies, if it was moved since training.

    Raises:
        RunError: If the run is not finished, its predictions are damaged or edited, or the
            cohort named is not the run's.
        OutputError: If there is a report already.
    """
    run = Path(run)
    facts = read_run(run)
    config = config or run_evaluation_config(run)
    _check_calibration(run, facts, config)
    predictions = checked_predictions(run, facts)
    folder = run / "report"
    check_output(folder, overwrite=overwrite, marker="report.json")
    table, where = read_cohort_table(facts, cohort), cohort_folder(facts, cohort)
    validation = _rows(predictions, facts, "val", table)
    on_validation = _by_level(validation, facts)
    points = _frozen(run, on_validation, config)
    test = _rows(predictions, facts, "test", table)
    rows = with_attributes(test if test.height else validation, table)
    measured_on = {k: data for k, data in _by_level(rows, facts).items() if k in points}
    _check_classes(measured_on)
    tested, threshold = bool(test.height), _primary(points["image"])
    levels = _levels(measured_on, points, config)
    report = {
        **_head(facts, config, tested=tested),
        "levels": levels,
        "validation": _levels({k: on_validation[k] for k in measured_on}, points, config),
        "warnings": _warnings(levels, on_validation, points, tested=tested),
        "calibration": _calibration(facts, rows, config, tuple(measured_on)),
        "folds": fold_rows(validation, threshold, facts),
        "subgroups": {k: subgroups(rows, k, _primary(points[k]), config) for k in measured_on},
        "baseline": baseline(rows, table, facts, config, tuple(measured_on)),
        "pointing": pointing(rows, read_lesions(where, table), facts, threshold, config),
        "run": {key: value for key, value in facts.items() if key != "platform"},
        "notes": [
            *_notes(facts, table, has_test=tested),
            *([] if "exam" in measured_on else [_NO_EXAMS]),
        ],
    }
    with new_folder(folder, overwrite=overwrite, marker="report.json") as fresh:
        _write(fresh, report, measured_on, points)
        write_model_card(fresh, gather(run, facts, report, table, where))
    return Report(folder / "index.html", report)


def _rows(
    predictions: Path, facts: dict[str, Any], split: Literal["val", "test"], table: CohortTable
) -> pl.DataFrame:
    """Read one split's predictions, none of them missing."""
    rows = read_predictions(predictions, split)
    check_complete(predictions, facts, split, rows, table)
    return rows


def _head(facts: dict[str, Any], config: EvaluationConfig, *, tested: bool) -> dict[str, Any]:
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


def _check_calibration(run: Path, facts: dict[str, Any], config: EvaluationConfig) -> None:
    """Refuse settings that the run's graph and scores were not made with."""
    if "calibration" not in facts:
        return
    own = EvaluationConfig.model_validate(facts["config"]["evaluation"])
    for key in ("calibration", "prevalence"):
        made, asked = (
            "null" if getattr(settings, key) is None else getattr(settings, key)
            for settings in (own, config)
        )
        if made != asked:
            raise ConfigError(
                f"evaluation.{key} is {asked}, the scores of {run} were made with {made}: run "
                f"mammoscope calibrate {run} --set evaluation.{key}={asked} first"
            )


def _calibration(
    facts: dict[str, Any],
    rows: pl.DataFrame,
    config: EvaluationConfig,
    measured: tuple[Level, ...],
) -> dict[str, Any]:
    """Measure calibration by level, and what it was before where scores were calibrated."""
    made = Calibration.from_dict(facts["calibration"]) if "calibration" in facts else IDENTITY
    levels = {}
    for level in measured:
        before = None
        if not made.is_identity:
            before = reliability(scored(uncalibrated(rows), level), config)
        levels[level] = {"after": reliability(scored(rows, level), config), "before": before}
    return {**made.as_dict(), "sentence": made.sentence, "levels": levels}


def _warnings(
    levels: dict[str, dict[str, Any]],
    on_validation: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    *,
    tested: bool,
) -> list[str]:
    """Say of every frozen threshold what speaks against it."""
    said = []
    for level, chosen in points.items():
        if level not in levels:
            continue
        said += few_warnings(on_validation[level].positives, level)
        for point, found in zip(chosen, levels[level]["operating_points"], strict=True):
            said += threshold_warnings(point, found["measured"] if tested else None, level)
    return said


def _write(
    folder: Path,
    report: dict[str, Any],
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
) -> None:
    figures = _write_figures(folder, measured_on, points, report)
    names = shown(EvaluationConfig.model_validate(report["evaluation"]))
    (folder / "index.html").write_text(render_page(report, figures, names), encoding="utf-8")
    write_json(folder / "report.json", report)


def _frozen(
    run: Path, on_validation: dict[Level, Scored], config: EvaluationConfig
) -> dict[Level, list[dict[str, Any]]]:
    """Choose the operating points and write them down."""
    points = {level: choose(data, config) for level, data in on_validation.items()}
    primary = config.operating_points[0]
    write_json(
        run / "operating_points.json",
        {"format_version": 1, "chosen_on": "val", "primary": primary, "points": points},
    )
    return points


def _notes(facts: dict[str, Any], table: CohortTable, *, has_test: bool) -> list[str]:
    return [
        *([] if has_test else [_NO_TEST]),
        *([table.note] if table.note else []),
        *facts.get("notes", []),
        *facts.get("calibration", {}).get("notes", []),
    ]


def _levels(
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    config: EvaluationConfig,
) -> dict[str, dict[str, Any]]:
    return {level: _level(data, points[level], config) for level, data in measured_on.items()}


def _by_level(rows: pl.DataFrame, facts: dict[str, Any]) -> dict[Level, Scored]:
    """Return scores of each level; exams only where they have both classes, or are scored."""
    made = {level: scored(rows, level) for level in _LEVELS}
    one_class = made["exam"].positives in (0, made["exam"].label.size)
    if one_class and facts["config"]["model"].get("level") != "exam":
        del made["exam"]
    return made


def _check_classes(measured_on: dict[Level, Scored]) -> None:
    for level, data in measured_on.items():
        if data.positives in (0, data.label.size):
            raise RunError(f"the {level}s to measure hold one class only; both are needed")


def read_report(run: Path) -> Report:
    """Read the report of an evaluated run."""
    folder = Path(run) / "report"
    return Report(folder / "index.html", read_json(folder / "report.json", RunError))


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
        rows.append([title, *(_cell(name, levels[level]["metrics"][name]) for level in levels)])
    found = report.report["calibration"]["levels"]
    for name, title in CALIBRATION_MEASURES.items():
        rows.append([title, *(_cell(name, found[level]["after"][name]) for level in levels)])
    return rows


def _level(data: Scored, points: list[dict[str, Any]], config: EvaluationConfig) -> dict[str, Any]:
    """Measure one level with frozen thresholds; ``points[0]`` is the primary one."""
    threshold = float(points[0]["threshold"])

    def measure(measures: dict[str, Measure]) -> dict[str, dict[str, float | None]]:
        found = intervals(
            data,
            measures,
            replicates=config.bootstrap,
            confidence=config.confidence,
            seed=config.seed,
        )
        return {name: interval.as_dict() for name, interval in found.items()}

    counts = confusion(data.score, data.label, threshold)
    return {
        "n": int(data.label.size),
        "positives": data.positives,
        "patients": data.patients,
        "unlabelled": data.unlabelled,
        "threshold": threshold,
        "metrics": measure({**measures_of_ranks(config), **measures_at(threshold)}),
        "confusion": {name: int(getattr(counts, name)) for name in ("tp", "fp", "tn", "fn")},
        "operating_points": [
            {
                "name": point["name"],
                "threshold": point["threshold"],
                "chosen_on_validation": {
                    key: point[key] for key in ("sensitivity", "specificity", "recall_rate")
                },
                "choice": point["choice"],
                "measured": measure(point_measures(float(point["threshold"]), config)),
            }
            for point in points
        ],
    }


def _write_figures(
    folder: Path,
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    report: dict[str, Any],
) -> dict[str, dict[str, str]]:
    kind = "SYNTHETIC images" if report["synthetic"] else "images"
    figures: dict[str, dict[str, str]] = {}
    (folder / "figures").mkdir()
    for level, data in measured_on.items():
        thresholds = {point["name"]: float(point["threshold"]) for point in points[level]}
        title = f"{report['measured_on']} split, {level} level, {kind}"
        figures[level] = draw_figures(
            data, thresholds, title, report["calibration"]["levels"][level]
        )
        for name, svg in figures[level].items():
            (folder / "figures" / f"{level}_{name}.svg").write_text(svg, encoding="utf-8")
    return figures


def _cell(name: str, metric: dict[str, float | None]) -> str:
    value, low, high = (written(name, metric[key]) for key in ("value", "low", "high"))
    return value if metric["low"] is None else f"{value} ({low} to {high})"
