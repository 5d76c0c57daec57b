"""The report on lesions as one self-contained page."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.lesions.found import LEAST
from mammoscope.evaluation.lesions.gallery import Shown
from mammoscope.evaluation.lesions.summary import ap_name, froc_titles
from mammoscope.evaluation.measures import shown as shown_measures
from mammoscope.evaluation.measures import written
from mammoscope.evaluation.page import confusion_tables, figures_of, metrics_table, unique_ids
from mammoscope.evaluation.page_choices import points_section
from mammoscope.evaluation.page_frame import report_page
from mammoscope.evaluation.page_groups import estimate, kind, signed, span, subgroup_section
from mammoscope.pages import Html, data_uri, element, joined, picture, table, written_score

__all__ = ["render_page"]

_TITLES = {"detect": "Evaluation of a detector", "segment": "Evaluation of a segmenter"}
_ATTRIBUTES = {"kind": "Kind", "size": "Longer side of the box", "nature": "Nature"}
_ORIGINAL, _GRID = "pixels of the original image", "pixels of the network's grid"
_CAPTIONS = {
    "froc": (
        "FROC curve",
        "How many lesions are found against how many false positives an image bears, for every "
        "threshold. An image or breast is found where any of its lesions is. The band holds "
        "patient-level bootstrap replicates of the lesions' curve; the dot is the cut-off that "
        "validation images chose.",
    ),
    "precision": (
        "Precision and sensitivity",
        "Of the boxes that are shown, how many lie on a lesion by half of their union. A second "
        "box on a lesion counts as false here.",
    ),
    "dice": ("Dice", "How well each lesion is outlined, in a window around it."),
}
_HITS = {
    "centre": "the candidate's centre lies in the lesion's box",
    "distance": "its centre lies nearer to the lesion's than half the diagonal of the lesion's box "
    "or {hit_distance_px:g} pixels, whichever is more",
    "iou": "the boxes' intersection over union is at least {iou:g}",
}
_OVERLAPS = {
    "dice": "Dice",
    "iou": "Intersection over union",
    "covered": "Share of the lesion that is covered",
    "hausdorff_95": "Hausdorff 95",
}
_STYLE = """
.gallery { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
.gallery img { width: 100%; height: auto; display: block; border-radius: 6px; }
"""


def render_page(
    report: dict[str, Any],
    figures: dict[str, str],
    score_figures: dict[str, dict[str, str]],
    shown: list[Shown],
) -> str:
    """Return the page as HTML with everything inside.

    Args:
        report: What ``report.json`` holds.
        figures: SVG text of lesions by name.
        score_figures: SVG text of images, breasts and exams by level and name.
        shown: Pictures.
    """
    views, outlines = report["detection"]["views"], report["overlap"]
    sections: list[tuple[str, Html | None]] = [
        ("What is found", _froc(report)),
        ("At the frozen cut-off", _cut_off(report)),
        ("Two views", _views(report) if views else None),
        ("Kinds, sizes, nature", _groups(report)),
        ("Average precision", _average_precision(report)),
        ("Outlines", _overlap(report) if outlines else None),
        ("Figures", element("div", *(_figure(n, s) for n, s in figures.items()), class_="figures")),
        ("Pictures", _gallery(report, shown) if shown else None),
        *_scores(report, score_figures),
    ]
    return report_page(
        report,
        _TITLES.get(report["task"], "Evaluation of a run"),
        sections,
        headlines=_headlines(report),
        # What speaks against the lesions' figures; the rest stands with what it is about.
        notes=[*report["detection"]["warnings"], *report["notes"]],
        style=_STYLE,
    )


def _headlines(report: dict[str, Any]) -> list[Html]:
    cut_off, found = report["detection"]["cut_off"], report["detection"]["counts"]
    sensitivity = cut_off["measured"]["sensitivity"]["lesion"]
    rate = cut_off["measured"]["false_positives_per_image"]
    where = "held-out test patients" if report["measured_on"] == "test" else "validation patients"
    ends = span("rate", rate)
    parts = [
        span("sensitivity", sensitivity),
        f"{found['lesions']} lesions on {found['images']} {kind(report)}images of "
        f"{found['patients']} {where}",
        f"{written('rate', rate['value'])} false positives per image"
        f"{f' ({ends})' if ends else ''} at the frozen cut-off",
    ]
    # An interval that is undefined is not told.
    told = "; ".join(part for part in parts if part)
    precision = report["detection"]["average_precision"]
    ap = (precision["mean"] or precision["all"])["ap50"]
    made = [
        _headline("sensitivity", sensitivity, "of lesions found", told),
        _headline("ap50", ap, f"{ap_name(report)} at an overlap of 0.5", span("ap50", ap)),
    ]
    if report["overlap"]:
        dice = report["overlap"]["window"]["dice"]
        made.append(_headline("dice", dice, "Dice in a window around the lesion", span("", dice)))
    return made


def _headline(name: str, metric: dict[str, Any], title: str, told: str) -> Html:
    value = element("b", written(name, metric["value"]))
    beside = element("span", told) if told else None
    return element("p", value, f" {title} ", beside, class_="headline")


def _froc(report: dict[str, Any]) -> Html:
    found = report["detection"]
    units = list(found["froc"])
    rows: list[tuple[object, ...]] = [
        ("n", *(f"{values['n']:,}" for values in found["froc"].values())),
        ("patients", *(f"{values['patients']:,}" for values in found["froc"].values())),
    ]
    for name, title in froc_titles(report).items():
        values = (estimate(name, found["froc"][unit][name]) for unit in units)
        rows.append((title.removeprefix("Sensitivity "), *values))
    hit = _HITS[report["evaluation"]["hit"]].format(**report["evaluation"])
    on = "images without cancer or any finding"
    on = on if report["evaluation"]["false_positives_on"] == "normal" else "all images"
    counts = found["counts"]
    others = ""
    if counts["other_findings"]:
        others = f", nor are those on {counts['other_findings']:,} findings that are no targets"
    caption = (
        f"Sensitivity on {kind(report)}{report['measured_on']} images at the highest rate of false "
        f"positives that a threshold of these images keeps. A lesion is found where {hit}; an "
        f"image, breast or exam where any of its lesions is, in any view. False positives are "
        f"counted on {on} ({counts['counted_images']:,}); further candidates on a lesion are "
        f"neither{others}. "
        f"{report['evaluation']['confidence']:.0%} intervals from "
        f"{report['evaluation']['bootstrap']} bootstrap replicates over patients."
    )
    return table(("by", *units), rows, caption, class_="numbers stacked")


def _cut_off(report: dict[str, Any]) -> Html:
    made = report["detection"]["cut_off"]
    before, after = made["chosen_on_validation"], made["measured"]
    names = (
        ("false_positives_per_image", "False positives per image"),
        ("duplicates_per_image", "Further candidates on a found lesion, per image"),
    )
    rows: list[tuple[object, ...]] = [
        (title, estimate(name, before[name]), estimate(name, after[name])) for name, title in names
    ]
    rows += [
        (
            f"Sensitivity by {unit}",
            estimate("sensitivity", before["sensitivity"][unit]),
            estimate("sensitivity", after["sensitivity"][unit]),
        )
        for unit in after["sensitivity"]
    ]
    text = (
        f"Candidates from {written_score(made['threshold'], 4)} on are shown: the lowest cut-off "
        f"that gave {made['target']} on validation images. It was written down before a test row "
        "was read."
    )
    head = ("", "validation promised", f"{report['measured_on']} gave")
    caption = f"Candidates on {kind(report)}images at the frozen cut-off."
    return joined([element("p", text), table(head, rows, caption)])


def _views(report: dict[str, Any]) -> Html:
    """Return what matching candidates of two views adds."""
    made = report["detection"]["views"]
    found, gain = report["detection"]["froc"]["lesion"], made["gain"]["lesion"]
    rows = [
        (
            title,
            estimate(name, made["alone"][name]),
            estimate(name, found[name]),
            signed(gain[name]["value"], gain[name]),
        )
        for name, title in froc_titles(report).items()
    ]
    caption = (
        f"By lesion on {kind(report)}{report['measured_on']} images: {made['matched']:,} of "
        f"{made['candidates']:,} candidates were matched with one of another view of the breast, "
        "which moved their scores. Difference by the paired bootstrap over patients."
    )
    return table(("", "each view alone", "matched", "difference"), rows, caption)


def _groups(report: dict[str, Any]) -> Html:
    groups = report["detection"]["groups"]
    rates = report["evaluation"]["froc_false_positives"]
    columns = ["at_cut_off", *(f"sensitivity_at_{r:g}" for r in rates), "mean_sensitivity"]
    titles = ["at the cut-off", *(f"at {r:g} per image" for r in rates), "mean"]
    caption = (
        f"Sensitivity by lesion on {kind(report)}{report['measured_on']} images; false positives "
        f"are those of all candidates. Figures of fewer than {LEAST} lesions are kept back."
    )
    return _grouped(groups, columns, titles, caption, _ORIGINAL)


def _grouped(
    groups: list[dict[str, Any]],
    columns: list[str],
    titles: list[str],
    caption: str,
    unit: str,
) -> Html:
    head = ("", "lesions", "patients", *titles)
    body = []
    for attribute, rows in groupby(groups, key=lambda group: str(group["attribute"])):
        words = _ATTRIBUTES[attribute] + (f" in {unit}, thirds" if attribute == "size" else "")
        title = element("th", words, colspan=len(head), scope="rowgroup")
        body.append(element("tr", title, class_="part"))
        for group in rows:
            cells = [element("td", f"{group[name]:,}") for name in ("n", "patients")]
            if group["suppressed"]:
                few = element("td", "too few to say", colspan=len(columns), class_="quiet")
                cells.append(few)
            else:
                cells += [element("td", estimate(name, group[name])) for name in columns]
            body.append(element("tr", element("th", group["group"], scope="row"), *cells))
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *(element("th", name, scope="col") for name in head))),
        element("tbody", *body),
        class_="numbers stacked",
    )
    return element("div", made, class_="scroll")


def _average_precision(report: dict[str, Any]) -> Html:
    made = report["detection"]["average_precision"]
    named = [(name.replace("_", " "), values) for name, values in made["kinds"].items()]
    if made["mean"]:
        named.append(("mean of kinds (mAP)", made["mean"]))
    named.append(("all, whatever kind they are said to be" if named else "all", made["all"]))
    rows = [
        (name, f"{v['lesions']:,}", estimate("ap50", v["ap50"]), estimate("ap", v["ap"]))
        for name, v in named
    ]
    caption = (
        f"Average precision on {kind(report)}{report['measured_on']} images by COCO's rules: 101 "
        "levels of sensitivity, at most 100 candidates an image, a second one on a lesion false."
    )
    return table(("", "lesions", "overlap 0.5", "mean of 0.5 to 0.95"), rows, caption)


def _overlap(report: dict[str, Any]) -> Html:
    made = report["overlap"]
    rows = []
    for name, title in _OVERLAPS.items():
        unit = f", {made['unit']}" if name == "hausdorff_95" else ""
        cells = [_spread(name, made[place][name]) for place in ("window", "image")]
        rows.append((f"{title}{unit}", *cells))
    unit = "mm" if made["unit"] == "mm" else _GRID
    grid = "" if made["unit"] == "mm" else f", in {_GRID}"
    caption = (
        f"Predicted against true masks on {kind(report)}{report['measured_on']} images. The window "
        f"is the lesion's box, grown by {made['window_margin']:.0%} of its longer side on every "
        "side, without the pixels of other lesions. The distance is that which 95 % of either "
        f"outline keep from the other{grid}, where both masks hold a pixel. Means with intervals "
        "over patients; quartiles below."
    )
    heads = ("", f"{made['lesions']} lesions, in a window", f"{made['images']} whole images")
    sentence = joined(
        [
            "The masks find ",
            *_said("sensitivity", made["sensitivity"]),
            " of the lesions, where a part of the mask and the lesion share "
            f"{made['mask_iou']:g} of their union, with ",
            *_said("rate", made["false_positives_per_image"]),
            " false parts per image.",
        ]
    )
    columns = ["dice", "iou", "covered", "hausdorff_95", "sensitivity"]
    titles = ["Dice", "IoU", "covered", f"Hausdorff 95, {made['unit']}", "found"]
    by_group = f"In a window. Figures of fewer than {LEAST} lesions are kept back."
    return joined(
        [
            element("p", sentence),
            table(heads, rows, caption),
            _grouped(made["groups"], columns, titles, by_group, unit) if made["groups"] else None,
        ]
    )


def _said(name: str, metric: dict[str, Any]) -> tuple[Html, str]:
    """Return a measure as a sentence has it: its interval in brackets."""
    ends = span(name, metric)
    return element("b", written(name, metric["value"])), f" ({ends})" if ends else ""


def _spread(name: str, metric: dict[str, Any]) -> Html:
    if metric["value"] is None:
        return element("span", "undefined")
    low, middle, high = (written(name, value) for value in metric["quartiles"])
    told = f"quartiles {low}, {middle}, {high}; n {metric['n']}"
    return joined([estimate(name, metric), element("br"), element("span", told)])


def _figure(name: str, svg: str) -> Html:
    title, caption = _CAPTIONS[name]
    plate = element(
        "div", unique_ids(svg, "lesion", name), class_="plate", role="img", aria_label=title
    )
    words = element("figcaption", element("b", f"{title}."), f" {caption}")
    return element("figure", plate, words)


def _gallery(report: dict[str, Any], shown: list[Shown]) -> Html:
    drawn = [
        element(
            "figure",
            picture(data_uri(one.picture), f"Image {one.name}: {one.words}"),
            element("figcaption", element("b", one.name), f" {one.words}"),
        )
        for one in shown
    ]
    lines, dim = ("outlines", "; parts below it are dim") if report["overlap"] else ("boxes", "")
    text = (
        f"Yellow {lines} are lesions, grey ones findings that are no targets; what the model drew "
        f"is cyan, boxes from the frozen cut-off on{dim}. First images with a lesion, from the "
        "surest found to those missed; then those with the highest false marks."
    )
    return joined([element("p", text), element("div", *drawn, class_="gallery")])


def _scores(
    report: dict[str, Any], score_figures: dict[str, dict[str, str]]
) -> list[tuple[str, Html]]:
    """Return the sections on images, breasts and exams, as a classifier's page has them."""
    if not report["levels"]:
        return []
    names = shown_measures(EvaluationConfig.model_validate(report["evaluation"]))
    # It takes scores for chances.
    del names["pf1"]
    text = (
        "An image is scored by what is most suspicious in it; breasts and exams follow. Whether "
        "the right place was suspicious does not count here. Scores are ranks and no chances of "
        "cancer, so that nothing is said of their calibration."
    )
    pictures = joined(figures_of(level, drawn) for level, drawn in score_figures.items())
    said = set(report["detection"]["warnings"])
    of_points = {**report, "warnings": [text for text in report["warnings"] if text not in said]}
    return [
        (
            "Images, breasts and exams",
            joined([element("p", text), metrics_table(report, names), confusion_tables(report)]),
        ),
        ("Their operating points", points_section(of_points)),
        ("Subgroups", subgroup_section(report)),
        ("Their figures", pictures),
    ]
