"""Compare what two runs find on the same held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mammoscope import __version__
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.attributes import cohort_folder, read_cohort_table
from mammoscope.evaluation.bootstrap import Draws, with_interval
from mammoscope.evaluation.comparison import (
    Contender,
    check_same_images,
    gain_row,
    value_row,
)
from mammoscope.evaluation.lesions.found import Found, find, measured
from mammoscope.evaluation.lesions.froc import told_at
from mammoscope.evaluation.lesions.gains import differences
from mammoscope.evaluation.lesions.tables import (
    CANDIDATES_FILE,
    Findings,
    read_candidates,
    read_findings,
    scene_of,
)
from mammoscope.evaluation.paired import share_difference
from mammoscope.evaluation.run_folder import (
    checked_predictions,
    checked_table,
    frozen_points,
    read_run,
)
from mammoscope.evaluation.tables import read_predictions
from mammoscope.pages import written_score

__all__ = ["compare_lesions", "finds_lesions", "lesion_comparison_rows"]

FORMAT_VERSION = 1
_ROLES = ("first", "second")
# Settings under which a cut-off keeps its rate.
_RULES = ("hit", "false_positives_on")


def finds_lesions(run: Path) -> bool:
    """Say whether a run is of a task that finds lesions."""
    return CANDIDATES_FILE in read_run(Path(run)).get("hashes", {})


def compare_lesions(
    first: Path,
    second: Path,
    config: EvaluationConfig | None = None,
    *,
    cohort: Path | None = None,
) -> dict[str, Any]:
    """Measure what the second run finds against what the first finds, on one test split.

    Both are matched anew with the lesions of the first run's cohort, by one rule.

    Args:
        first: A run of detection or segmentation, evaluated.
        second: Another.
        config: How a lesion is hit, rates, replicates, confidence and seed; the defaults, not
            those of the runs.
        cohort: Where the cohort lies, if it was moved since training.

    Returns:
        A record for JSON: ``runs`` (sensitivity at each rate of false positives and their mean;
        at the run's own frozen cut-off sensitivity and false positives per image),
        ``difference`` (second less first, by lesion, image, breast and exam; and ``cut_off``),
        ``notes`` and a ``sentence``.

    Raises:
        RunError: If a run is not evaluated or has no test split, or if the two do not hold the
            same images, patients, labels and targets.
    """
    config = config or EvaluationConfig()
    runs = [_read(Path(path)) for path in (first, second)]
    check_same_images(*runs)
    _check_same_targets(*runs)
    facts = runs[0].facts
    where = cohort_folder(facts, cohort)
    findings = read_findings(where, read_cohort_table(facts, cohort), facts)
    found = [_found(run, findings, config) for run in runs]
    if not found[0].wanted.any():
        raise RunError("no test image holds a lesion that is to be found: nothing to compare")
    draws = found[0].draws(config)
    made = {
        "format_version": FORMAT_VERSION,
        "kind": "comparison",
        "package_version": __version__,
        "synthetic": any(bool(run.facts["synthetic"]) for run in runs),
        "level": "lesion",
        "n": int(found[0].wanted.sum()),
        "images": found[0].scene.rows.height,
        "patients": found[0].scene.patients,
        "evaluation": config.model_dump(mode="json"),
        "findings_sha256": findings.sha256,
        "runs": [_of_run(*one, draws, config) for one in zip(_ROLES, runs, found, strict=True)],
        "difference": {
            **differences(found[0], found[1], draws, config),
            "cut_off": _at_cut_offs(runs, found, draws, config),
        },
        "notes": _notes(runs, config),
    }
    return made | {"sentence": _sentence(made)}


def lesion_comparison_rows(made: dict[str, Any]) -> list[list[str]]:
    """Return header and rows of a table for the terminal."""
    rows = [["measure", "value", f"{made['evaluation']['confidence']:.0%} interval", "p"]]
    rates = [f"{rate:g}" for rate in made["evaluation"]["froc_false_positives"]]
    titles = {f"sensitivity_at_{rate}": f"sensitivity at {rate} FP/image" for rate in rates}
    for name, title in {**titles, "mean_sensitivity": "mean sensitivity"}.items():
        rows += [value_row(f"{title}, {run['role']}", run["froc"][name]) for run in made["runs"]]
        gain = made["difference"]["lesion"][name]
        rows.append(gain_row("  difference, paired bootstrap", gain["value"], gain))
    for run in made["runs"]:
        point = run["cut_off"]
        at = f"{run['role']} at {written_score(point['threshold'], 4)}"
        rows.append(value_row(f"sensitivity, {at}", point["sensitivity"]["lesion"]))
        rows.append(
            value_row(f"false positives per image, {at}", point["false_positives_per_image"])
        )
    cut_off = made["difference"]["cut_off"]
    gain = cut_off["sensitivity"]
    rows.append(gain_row("  sensitivity, McNemar (clustered)", gain["value"], gain))
    gain = cut_off["false_positives_per_image"]
    rows.append(gain_row("  false positives, paired bootstrap", gain["value"], gain))
    return rows


def _read(path: Path) -> Contender:
    facts = read_run(path)
    predictions = checked_predictions(path, facts)
    if CANDIDATES_FILE not in facts["hashes"]:
        raise RunError(
            f"{path} finds no lesions (task {facts['config'].get('task', 'classify')}): compare it "
            "by --level image, breast or exam"
        )
    chosen, _ = frozen_points(path)
    if "candidates" not in chosen:
        raise RunError(f"{path} has no cut-off on candidates: run mammoscope evaluate {path}")
    rows = read_predictions(predictions, "test")
    if rows.is_empty():
        raise RunError(f"{path} has no test split: there is nothing held out to compare on")
    point = chosen["candidates"]
    return Contender(
        path, facts, rows.sort("image_id"), str(point["name"]), float(point["threshold"])
    )


def _found(run: Contender, findings: Findings, config: EvaluationConfig) -> Found:
    drawn = read_candidates(checked_table(run.path, run.facts, CANDIDATES_FILE), "test")
    return find(scene_of(run.rows, drawn, findings, config), config)


def _check_same_targets(first: Contender, second: Contender) -> None:
    """Refuse runs that looked for other lesions, or were measured on other findings."""
    told = [frozen_points(run.path)[1]["findings_sha256"] for run in (first, second)]
    if told[0] != told[1]:
        raise RunError(
            f"{first.path} and {second.path} were measured on other findings: evaluate both on one "
            "cohort"
        )
    for name in ("kinds", "malignant_only"):
        asked = [run.facts["config"].get("lesions", {}).get(name) for run in (first, second)]
        if asked[0] != asked[1]:
            raise RunError(
                f"lesions.{name} is {asked[0]} of {first.path} and {asked[1]} of {second.path}: "
                "runs that look for the same lesions are compared"
            )


def _of_run(
    role: str, run: Contender, found: Found, draws: Draws, config: EvaluationConfig
) -> dict[str, Any]:
    told = told_at(found.marks, {"lesion": found.targets["lesion"]}, draws, config)["lesion"]
    return {
        "role": role,
        "path": str(run.path),
        "candidates_sha256": run.facts["hashes"][CANDIDATES_FILE],
        "froc": {name: value.as_dict() for name, value in told.items()},
        "cut_off": {
            "name": run.name,
            "threshold": run.threshold,
            **measured(found, run.threshold, config),
        },
    }


def _at_cut_offs(
    runs: list[Contender], found: list[Found], draws: Draws, config: EvaluationConfig
) -> dict[str, Any]:
    """Return the differences at each run's own frozen cut-off."""
    hits = [
        what.targets["lesion"].score >= run.threshold for run, what in zip(runs, found, strict=True)
    ]
    patient = found[0].targets["lesion"].patient
    false = [
        np.bincount(what.marks.patient[what.marks.score >= run.threshold], minlength=draws.shape[1])
        for run, what in zip(runs, found, strict=True)
    ]
    more, images = false[1] - false[0], found[0].marks.images
    with np.errstate(invalid="ignore", divide="ignore"):
        sample = (draws @ more.astype(np.float64)) / (draws @ images.astype(np.float64))
    return {
        "sensitivity": share_difference(hits[0], hits[1], patient, config.confidence),
        "false_positives_per_image": with_interval(
            more.sum() / images.sum(), sample, config.confidence
        ),
    }


def _notes(runs: list[Contender], config: EvaluationConfig) -> list[str]:
    said = []
    if len({run.name for run in runs}) > 1:
        names = " and ".join(run.name for run in runs)
        said.append(
            f"The cut-offs were chosen for different targets ({names}), so what they give differs "
            "by choice too."
        )
    for run in runs:
        chosen_by = frozen_points(run.path)[1]["evaluation"]
        other = [name for name in _RULES if chosen_by[name] != getattr(config, name)]
        if other:
            told = ", ".join(f"evaluation.{name}={chosen_by[name]}" for name in other)
            said.append(
                f"The cut-off of {run.path} was chosen under {told}, which is not the rule of this "
                "comparison: it need not keep its target here."
            )
    return said


def _sentence(made: dict[str, Any]) -> str:
    """Say in one sentence what the comparison means."""
    gain = made["difference"]["lesion"]["mean_sensitivity"]
    kind = "SYNTHETIC " if made["synthetic"] else ""
    where = (
        f"On {made['n']} lesions of these {made['images']} {kind}images of {made['patients']} test "
        "patients"
    )
    start = f"{where} both runs have the same mean sensitivity"
    if gain["value"] == 0 and gain["low"] == gain["high"]:
        return f"{start}."
    if gain["value"] != 0:
        word = "higher" if gain["value"] > 0 else "lower"
        start = f"{where} the second run's mean sensitivity is {abs(gain['value']):.3f} {word}"
    if gain["low"] is None:
        return f"{start}; without an interval nothing is said of chance."
    start += (
        f" ({made['evaluation']['confidence']:.0%} interval of the difference "
        f"{gain['low']:+.3f} to {gain['high']:+.3f})"
    )
    if gain["low"] > 0 or gain["high"] < 0:
        return f"{start}: more than chance explains."
    return f"{start}: chance alone may explain that, which does not show that the runs are equal."
