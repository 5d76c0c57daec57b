"""Evaluate a run that finds or outlines lesions: choose on validation, freeze, measure on test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammoscope.artefacts import check_output, new_folder, sha256_file, write_json
from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.attributes import (
    cohort_folder,
    read_cohort_table,
    with_attributes,
)
from mammoscope.evaluation.evidence import gather
from mammoscope.evaluation.lesions.figures import draw_lesion_figures
from mammoscope.evaluation.lesions.found import (
    Found,
    choose_cut_off,
    counts,
    find,
    grouped,
    measured,
)
from mammoscope.evaluation.lesions.froc import told_at
from mammoscope.evaluation.lesions.gains import differences
from mammoscope.evaluation.lesions.gallery import gallery
from mammoscope.evaluation.lesions.outlined import Masks, outlined, read_masks
from mammoscope.evaluation.lesions.page import render_page
from mammoscope.evaluation.lesions.precision import average_precisions
from mammoscope.evaluation.lesions.summary import measures_of, summary_rows
from mammoscope.evaluation.lesions.tables import (
    CANDIDATES_FILE,
    Findings,
    Split,
    read_candidates,
    read_findings,
    scene_of,
)
from mammoscope.evaluation.levels import as_validated, at_prevalence, by_level
from mammoscope.evaluation.model_card import write_model_card
from mammoscope.evaluation.operating_points import choose
from mammoscope.evaluation.pictures import Pictures
from mammoscope.evaluation.report import (
    check_calibration,
    freeze,
    head,
    notes_of,
    of_scores,
    write_score_figures,
)
from mammoscope.evaluation.run_folder import (
    POINTS_FILE,
    Report,
    check_splits,
    checked_predictions,
    checked_table,
)
from mammoscope.evaluation.tables import Level, Scored, read_predictions

__all__ = ["SHOWS_PICTURES", "evaluate", "summary_rows"]

#: ``evaluate`` takes prepared images to show.
SHOWS_PICTURES = True

_MASKS = ("masks.parquet", "lesion_masks.parquet")
# Lesions below which a cut-off or a figure rests on few.
_FEW = 30
# A score that went to its logit and back may have another last digit.
_ROUNDING = 1e-9


def evaluate(
    run: Path,
    facts: dict[str, Any],
    config: EvaluationConfig,
    *,
    overwrite: bool,
    cohort: Path | None,
    pictures: Pictures | None = None,
) -> Report:
    """Measure a finished run of detection or segmentation; see :func:`evaluate_run`.

    The cut-off on candidates and the thresholds of images, breasts and exams are chosen on the
    validation rows and written to ``operating_points.json`` before a test row is read. Images,
    breasts and exams are measured where validation and test hold both classes of them.
    """
    check_calibration(run, facts, config)
    predictions, drawn = checked_predictions(run, facts), checked_table(run, facts, CANDIDATES_FILE)
    masks = [checked_table(run, facts, name) for name in _MASKS if name in facts["hashes"]]
    folder = run / "report"
    check_output(folder, overwrite=overwrite, marker="report.json")
    table, where = read_cohort_table(facts, cohort), cohort_folder(facts, cohort)
    findings = read_findings(where, table, facts)
    check_splits(predictions, facts, table)
    validation = read_predictions(predictions, "val")
    chosen_on = _found(validation, drawn, "val", findings, config)
    on_validation = _chosen_levels(validation, facts, config)
    points = {level: choose(data, config) for level, data in on_validation.items()}
    cut_off = choose_cut_off(chosen_on, config)
    freeze(run, facts, config, points, candidates=cut_off)
    test = read_predictions(predictions, "test")
    tested, rows = bool(test.height), test if test.height else validation
    split: Split = "test" if tested else "val"
    found = _found(rows, drawn, split, findings, config)
    measured_on = _levels(rows, facts, on_validation)
    told = _detection(found, chosen_on, cut_off, config, split)
    told["views"] = _matched_views(rows, drawn, found, findings, config)
    known = with_attributes(rows, table)
    scores = of_scores(known, measured_on, on_validation, points, facts, config, tested=tested)
    outlines = read_masks(masks[0], masks[1], split, facts) if masks else None
    overlap = outlined(outlines, found.scene, config, found.draws(config)) if outlines else None
    report = {
        **head(facts, config, tested=tested),
        "task": facts["config"]["task"],
        "operating_points_sha256": sha256_file(run / POINTS_FILE),
        "findings_sha256": findings.sha256,
        "detection": told,
        "overlap": overlap,
        "measures": measures_of(told, overlap),
        **scores,
        "warnings": [*told["warnings"], *scores["warnings"]],
        "run": {key: value for key, value in facts.items() if key != "platform"},
        "notes": [
            *(*notes_of(facts, table, tested=tested), *findings.notes),
            *_about(found, measured_on, on_validation, split),
        ],
    }
    with new_folder(folder, overwrite=overwrite, marker="report.json") as fresh:
        _write(fresh, report, found, outlines, measured_on, points, pictures)
        write_model_card(fresh, gather(run, facts, report, table, where))
    return Report(folder / "index.html", report)


def _found(
    rows: pl.DataFrame, drawn: Path, split: Split, findings: Findings, config: EvaluationConfig
) -> Found:
    return find(scene_of(rows, read_candidates(drawn, split), findings, config), config)


def _matched_views(
    rows: pl.DataFrame, drawn: Path, found: Found, findings: Findings, config: EvaluationConfig
) -> dict[str, Any] | None:
    """Return what the match of candidates in two views adds to their own scores, if it moved any.

    The scores of candidates before they were matched are the column ``own_score``.
    """
    candidates = read_candidates(drawn, rows["split"][0])
    matched = candidates["matched"].count()
    if not matched or "own_score" not in candidates.columns:
        return None
    moved = (candidates["score"] - candidates["own_score"]).abs() > _ROUNDING
    if not moved.any():
        # Validation found no rise that helps.
        return None
    alone = candidates.with_columns(score="own_score")
    before = find(scene_of(rows, alone, findings, config), config)
    draws = found.draws(config)
    return {
        "matched": matched,
        "candidates": candidates.height,
        "alone": _curves(before, config)["lesion"],
        "gain": differences(before, found, draws, config),
    }


def _with_both_classes(rows: pl.DataFrame, facts: dict[str, Any]) -> dict[Level, Scored]:
    """Return the levels that hold both classes; none where images do not."""
    made = by_level(rows, facts)
    kept = {k: data for k, data in made.items() if data.positives not in (0, data.label.size)}
    return kept if "image" in kept else {}


def _chosen_levels(
    rows: pl.DataFrame, facts: dict[str, Any], config: EvaluationConfig
) -> dict[Level, Scored]:
    """Return the levels for which thresholds can be chosen, at the prevalence that is meant."""
    made = _with_both_classes(rows, facts)
    return at_prevalence(made, config) if made else {}


def _levels(
    rows: pl.DataFrame, facts: dict[str, Any], on_validation: dict[Level, Scored]
) -> dict[Level, Scored]:
    """Return the levels that can be measured, at the prevalences that validation chose for."""
    made = _with_both_classes(rows, facts)
    return as_validated({k: data for k, data in made.items() if k in on_validation}, on_validation)


def _detection(
    found: Found,
    chosen_on: Found,
    cut_off: dict[str, Any],
    config: EvaluationConfig,
    split: str,
) -> dict[str, Any]:
    """Return all that is told of candidates."""
    threshold = float(cut_off["threshold"])
    frozen = ("false_positives_per_image", "duplicates_per_image", "sensitivity")
    made = {
        "counts": counts(found),
        "froc": _curves(found, config),
        "validation": {"counts": counts(chosen_on), "froc": _curves(chosen_on, config)},
        "cut_off": {
            "name": cut_off["name"],
            "target": cut_off["target"],
            "rate": config.candidate_false_positives,
            "threshold": threshold,
            "chosen_on_validation": {name: cut_off[name] for name in frozen},
            "measured": measured(found, threshold, config),
        },
        "groups": grouped(found, threshold, config),
        "average_precision": average_precisions(found, config),
    }
    return made | {"warnings": _warnings(made, split)}


def _curves(found: Found, config: EvaluationConfig) -> dict[str, Any]:
    told = told_at(found.marks, found.targets, found.draws(config), config)
    return {
        name: {
            "n": int(targets.score.size),
            "patients": int(np.unique(targets.patient).size),
            **{measure: value.as_dict() for measure, value in told[name].items()},
        }
        for name, targets in found.targets.items()
    }


def _warnings(told: dict[str, Any], split: str) -> list[str]:
    """Say what speaks against the figures and the cut-off."""
    said = []
    for name, few in (("val", told["validation"]["counts"]), (split, told["counts"])):
        if few["lesions"] < _FEW:
            said.append(f"{few['lesions']} lesions in the {name} split: figures rest on few.")
    if told["cut_off"]["threshold"] == 0:
        said.append(
            "The cut-off is 0: all candidates of validation images together are "
            f"{told['cut_off']['target']}, so that there was nothing to choose."
        )
    rate = told["cut_off"]["measured"]["false_positives_per_image"]
    if rate["low"] is not None and rate["low"] > told["cut_off"]["rate"]:
        said.append(
            f"The cut-off was chosen for {told['cut_off']['target']} and gives {rate['value']:.2f} "
            f"({rate['low']:.2f} to {rate['high']:.2f}) on {split} images."
        )
    return list(dict.fromkeys(said))


def _about(
    found: Found,
    measured_on: dict[Level, Scored],
    on_validation: dict[Level, Scored],
    split: str,
) -> list[str]:
    """Say what was left out, and why."""
    said = []
    if uncertain := int((~found.scene.certain).sum()):
        said.append(
            f"{uncertain} {split} images hold a lesion of which nobody says where it is: false "
            "positives are not counted on them, since a mark there may be right."
        )
    if not found.wanted.any():
        said.append(f"No {split} image holds a lesion that is to be found: nothing can be said.")
    if not measured_on:
        lacks = "measured" if on_validation else "validation"
        said.append(
            f"Images, breasts and exams have no measures of their own: the {lacks} images are all "
            "of one class."
        )
    return said


def _write(
    folder: Path,
    report: dict[str, Any],
    found: Found,
    outlines: Masks | None,
    measured_on: dict[Level, Scored],
    points: dict[Level, list[dict[str, Any]]],
    pictures: Pictures | None,
) -> None:
    """Write figures, page and record into a report's folder."""
    config = EvaluationConfig.model_validate(report["evaluation"])
    kind = "SYNTHETIC images" if report["synthetic"] else "images"
    cut_off = report["detection"]["cut_off"]
    figures = write_score_figures(folder, measured_on, points, report)
    drawn = draw_lesion_figures(
        found, cut_off, report["overlap"], f"{report['measured_on']} split, {kind}", config
    )
    for name, svg in drawn.items():
        (folder / "figures" / f"{name}.svg").write_text(svg, encoding="utf-8")
    shown = [] if pictures is None else gallery(found, cut_off["threshold"], outlines, pictures)
    page = render_page(report, drawn, figures, shown)
    (folder / "index.html").write_text(page, encoding="utf-8")
    write_json(folder / "report.json", report)
