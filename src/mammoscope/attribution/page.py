"""The explanation as one self-contained page."""

from __future__ import annotations

from typing import Any

from mammoscope.attribution.gallery import Shown
from mammoscope.evaluation.page_frame import framed
from mammoscope.pages import Html, data_uri, element, joined, picture, table, written_score

__all__ = ["METHODS", "render_page", "summary_rows"]

#: Names of the methods for people.
METHODS = {
    "heatmap": "heatmap of the model",
    "grad_cam": "Grad-CAM",
    "breast_centre": "centre of the breast",
}
_STYLE = """
.gallery { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(460px, 1fr)); }
.gallery img { width: 100%; height: auto; display: block; border-radius: 6px; }
.numbers td { white-space: nowrap; }
"""


def summary_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return header and rows of a table for the terminal."""
    rows = [["hottest point", "on a lesion", "near one"]]
    for name, found in report["methods"].items():
        rows.append([METHODS[name], _told(found["exact"]["hit"]), _told(found["tolerant"]["hit"])])
    chance = next(iter(report["methods"].values()))
    by_chance = (f"{chance[form]['chance']['value']:.3f}" for form in ("exact", "tolerant"))
    return [*rows, ["by chance, in the breast", *by_chance]]


def render_page(report: dict[str, Any], gallery: list[Shown]) -> str:
    """Return the page as HTML with everything inside.

    Args:
        report: What ``explanation.json`` holds.
        gallery: Pictures, lowest score first.
    """
    banner = "Every figure on this page was measured on generated pictures."
    body = [
        *(element("p", note, class_="note") for note in report["notes"]),
        element("h2", "Does it point at the lesion?"),
        _methods(report),
        element("h2", "Does the score depend on what it points at?"),
        _occlusion(report),
        element("h2", "Pictures"),
        _gallery(gallery),
    ]
    return framed(
        "mammoscope explanation",
        "What the heat is worth",
        body,
        synthetic=banner if report["synthetic"] else None,
        style=_STYLE,
    )


def _kind(report: dict[str, Any]) -> str:
    return "SYNTHETIC " if report["synthetic"] else ""


def _methods(report: dict[str, Any]) -> Html:
    rows: list[tuple[str, ...]] = []
    for name, found in report["methods"].items():
        less = found.get("heatmap_minus_this")
        rows.append(
            (
                METHODS[name],
                _told(found["exact"]["hit"]),
                _told(found["tolerant"]["hit"]),
                "" if less is None else _told(less, signed=True),
            )
        )
    chance = next(iter(report["methods"].values()))
    by_chance = (f"{chance[form]['chance']['value']:.3f}" for form in ("exact", "tolerant"))
    rows.append(("a point at random in the breast", *by_chance, ""))
    caption = (
        f"Pointing game on {report['images']} {_kind(report)}{report['measured_on']} images of "
        f"{report['patients']} patients, each positive and with a box. Near is within "
        f"{report['tolerance_px']:g} pixels of the network's input."
    )
    head = ("hottest point of", "on a lesion", "near one", "heatmap better by (on a lesion)")
    return table(head, rows, caption, class_="numbers")


def _occlusion(report: dict[str, Any]) -> Html:
    made = report["occlusion"]
    if not made["images"]:
        return element("p", "No image had room for a second patch.", class_="note")
    side = made["patch_px"]
    rows = [
        ("the hottest region", _told(made["hottest"], signed=True)),
        (f"one of {made['other_patches']} others", _told(made["others"], signed=True)),
        ("difference", _told(made["difference"], signed=True)),
    ]
    caption = (
        f"How far the logit falls when a square of {side} x {side} pixels is filled from its "
        f"surroundings; {made['images']} {_kind(report)}{report['measured_on']} images."
    )
    sentence = (
        f"Hiding the hottest region lowers the score more than hiding any of the others in "
        f"{_told(made['hottest_is_largest'])} of the images; by chance it would in "
        f"{made['largest_by_chance']:.3f}."
    )
    return joined([element("p", sentence), table(("hidden", "the logit falls by"), rows, caption)])


def _gallery(gallery: list[Shown]) -> Html:
    figures = []
    for one in sorted(gallery, key=lambda shown: shown.score):
        panels = ", ".join(["lesion boxed", *(METHODS[name] for name in one.methods)])
        words = (
            f"score {written_score(one.score, 3)}, {one.lesion.replace('_', ' ')}. "
            f"From the left: {panels}."
        )
        figures.append(
            element(
                "figure",
                picture(data_uri(one.picture), f"Image {one.name}: {words}"),
                element("figcaption", element("b", one.name), f" {words}"),
            )
        )
    text = "From the lowest score to the highest. The cross is the hottest point."
    return joined([element("p", text), element("div", *figures, class_="gallery")])


def _told(metric: dict[str, float | None], *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    value = f"{metric['value']:{sign}.3f}"
    if metric["low"] is None:
        return value
    return f"{value} ({metric['low']:{sign}.3f} to {metric['high']:{sign}.3f})"
