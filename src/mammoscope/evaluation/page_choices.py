"""The report's sections on what was decided on validation: calibration, thresholds, folds."""

from __future__ import annotations

from typing import Any

from mammoscope.evaluation.measures import CALIBRATION_MEASURES, written
from mammoscope.evaluation.page_groups import estimate, kind, weighted_to
from mammoscope.pages import Html, element, joined, table, written_score

__all__ = ["calibration_section", "folds_section", "points_section"]

_CALIBRATED = (
    "A score that is a chance meets the share of cancers among images that score alike. An "
    "intercept above 0 says that scores are too low on the whole, a slope below 1 that they go "
    "too far to both ends. The calibration error adds up how far ten bins of scores miss; with "
    "few images it is above 0 by chance, and its interval then begins at 0."
)


def calibration_section(report: dict[str, Any]) -> Html:
    """Return how far scores can be read as chances, before and after they were calibrated."""
    made = report["calibration"]
    columns = [
        (f"{level}, {word}", found[key])
        for level, found in made["levels"].items()
        for key, word in (("before", "uncalibrated"), ("after", "as scored"))
        if found[key] is not None
    ]
    head = ["", *(title for title, _ in columns)]
    rows: list[tuple[object, ...]] = [
        (title, *(estimate(name, found[name]) for _, found in columns))
        for name, title in CALIBRATION_MEASURES.items()
    ]
    for name, title in (("mean_score", "Mean score"), ("share", "Share of positives")):
        rows.append((title, *(written(name, found[name]) for _, found in columns)))
    parts = ("reliability", "resolution", "uncertainty")
    rows.append(
        (
            "Brier score: reliability - resolution + uncertainty",
            *(
                "{} - {} + {}".format(*(written("brier", found["parts"][name]) for name in parts))
                for _, found in columns
            ),
        )
    )
    caption = f"Calibration on {kind(report)}{report['measured_on']} images{weighted_to(report)}"
    text = element("p", made["sentence"], f" {_CALIBRATED}")
    return joined([text, element("div", table(tuple(head), rows, caption), class_="scroll")])


def points_section(report: dict[str, Any]) -> Html:
    """Return every frozen threshold: what it promised, what it gave, and what warns of it."""
    where = "out-of-fold" if report["run"]["fold"] is None else "validation"
    if report.get("task") == "anomaly":
        # No positive image takes part.
        where = "normal validation"
    start = element(
        "p",
        f"Thresholds were chosen on {where} scores and written down before test scores were read. "
        f"Below each stands where {report['evaluation']['confidence']:.0%} of replicates of its "
        "patients would have put it.",
    )
    warned = [element("p", sentence, class_="note") for sentence in report["warnings"]]
    return joined([start, *warned, *(_points(report, level) for level in report["levels"])])


def _points(report: dict[str, Any], level: str) -> Html:
    measures = ("sensitivity", "specificity", "recall_rate")
    points = report["levels"][level]["operating_points"]
    # Where normal images alone have chosen, nothing is known of sensitivity.
    chosen = [
        name
        for name in measures
        if any(point["chosen_on_validation"][name]["value"] is not None for point in points)
    ]
    rows = (
        (
            point["name"],
            _threshold(point),
            *(estimate(name, point["chosen_on_validation"][name]) for name in chosen),
            *(estimate(name, point["measured"][name]) for name in measures),
        )
        for point in points
    )
    head = (
        "target",
        "threshold",
        *(f"{name.replace('_', ' ')}, validation" for name in chosen),
        *(f"{name.replace('_', ' ')}, {report['measured_on']}" for name in measures),
    )
    return table(
        head,
        rows,
        f"Operating points, {kind(report)}{level} level{weighted_to(report)}",
        class_="stacked",
    )


def _threshold(point: dict[str, Any]) -> Html:
    value, choice = element("b", written_score(point["threshold"], 4)), point["choice"]
    if choice["low"] is None:
        return value
    low, high = (written_score(choice[end], 4) for end in ("low", "high"))
    return joined([value, element("span", f"{low} to {high}")], " ")


def folds_section(report: dict[str, Any]) -> Html | None:
    """Return what each fold gave on its own images; nothing for a run of one fold."""
    if not report["folds"]:
        return None
    rows = (
        (
            row["fold"],
            row["n"],
            row["positives"],
            f"{row['epochs']}, best {row['best_epoch'] + 1}",
            *(written(name, row[name]) for name in ("auroc", "mean_score", *_AT)),
        )
        for row in report["folds"]
    )
    head = ("fold", "images", "positive", "epochs", "AUROC", "mean score", *_AT)
    caption = (
        f"Out-of-fold {kind(report)}images by the fold that had not seen them, sensitivity and "
        f"specificity at the one threshold of {report['primary']}"
    )
    cost = report["run"]["ensemble"]
    text = (
        f"The model is the mean of {cost['folds']} folds' logits in one graph: "
        f"{cost['bytes'] / 1e6:.1f} MB and {cost['ms_per_image']:.3g} ms per image where it was "
        f"made, one fold {cost['fold_bytes'] / 1e6:.1f} MB and {cost['fold_ms_per_image']:.3g} ms."
    )
    made = element("div", table(head, rows, caption), class_="scroll")
    return joined([element("h2", "Folds"), element("p", text), made])


_AT = ("sensitivity", "specificity")
