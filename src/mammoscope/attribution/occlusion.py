"""Occlusion: does hiding the hottest region change the score more than hiding another?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from mammoscope.types import ByteImage, FloatImage, Floats, GreyImage, Ints

__all__ = ["Occluded", "occlude", "patch_at"]

#: Logits of prepared images, (B,) for B arrays (H, W).
Score = Callable[[list[GreyImage]], Floats]

# How far around a hidden patch its filling is taken from, in pixels.
_REACH_PX = 3
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Occluded:
    """What hiding did to one image's logit.

    Attributes:
        hottest: How far the logit fell when the hottest region was hidden; below 0 it rose.
        others: (K,) the same for other patches of that size in the breast.
    """

    hottest: float
    others: Floats


def occlude(
    image: GreyImage,
    heatmap: FloatImage,
    score: Score,
    *,
    side_px: int,
    others: int,
    seed: int,
) -> Occluded | None:
    """Hide the hottest region of an image, then as many others, and score each.

    What is hidden is filled from its surroundings (Telea, J. Graphics Tools 9, 2004): a black
    patch would be a sight that the network has never had, and change the score by that.

    Args:
        image: (H, W) prepared grey values; the background is 0.
        heatmap: (h, w) that covers it.
        score: The exported graph.
        side_px: Side of the patches.
        others: How many other patches, drawn at random where there is breast, none of them
            touching the hottest.
        seed: Of the drawing.

    Returns:
        ``None`` where the breast has no room for another patch.
    """
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    height, width = image.shape
    centre = (
        round((row + 0.5) * height / heatmap.shape[0]),
        round((column + 0.5) * width / heatmap.shape[1]),
    )
    hottest = patch_at(image.shape, centre, side_px)
    places = _elsewhere(image, hottest, side_px, others, np.random.default_rng(seed))
    if not places:
        return None
    hidden = [_hidden(image, patch) for patch in [hottest, *places]]
    logits = score([image, *hidden])
    fallen = logits[0] - logits[1:]
    return Occluded(float(fallen[0]), fallen[1:])


def patch_at(shape: tuple[int, ...], centre: tuple[int, int], side_px: int) -> tuple[slice, slice]:
    """Return the square around a place (row, column), moved to lie in an image of a shape."""
    starts = [
        min(max(0, place - side_px // 2), max(0, length - side_px))
        for place, length in zip(centre, shape, strict=True)
    ]
    rows, columns = (slice(start, start + side_px) for start in starts)
    return rows, columns


def _elsewhere(
    image: GreyImage,
    hottest: tuple[slice, slice],
    side_px: int,
    count: int,
    rng: np.random.Generator,
) -> list[tuple[slice, slice]]:
    """Draw patches around places in the breast that do not touch the hottest one."""
    tissue: Ints = np.argwhere(image > 0)
    found: list[tuple[slice, slice]] = []
    if not tissue.size:
        return found
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        y, x = tissue[rng.integers(len(tissue))]
        patch = patch_at(image.shape, (int(y), int(x)), side_px)
        if not all(_overlap(ours, theirs) for ours, theirs in zip(patch, hottest, strict=True)):
            found.append(patch)
    return found


def _overlap(first: slice, second: slice) -> bool:
    return bool(first.start < second.stop and second.start < first.stop)


def _hidden(image: GreyImage, patch: tuple[slice, slice]) -> GreyImage:
    mask: ByteImage = np.zeros(image.shape, np.uint8)
    mask[patch] = 1
    filled = image.copy()
    filled[patch] = cv2.inpaint(image, mask, _REACH_PX, cv2.INPAINT_TELEA)[patch]
    return filled
