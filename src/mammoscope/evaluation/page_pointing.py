"""The report's section on where the heat lies."""

from __future__ import annotations

from typing import Any

from mammoscope.evaluation.page_groups import estimate, kind
from mammoscope.pages import Html, element, joined, table

__all__ = ["pointing_section"]

_WORDS = {"all": "all", "called": "called", "missed": "not called"}


def pointing_section(report: dict[str, Any]) -> Html:
    """Return the pointing game's shares beside chance, or why it was not played."""
    made = report["pointing"]
    if not made["groups"]:
        return element("p", made["note"], class_="note")
    rest = f"{made['positives_without_box']} have none"
    if made["positives_without_heat"]:
        rest += f", {made['positives_without_heat']} have one but no hottest point"
    caption = (
        f"Pointing game on {kind(report)}{report['measured_on']} images: {made['images']} positive "
        f"images with a box; {rest}. Near is within "
        f"{made['tolerance_px']:g} pixels of the network's input (Zhang et al. 2016). Chance is a "
        "point drawn at random in the breast. Figures of fewer than "
        f"{made['least']} images are kept back."
    )
    text = (
        "A heatmap that points elsewhere explains nothing, however good the score. One that "
        "points at the lesion may still be right for another reason."
    )
    return joined(
        [
            element("p", made["sentence"]),
            element("p", text),
            _table(made["groups"], caption),
        ]
    )


def _table(groups: list[dict[str, Any]], caption: str) -> Html:
    """Return a row per group: counts, hits, chance and what is above it."""
    head = ("", "n", "patients", "on a lesion", "by chance", "near one", "by chance")
    rows = []
    for group in groups:
        name = _WORDS.get(group["group"], group["group"].replace("_", " "))
        counts = (f"{group['n']:,}", f"{group['patients']:,}")
        if group["suppressed"]:
            rows.append((name, *counts, "too few to say", "", "", ""))
            continue
        cells = []
        for form in ("exact", "tolerant"):
            cells += [estimate("hit", group[form]["hit"]), f"{group[form]['chance']['value']:.3f}"]
        rows.append((name, *counts, *cells))
    return table(head, rows, caption, class_="numbers")
