"""Sections of the page that are tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mammoscope.pages import Html, element, joined, table
from mammoscope.pages.drawing import bar, interval

__all__ = [
    "balance",
    "bars",
    "encodings",
    "exams",
    "findings",
    "missing",
    "percent",
    "sizes",
    "unbroken",
    "word",
]


def percent(share: float | None) -> str:
    """Write a share of 1 in percent; unknown is a dash."""
    if share is None:
        return "–"
    digits = 1 if share == 0 or share >= 0.001 else 2
    return unbroken(f"{100 * share:.{digits}f} %")


def unbroken(text: str) -> str:
    """Keep percent signs on the line of their numbers."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def word(level: str | None) -> str:
    """Write a level; null is unknown."""
    return "unknown" if level is None else level


def bars(
    head: tuple[str, str],
    rows: Sequence[tuple[str, int]],
    caption: str,
    whole: int | None = None,
) -> Html:
    """Draw counts as bars of a whole, which is their sum unless it is given."""
    total = max(1, sum(count for _, count in rows) if whole is None else whole)
    cells = [
        (name, f"{count:,}", bar(count / total, percent(count / total))) for name, count in rows
    ]
    return table((*head, ""), cells, caption, class_="numbers bars")


def balance(attributes: dict[str, dict[str, Any]]) -> Html:
    """Draw a table per attribute, with the share of cancer on its interval."""
    parts = [
        element(
            "p",
            "Shares are of the images whose label is known, with Wilson's 95 % interval of "
            "effective counts: images of one patient are alike and count together. The dashed "
            "line is the share over all.",
        )
    ]
    alike = {v["name"]: v["levels"][0]["level"] for v in attributes.values() if _is_one(v)}
    if alike:
        names = ", ".join(f"{name} {word(level)}" for name, level in alike.items())
        parts.append(element("p", f"The same for every image: {names}."))
    parts += [_balance_of(values) for values in attributes.values() if not _is_one(values)]
    return joined(parts)


def _is_one(values: dict[str, Any]) -> bool:
    return len(values["levels"]) == 1


def _balance_of(values: dict[str, Any]) -> Html:
    overall = values["share"]
    highs = [row["high"] for row in values["levels"] if row["high"] is not None]
    upper = min(1.0, 1.05 * max(highs, default=1.0))
    rows = []
    for row in values["levels"]:
        drawn: Html | str = "–"
        shown: Html | str = "–"
        if row["share"] is not None:
            ends = f"{percent(row['low'])} to {percent(row['high'])}"
            label = f"{percent(row['share'])}, {ends}"
            drawn = interval(
                row["share"], row["low"], row["high"], upper=upper, reference=overall, label=label
            )
            shown = joined([percent(row["share"]), element("span", ends)], " ")
        rows.append(
            (
                word(row["level"]),
                f"{row['images']:,}",
                f"{row['patients']:,}",
                f"{row['positives']:,}",
                shown,
                drawn,
            )
        )
    head = (
        values["name"],
        "images",
        "patients",
        "with cancer",
        unbroken("share (95 % interval)"),
        f"0 to {percent(upper)}",
    )
    return table(head, rows, class_="numbers balance")


def missing(values: dict[str, Any]) -> Html:
    """Draw the share of nulls by column and site, the fuller the darker."""
    parts = []
    if values["columns"]:
        sites = values["sites"]
        several = len(sites) > 1
        head = ["column", "all images"]
        if several:
            head += [f"site {word(s['site'])} ({s['images']:,})" for s in sites]
        rows = []
        for row in values["columns"]:
            cells = [_missing_cell(row["missing"], values["images"])]
            if several:
                cells += [
                    _missing_cell(count, site["images"])
                    for count, site in zip(row["by_site"], sites, strict=True)
                ]
            rows.append((row["column"], *cells))
        parts.append(
            table(head, rows, "Images for which a column is unknown", class_="numbers shaded")
        )
    else:
        parts.append(element("p", "Each column is either known for all images or for none."))
    for name, text in (("complete", "Known for every image"), ("absent", "Known for none")):
        if values[name]:
            names = joined((element("code", column) for column in values[name]), ", ")
            parts.append(element("p", f"{text}: ", names, "."))
    return joined(parts)


