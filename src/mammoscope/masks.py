"""Masks of lesions: as run lengths in a table, from what was drawn, and back to an outline.

A pixel belongs to a shape where its centre lies in it; pixel (row 0, column 0) is centred on
(x 0.5, y 0.5), so that a shape and a half-open box are told in the same coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mammoscope.types import Bools, Floats

__all__ = [
    "decode",
    "encode",
    "outline",
    "rasterise_circle",
    "rasterise_ellipse",
    "rasterise_polygon",
]


def encode(mask: Bools) -> list[int]:
    """Return the run lengths of a mask, row by row.

    Args:
        mask: (H, W) bool.

    Returns:
        How many pixels in turn are outside and inside; the first count is of those outside and
        may be 0. Their sum is H x W.
    """
    flat = np.ascontiguousarray(mask, dtype=np.bool_).ravel()
    if not flat.size:
        return []
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]]))
    counts: list[int] = runs.tolist()
    return [0, *counts] if flat[0] else counts


def decode(runs: Sequence[int], size: tuple[int, int]) -> Bools:
    """Return the mask of run lengths, (H, W) bool.

    Args:
        runs: From :func:`encode`.
        size: (H, W).

    Raises:
        ValueError: If they are not the runs of a mask of this size.
    """
    counts = np.asarray(runs, dtype=np.int64)
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != size[0] * size[1]:
        raise ValueError(
            f"runs of {int(counts.sum())} pixels are not those of a mask of {size[0]} x {size[1]}"
        )
    return np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(size)


def rasterise_polygon(contour: Sequence[float], size: tuple[int, int]) -> Bools:
    """Return the pixels within a closed contour, (H, W) bool.

    What it runs around more than once is within too, as hand-drawn contours cross themselves
    (the non-zero winding rule).

    Args:
        contour: x and y of each point in turn; the last joins the first.
        size: (H, W); what lies beyond is cut off.

    Raises:
        ValueError: If a point lacks its y.
    """
    if len(contour) % 2:
        raise ValueError(f"a contour of {len(contour)} numbers is not one of points")
    points = np.asarray(contour, dtype=np.float64).reshape(-1, 2)
    # Down the rows, an edge is crossed on its way right by every pixel centre beyond it; what it
    # adds is +1 or -1 by its direction.
    turns = np.zeros((size[0], size[1] + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        top, bottom = (y0, y1) if y0 < y1 else (y1, y0)
        rows = np.arange(_first_centre(top, size[0]), _first_centre(bottom, size[0]))
        if not rows.size:
            continue
        across = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(across - 0.5), 0, size[1]).astype(np.int64)
        turns[rows, columns] += 1 if y0 < y1 else -1
    inside: Bools = np.cumsum(turns, axis=1)[:, :-1] != 0
    return inside


def rasterise_circle(x: float, y: float, radius: float, size: tuple[int, int]) -> Bools:
    """Return the pixels within a circle, (H, W) bool.

    Args:
        x: Its centre from the left border.
        y: Its centre from the upper border.
        radius: In pixels.
        size: (H, W).
    """
    return rasterise_ellipse((x - radius, y - radius, x + radius, y + radius), size)


def rasterise_ellipse(box: tuple[float, float, float, float], size: tuple[int, int]) -> Bools:
    """Return the pixels within the ellipse that a box (x_min, y_min, x_max, y_max) encloses."""
    x_min, y_min, x_max, y_max = box
    if x_max <= x_min or y_max <= y_min:
        return np.zeros(size, dtype=np.bool_)
    across = _offsets(size[1], x_min, x_max)
    down = _offsets(size[0], y_min, y_max)
    inside: Bools = down[:, None] ** 2 + across[None] ** 2 < 1
    return inside


def outline(mask: Bools) -> list[list[float]]:
    """Return the closed contours of a mask, those around holes included.

    They run within the outermost pixels, a quarter of a pixel from their edges; rasterised and
    laid over one another, odd ones in and even ones out, they give the mask again.

    Args:
        mask: (H, W) bool.

    Returns:
        For each contour x and y of each point in turn.
    """
    # Twice as fine, so that a line through pixel centres encloses the mask's own.
    fine = np.repeat(np.repeat(np.asarray(mask, dtype=np.uint8), 2, axis=0), 2, axis=1)
    rings, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [((ring.reshape(-1).astype(np.float64) + 0.5) / 2).tolist() for ring in rings]


def _first_centre(edge: float, count: int) -> int:
    """Return the first of a number of pixels whose centre does not lie before an edge."""
    return int(np.clip(np.ceil(edge - 0.5), 0, count))


def _offsets(count: int, low: float, high: float) -> Floats:
    """Return pixel centres of an axis from -1 to 1 between two ends."""
    centres = np.arange(count, dtype=np.float64) + 0.5
    return np.asarray((centres - (low + high) / 2) / ((high - low) / 2), dtype=np.float64)
