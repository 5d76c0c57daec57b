"""The report as one self-contained page, made from its numbers alone."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from mammoscope.cohort.explore.page_pictures import galleries, pixels, quality
from mammoscope.cohort.explore.page_tables import (
    balance,
    encodings,
    exams,
    findings,
    missing,
    percent,
    sizes,
    unbroken,
)
from mammoscope.pages import Html, document, element, house_style, joined, table

__all__ = ["render_page"]

_SECTIONS = (
    ("biases", "Biases"),
    ("about", "What the cohort is"),
    ("balance", "Class balance"),
    ("missing", "Missing values"),
    ("exams", "Exams and views"),
    ("sizes", "Sizes and encodings"),
    ("pixels", "Grey values by machine"),
    ("gallery", "Galleries"),
    ("quality", "Crop quality"),
    ("findings", "Annotations"),
)


def render_page(report: dict[str, Any], pictures: dict[str, str]) -> str:
    """Return the page as HTML with everything inside.

    Args:
        report: What ``explore.json`` holds.
        pictures: Data URIs: thumbnails by image_id, mean images by
            ``mean/<number of machine>/<view>``.
    """
    made = {
        "biases": _biases(report["biases"]),
        "about": _about(report["about"]),
        "balance": balance(report["balance"]),
        "missing": missing(report["missing"]),
        "exams": exams(report["exams"]),
        "sizes": joined([sizes(report["sizes"]), encodings(report["encodings"])]),
        "pixels": pixels(report["pixels"], pictures),
        "gallery": galleries(report["gallery"], pictures),
        "quality": quality(report["quality"], pictures),
        "findings": findings(report["findings"]),
    }
    shown = [(name, title) for name, title in _SECTIONS if made[name] is not None]
    links = (element("a", title, href=f"#{name}") for name, title in shown)
    body = joined(
        [
            element(
                "header",
                element("h1", "A cohort, explored"),
                element(
                    "p",
                    "Research software. What is counted here describes these images, and no one "
                    "else's.",
                    class_="notice",
                ),
                _banner(report),
                element("nav", *links),
            ),
            element(
                "main",
                _headlines(report),
                *(element("p", note, class_="note") for note in report["notes"]),
                *(
                    element("section", element("h2", title), made[name], id=name)
                    for name, title in shown
                ),
            ),
            element("footer", _made_by(report), class_="notice"),
        ],
        "\n",
    )
    own = files(__package__).joinpath("explore.css").read_text(encoding="utf-8")
    title = ("SYNTHETIC · " if report["synthetic"] else "") + "mammoscope explore"
    return document(title, body, house_style() + own)


def _banner(report: dict[str, Any]) -> Html | None:
    if not report["synthetic"]:
        return None
    if report["partly_synthetic"]:
        title, text = (
            "Some images are SYNTHETIC.",
            (
                " Counts and pictures on this page are of real and of generated images "
                "together; their source says which is which."
            ),
        )
    else:
        title, text = (
            "SYNTHETIC images.",
            (
                " Every count and picture on this page is of generated images. It says that the "
                "software works, and nothing about women."
            ),
        )
    return element("p", element("strong", title), text, class_="banner")


def _headlines(report: dict[str, Any]) -> Html:
    about = report["about"]
    kind = "synthetic " if report["synthetic"] and not report["partly_synthetic"] else ""
    known = about["images"] - about["unlabelled"]
    share = f", {percent(about['positives']['images'] / known)} of those labelled" if known else ""
    refused = sum(row["count"] for row in about["rejects"])
    found = len(report["biases"]["found"])
    cards = (
        (
            f"{about['images']:,}",
            f"{kind}images",
            f"{about['patients']:,} patients, {about['exams']:,} exams, {refused:,} files refused",
        ),
        (
            f"{about['positives']['images']:,}",
            "images with cancer",
            f"{about['positives']['breasts']:,} breasts of "
            f"{about['positives']['patients']:,} patients{share}",
        ),
        (
            str(found),
            "bias found" if found == 1 else "biases found",
            f"by {len(report['biases']['tests'])} tests, adjusted for their number",
        ),
    )
    return element(
        "div",
        *(
            element("p", element("b", number), name, element("span", more), class_="headline")
            for number, name, more in cards
        ),
        class_="headlines",
    )


def _biases(biases: dict[str, Any]) -> Html:
    if biases["found"]:
        found = element(
            "ol", *(element("li", unbroken(text)) for text in biases["found"]), class_="found"
        )
    elif biases["tests"]:
        found = element("p", "No bias was found that these tests can see.")
    else:
        found = element("p", "No test could be made: there are too few images, levels or labels.")
    parts = [
        element(
            "p",
            "Ways in which a model could be right for the wrong reason, the surest first. Each "
            "compares groups of images by a chi-square test in which the images of one patient "
            "count together (Rao and Scott 1992), adjusted for the number of tests (Holm), and is "
            f"called found below p = {biases['significance']}. What no column names cannot be "
            "seen here.",
        ),
        found,
        _listed("Plain without a test", biases["facts"]),
        _listed("Found, and expected", biases["expected"]),
    ]
    if biases["untested"]:
        text = "; ".join(biases["untested"])
        parts.append(element("p", f"Too few images to test: {text}.", class_="note"))
    if biases["tests"]:
        rows = [
            (
                test["subject"],
                f"{test['chi_square']:.1f}",
                test["df"],
                _p(test["p"]),
                _p(test["p_adjusted"]),
                ("expected" if test["expected"] else "found") if test["found"] else "no",
            )
            for test in biases["tests"]
        ]
        head = ("comparison", "chi-square", "df", "p", "adjusted p", "difference")
        summary = element("summary", f"All {len(rows)} tests")
        parts.append(element("details", summary, table(head, rows, class_="numbers")))
    return joined(parts)


def _listed(title: str, sentences: list[str]) -> Html | None:
    if not sentences:
        return None
    items = (element("li", unbroken(text)) for text in sentences)
    return joined([element("h3", title), element("ul", *items)])


def _about(about: dict[str, Any]) -> Html:
    positives = about["positives"]
    counts = table(
        ("", "all", "with cancer"),
        [
            (name.capitalize(), f"{about[name]:,}", f"{positives[name]:,}")
            for name in ("patients", "exams", "breasts", "images")
        ],
        class_="numbers",
    )
    sources = ", ".join(f"{name} ({images:,})" for name, images in about["sources"].items())
    said = [element("p", f"Images by source: {sources}.")]
    if about["unlabelled"]:
        said.append(element("p", f"Of {about['unlabelled']:,} images the label is unknown."))
    if not about["rejects"]:
        return joined([*said, counts, element("p", "No file was refused.")])
    rows = [(row["reason"], row["stage"], f"{row['count']:,}") for row in about["rejects"]]
    refused = table(
        ("reason", "refused by", "files"),
        rows,
        "Refused files; rejects.csv has a sentence for each.",
        class_="numbers",
    )
    return joined([*said, element("div", counts, refused, class_="pair")])


def _made_by(report: dict[str, Any]) -> str:
    digest = report["hashes"]["manifest.parquet"][:16]
    return f"mammoscope {report['package_version']} · manifest sha256 {digest}…"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
