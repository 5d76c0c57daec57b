"""Two stages measured apart and together: what is outlined, and what it is then taken for.

The second stage is told on true masks and on predicted ones, so that one sees which stage loses
what: of all lesions, those that the first finds, and of these, those that the second calls right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammoscope.artefacts import check_output, new_folder, write_json
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.attributes import cohort_folder, read_cohort_table
from mammoscope.evaluation.bootstrap import Interval, draw, honest, interval_of, widened_share
from mammoscope.evaluation.evidence import gather
from mammoscope.evaluation.metrics import auroc
from mammoscope.evaluation.model_card import write_model_card
from mammoscope.evaluation.page_frame import report_page
from mammoscope.evaluation.page_groups import estimate, kind, span
from mammoscope.evaluation.report import head, notes_of
from mammoscope.evaluation.run_folder import Report, checked_table
from mammoscope.pages import Html, element, table
from mammoscope.types import Bools, Floats, Ints

__all__ = [
    "CUTOUTS_FILE",
    "IMAGES_FILE",
    "balanced_accuracy",
    "evaluate",
    "mean_auroc",
    "summary_rows",
]

#: A row per cut-out and one per image; see ``docs/reference/formats.md``.
CUTOUTS_FILE = "cutouts.parquet"
IMAGES_FILE = "images.parquet"
_NEEDED = (
    "image_id", "patient_id", "split", "finding_id", "shows", "origin", "called", "dice",
    "score_benign", "score_malignant",
)  # fmt: skip
_NEEDED_OF_IMAGES = ("image_id", "patient_id", "split", "counted")
# Lesions below which figures rest on few.
_FEW = 30
_CHANCE = 0.5
_TITLES = {
    "found": "Lesions that the first stage finds",
    "dice": "Dice of its masks in a window around the lesion",
    "false_parts": "Its false parts per image, where all lesions are placed",
    "true": "Second stage on true masks",
    "predicted": "Second stage on predicted masks of the lesions that are found",
    "same_predicted": "Second stage on predicted masks of the lesions that are found",
    "same_true": "The same lesions on their true masks",
    "together": "Found, and called right on the predicted mask, of all lesions",
}


def balanced_accuracy(called: Ints, true: Ints, weight: Floats | None = None) -> float:
    """Return the mean over classes of the share of each that is called right.

    Args:
        called: (N,) the class that each is called.
        true: (N,) the class that each is.
        weight: (N,) what each counts; all alike by default.

    Returns:
        The mean over the classes that are there; NaN where there is nothing.
    """
    counts = np.ones(true.size) if weight is None else weight
    shares = [
        np.average(called[own] == number, weights=counts[own])
        for number in np.unique(true)
        if counts[own := true == number].sum() > 0
    ]
    return float(np.mean(shares)) if shares else float("nan")


def mean_auroc(scores: Floats, true: Ints) -> float:
    """Return the mean over classes of the AUROC of each against all others.

    Args:
        scores: (N, classes) score of each class; of two classes each ranks as the other does.
        true: (N,) the class that each is.

    Returns:
        The mean over the classes that some are and some are not; NaN where there is none.
    """
    areas = [auroc(scores[:, number], true == number) for number in range(scores.shape[1])]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else float("nan")


def evaluate(
    run: Path,
    facts: dict[str, Any],
    config: EvaluationConfig,
    *,
    overwrite: bool,
    cohort: Path | None,
) -> Report:
    """Measure a finished run of two stages; see :func:`evaluate_run`."""
    rows = _read(checked_table(run, facts, CUTOUTS_FILE), _NEEDED)
    images = _read(checked_table(run, facts, IMAGES_FILE), _NEEDED_OF_IMAGES)
    folder = Path(run) / "report"
    check_output(folder, overwrite=overwrite, marker="report.json")
    table, where = read_cohort_table(facts, cohort), cohort_folder(facts, cohort)
    tested = bool(facts["predicted"]["test"])
    split = "test" if tested else "val"
    here = pl.col("split") == split
    report = {
        **head(facts, config, tested=tested),
        "task": facts["config"]["task"],
        "classes": facts["classes"],
        **_measured(rows.filter(here), images.filter(here), facts["classes"], config),
        "run": {key: value for key, value in facts.items() if key != "platform"},
        "notes": notes_of(facts, table, tested=tested),
    }
    report["warnings"] = _warnings(report)
    with new_folder(folder, overwrite=overwrite, marker="report.json") as fresh:
        write_json(fresh / "report.json", report)
        (fresh / "index.html").write_text(_page(report), encoding="utf-8")
        write_model_card(fresh, gather(run, facts, report, table, where))
    return Report(folder / "index.html", report)


def summary_rows(report: Report) -> list[list[str]]:
    """Return header and rows of a table for the terminal."""
    made = report.report
    rows = [[f"measure ({made['evaluation']['confidence']:.0%} interval)", "n", "value"]]
    for title, count, name, value in _lines(made):
        text = f"{value['value']:.3f}" if value["value"] is not None else "undefined"
        ends = span(name, value)
        rows.append([title, str(count), f"{text} ({ends})" if ends else text])
    return rows


def _read(path: Path, needed: Sequence[str]) -> pl.DataFrame:
    try:
        rows = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path} cannot be read as Parquet: {error}") from error
    if missing := [name for name in needed if name not in rows.columns]:
        raise RunError(f"{path} lacks the columns {', '.join(missing)}")
    return rows


def _measured(
    rows: pl.DataFrame, images: pl.DataFrame, classes: list[str], config: EvaluationConfig
) -> dict[str, Any]:
    """Return both stages, each by itself, and both together."""
    lesions = rows.filter(pl.col("origin") == "annotated")
    outlined = rows.filter(pl.col("origin") == "predicted")
    met = outlined.filter(pl.col("finding_id").is_not_null())
    counted = images.filter("counted")
    both = lesions.join(
        met.select("finding_id", called_predicted=pl.col("called")), on="finding_id", how="left"
    )
    found = both["called_predicted"].is_not_null().to_numpy()
    right = (both["called_predicted"] == both["shows"]).fill_null(value=False).to_numpy()
    mean = _mean_of(lesions, config)
    return {
        "first_stage": {
            "lesions": lesions.height,
            "images": counted.height,
            "found": mean(found.astype(np.float64), share=True),
            "dice": mean(lesions["dice"].to_numpy(), share=False),
            "false_parts": _mean_of(counted, config)(_false_parts(counted, outlined), share=False),
        },
        "true": _second(rows.filter(pl.col("origin") != "predicted"), classes, config),
        "predicted": _second(outlined.filter(pl.col("shows").is_in(classes)), classes, config),
        "same_true": _second(lesions.filter(pl.Series(found)), classes, config),
        "same_predicted": _second(met, classes, config),
        "false_called": _false_called(outlined, classes),
        "together": mean(right.astype(np.float64), share=True),
    }


def _false_parts(images: pl.DataFrame, outlined: pl.DataFrame) -> Floats:
    """Return of each image (N,) how many of its outlined parts meet no lesion."""
    false = outlined.filter(pl.col("finding_id").is_null()).group_by("image_id").len("false")
    told = images.join(false, on="image_id", how="left", maintain_order="left")
    return told["false"].fill_null(0).cast(pl.Float64).to_numpy()


def _false_called(outlined: pl.DataFrame, classes: list[str]) -> dict[str, int] | None:
    """Count what false parts are called where no class is theirs; else the confusion tells it."""
    if "normal" in classes:
        return None
    called = outlined.filter(pl.col("finding_id").is_null())["called"]
    return {name: int((called == name).sum()) for name in classes}


def _second(rows: pl.DataFrame, classes: list[str], config: EvaluationConfig) -> dict[str, Any]:
    """Return what the second stage makes of some cut-outs."""
    number = {name: place for place, name in enumerate(classes)}
    true = np.array([number[name] for name in rows["shows"]], dtype=np.int64)
    called = np.array([number[name] for name in rows["called"]], dtype=np.int64)
    told = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(told, (true, called), 1)
    sick = rows.filter(pl.col("shows") != "normal")
    share = sick["score_malignant"] / (sick["score_malignant"] + sick["score_benign"])
    score, label = share.to_numpy(), (sick["shows"] == "malignant").to_numpy()
    return {
        "n": rows.height,
        "lesions": sick.height,
        "patients": rows["patient_id"].n_unique(),
        "confusion": told.tolist(),
        "accuracy": _of(rows, config, lambda w: _share(called == true, w), share=True),
        "balanced_accuracy": _of(rows, config, lambda w: balanced_accuracy(called, true, w)),
        "malignant_auroc": _of(sick, config, lambda w: _area(score, label, w)),
    }


def _share(hit: Bools, weight: Floats) -> float:
    return float(np.average(hit, weights=weight)) if weight.sum() > 0 else float("nan")


def _area(score: Floats, label: Bools, weight: Floats) -> float:
    value = auroc(score, label, weight)
    return float("nan") if value is None else value


def _of(
    rows: pl.DataFrame,
    config: EvaluationConfig,
    measure: Callable[[Floats], float],
    *,
    share: bool = False,
) -> dict[str, float | None]:
    """Return a measure of weights (N,) with its interval over patients.

    A share without exception has the exact bound; of others that every replicate repeats, such as
    an AUROC of 1, nothing is known.
    """
    if not rows.height:
        return Interval(None, None, None).as_dict()
    patient = rows["patient_id"].rank("dense").to_numpy().astype(np.int64) - 1
    whole = measure(np.ones(rows.height))
    draws = draw(int(patient.max()) + 1, config.bootstrap, config.seed)
    sample = np.array([measure(times[patient].astype(np.float64)) for times in draws])
    value = None if np.isnan(whole) else whole
    made = interval_of(value, sample, config.confidence)
    if share:
        made = widened_share(made, int(patient.max()) + 1, config.confidence)
    return honest(made).as_dict()


def _mean_of(
    rows: pl.DataFrame, config: EvaluationConfig
) -> Callable[..., dict[str, float | None]]:
    def mean(values: Floats, *, share: bool) -> dict[str, float | None]:
        return _of(rows, config, lambda w: float(np.average(values, weights=w)), share=share)

    return mean


def _warnings(report: dict[str, Any]) -> list[str]:
    said = []
    if (few := report["first_stage"]["lesions"]) < _FEW:
        said.append(f"{few} lesions in the {report['measured_on']} split: figures rest on few.")
    for part in ("true", "same_predicted"):
        area = report[part]["malignant_auroc"]
        if area["low"] is not None and area["low"] <= _CHANCE:
            said.append(
                f"{_TITLES[part]}: the interval of its AUROC, {span('auroc', area)}, does not lie "
                f"above that of chance, {_CHANCE:g}: nothing shows that it tells malignant lesions "
                "from benign ones."
            )
    return said


def _lines(report: dict[str, Any]) -> list[tuple[str, int, str, dict[str, Any]]]:
    """Return what is told, in order: title, of how many, name and value."""
    first = report["first_stage"]
    lines = [
        (_TITLES[name], first["images" if name == "false_parts" else "lesions"], name, first[name])
        for name in ("found", "dice", "false_parts")
    ]
    for part in ("true", "predicted", "same_true"):
        second = report[part if part != "predicted" else "same_predicted"]
        lines += [
            (f"{_TITLES[part]}: {words}", second[count], name, second[name])
            for name, words, count in (
                ("balanced_accuracy", "balanced accuracy", "n"),
                ("accuracy", "accuracy", "n"),
                ("malignant_auroc", "AUROC, malignant against benign", "lesions"),
            )
        ]
    if report["predicted"]["n"] != report["same_predicted"]["n"]:
        second = report["predicted"]
        title = "Second stage on all predicted masks, false parts included: balanced accuracy"
        lines.append((title, second["n"], "balanced_accuracy", second["balanced_accuracy"]))
    return [*lines, (_TITLES["together"], first["lesions"], "together", report["together"])]


def _page(report: dict[str, Any]) -> str:
    """Return the report as one self-contained page."""
    rows = [(words, count, estimate(name, value)) for words, count, name, value in _lines(report)]
    caption = (
        f"Measured on {kind(report)}{report['measured_on']} images; "
        f"{report['evaluation']['confidence']:.0%} intervals from "
        f"{report['evaluation']['bootstrap']} bootstrap replicates over patients."
    )
    taken = element(
        "div",
        _confusion(report, "true", _TITLES["true"]),
        _confusion(report, "predicted", "Second stage on all predicted masks"),
        class_="pair",
    )
    sections = [
        ("Which stage loses what", table(("", "of", "value"), rows, caption)),
        ("What is taken for what", taken),
    ]
    notes = [_sentence(report), *report["warnings"], *report["notes"]]
    return report_page(report, "Evaluation of two stages", sections, notes=notes)


def _sentence(report: dict[str, Any]) -> str:
    """Say in words which stage loses how many lesions."""
    first = report["first_stage"]
    if not first["lesions"]:
        return "There is no lesion of known nature: nothing can be said."
    found = first["found"]["value"]
    together = report["together"]["value"]
    true = report["same_true"]["accuracy"]["value"]
    told = (
        f"Of {first['lesions']} lesions of known nature the first stage finds {found:.0%} and "
        f"loses {1 - found:.0%}, with {first['false_parts']['value']:.1f} false parts per image; "
        f"{together:.0%} are found and called right."
    )
    if true is None:
        return told
    drawn = report["same_predicted"]["accuracy"]["value"]
    return told + (
        f" Of those found, the second stage calls {drawn:.0%} right on predicted masks and "
        f"{true:.0%} on true ones."
    )


def _confusion(report: dict[str, Any], part: str, title: str) -> Html:
    classes = report["classes"]
    rows: list[tuple[object, ...]] = [
        (f"is {name}", *counts)
        for name, counts in zip(classes, report[part]["confusion"], strict=True)
    ]
    if part == "predicted" and (false := report["false_called"]) is not None:
        rows.append(("is no lesion", *(false[name] for name in classes)))
    return table(("", *(f"called {name}" for name in classes)), rows, title, class_="confusion")
