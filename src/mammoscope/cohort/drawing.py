"""One finding, from what a table and a mask file say to the pixels of the network's grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammoscope.cohort.mask_files import fits_image, read_mask
from mammoscope.config import LesionsConfig
from mammoscope.errors import DicomError
from mammoscope.masks import encode, rasterise_ellipse, rasterise_polygon
from mammoscope.preprocessing import Geometry
from mammoscope.types import Bools, Box

__all__ = ["OUTSIDE", "Drawn", "Wrong", "draw"]

#: Code of a fault of the crop, not of the finding.
OUTSIDE = "outside_crop"

_Sides = tuple[float, float, float, float]

# A resized mask keeps its image's proportions, give or take the rounding of its sides.
_PROPORTION_SLACK = 0.02


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finding on the network's grid.

    Attributes:
        box: In original pixels, within the image.
        runs: Run lengths of its mask on the grid, of at least one pixel.
    """

    box: Box
    runs: list[int]


@dataclass(frozen=True, slots=True)
class Wrong:
    """One fault of a finding: a code, a sentence, and whether it could be mended."""

    code: str
    sentence: str
    mended: bool


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
    if any(not fault.mended for fault in wrong) or (wrong and config.faults != "repair"):
        return None, wrong
    if box is None:
        return None, wrong
    there = geometry.to_network(box)
    if not _overlaps(there, geometry):
        crop = geometry.original_crop
        named = f"({crop.x_min:g}, {crop.y_min:g}, {crop.x_max:g}, {crop.y_max:g})"
        sentence = f"{_named(box)} lies outside the crop {named} that the network sees"
        return None, [Wrong(OUTSIDE, sentence, mended=False)]
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
    mended = row["x_min"] is not None
    instead = "its box is taken" if mended else "and there is no box"
    try:
        marked = read_mask(root / row["mask"])
    except (DicomError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        wrong.append(Wrong("mask_unreadable", f"its mask {row['mask']}: {why}; {instead}", mended))
        return None
    if not marked.any() or marked.all():
        what = "every pixel" if marked.any() else "no pixel"
        sentence = f"its mask {row['mask']} marks {what}; {instead}"
        wrong.append(Wrong("mask_empty", sentence, mended))
        return None
    return _of_size(marked, row["mask"], image, wrong, mended=mended)


def _of_size(
    marked: Bools, name: str, image: tuple[int, int], wrong: list[Wrong], *, mended: bool
) -> Bools | None:
    """Bring a mask to the size of its image: cut or filled up by a few pixels, or stretched."""
    if marked.shape == image:
        return marked
    if fits_image((marked.shape[0], marked.shape[1]), image):
        fitted = np.zeros(image, dtype=np.bool_)
        rows, columns = min(image[0], marked.shape[0]), min(image[1], marked.shape[1])
        fitted[:rows, :columns] = marked[:rows, :columns]
        return fitted
    sizes = f"its mask {name} is {marked.shape[0]} x {marked.shape[1]}, the image {image[0]} x "
    sizes += f"{image[1]}"
    down, across = image[0] / marked.shape[0], image[1] / marked.shape[1]
    if abs(down / across - 1) <= _PROPORTION_SLACK:
        wrong.append(Wrong("mask_size", f"{sizes}: stretched", mended=True))
        whole = cv2.resize(
            marked.astype(np.uint8), (image[1], image[0]), interpolation=cv2.INTER_NEAREST
        )
        return np.asarray(whole, dtype=np.bool_)
    instead = "its box is taken" if mended else "and there is no box"
    wrong.append(Wrong("mask_size", f"{sizes}, of other proportions; {instead}", mended))
    return None


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
    named = f"its box ({', '.join('none' if side is None else f'{side:g}' for side in sides)})"
    if any(side is None or not math.isfinite(side) for side in sides):
        wrong.append(Wrong("no_number", f"{named} has a side that is no number", mended=False))
        return None
    x_min, y_min, x_max, y_max = sides
    if x_min > x_max or y_min > y_max:
        wrong.append(Wrong("wrong_order", f"{named} has sides in the wrong order", mended=True))
        x_min, x_max, y_min, y_max = *sorted((x_min, x_max)), *sorted((y_min, y_max))
    if x_min == x_max or y_min == y_max:
        wrong.append(Wrong("no_area", f"{named} has no area", mended=False))
        return None
    cut = _clipped((x_min, y_min, x_max, y_max), image)
    if cut is None:
        sentence = f"{named} lies outside the image of {image[0]} x {image[1]}"
        wrong.append(Wrong("outside_image", sentence, mended=False))
        return None
    if cut != Box(x_min, y_min, x_max, y_max):
        sentence = f"{named} runs over the border of the image of {image[0]} x {image[1]}"
        wrong.append(Wrong("over_border", sentence, mended=True))
    return cut


def _clipped(sides: _Sides, image: tuple[int, int]) -> Box | None:
    x_min, y_min, x_max, y_max = sides
    x_min, y_min = max(x_min, 0.0), max(y_min, 0.0)
    x_max, y_max = min(x_max, float(image[1])), min(y_max, float(image[0]))
    return Box(x_min, y_min, x_max, y_max) if x_max > x_min and y_max > y_min else None


def _contour_of(row: dict[str, Any], wrong: list[Wrong]) -> Sequence[float] | None:
    """Return the contour of a polygon; fewer than three points leave its box."""
    contour: Sequence[float] | None = row["contour"]
    if row["shape"] != "polygon" or contour is None:
        return None
    if len(contour) % 2 or not all(math.isfinite(value) for value in contour):
        what = f"its contour of {len(contour)} numbers is not one of points; its box is taken"
        wrong.append(Wrong("contour", what, mended=True))
        return None
    return contour if len(contour) >= 6 else None


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
