"""The report of an anomaly model as one self-contained page."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import cv2
import numpy as np
import polars as pl

from mammoscope.evaluation.anomaly_maps import ShownAnomaly
from mammoscope.evaluation.measures import ANOMALY_MEASURES
from mammoscope.evaluation.page import confusion_tables, figures_of, headline, metrics_table
from mammoscope.evaluation.page_choices import points_section
from mammoscope.evaluation.page_frame import report_page
from mammoscope.evaluation.page_groups import estimate, kind, subgroup_section
from mammoscope.evaluation.page_pointing import pointing_section
from mammoscope.pages import Html, data_uri, element, joined, picture, table, written_score
from mammoscope.types import ByteImage, FloatImage

__all__ = ["render_anomaly_page"]

_HEIGHT_PX = 320
# Share of the images shown whose hottest cell lies within the scale of colours.
_IN_SCALE = 0.8
_BOX_COLOUR = (255, 196, 0)
_METHODS = {
    "vae": "Variational autoencoder: what it cannot rebuild",
    "patchcore": "PatchCore: distance from patches of normal images",
}


def render_anomaly_page(
    report: dict[str, Any],
    figures: dict[str, dict[str, str]],
    anomalies: list[ShownAnomaly],
    rows: pl.DataFrame,
) -> str:
    """Return the page as HTML with everything inside.

    Args:
        report: What ``report.json`` holds.
        figures: SVG text by level and name.
        anomalies: Images to show, with what the model made of them.
        rows: Predictions of the measured images.
    """
    drawn = joined(figures_of(level, pictures) for level, pictures in figures.items())
    sections: list[tuple[str, Html | None]] = [
        ("Measures", metrics_table(report, ANOMALY_MEASURES)),
        ("What it expected, and what it found", _gallery(report, anomalies, rows)),
        ("Who was called", confusion_tables(report)),
        ("What results call unusual", _unusual(report)),
        ("Operating points", points_section(report)),
        ("Subgroups", subgroup_section(report) if report["subgroups"] else None),
        ("Where the most anomalous point lies", pointing_section(report)),
        ("Figures", drawn if figures else None),
    ]
    return report_page(
        report,
        "Evaluation of an anomaly model",
        sections,
        headlines=[headline(report, level) for level in report["levels"]],
        notes=report["notes"],
        facts=_facts(report["run"]),
        style=files(__package__).joinpath("anomaly.css").read_text(encoding="utf-8"),
    )


def _unusual(report: dict[str, Any]) -> Html:
    """Return how often breasts and exams have an image that reaches the images' threshold."""
    made = report["unusual"]
    text = element(
        "p",
        "In results an image is unusual from the images' threshold on "
        f"({written_score(made['threshold'], 4)}, chosen for {made['name']}), and a breast or an "
        "exam where any image of it is. That is "
        "not how breasts and exams are scored above, and it raises more false alarms than the "
        "images' target says: an exam of four images has four chances of one.",
    )
    rows = (
        (
            f"by {level}",
            *(f"{values[key]:,}" for key in ("n", "positives", "patients", "called")),
            estimate("sensitivity", values["sensitivity"]),
            estimate("false_positive_rate", values["false_positive_rate"]),
        )
        for level, values in made["levels"].items()
    )
    head = ("", "n", f"with {report['label']}", "patients", "unusual", "sensitivity")
    caption = (
        f"{kind(report)}{report['measured_on']} images, breasts and exams of which any image is "
        f"unusual; {report['evaluation']['confidence']:.0%} intervals over patients"
    )
    told = table((*head, "false-positive rate"), rows, caption[0].upper() + caption[1:])
    return joined([text, told])


