"""The report as one self-contained page."""

from __future__ import annotations

from typing import Any

from mammoscope.evaluation.measures import written
from mammoscope.evaluation.page_choices import (
    calibration_section,
    folds_section,
    points_section,
)
from mammoscope.evaluation.page_frame import report_page
from mammoscope.evaluation.page_groups import (
    baseline_section,
    estimate,
    kind,
    span,
    subgroup_section,
    weighted_to,
)
from mammoscope.evaluation.page_pointing import pointing_section
from mammoscope.pages import Html, element, joined, table, written_score

__all__ = [
    "confusion_tables",
    "figures_of",
    "headline",
    "metrics_table",
    "render_page",
    "unique_ids",
]

_CAPTIONS = {
    "roc": (
        "ROC curve",
        "How many cancers are found (sensitivity) against how many healthy are called "
        "(1 - specificity), for every threshold. The band holds 95 % of patient-level bootstrap "
        "replicates. Dots are the operating points that validation images chose.",
    ),
    "precision_recall": (
        "Precision and sensitivity",
        "Of those called, how many have cancer. It depends on the share of cancers (dashed). That "
        "of these data is far above screening's wherever a cohort is enriched; "
        "evaluation.prevalence names another.",
    ),
    "reliability": (
        "Reliability",
        "Where scores are chances, the dots lie on the diagonal: bins of equal size, their mean "
        "score against their share of positives, with intervals that count patients. Hollow dots "
        "are the same images before calibration. Where scores lie near 0 both axes are logarithmic "
        "and a share of 0 stands on the floor.",
    ),
    "scores": (
        "Distribution of scores",
        "The two classes apart; lines are the operating points.",
    ),
}


def render_page(
    report: dict[str, Any], figures: dict[str, dict[str, str]], shown: dict[str, str]
) -> str:
    """Return the page as HTML with everything inside.

    Args:
        report: What ``report.json`` holds.
        figures: SVG text by level and name.
        shown: Names of the metrics for people, in order.
    """
    levels = report["levels"]
    sections: list[tuple[str, Html | None]] = [
        ("Measures", metrics_table(report, shown)),
        ("What pixels add", baseline_section(report)),
        ("Who was called", confusion_tables(report)),
        ("Operating points", points_section(report)),
        ("Calibration", joined([calibration_section(report), folds_section(report)])),
        ("Subgroups", subgroup_section(report)),
        ("Where the heat lies", pointing_section(report)),
        ("Figures", joined(figures_of(level, drawn) for level, drawn in figures.items())),
    ]
    return report_page(
        report,
        "Evaluation of a run",
        sections,
        headlines=[headline(report, level) for level in levels],
        notes=report["notes"],
        facts={"Backbone": report["run"]["config"]["model"]["backbone"]},
    )


def headline(report: dict[str, Any], level: str) -> Html:
    """Return a level's AUROC in large letters, and what it was measured on."""
    values = report["levels"][level]
    auroc = values["metrics"]["auroc"]
    where = "held-out test patients" if report["measured_on"] == "test" else "validation patients"
    told = (
        f"{span('auroc', auroc)}; {values['n']} {kind(report)}{level}s of {values['patients']} "
        f"{where}, {values['positives']} with {report['label']}"
    )
    value = element("b", written("auroc", auroc["value"]))
    return element("p", value, f" AUROC by {level} ", element("span", told), class_="headline")


def metrics_table(report: dict[str, Any], shown: dict[str, str]) -> Html:
    """Return a row per measure, a column per level."""
    levels = report["levels"]
    rows = (
        (text, *(estimate(name, values["metrics"][name]) for values in levels.values()))
        for name, text in shown.items()
    )
    caption = joined(
        [
            f"Measured on {kind(report)}{report['measured_on']} images at the frozen threshold of ",
            element("i", report["primary"]),
            f"{weighted_to(report)}; {report['evaluation']['confidence']:.0%} intervals from "
            f"{report['evaluation']['bootstrap']} bootstrap replicates over patients.",
        ]
    )
    return table(("", *levels), rows, caption)


def confusion_tables(report: dict[str, Any]) -> Html:
    """Return who was called at the primary threshold of every level."""
    return element("div", *(_confusion(report, level) for level in report["levels"]), class_="pair")


def _confusion(report: dict[str, Any], level: str) -> Html:
    values = report["levels"][level]
    counts = values["confusion"]

    def row(title: str, *cells: tuple[str, str]) -> Html:
        counted = (element("td", counts[name], class_=class_) for name, class_ in cells)
        return element("tr", element("th", title, scope="row"), *counted)

    caption = f"{kind(report)}{level}s, threshold {written_score(values['threshold'], 4)}"
    heads = (element("th", text, scope="col") for text in ("called", "not called"))
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", element("th"), *heads)),
        element(
            "tbody",
            row("positive", ("tp", "good"), ("fn", "bad")),
            row("negative", ("fp", "bad"), ("tn", "good")),
        ),
        class_="confusion",
    )


def figures_of(level: str, pictures: dict[str, str]) -> Html:
    """Return the figures of one level."""
    made = []
    for name, svg in pictures.items():
        title, caption = _CAPTIONS[name]
        plate = element(
            "div",
            unique_ids(svg, level, name),
            class_="plate",
            role="img",
            aria_label=f"{title}, {level} level",
        )
        made.append(
            element(
                "figure", plate, element("figcaption", element("b", f"{title}."), f" {caption}")
            )
        )
    return joined([element("h3", f"By {level}"), element("div", *made, class_="figures")])


def unique_ids(svg: str, level: str, name: str) -> Html:
    """Keep clip paths of several figures on one page apart."""
    prefix = f"{level}-{name}-"
    return Html(
        svg.replace('id="', f'id="{prefix}')
        .replace("url(#", f"url(#{prefix}")
        .replace('href="#', f'href="#{prefix}')
    )
