"""Evaluate an anomaly model's run: thresholds from normal validation images, measured on test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mammoscope.artefacts import check_output, new_folder, sha256_file, write_json
from mammoscope.config import Config, EvaluationConfig, validated
from mammoscope.errors import RunError
from mammoscope.evaluation.anomaly_maps import MAPS_FILE, shown_anomalies
from mammoscope.evaluation.anomaly_page import render_anomaly_page
from mammoscope.evaluation.anomaly_points import choose_on_normal, normal_only
from mammoscope.evaluation.attributes import (
    CohortTable,
    cohort_folder,
    read_cohort_table,
    with_attributes,
)
from mammoscope.evaluation.evidence import gather
from mammoscope.evaluation.figures import draw_figures
from mammoscope.evaluation.levels import measured_levels
from mammoscope.evaluation.measures import ANOMALY_MEASURES, estimated
from mammoscope.evaluation.model_card import write_model_card
from mammoscope.evaluation.overfitting import broken_promises, fitted_warnings
from mammoscope.evaluation.pointing import pointing, read_lesions
from mammoscope.evaluation.report import check_calibration, freeze, head
from mammoscope.evaluation.run_folder import (
    POINTS_FILE,
    Report,
    check_splits,
    checked_predictions,
    checked_table,
)
from mammoscope.evaluation.subgroups import subgroups
from mammoscope.evaluation.tables import Level, Scored, read_predictions, scored
from mammoscope.evaluation.unusual import UNUSUAL_MEASURES, called_unusual

__all__ = ["evaluate", "summary_rows"]

_LEVELS: tuple[Level, ...] = ("image", "breast", "exam")
_NO_TEST = (
    "There is no test split: all figures are of the fold that validates, whose normal images chose "
    "the thresholds."
)
_NO_POSITIVES = (
    "None of the measured images is known to be positive: the share of false alarms is told, and "
    "nothing about what is found."
)
_NOT_A_CHANCE = (
    "The score is the sigmoid of the anomaly score in spreads from the mean of normal validation "
    "images: a rank, not a chance of cancer. Thresholds come from normal validation images alone; "
    "evaluation.operating_points, calibration and prevalence are not used."
)


def evaluate(
    run: Path,
    facts: dict[str, Any],
    config: EvaluationConfig,
    *,
    overwrite: bool,
    cohort: Path | None,
) -> Report:
    """Measure an anomaly model's finished run; see :func:`evaluate_run`.

    Thresholds are chosen on the normal validation rows and written to ``operating_points.json``
    before a test row is read. Cancers of the fold that validates choose nothing: where there is
    any, ``validation`` tells how they are ranked.
    """
    check_calibration(run, facts, config)
    predictions, maps = checked_predictions(run, facts), checked_table(run, facts, MAPS_FILE)
    folder = run / "report"
    check_output(folder, overwrite=overwrite, marker="report.json")
    table, where = read_cohort_table(facts, cohort), cohort_folder(facts, cohort)
    check_splits(predictions, facts, table)
    validation = read_predictions(predictions, "val")
    on_validation = {level: scored(validation, level) for level in _LEVELS}
    points = _frozen(run, facts, on_validation, config)
    test = read_predictions(predictions, "test")
    rows = with_attributes(test if test.height else validation, table)
    measured_on = {k: data for k in points if (data := scored(rows, k)).label.size}
    if not measured_on:
        raise RunError(f"{predictions}: no image to measure has a known label")
    levels = measured_levels(measured_on, points, config)
    ranked = {k: data for k, data in measured_on.items() if _both(data)}
    known = {k: on_validation[k] for k in points if _both(on_validation[k])}
    threshold = float(points["image"][0]["threshold"])
    report = {
        **head(facts, config.model_copy(update={"prevalence": None}), tested=bool(test.height)),
        "task": "anomaly",
        "primary": points["image"][0]["name"],
        "operating_points_sha256": sha256_file(run / POINTS_FILE),
        "levels": levels,
        "unusual": called_unusual(rows, points["image"][0], config),
        "validation": measured_levels(known, points, config),
        "normal": {k: _normal(on_validation[k]) for k in points},
        "warnings": _warnings(levels, points, on_validation, tested=bool(test.height)),
        "subgroups": {
            k: subgroups(rows, k, float(points[k][0]["threshold"]), config) for k in ranked
        },
        "pointing": pointing(rows, read_lesions(where, table), facts, threshold, config),
        "run": {key: value for key, value in facts.items() if key != "platform"},
        "notes": _notes(facts, table, tested=bool(test.height), ranked=bool(ranked)),
    }
    with new_folder(folder, overwrite=overwrite, marker="report.json") as fresh:
        figures = _figures(fresh, ranked, points, report)
        shown = [*shown_anomalies(maps, _by_score(rows))]
        page = render_anomaly_page(report, figures, shown, rows)
        (fresh / "index.html").write_text(page, encoding="utf-8")
        write_json(fresh / "report.json", report)
        write_model_card(fresh, gather(run, facts, report, table, where))
    return Report(folder / "index.html", report)


def summary_rows(report: Report) -> list[list[str]]:
    """Return header and rows of a table for the terminal: measure, then a column per level."""
    levels = report.report["levels"]
    confidence = report.report["evaluation"]["confidence"]
    label, unusual = report.report["label"], report.report["unusual"]["levels"]
    return [
        [f"measure ({confidence:.0%} interval)", *levels],
        [f"n (with {label})", *(f"{v['n']} ({v['positives']})" for v in levels.values())],
        *(
            [title, *(estimated(name, values["metrics"][name]) for values in levels.values())]
            for name, title in ANOMALY_MEASURES.items()
        ),
        *(
            [title, *(_if_told(name, unusual.get(level)) for level in levels)]
            for name, title in UNUSUAL_MEASURES.items()
        ),
    ]


def _if_told(name: str, values: dict[str, Any] | None) -> str:
    return "" if values is None else estimated(name, values[name])


def _both(data: Scored) -> bool:
    return 0 < data.positives < data.label.size


def _normal(data: Scored) -> dict[str, int]:
    normal = normal_only(data)
    return {"n": int(normal.score.size), "patients": normal.patients}


def _frozen(
    run: Path,
    facts: dict[str, Any],
    on_validation: dict[Level, Scored],
    config: EvaluationConfig,
) -> dict[Level, list[dict[str, Any]]]:
    """Choose thresholds on normal validation scores of each level that has any; write them down."""
    anomaly = validated(Config, facts["config"], f"{run}/run.json").anomaly
    points: dict[Level, list[dict[str, Any]]] = {}
    for level, data in on_validation.items():
        normal = normal_only(data)
        if normal.score.size or level == "image":
            points[level] = choose_on_normal(normal, anomaly.specificities, config)
    primary = points["image"][0]["name"]
    freeze(run, facts, config, points, chosen_from="normal", primary=primary)
    return points


def _warnings(
    levels: dict[Level, dict[str, Any]],
    points: dict[Level, list[dict[str, Any]]],
    on_validation: dict[Level, Scored],
    *,
    tested: bool,
) -> list[str]:
    """Say of every frozen threshold what speaks against it."""
    said, pairs = [], []
    for level, values in levels.items():
        normal = normal_only(on_validation[level])
        for point, found in zip(points[level], values["operating_points"], strict=True):
            share = 1 - float(point["target"].partition("=")[2])
            # The expected number of normal ones above it; a share may miss it by its last digit.
            if share * normal.score.size < 1 - 1e-9:
                said.append(
                    f"{point['name']} by {level}: chosen on {normal.score.size} normal {level}s, "
                    "of which less than one is to lie above it."
                )
            said += fitted_warnings(point, level)
            pairs.append((point, found["measured"], level))
    return said + (broken_promises(pairs) if tested else [])


def _notes(facts: dict[str, Any], table: CohortTable, *, tested: bool, ranked: bool) -> list[str]:
    return [
        _NOT_A_CHANCE,
        *([] if tested else [_NO_TEST]),
        *([] if ranked else [_NO_POSITIVES]),
        *([table.note] if table.note else []),
        *facts.get("notes", []),
    ]


def _by_score(rows: pl.DataFrame) -> list[str]:
    """Return images with the highest score first, positives before others."""
    ordered = rows.sort(
        (pl.col("cancer") == 1).fill_null(value=False), "score", "image_id", descending=True
    )
    return [str(name) for name in ordered["image_id"]]


def _figures(
    folder: Path,
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    report: dict[str, Any],
) -> dict[str, dict[str, str]]:
    kind = "SYNTHETIC images" if report["synthetic"] else "images"
    (folder / "figures").mkdir()
    figures: dict[str, dict[str, str]] = {}
    for level, data in measured_on.items():
        thresholds = {point["name"]: float(point["threshold"]) for point in points[level]}
        title = f"{report['measured_on']} split, {level} level, {kind}"
        figures[level] = draw_figures(data, thresholds, title, None)
        for name, svg in figures[level].items():
            (folder / "figures" / f"{level}_{name}.svg").write_text(svg, encoding="utf-8")
    return figures