def _gallery(report: dict[str, Any], anomalies: list[ShownAnomaly], rows: pl.DataFrame) -> Html:
    if not anomalies:
        return element("p", "No image has a picture.", class_="note")
    facts = {str(row["image_id"]): row for row in rows.iter_rows(named=True)}
    threshold = float(report["levels"]["image"]["threshold"])
    # One scale for all, so that maps can be compared; an implant would leave the others dark.
    hottest = [float(shown.heatmap.max()) for shown in anomalies]
    top = float(np.quantile(hottest, _IN_SCALE)) or 1.0
    rebuilt = any(a.reconstruction is not None for a in anomalies)
    panels = "the image, what the model expects, and" if rebuilt else "the image and"
    caption = (
        f"From left to right: {panels} the anomaly by place, all on one scale, which four in "
        "five of these images do not exceed. Yellow boxes are lesions that the cohort knows. "
        f"The images lie over the whole range of scores of each class, the highest first; called "
        f"are those that reach the threshold of {report['primary']}."
    )
    cards = [_card(report, a, facts[a.image_id], top, threshold) for a in anomalies]
    return joined([element("p", caption), element("div", *cards, class_="anomalies")])


def _card(
    report: dict[str, Any], shown: ShownAnomaly, row: dict[str, Any], top: float, threshold: float
) -> Html:
    truth = {1: f"with {report['label']}", 0: f"without {report['label']}"}.get(
        row["cancer"], "label unknown"
    )
    called = "called" if row["score"] >= threshold else "not called"
    words = f"{shown.image_id}: {truth}, {called}, score {written_score(row['score'], 3)}"
    alt = f"{kind(report)}image {words}: image, expectation and anomaly by place"
    return element(
        "figure",
        picture(data_uri(side_by_side(shown, top)), alt),
        element("figcaption", words),
    )


def side_by_side(shown: ShownAnomaly, top: float) -> ByteImage:
    """Draw an image, its reconstruction where there is one, and its map, (H, W, 3) uint8 RGB.

    Args:
        shown: What to draw.
        top: Value of the map that has the brightest colour.
    """
    scale = _HEIGHT_PX / shown.original.shape[0]
    size = (round(shown.original.shape[1] * scale), _HEIGHT_PX)
    panels = [_boxed(_coloured(shown.original, size), shown.lesions, scale)]
    if shown.reconstruction is not None:
        panels.append(_coloured(shown.reconstruction, size))
    panels.append(_boxed(_heat(shown.heatmap, size, top), shown.lesions, scale))
    gap = np.full((_HEIGHT_PX, 4, 3), 128, np.uint8)
    parts = [part for panel in panels for part in (panel, gap)][:-1]
    return np.concatenate(parts, axis=1)


def _coloured(grey: ByteImage, size: tuple[int, int]) -> ByteImage:
    shrinks = grey.shape[0] > size[1]
    resized = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.repeat(resized[..., None], 3, axis=2).astype(np.uint8)


def _heat(heat: FloatImage, size: tuple[int, int], top: float) -> ByteImage:
    levels = np.clip(heat / top * 255.0, 0, 255).astype(np.uint8)
    resized = cv2.resize(levels, size, interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(cv2.applyColorMap(resized, cv2.COLORMAP_INFERNO)[..., ::-1])


def _boxed(panel: ByteImage, boxes: FloatImage, scale: float) -> ByteImage:
    for box in boxes:
        corners = [round(float(side) * scale) for side in box]
        cv2.rectangle(panel, corners[:2], corners[2:], _BOX_COLOUR, 1)
    return panel


def _facts(run: dict[str, Any]) -> dict[str, Any]:
    anomaly = run["config"]["anomaly"]
    left = run.get("left_out", {}).get("train", {})
    return {
        "Method": _METHODS[anomaly["method"]],
        "Told of each image": ", ".join(anomaly["conditions"]) or "nothing",
        "Learnt from": f"{run['counts']['train']} images known to be normal; left out "
        f"{left.get('cancer', 0)} with cancer and {left.get('unlabelled', 0)} of unknown label",
        "Normal images for thresholds": run["normal"]["images"],
    }
