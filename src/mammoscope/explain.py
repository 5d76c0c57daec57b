"""Heatmaps for people: boxes and overlays in the pixels of the original image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from mammoscope.pages import written_score
from mammoscope.preprocessing import Geometry
from mammoscope.types import Anomaly, Box, ByteImage, Finding, FloatImage, ImageResult

__all__ = [
    "called",
    "clipped",
    "find_regions",
    "heatmap_in_original_pixels",
    "hottest_point",
    "is_flat",
    "overlay",
    "overlay_colours",
    "words_of",
]

_OPACITY = 0.45
_LINE_COLOUR = (255, 196, 0)
# Neither that of findings nor one of the heatmap's.
_UNUSUAL_COLOUR = (64, 224, 255)
_QUIET_COLOUR = (205, 205, 205)
_MOST_REGIONS = 5
_MOST_PLACES = 3
_FEWEST_DASHES = 8
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Letters smaller than this cannot be told apart in the pixels of a small image.
_LEAST_SIZE = 0.4
# Share of the light under a name that is left.
_PLATE_SHINES = 0.3
# Kind of a finding whose model tells none.
_UNTOLD = "suspicious"
_UNUSUAL = "unusual"

# Left, top, right and bottom of what is written, in pixels of the picture; half-open.
_Plate: TypeAlias = tuple[int, int, int, int]


def find_regions(
    heatmap: FloatImage, geometry: Geometry, threshold: float, kind: str = "suspicious"
) -> tuple[Finding, ...]:
    """Return boxes around the regions of a heatmap that reach a threshold.

    Args:
        heatmap: (h, w) in [0, 1], covering the network's input.
        geometry: The map from the network's grid to original pixels.
        threshold: Least value of a cell.
        kind: What the findings are called.

    Returns:
        At most five findings, highest first and of equal ones the largest; each scores its hottest
        cell. Boxes are clipped to the image; a region wholly in the padding is dropped.
    """
    hot = (heatmap >= threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    down, across = geometry.height / heatmap.shape[0], geometry.width / heatmap.shape[1]
    findings: list[Finding] = []
    for label in range(1, count):
        left, top, width, height = (int(v) for v in stats[label][:4])
        on_grid = Box(left * across, top * down, (left + width) * across, (top + height) * down)
        box = clipped(geometry.to_original(on_grid), geometry)
        if box is not None:
            findings.append(Finding(box, float(heatmap[labels == label].max()), kind))
    return tuple(sorted(findings, key=lambda f: (-f.score, -_area(f.box)))[:_MOST_REGIONS])


def _area(box: Box) -> float:
    return (box.x_max - box.x_min) * (box.y_max - box.y_min)


def is_flat(heatmap: FloatImage) -> bool:
    """Say whether a map is the same everywhere, so that its hottest cell means nothing."""
    return bool(heatmap.min() == heatmap.max())


def hottest_point(heatmap: FloatImage, geometry: Geometry) -> tuple[float, float]:
    """Return (x, y) of the centre of the hottest cell, in original pixels.

    Args:
        heatmap: (h, w) that covers the network's input.
        geometry: The map from the network's grid to original pixels.

    A cell in the padding lies outside the original, and so does its point. Of equal cells the
    first in reading order is taken.
    """
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    down, across = geometry.height / heatmap.shape[0], geometry.width / heatmap.shape[1]
    left, top = float(column) * across, float(row) * down
    cell = geometry.to_original(Box(left, top, left + across, top + down))
    return (cell.x_min + cell.x_max) / 2, (cell.y_min + cell.y_max) / 2


def heatmap_in_original_pixels(result: ImageResult) -> FloatImage:
    """Return the heatmap at (height_px, width_px), float32 in [0, 1], 0 outside the crop.

    Raises:
        ValueError: If the result carries no heatmap.
    """
    if result.heatmap is None or result.geometry is None:
        raise ValueError(f"the result of {result.image_id} carries no heatmap")
    return Geometry.from_dict(result.geometry).map_to_original(result.heatmap)


def overlay(pixels: FloatImage, result: ImageResult) -> ByteImage:
    """Draw the heatmap, findings, and how unusual it is over an image.

    A detector's finding is a box, a segmenter's an outline; one that both found is a box with an
    outline, and its score is the detector's. Beside them stands what they are taken for, in
    brackets the share that a second stage gives that, and the score; an equals sign marks one that
    was matched with another view.

    What an anomaly model says stands in a corner, where it hides least. Where the image is
    unusual, dashed ellipses in another colour lie around what is as unusual as its score, which is
    the mean of the highest cells of its map.

    Args:
        pixels: (H, W) float32 presentation values in [0, 1], of the original image.
        result: What the model says of it.

    Returns:
        (H, W, 3) uint8 RGB. Cells below 0.3 stay clear, so that an image without suspicion looks
        like itself.
    """
    grey = np.clip(pixels * 255.0 + 0.5, 0, 255).astype(np.uint8)
    picture: ByteImage = np.repeat(grey[..., None], 3, axis=2)
    if result.heatmap is not None:
        overlay_colours(picture, heatmap_in_original_pixels(result))
    names = _names(picture, result.findings)
    # Plates lie beneath all lines, so that a name hides no other finding.
    for words, plate in names:
        words.darken(picture, plate)
    if result.anomaly is not None:
        _mark_unusual(picture, result.anomaly)
    for finding in result.findings:
        _draw(picture, finding)
    for words, plate in names:
        words.write(picture, plate)
    if result.anomaly is not None:
        _tell_anomaly(picture, result.anomaly, [plate for _, plate in names])
    return picture


def _draw(picture: ByteImage, finding: Finding) -> None:
    """Draw a finding's outline, and its box unless it is a segmenter's alone."""
    thickness = _thickness(picture)
    if finding.outline:
        # The pixel in which a corner lies, not the nearest one.
        corners = np.floor(finding.outline).astype(np.int32)
        cv2.polylines(picture, [corners], True, _LINE_COLOUR, thickness)  # noqa: FBT003
    if finding.found_by != "segmenter" or not finding.outline:
        box = finding.box
        low, high = (round(box.x_min), round(box.y_min)), (round(box.x_max), round(box.y_max))
        cv2.rectangle(picture, low, (high[0] - 1, high[1] - 1), _LINE_COLOUR, thickness)


def _thickness(picture: ByteImage) -> int:
    longer: int = max(picture.shape[:2])
    return max(1, round(longer / 400))


@dataclass(frozen=True, slots=True)
class _Words:
    """A line of text on a plate that darkens what lies under it, so that it is read on white too.

    Attributes:
        text: The line.
        colour: Of its letters.
        size: Factor on OpenCV's font.
        thickness: Of its strokes.
        width: Of the plate, in pixels.
        height: Of the plate, in pixels.
        margin: Between the plate's edge and the letters.
        foot: Between the plate's lower edge and the line on which letters stand.
    """

    text: str
    colour: tuple[int, int, int]
    size: float
    thickness: int
    width: int
    height: int
    margin: int
    foot: int

    @classmethod
    def on(cls, picture: ByteImage, text: str, colour: tuple[int, int, int]) -> _Words:
        """Measure a line for a picture: smaller where it would be wider than that."""
        thickness = _thickness(picture)
        size, margin = max(_LEAST_SIZE, 0.3 * thickness), 2 * thickness
        (width, _), _ = cv2.getTextSize(text, _FONT, size, thickness)
        size *= min(1.0, max(1, picture.shape[1] - 2 * margin) / width)
        (width, height), foot = cv2.getTextSize(text, _FONT, size, thickness)
        # OpenCV's height has a margin above the letters already, and none below.
        foot += margin
        return cls(text, colour, size, thickness, width + 2 * margin, height + foot, margin, foot)

    def plate(self, left: int, top: int) -> _Plate:
        """Return where it would lie: left, top, right and bottom."""
        return left, top, left + self.width, top + self.height

    def darken(self, picture: ByteImage, plate: _Plate) -> None:
        """Darken what lies under it."""
        left, top, right, bottom = plate
        under = picture[top:bottom, left:right]
        under[:] = (under * _PLATE_SHINES).astype(np.uint8)

    def write(self, picture: ByteImage, plate: _Plate) -> None:
        """Write it, on what was darkened."""
        at = (plate[0] + self.margin, plate[3] - self.foot)
        cv2.putText(
            picture, self.text, at, _FONT, self.size, self.colour, self.thickness, cv2.LINE_AA
        )


def _names(picture: ByteImage, findings: Sequence[Finding]) -> list[tuple[_Words, _Plate]]:
    """Return what a detector or segmenter takes each finding for, with its score, and where.

    It stands above the box. Where that is outside the picture or on another name it stands below,
    else above or below that.
    """
    written: list[tuple[_Words, _Plate]] = []
    for finding in findings:
        if finding.found_by == "heatmap":
            continue
        twin = " =" if finding.matched else ""
        text = f"{called(finding)} {written_score(finding.score)}{twin}"
        words = _Words.on(picture, text, _LINE_COLOUR)
        left = max(0, min(round(finding.box.x_min), picture.shape[1] - words.width))
        above = round(finding.box.y_min) - words.thickness - words.height
        below = round(finding.box.y_max) + words.thickness
        line = words.height + 1
        tops = [t for k in range(len(written) + 1) for t in (above - k * line, below + k * line)]
        others = [plate for _, plate in written]
        free = (
            words.plate(left, top)
            for top in tops
            if 0 <= top <= picture.shape[0] - words.height
            and not _covers(words.plate(left, top), others)
        )
        written.append((words, next(free, words.plate(left, max(above, 0)))))
    return written


def _covers(plate: _Plate, others: list[_Plate]) -> bool:
    left, top, right, bottom = plate
    return any(left < r and x < right and top < b and y < bottom for x, y, r, b in others)


def _mark_unusual(picture: ByteImage, anomaly: Anomaly) -> None:
    """Draw around the most unusual places of an unusual image.

    No finding has this form: that an image is unusual there does not say that it is a lesion.
    """
    if not anomaly.unusual or anomaly.map is None or anomaly.geometry is None:
        return
    # The map is of less precision than the score, which its highest cell may so fall short of.
    least = min(anomaly.score, float(anomaly.map.max()))
    thickness = _thickness(picture)
    gap = 4 * thickness
    places = find_regions(anomaly.map, Geometry.from_dict(anomaly.geometry), least, _UNUSUAL)
    for box in (place.box for place in places[:_MOST_PLACES]):
        middle = (round((box.x_min + box.x_max) / 2), round((box.y_min + box.y_max) / 2))
        # Around the box, not in it.
        axes = (
            round((box.x_max - box.x_min) / math.sqrt(2)) + gap,
            round((box.y_max - box.y_min) / math.sqrt(2)) + gap,
        )
        dashes = max(_FEWEST_DASHES, round(math.pi * sum(axes) / (12 * thickness)))
        for start in np.arange(dashes) * 360 / dashes:
            end = start + 180 / dashes
            cv2.ellipse(picture, middle, axes, 0, start, end, _UNUSUAL_COLOUR, thickness)


def _tell_anomaly(picture: ByteImage, anomaly: Anomaly, written: list[_Plate]) -> None:
    """Write in the darkest corner how unusual an image is: there it lies on no tissue or name."""
    score = written_score(anomaly.score)
    text = f"{_UNUSUAL}: anomaly {score}" if anomaly.unusual else f"anomaly {score}, not {_UNUSUAL}"
    colour = _UNUSUAL_COLOUR if anomaly.unusual else _QUIET_COLOUR
    words = _Words.on(picture, text, colour)
    right = max(0, picture.shape[1] - words.width)
    bottom = max(0, picture.shape[0] - words.height)
    corners = [words.plate(left, top) for top in (0, bottom) for left in (right, 0)]

    def hides(plate: _Plate) -> tuple[bool, float]:
        under = picture[plate[1] : plate[3], plate[0] : plate[2]]
        return _covers(plate, written), float(under.mean())

    plate = min(corners, key=hides)
    words.darken(picture, plate)
    words.write(picture, plate)


def called(finding: Finding) -> str:
    """Return what a finding is taken for, for people: ``mass, malignant (0.87)``.

    Where a detector names its kind and a second stage another, both are told, each once; that it
    is suspicious goes without saying where anything more is known.
    """
    return ", ".join(
        kind if sure is None else f"{kind} ({written_score(sure)})"
        for kind, sure in _kinds(finding).items()
    )


def words_of(finding: Finding) -> tuple[str, ...]:
    """Return the words for a finding alone, each once: ``mass`` and ``malignant``."""
    return tuple(_kinds(finding))


def _kinds(finding: Finding) -> dict[str, float | None]:
    told = {one.kind: one.kind_score for one in finding.sightings}
    return {kind: sure for kind, sure in told.items() if kind != _UNTOLD} or told


def overlay_colours(picture: ByteImage, heat: FloatImage) -> None:
    """Lay heat over a picture, in place.

    Args:
        picture: (H, W, 3) uint8 RGB.
        heat: (H, W) float32 in [0, 1]; what is below 0.3 stays clear.
    """
    strength = np.clip((heat - 0.3) / 0.7, 0.0, 1.0) * _OPACITY
    rows, columns = np.nonzero(strength > 0)
    if not rows.size:
        return
    area = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    colours = cv2.applyColorMap(
        np.clip(heat[area] * 255.0, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO
    )[..., ::-1]
    share = strength[area][..., None]
    picture[area] = (picture[area] * (1 - share) + colours * share + 0.5).astype(np.uint8)


def clipped(box: Box, geometry: Geometry) -> Box | None:
    """Clip a box to the original image; none where less than a pixel of it is left."""
    x_min, x_max = max(0.0, box.x_min), min(float(geometry.original_width), box.x_max)
    y_min, y_max = max(0.0, box.y_min), min(float(geometry.original_height), box.y_max)
    if x_max - x_min < 1 or y_max - y_min < 1:
        return None
    return Box(x_min, y_min, x_max, y_max)
