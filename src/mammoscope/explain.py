"""Heatmaps for people: boxes and overlays in the pixels of the original image."""

from __future__ import annotations

import cv2
import numpy as np

from mammoscope.pages import written_score
from mammoscope.preprocessing import Geometry
from mammoscope.types import Box, ByteImage, Finding, FloatImage, ImageResult

__all__ = [
    "called",
    "clipped",
    "find_regions",
    "heatmap_in_original_pixels",
    "hottest_point",
    "overlay",
    "overlay_colours",
]

_OPACITY = 0.45
_LINE_COLOUR = (255, 196, 0)
_MOST_REGIONS = 5
# Kind of a finding whose model tells none.
_UNTOLD = "suspicious"


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
        At most five findings, highest first; each scores its hottest cell. Boxes are
        clipped to the image; a region wholly in the padding is dropped.
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
    return tuple(sorted(findings, key=lambda f: -f.score)[:_MOST_REGIONS])


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
    """Draw the heatmap, where there is one, and outlines and boxes of findings over an image.

    A detector's finding is a box, a segmenter's an outline; one that both found is a box with an
    outline, and its score is the detector's. Beside them stands what they are taken for, in
    brackets the share that a second stage gives that, and the score; an equals sign marks one that
    was matched with another view.

    Args:
        pixels: (H, W) float32 presentation values in [0, 1], of the original image.
        result: What the model says of it.

    Returns:
        (H, W, 3) uint8 RGB. Cells below one half of the hottest possible stay clear, so that
        an image without suspicion looks like itself.
    """
    grey = np.clip(pixels * 255.0 + 0.5, 0, 255).astype(np.uint8)
    picture: ByteImage = np.repeat(grey[..., None], 3, axis=2)
    if result.heatmap is not None:
        overlay_colours(picture, heatmap_in_original_pixels(result))
    thickness = max(1, round(max(pixels.shape) / 400))
    written: list[tuple[int, int, int, int]] = []
    for finding in result.findings:
        box = finding.box
        if finding.outline:
            # The pixel in which a corner lies, not the nearest one.
            corners = np.floor(finding.outline).astype(np.int32)
            cv2.polylines(picture, [corners], True, _LINE_COLOUR, thickness)  # noqa: FBT003
        if finding.found_by != "segmenter" or not finding.outline:
            low, high = (round(box.x_min), round(box.y_min)), (round(box.x_max), round(box.y_max))
            cv2.rectangle(picture, low, (high[0] - 1, high[1] - 1), _LINE_COLOUR, thickness)
        _name(picture, finding, thickness, written)
    return picture


def _name(
    picture: ByteImage, finding: Finding, thickness: int, written: list[tuple[int, int, int, int]]
) -> None:
    """Write what a detector or segmenter takes a finding for, and its score, above its box.

    Where that is outside the picture or on another name it stands below, else above or below that.

    Args:
        picture: To be written on.
        finding: Whose.
        thickness: Of lines.
        written: Left, top, right and bottom of the names before it; this one's are added.
    """
    if finding.found_by == "heatmap":
        return
    text = f"{called(finding)} {written_score(finding.score)}" + (" =" if finding.matched else "")
    size = 0.3 * thickness
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    left = max(0, min(round(finding.box.x_min), picture.shape[1] - width))
    above = round(finding.box.y_min) - 2 * thickness
    below = round(finding.box.y_max) + height + 2 * thickness
    line = height + 3 * thickness
    places = [
        place for k in range(len(written) + 1) for place in (above - k * line, below + k * line)
    ]
    free = (
        bottom
        for bottom in places
        if height < bottom <= picture.shape[0]
        and not any(
            left < right and start < left + width and bottom - height < end and top < bottom
            for start, top, right, end in written
        )
    )
    bottom = next(free, max(above, height))
    written.append((left, bottom - height, left + width, bottom))
    at = (left, bottom)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, _LINE_COLOUR, thickness)


def called(finding: Finding) -> str:
    """Return what a finding is taken for, for people: ``mass, malignant (0.87)``.

    Where a detector names its kind and a second stage another, both are told, each once; that it
    is suspicious goes without saying where anything more is known.
    """
    told = {one.kind: one.kind_score for one in finding.sightings}
    known = {kind: sure for kind, sure in told.items() if kind != _UNTOLD} or told
    return ", ".join(
        kind if sure is None else f"{kind} ({written_score(sure)})" for kind, sure in known.items()
    )


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
