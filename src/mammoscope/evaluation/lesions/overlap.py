"""Predicted masks against true ones: Dice, intersection over union, distance of the outlines.

Sources: Dice, Ecology 26, 1945; Huttenlocher et al., IEEE TPAMI 15, 1993 (Hausdorff distance);
Maier-Hein et al., Metrics reloaded, Nat. Methods 21, 2024, whose 95th percentile is taken of either
direction and the larger of the two kept, as MONAI does too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mammoscope.types import Bools, Floats

__all__ = ["Overlap", "compared", "hausdorff_95", "parts_found", "window"]

_PERCENTILE = 95
# Distances between so many pairs of points are held at once.
_PAIRS = 4_000_000


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two masks share.

    Attributes:
        dice: Twice the shared area over the sum of both; ``None`` where both are empty.
        iou: The shared area over that of either.
        covered: Share of the true mask that is predicted; ``None`` where there is none.
        hausdorff_95: Distance of the outlines in the unit of the spacing; ``None`` where a mask
            is empty.
    """

    dice: float | None
    iou: float | None
    covered: float | None
    hausdorff_95: float | None


def compared(predicted: Bools, truth: Bools, spacing: tuple[float, float] = (1.0, 1.0)) -> Overlap:
    """Compare two masks.

    Args:
        predicted: (H, W).
        truth: (H, W).
        spacing: Height and width of a pixel, in the unit in which distances are to be.
    """
    shared = int((predicted & truth).sum())
    there, drawn = int(truth.sum()), int(predicted.sum())
    union = there + drawn - shared
    if not union:
        return Overlap(None, None, None, None)
    return Overlap(
        2 * shared / (there + drawn),
        shared / union,
        shared / there if there else None,
        hausdorff_95(predicted, truth, spacing),
    )


def hausdorff_95(
    one: Bools, other: Bools, spacing: tuple[float, float] = (1.0, 1.0)
) -> float | None:
    """Return the distance of two outlines that 95 % of either keep from the other.

    Of the distances of each outline's pixels to the other outline the 95th percentile is taken,
    in both directions, and the larger of the two.

    Args:
        one: (H, W).
        other: (H, W).
        spacing: Height and width of a pixel.

    Returns:
        The distance, ``None`` where a mask is empty.
    """
    edges = [_edge(mask, spacing) for mask in (one, other)]
    if not all(edge.size for edge in edges):
        return None
    there, back = _nearest(*edges), _nearest(edges[1], edges[0])
    return float(max(np.percentile(there, _PERCENTILE), np.percentile(back, _PERCENTILE)))


def window(
    box: tuple[float, float, float, float], margin: float, size: tuple[int, int]
) -> tuple[slice, slice]:
    """Return rows and columns of a box grown by a share of its longer side, cut at the borders.

    Args:
        box: x_min, y_min, x_max, y_max.
        margin: On every side, as a share of the longer side.
        size: (H, W) of the mask.
    """
    more = margin * max(box[2] - box[0], box[3] - box[1])
    rows, columns = (
        slice(
            int(np.clip(np.floor(box[low] - more), 0, end)),
            int(np.clip(np.ceil(box[low + 2] + more), 0, end)),
        )
        for low, end in ((1, size[0]), (0, size[1]))
    )
    return rows, columns


def parts_found(predicted: Bools, lesions: Sequence[Bools], least: float) -> tuple[list[bool], int]:
    """Say which lesions the parts of a mask find, and how many parts find none.

    Parts touch by side or corner. One that finds no lesion is a false positive unless half of it
    lies in lesions.

    Args:
        predicted: (H, W).
        lesions: (H, W) each.
        least: Intersection over union of a part and a lesion at which it finds it.
    """
    count, labels = cv2.connectedComponents(predicted.astype(np.uint8), connectivity=8)
    area = np.bincount(labels.ravel(), minlength=count)
    free = np.ones(count, dtype=np.bool_)
    inside = np.zeros(predicted.shape, dtype=np.bool_)
    found = []
    for lesion in lesions:
        shared = np.bincount(labels[lesion], minlength=count)
        hits = shared >= least * (area + int(lesion.sum()) - shared)
        hits[0] = False
        found.append(bool(hits.any()))
        free &= ~hits
        inside |= lesion
    covered = np.bincount(labels[inside], minlength=count)
    free[0] = False
    return found, int((free & (2 * covered < area)).sum())


def _edge(mask: Bools, spacing: tuple[float, float]) -> Floats:
    """Return the places of pixels that have a neighbour by side outside the mask, (K, 2)."""
    padded = np.pad(mask, 1)
    within = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    places = np.argwhere(mask & ~within).astype(np.float64)
    return np.asarray(places * spacing, dtype=np.float64)


def _nearest(points: Floats, others: Floats) -> Floats:
    """Return how far each of (K, 2) points is from the nearest of (M, 2) others, (K,)."""
    step = max(1, _PAIRS // len(others))
    parts = []
    for start in range(0, len(points), step):
        part = points[start : start + step, None]
        parts.append(np.hypot(*(part - others[None]).transpose(2, 0, 1)).min(axis=1))
    return np.concatenate(parts)
