"""Text-like shapes outside the breast: view markers, plates with names, labels."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from mammoscope.dicom.burned_in import PixelInspection
from mammoscope.preprocessing.breast import find_breast
from mammoscope.types import ByteImage, FloatImage

__all__ = ["inspect_pixels"]

# Letters of 2 mm on a detector of 240 mm are 17 pixels high at this height.
_WORK_HEIGHT = 2048
# Margin around the breast, as a share of the height: the mask's edge lies inside the skin.
_MARGIN = 0.015
# Grey levels of 255 by which letters stand out of the air: faint ones are seen at the first,
# bright ones, whose glow joins them, come apart at the others. Lower than a tenth of the range,
# the glow of the skin would be taken for letters.
_CONTRASTS = (24, 60, 120)
# A letter's longer side in shares of the height: from 1 mm to 24 mm on 240 mm.
_LETTER_SIDE = (0.004, 0.1)
_LEAST_LETTER_PX = 5
# Letters of one word: the gap and the ratio of the longer sides.
_WIDEST_GAP, _LARGEST_RATIO = 1.2, 2.5

_Rectangle = tuple[int, int, int, int]  # x, y, width, height


def inspect_pixels(pixels: FloatImage) -> PixelInspection:
    """Find the breast with a margin, and shapes outside it that look like letters.

    A letter is a small region brighter than the air around it, or a small hole in a bright
    plate; two of like size side by side, in whichever direction, are text. It is meant to see
    too much rather than too little: what it finds is refused or blanked, not read.

    Args:
        pixels: (H, W) float32 presentation values in [0, 1], tissue bright.

    Raises:
        IneligibleImageError: If all pixels are alike, or there is no breast.
    """
    region = find_breast(pixels)
    height, width = pixels.shape
    reach = max(1, round(_MARGIN * region.mask.shape[0]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    grown = cv2.dilate(region.mask, kernel)
    scale = min(1.0, _WORK_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey: ByteImage = np.clip(small * 255.0 + 0.5, 0, 255).astype(np.uint8)
    inside = np.asarray(cv2.resize(grown, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    levels = [_letters(grey, inside, contrast) for contrast in _CONTRASTS]
    boxes = [
        (
            int(x / scale),
            int(y / scale),
            min(width, int(np.ceil((x + w) / scale))),
            min(height, int(np.ceil((y + h) / scale))),
        )
        for x, y, w, h in sorted({box for level in levels for box in _in_words(level)})
    ]
    breast = cv2.resize(grown, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    return PixelInspection(breast, tuple(boxes))


def _letters(grey: ByteImage, inside: ByteImage, contrast: int) -> list[_Rectangle]:
    """Return regions and holes of a letter's size that stand out of the air.

    Args:
        grey: (h, w) uint8.
        inside: (h, w) uint8, 1 on the breast.
        contrast: Grey levels by which they stand out.
    """
    air = int(np.median(grey[inside == 0])) if (inside == 0).any() else 0
    bright = ((grey > min(254, air + contrast)) & (inside == 0)).astype(np.uint8)
    # Outlines of regions and of the holes in them, such as black letters on a white plate.
    outlines, _ = cv2.findContours(bright, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    least = max(_LEAST_LETTER_PX, _LETTER_SIDE[0] * grey.shape[0])
    most = _LETTER_SIDE[1] * grey.shape[0]
    rectangles: Iterable[_Rectangle] = (cv2.boundingRect(line) for line in outlines)  # type: ignore[misc]
    return [box for box in rectangles if least <= max(box[2:]) <= most]


def _in_words(letters: list[_Rectangle]) -> list[_Rectangle]:
    """Keep letters that have a neighbour of like size."""
    if len(letters) < 2:
        return []
    boxes = np.array(letters, dtype=np.float64)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    side = boxes[:, 2:].max(axis=1)
    kept = []
    for n, letter in enumerate(letters):
        gap = np.maximum(low - high[n], low[n] - high).max(axis=1)
        ratio = np.maximum(side / side[n], side[n] / side)
        near = (gap <= _WIDEST_GAP * np.minimum(side, side[n])) & (ratio <= _LARGEST_RATIO)
        near[n] = False
        if near.any():
            kept.append(letter)
    return kept