def _missing_cell(count: int, whole: int) -> Html:
    share = count / whole
    return element(
        "div",
        percent(share),
        element("span", f"{count:,} of {whole:,}"),
        class_="shade",
        style=f"--share: {share:.3f}",
    )


def exams(values: dict[str, Any]) -> Html:
    """Say how many images exams have and which views are missing."""
    whole = values["exams"]
    complete = (
        f"{values['complete']:,} of {whole:,} exams ({percent(values['complete'] / whole)}) have "
        "all four screening views. "
    )
    repeated = (
        f"A view was made more than once for {values['repeated_views']:,} breasts."
        if values["repeated_views"]
        else "No view was made twice."
    )
    per_exam = list(values["images_per_exam"].items())
    most = 10
    lost = [(row["views"], row["exams"]) for row in values["missing_views"][:most]]
    left = values["missing_views"][most:]
    if left:
        lost.append((f"{len(left)} other patterns", sum(row["exams"] for row in left)))
    return joined(
        [
            element("p", complete + repeated),
            element(
                "div",
                bars(("images", "exams"), per_exam, "Images per exam"),
                bars(("missing", "exams"), lost, "Missing views"),
                class_="pair",
            ),
        ]
    )


def sizes(values: dict[str, Any]) -> Html:
    """List the commonest sizes by machine."""
    rows = [
        (
            f"{row['rows']} × {row['columns']}",
            word(row["machine_id"]),
            f"{row['images']:,}",
            _range(row["aspect_min"], row["aspect_max"]),
        )
        for row in values["largest"]
    ]
    if values["others"]:
        rows.append((f"{values['others']:,} more", "", f"{values['images_of_others']:,}", ""))
    caption = (
        f"Different sizes: {values['distinct']:,}. The aspect is the true width of the image over "
        "its height, pixels that are not square allowed for."
    )
    return table(("height × width", "machine", "images", "aspect"), rows, caption, class_="numbers")


def _range(low: float, high: float) -> str:
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def encodings(rows: list[dict[str, Any]]) -> Html:
    """List how each machine's images are stored."""
    cells = [
        (
            word(row["machine_id"]),
            word(row["photometric_interpretation"]),
            "–" if row["bits_stored"] is None else row["bits_stored"],
            row["transfer_syntax"] or "not DICOM",
            f"{row['images']:,}",
        )
        for row in rows
    ]
    head = ("machine", "photometric interpretation", "bits stored", "transfer syntax", "images")
    return table(head, cells, "Encodings by machine", class_="numbers wraps")


def findings(values: dict[str, Any] | None) -> Html | None:
    """Say what findings there are, and what contradicts images or labels."""
    if values is None:
        return None
    faults = [
        (
            unbroken(row["what"].capitalize()),
            f"{row['count']:,}",
            joined((element("code", name) for name in row["examples"]), ", "),
        )
        for row in values["faults"]
    ]
    counted = ("findings", "images", "patients", "malignant", "benign", "unknown")
    kinds = [
        (word(row["kind"]), *(f"{row[name]:,}" for name in counted)) for row in values["kinds"]
    ]
    areas = [
        (f"{100 * row['from']:g} to {100 * row['to']:g} %", row["boxes"])
        for row in values["areas"]["counts"]
    ]
    said = (
        f"{values['findings']:,} findings on {values['images']:,} images of "
        f"{values['patients']:,} patients; {values['with_box']:,} have a box and "
        f"{values['with_mask']:,} a mask."
    )
    images = list(values["per_image"].items())
    return joined(
        [
            element("p", said),
            table(("contradiction", "count", "images, for example"), faults, class_="faults"),
            table(("kind", *counted), kinds, "By kind", class_="numbers"),
            element(
                "div",
                bars(("findings", "images"), images, "Findings per image"),
                bars(("share of the image", "boxes"), areas, "Size of boxes"),
                class_="pair",
            ),
        ]
    )
