"""Sections of the page that show prepared images."""

from __future__ import annotations

from typing import Any

from mammoscope.cohort.explore.page_tables import bars, unbroken, word
from mammoscope.pages import Html, element, joined, picture, table
from mammoscope.pages.drawing import histogram

__all__ = ["galleries", "pixels", "quality"]

_MOST_WARNINGS = 12


def pixels(values: dict[str, Any] | None, pictures: dict[str, str]) -> Html | None:
    """Draw a card per machine: distribution of grey values and mean images."""
    if values is None:
        return None
    peak = max(share for m in values["machines"] for share in m["histogram"])
    said = (
        f"Of {values['sampled']:,} prepared images, drawn by a hash of their names and dealt in "
        "turn to the machines. The filled shape is how often a grey value occurs in this "
        "machine's breasts, each image counting the same; the line is that of all. Where a "
        "machine's shape stands apart, a model can tell it by its greys. Mean images of inverted "
        "or badly cut machines show at a glance."
    )
    cards = [_machine_card(row, values["all"], peak, pictures) for row in values["machines"]]
    more = values["machines_not_shown"]
    return joined(
        [
            element("p", said),
            element("div", *cards, class_="cards"),
            element("p", f"{more} machines with fewer images are not shown.") if more else None,
        ]
    )


def _machine_card(
    row: dict[str, Any], everything: list[float], peak: float, pictures: dict[str, str]
) -> Html:
    name = f"Machine {word(row['machine'])}"
    grey = row["tissue_grey"]
    greys = (
        "no tissue"
        if grey["median"] is None
        else f"mean grey of tissue {grey['median']:.2f} of white "
        f"({grey['p05']:.2f} to {grey['p95']:.2f} in nine of ten images)"
    )
    means = [
        element(
            "div",
            picture(pictures[f"mean/{row['number']}/{view}"], f"mean {view} image, {name}"),
            element("small", f"mean of {count:,} {view}"),
        )
        for view, count in row["views"].items()
    ]
    drawing = histogram(
        row["histogram"],
        f"grey values of {name}: {greys}",
        reference=everything,
        peak=peak,
        ends=("black", "white"),
    )
    return element(
        "figure",
        element("h3", name),
        element("div", drawing, element("div", *means, class_="means"), class_="halves"),
        element("figcaption", f"{row['images']:,} images; {greys}."),
    )


def galleries(values: list[dict[str, Any]] | None, pictures: dict[str, str]) -> Html | None:
    """Show a few prepared images of each class."""
    if values is None:
        return None
    parts = [
        element(
            "p",
            "Chosen by a hash of their names, one per patient: nobody picked them.",
        )
    ]
    for row in values:
        said = f"{row['class']}: {row['images']:,} images of {row['patients']:,} patients"
        parts.append(element("h3", said))
        if row["shown"]:
            figures = (
                _thumbnail(image, pictures, [_place(image)], row["class"]) for image in row["shown"]
            )
            parts.append(element("div", *figures, class_="thumbnails"))
    return joined(parts)


def _thumbnail(image: dict[str, Any], pictures: dict[str, str], lines: list[str], alt: str) -> Html:
    name = image["image_id"]
    return element(
        "figure",
        picture(pictures[name], f"image {name}, {alt}"),
        element("code", name),
        *(element("small", unbroken(line)) for line in lines),
    )


def _place(image: dict[str, Any]) -> str:
    parts = [f"{image['laterality']} {image['view']}"]
    if image.get("density"):
        parts.append(f"density {image['density']}")
    if image["machine_id"]:
        parts.append(f"machine {image['machine_id']}")
    return ", ".join(parts)


def quality(values: dict[str, Any] | None, pictures: dict[str, str]) -> Html | None:
    """Say how well the breast was cut out, and show the worst."""
    if values is None:
        return None
    kept = ", ".join(
        f"{row['images']:,} below {100 * row['share']:g} %" for row in values["kept_below"]
    )
    said = (
        f"Of {values['images']:,} prepared images. Quality runs from 0, a mask not to be trusted, "
        "to 1. Kept is the share of what is bright around the breast that its mask keeps, the "
        f"rest having been taken for labels or edges of a film: {kept}. In "
        f"{values['disagreements']:,} the chest wall lies on the side that the laterality denies."
    )
    refused = ", ".join(f"{row['images']:,} {row['reason']}" for row in values["refused"])
    worst = element(
        "div",
        *(_worst(image, pictures) for image in values["worst"]),
        class_="thumbnails wide",
    )
    return joined(
        [
            element("p", unbroken(said)),
            element("p", f"Refused by prepare: {refused or 'none'}."),
            _quantiles(values["quantiles"]),
            _counts(values),
            _by_machine(values["machines"]),
            element("h3", f"The {len(values['worst'])} worst, worst first"),
            worst,
        ]
    )


def _worst(image: dict[str, Any], pictures: dict[str, str]) -> Html:
    score = "–" if image["quality"] is None else f"{image['quality']:.2f}"
    wrong = image["wrong"] or ["nothing is noted"]
    lines = [f"{_place(image)}; quality {score}", *wrong]
    return _thumbnail(image, pictures, lines, f"quality {score}")


def _quantiles(values: dict[str, dict[str, float | None]]) -> Html:
    names = {
        "quality": "quality",
        "kept_fraction": "kept",
        "breast_fraction": "breast in the image",
    }
    columns = {"least": "least", "p01": "1 %", "p05": "5 %", "median": "median", "most": "most"}
    rows = [
        (
            text,
            *("–" if values[name][key] is None else f"{values[name][key]:.3f}" for key in columns),
        )
        for name, text in names.items()
    ]
    return table(("", *columns.values()), rows, "Quantiles over images", class_="numbers")


def _counts(values: dict[str, Any]) -> Html:
    shown, rarer = values["warnings"][:_MOST_WARNINGS], values["warnings"][_MOST_WARNINGS:]
    rows = [
        *((f"breast touches {row['what']}", row["images"]) for row in values["borders"]),
        *((row["what"], row["images"]) for row in shown),
        *([(f"{len(rarer)} rarer notes", sum(row["images"] for row in rarer))] if rarer else []),
        *((f"decoded by {name}", images) for name, images in values["decoders"].items()),
    ]
    return bars(("what", "images"), rows, "What was noted", values["images"])


def _by_machine(rows: list[dict[str, Any]]) -> Html:
    cells = [
        (
            word(row["machine_id"]),
            f"{row['images']:,}",
            "–" if row["quality_median"] is None else f"{row['quality_median']:.3f}",
            "–" if row["quality_p05"] is None else f"{row['quality_p05']:.3f}",
            f"{row['kept_below']:,}",
            f"{row['nipple_side']:,}",
            f"{row['with_warnings']:,}",
            f"{row['disagreements']:,}",
        )
        for row in rows
    ]
    head = (
        "machine",
        "images",
        "median quality",
        "worst 5 % below",
        "kept below 90 %",
        "touch nipple side",
        "with warnings",
        "wrong side",
    )
    return table(head, cells, "Crop quality by machine", class_="numbers")
