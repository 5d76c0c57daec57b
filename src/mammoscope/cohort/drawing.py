"""One finding, from what a table and a mask file say to the pixels of the network's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammoscope.cohort.faults import (
    Wrong,
    check_contour,
    fit_mask,
    is_kept,
    mend_box,
    read_marks,
)
from mammoscope.config import LesionsConfig
from mammoscope.masks import encode, rasterise_ellipse, rasterise_polygon
from mammoscope.preprocessing import Geometry
from mammoscope.types import Bools, Box

__all__ = ["BY_INGEST", "OUTSIDE", "Drawn", "draw"]

#: Code of a fault of the crop, not of the finding.
OUTSIDE = "outside_crop"
#: Remedy of a fault that ingest found.
BY_INGEST = "repaired by ingest"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finding on the network's grid.

    Attributes:
        box: In original pixels, within the image.
        runs: Run lengths of its mask on the grid, of at least one pixel.
    """

    box: Box
    runs: list[int]


def draw(
    row: dict[str, Any], root: Path | None, geometry: Geometry, config: LesionsConfig
) -> tuple[Drawn | None, list[Wrong]]:
    """Draw a finding.

    Args:
        row: Of ``findings.parquet``.
        root: The folder below which its mask lies.
        geometry: Of its image.
        config: What is filled, and whether faults are repaired.

    Returns:
        The finding drawn, or none where it cannot be or has no place; and what was wrong.
    """
    image = (geometry.original_height, geometry.original_width)
    wrong: list[Wrong] = []
    mask = _mask_of(row, root, image, wrong)
    box = _box_of(row, mask, image, wrong)
    contour = _contour_of(row, wrong)
    wrong += _repaired_before(row, wrong)
    if box is None or not is_kept(wrong, config.faults):
        return None, wrong
    there = geometry.to_network(box)
    if not _overlaps(there, geometry):
        crop = geometry.original_crop
        named = f"({crop.x_min:g}, {crop.y_min:g}, {crop.x_max:g}, {crop.y_max:g})"
        sentence = f"{_named(box)} lies outside the crop {named} that the network sees"
        return None, [Wrong(OUTSIDE, sentence)]
    if contour is not None:
        grid = (geometry.height, geometry.width)
        covered = rasterise_polygon(geometry.contour_to_network(contour), grid)
    elif mask is not None:
        covered = geometry.apply_to_grid(_shrunk(mask, geometry)) >= 0.5
    else:
        covered = _filled(there, geometry, round_=_is_round(row, config))
    covered &= geometry.filled()
    if not covered.any():
        # Smaller than a pixel of the grid: that pixel is it.
        covered[_nearest(there, geometry)] = True
    return Drawn(box, encode(covered)), wrong


def _mask_of(
    row: dict[str, Any], root: Path | None, image: tuple[int, int], wrong: list[Wrong]
) -> Bools | None:
    """Read the mask file where no contour says more, at the size of the image."""
    if row["mask"] is None or root is None or row["shape"] in ("polygon", "circle"):
        return None
    instead = None if row["x_min"] is None else "its box"
    marked, faults = read_marks(root / row["mask"], row["mask"], instead)
    if marked is not None:
        marked, faults = fit_mask(marked, row["mask"], image, instead)
    wrong += faults
    return marked


def _box_of(
    row: dict[str, Any], mask: Bools | None, image: tuple[int, int], wrong: list[Wrong]
) -> Box | None:
    """Return the finding's box within its image; none where it has no place or cannot be."""
    sides = [row[side] for side in ("x_min", "y_min", "x_max", "y_max")]
    if all(side is None for side in sides):
        if mask is None:
            return None
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return Box(float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1))
    box, faults = mend_box(sides, image)
    wrong += faults
    return box


def _contour_of(row: dict[str, Any], wrong: list[Wrong]) -> Sequence[float] | None:
    """Return the contour of a polygon; fewer than three points leave its box."""
    contour: Sequence[float] | None = row["contour"]
    if row["shape"] != "polygon" or contour is None:
        return None
    faults = check_contour(contour, "its box")
    wrong += faults
    return contour if len(contour) >= 6 and not faults else None


def _repaired_before(row: dict[str, Any], wrong: list[Wrong]) -> list[Wrong]:
    """Return what ingest found wrong and mended, but for what is found again."""
    again = {fault.code for fault in wrong}
    return [
        Wrong(code, "ingest mended its annotation", BY_INGEST)
        for code in row["repaired"] or ()
        if code not in again
    ]


def _is_round(row: dict[str, Any], config: LesionsConfig) -> bool:
    return row["shape"] == "circle" or config.box_as == "ellipse"


def _filled(there: Box, geometry: Geometry, *, round_: bool) -> Bools:
    """Return the pixels of the grid within a box there, or within its ellipse."""
    size = (geometry.height, geometry.width)
    if round_:
        return rasterise_ellipse((there.x_min, there.y_min, there.x_max, there.y_max), size)
    left, top, right, bottom = there.x_min, there.y_min, there.x_max, there.y_max
    return rasterise_polygon([left, top, right, top, right, bottom, left, bottom], size)


def _shrunk(mask: Bools, geometry: Geometry) -> Any:
    """Average a mask down to about a cell for each pixel of the grid, so that none is missed."""
    x_min, y_min, x_max, y_max = geometry.crop
    rows = mask.shape[0] * min(1.0, geometry.fitted_height / (y_max - y_min))
    columns = mask.shape[1] * min(1.0, geometry.fitted_width / (x_max - x_min))
    size = (max(1, math.ceil(columns)), max(1, math.ceil(rows)))
    return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)


def _overlaps(box: Box, geometry: Geometry) -> bool:
    return (
        box.x_max > 0
        and box.x_min < geometry.fitted_width
        and box.y_max > geometry.top
        and box.y_min < geometry.top + geometry.fitted_height
    )


def _nearest(box: Box, geometry: Geometry) -> tuple[int, int]:
    """Return row and column of the pixel in which a box's centre lies, or the nearest one."""
    bottom = geometry.top + geometry.fitted_height - 1
    row = math.floor((box.y_min + box.y_max) / 2)
    column = math.floor((box.x_min + box.x_max) / 2)
    return (
        min(max(row, geometry.top), bottom),
        min(max(column, 0), geometry.fitted_width - 1),
    )


def _named(box: Box) -> str:
    return f"its box ({box.x_min:g}, {box.y_min:g}, {box.x_max:g}, {box.y_max:g})"
