"""The report's sections on parts of the women, and on what age and machine alone can do."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from mammoscope.evaluation.measures import written, written_p
from mammoscope.evaluation.subgroups import ATTRIBUTES
from mammoscope.pages import Html, element, joined, table
from mammoscope.pages.drawing import interval

__all__ = [
    "baseline_section",
    "estimate",
    "kind",
    "signed",
    "span",
    "subgroup_section",
    "weighted_to",
]

_COLUMNS = ("", "n", "positives", "patients", "AUROC", "", "sensitivity", "specificity")


def kind(report: dict[str, Any]) -> str:
    """Return the word that stands before images that were generated."""
    return "synthetic " if report["synthetic"] else ""


def weighted_to(report: dict[str, Any]) -> str:
    """Say to which shares of positives measures are weighted; nothing where they are not."""
    if report["evaluation"]["prevalence"] is None:
        return ""
    told = ", ".join(
        f"{written('share', values['prevalence'])} of {level}s"
        for level, values in report["levels"].items()
        if values["prevalence"] is not None
    )
    return f", weighted to the share of positives where the model will be used ({told})"


def estimate(name: str, metric: dict[str, float | None]) -> Html:
    """Return a measure's value, and its interval where it has one."""
    value, ends = element("b", written(name, metric["value"])), span(name, metric)
    return joined([value, element("span", ends)], " ") if ends else value


def span(name: str, metric: dict[str, float | None]) -> str:
    """Write the interval of a measure, or nothing where it has none."""
    if metric["low"] is None or metric["high"] is None:
        return ""
    return f"{written(name, metric['low'])} to {written(name, metric['high'])}"


def baseline_section(report: dict[str, Any]) -> Html:
    """Return the model beside the baseline that sees no pixel, or why there is none."""
    made = report["baseline"]
    if made is None:
        return element("p", "There is no baseline: the cohort's tables were not read.")
    notes = [element("p", note, class_="note") for note in made["notes"]]
    if not made["levels"]:
        return joined(notes)
    only = " and ".join(made["sees"])
    rows = [
        (
            f"by {level}",
            estimate("auroc", values["baseline"]),
            estimate("auroc", values["model"]),
            signed(values["difference"]["value"], values["difference"]["delong"]),
            signed(None, values["difference"]["bootstrap"]),
            written_p(values["difference"]["delong"]["p"]),
        )
        for level, values in made["levels"].items()
    ]
    caption = (
        f"AUROC on {kind(report)}{report['measured_on']} images. The baseline is a logistic "
        f"regression on {only}, fitted on {made['training_images']:,} training images; it has seen "
        "no pixel."
    )
    head = ("", f"{only} alone", "model", "difference (DeLong, clustered)", "(bootstrap)", "p")
    sentences = [element("p", values["sentence"]) for values in made["levels"].values()]
    return joined([*sentences, table(head, rows, caption, class_="numbers"), *notes])


def subgroup_section(report: dict[str, Any]) -> Html:
    """Return a table of groups per level, the first one open."""
    parts = []
    for number, (level, found) in enumerate(report["subgroups"].items()):
        overall = report["levels"][level]["metrics"]["auroc"]["value"]
        body = joined([element("p", found["gap"]["sentence"]), _table(report, level, overall)])
        if number:
            parts.append(element("details", element("summary", f"By {level}"), body))
        else:
            parts += [element("h3", f"By {level}"), body]
    return joined(parts)


def _table(report: dict[str, Any], level: str, overall: float) -> Html:
    found = report["subgroups"][level]
    caption = (
        f"{kind(report)}{report['measured_on']} {level}s at the frozen threshold of "
        f"{report['primary']}; figures are kept back where a group has fewer than "
        f"{found['least']} positives or negatives. The dashed line is the AUROC of all."
    )
    body = []
    for name, groups in groupby(found["groups"], key=lambda group: str(group["attribute"])):
        title = element("th", ATTRIBUTES[name].title, colspan=len(_COLUMNS), scope="rowgroup")
        body.append(element("tr", title, class_="part"))
        body += [_row(group, overall) for group in groups]
    absent = ", ".join(ATTRIBUTES[name].title.partition(",")[0].lower() for name in found["absent"])
    made = element(
        "table",
        element("caption", caption[0].upper() + caption[1:]),
        element("thead", element("tr", *(element("th", c, scope="col") for c in _COLUMNS))),
        element("tbody", *body),
        class_="numbers",
    )
    note = element("p", f"Not known of these images: {absent}.", class_="note") if absent else None
    return joined([element("div", made, class_="scroll"), note])


def _row(group: dict[str, Any], overall: float) -> Html:
    counts = [f"{group[name]:,}" for name in ("n", "positives", "patients")]
    cells: list[object] = [element("td", count) for count in counts]
    if group["suppressed"]:
        cells.append(element("td", "too few to say", colspan=4, class_="quiet"))
    else:
        area = group["auroc"]
        cells += [
            element("td", estimate("auroc", area)),
            element("td", _drawn(area, overall)),
            element("td", estimate("sensitivity", group["sensitivity"])),
            element("td", estimate("specificity", group["specificity"])),
        ]
    return element("tr", element("th", group["group"], scope="row"), *cells)


def _drawn(area: dict[str, float | None], overall: float) -> Html | None:
    value, low, high = area["value"], area["low"], area["high"]
    if value is None or low is None or high is None:
        return None
    label = f"AUROC {value:.3f}, {low:.3f} to {high:.3f}; of all {overall:.3f}"
    return interval(value, low, high, upper=1.0, reference=overall, label=label)


def signed(value: float | None, ends: dict[str, Any]) -> Html:
    """Return a difference with its sign, and its interval where it has one."""
    shown = [] if value is None else [element("b", f"{value:+.3f}")]
    if ends["low"] is not None:
        shown.append(element("span", f"{ends['low']:+.3f} to {ends['high']:+.3f}"))
    return joined(shown, " ")
