"""Compare two runs on the same held-out images, each at its own frozen threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mammoscope import __version__
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.bootstrap import intervals
from mammoscope.evaluation.measures import measures_at, written_p
from mammoscope.evaluation.paired import Pair, area_difference, share_difference
from mammoscope.evaluation.run_folder import checked_predictions, frozen_points, read_run
from mammoscope.evaluation.tables import Level, Scored, labelled, read_predictions, units
from mammoscope.pages import written_score

__all__ = [
    "Contender",
    "check_same_images",
    "compare_runs",
    "comparison_rows",
    "gain_row",
    "value_row",
]

FORMAT_VERSION = 1
_EXAMPLES = 3
_ROLES = ("first", "second")


@dataclass(frozen=True, slots=True)
class Contender:
    """A run to compare.

    Attributes:
        path: Its folder.
        facts: What ``run.json`` holds.
        rows: Its test predictions, by image_id.
        name: Of its frozen operating point.
        threshold: Of that point.
    """

    path: Path
    facts: dict[str, Any]
    rows: pl.DataFrame
    name: str
    threshold: float

    @property
    def label(self) -> str:
        """What it learnt to tell."""
        return str(self.facts["config"]["train"]["label"])


def compare_runs(
    first: Path, second: Path, level: Level, config: EvaluationConfig | None = None
) -> dict[str, Any]:
    """Measure the second run against the first on the test split that they share.

    Args:
        first: A run, trained and evaluated.
        second: Another.
        level: Image, breast or exam.
        config: Replicates, confidence and seed; the defaults, not those of the runs.

    Returns:
        A record for JSON: ``runs`` (AUROC, frozen threshold, sensitivity and specificity of
        each), ``difference`` (second less first: ``auroc``, ``sensitivity``,
        ``specificity``), ``notes`` and a ``sentence``.

    Raises:
        RunError: If a run is not evaluated or has no test split, or if the two do not hold
            the same images, breasts, patients and labels.
    """
    config = config or EvaluationConfig()
    runs = [_read(Path(path), level) for path in (first, second)]
    check_same_images(*runs)
    one, two = _scored(runs, level)
    sick, confidence = one.label, config.confidence
    *auroc, difference = area_difference(Pair(one.score, two.score, sick, one.patient), config)
    right = [
        (data.score >= run.threshold) == sick for data, run in zip((one, two), runs, strict=True)
    ]
    made = {
        "format_version": FORMAT_VERSION,
        "kind": "comparison",
        "package_version": __version__,
        "synthetic": any(bool(run.facts["synthetic"]) for run in runs),
        "level": level,
        "label": runs[0].label,
        "n": int(one.label.size),
        "positives": one.positives,
        "patients": one.patients,
        "unlabelled": one.unlabelled,
        "evaluation": config.model_dump(mode="json"),
        "runs": [
            _of_run(role, run, area, data, config)
            for role, run, area, data in zip(_ROLES, runs, auroc, (one, two), strict=True)
        ],
        "difference": {
            "auroc": difference,
            **{
                name: share_difference(
                    right[0][side], right[1][side], one.patient[side], confidence
                )
                for name, side in (("sensitivity", sick), ("specificity", ~sick))
            },
        },
        "notes": _notes(runs),
    }
    return made | {"sentence": _sentence(made)}


def comparison_rows(made: dict[str, Any]) -> list[list[str]]:
    """Return header and rows of a table for the terminal."""
    area = made["difference"]["auroc"]
    rows = [["measure", "value", f"{made['evaluation']['confidence']:.0%} interval", "p"]]
    rows += [value_row(f"AUROC, {run['role']}", run["auroc"]) for run in made["runs"]]
    rows.append(gain_row("  difference, DeLong (clustered)", area["value"], area["delong"]))
    rows.append(gain_row("  difference, paired bootstrap", area["value"], area["bootstrap"]))
    for name in ("sensitivity", "specificity"):
        found = made["difference"][name]
        rows += [
            value_row(f"{name}, {run['role']} at {written_score(run['threshold'], 4)}", run[name])
            for run in made["runs"]
        ]
        rows.append(gain_row("  difference, McNemar (clustered)", found["value"], found))
        only = f"right: first only {found['only_first']}, second only {found['only_second']}"
        rows.append([f"  {only} of {found['n']}", "", "", ""])
    return rows


def _read(path: Path, level: Level) -> Contender:
    facts = read_run(path)
    predictions = checked_predictions(path, facts)
    points = frozen_points(path)[0]["points"]
    if level not in points:
        raise RunError(
            f"{path} has no operating point by {level}: it was evaluated by an earlier version, or "
            f"its validation {level}s are of one class; mammoscope evaluate {path} --overwrite says"
        )
    chosen = points[level][0]
    rows = read_predictions(predictions, "test")
    if rows.is_empty():
        raise RunError(f"{path} has no test split: there is nothing held out to compare on")
    name, threshold = str(chosen["name"]), float(chosen["threshold"])
    return Contender(path, facts, rows.sort("image_id"), name, threshold)


def check_same_images(first: Contender, second: Contender) -> None:
    """Refuse runs that do not measure the same thing on the same images.

    Args:
        first: A run and its test rows by image.
        second: Another.

    Raises:
        RunError: If images, labels, patients, exams or sides differ; the message counts and names.
    """
    if first.label != second.label:
        raise RunError(
            f"{first.path} learnt {first.label}, {second.path} {second.label}: "
            "runs of one label are compared"
        )
    lacks = []
    for run, other in ((first, second), (second, first)):
        missing = run.rows.join(other.rows, on="image_id", how="anti")["image_id"]
        if len(missing):
            lacks.append(
                f"{len(missing)} of the {run.rows.height} test images of {run.path} are not in "
                f"that of {other.path}, such as {_examples(missing)}"
            )
    if lacks:
        raise RunError(
            f"the test splits differ: {'; '.join(lacks)}. Train both on one cohort with one split"
        )
    for column in ("cancer", "patient_id", "exam_id", "laterality"):
        told = (run.rows[column] for run in (first, second))
        differ = first.rows["image_id"].filter(next(told).ne_missing(next(told)))
        if len(differ):
            what = f"label {first.label}" if column == "cancer" else column
            raise RunError(
                f"{len(differ)} of {first.rows.height} test images have another {what} in "
                f"{second.path} than in {first.path}, such as {_examples(differ)}"
            )


def _examples(names: pl.Series) -> str:
    return ", ".join(str(name) for name in names.head(_EXAMPLES))


def _scored(runs: list[Contender], level: Level) -> tuple[Scored, Scored]:
    one, two = (labelled(units(run.rows, level))[0] for run in runs)
    if one.positives in (0, one.label.size):
        raise RunError(f"the {level}s to compare hold one class only; both are needed")
    return one, two


def _of_run(
    role: str, run: Contender, area: dict[str, Any], data: Scored, config: EvaluationConfig
) -> dict[str, Any]:
    every = measures_at(run.threshold)
    shares = intervals(
        data,
        {name: every[name] for name in ("sensitivity", "specificity")},
        replicates=config.bootstrap,
        confidence=config.confidence,
        seed=config.seed,
    )
    return {
        "role": role,
        "path": str(run.path),
        "predictions_sha256": run.facts["hashes"]["predictions.parquet"],
        "operating_point": run.name,
        "threshold": run.threshold,
        "auroc": area,
        **{name: interval.as_dict() for name, interval in shares.items()},
    }


def _notes(runs: list[Contender]) -> list[str]:
    notes = []
    if len({run.facts["cohort"]["manifest_sha256"] for run in runs}) > 1:
        notes.append(
            "The runs were trained on different cohorts; their test images and labels are the same."
        )
    if len({run.name for run in runs}) > 1:
        names = " and ".join(run.name for run in runs)
        notes.append(
            f"The thresholds were chosen for different targets ({names}), so sensitivity and "
            "specificity differ by choice too."
        )
    return notes


def _sentence(made: dict[str, Any]) -> str:
    """Say in one sentence what the comparison means."""
    found = made["difference"]["auroc"]
    delong = found["delong"]
    kind = "SYNTHETIC " if made["synthetic"] else ""
    where = (
        f"On these {made['n']} {kind}{made['level']}s of {made['patients']} test patients, "
        f"{made['positives']} with {made['label']},"
    )
    if delong["p"] is None:
        return f"{where} there are too few patients of one class to compare the runs."
    confidence = made["evaluation"]["confidence"]
    ends = f"{delong['low']:+.3f} to {delong['high']:+.3f}"
    if delong["standard_error"] == 0:
        return f"{where} both runs rank alike: their AUROC is the same, {_area(made):.3f}."
    word = "higher" if found["value"] > 0 else "lower"
    p = written_p(delong["p"])
    p = f"p {p}" if p.startswith("<") else f"p = {p}"
    start = f"{where} the second run's AUROC is {abs(found['value']):.3f} {word}"
    start += f" ({confidence:.0%} interval of the difference {ends}, {p})"
    if delong["p"] < 1 - confidence:
        return f"{start}: more than chance explains."
    return f"{start}: chance alone may explain that, which does not show that the runs are equal."


def _area(made: dict[str, Any]) -> float:
    return float(made["runs"][0]["auroc"]["value"])


def value_row(title: str, metric: dict[str, float | None]) -> list[str]:
    """Return a row of the terminal's table: a value and its interval."""
    ends = "" if metric["low"] is None else f"{metric['low']:.3f} to {metric['high']:.3f}"
    return [title, f"{metric['value']:.3f}", ends, ""]


def gain_row(title: str, value: float, found: dict[str, Any]) -> list[str]:
    """Return a row of the terminal's table: a difference, its interval and, if told, its p."""
    ends = "" if found["low"] is None else f"{found['low']:+.3f} to {found['high']:+.3f}"
    return [title, f"{value:+.3f}", ends, written_p(found["p"]) if "p" in found else ""]
