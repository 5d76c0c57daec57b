"""How far a breast mask can be trusted: what it kept, what it touches, a score."""

from __future__ import annotations

import cv2
import numpy as np

from mammoscope.types import ByteImage, Laterality

__all__ = ["borders_touched", "kept_share", "mask_quality"]

# A border is touched by a mask that comes within this share of the side, along this share.
_TOUCH_REACH, _TOUCH_LENGTH = 0.01, 0.02
# Window of the smoothing that shows how ragged an outline is, as a share of the height.
_SMOOTHING = 0.03


def kept_share(mask: ByteImage, foreground: ByteImage) -> float:
    """Share of the bright region that hangs together with the mask which the mask keeps.

    Args:
        mask: (h, w) of 0 and 1.
        foreground: (h, w) of 0 and 1, tissue by its grey level, film borders taken out.
    """
    inside = cv2.bitwise_and(mask, foreground)
    kept = cv2.countNonZero(inside)
    if not kept:
        return 0.0
    y, x = np.unravel_index(int(np.argmax(inside)), inside.shape)
    region = foreground.copy()
    cv2.floodFill(region, None, (int(x), int(y)), 2)
    whole = int(np.count_nonzero((region == 2) | (inside > 0)))
    return kept / whole


def borders_touched(mask: ByteImage, frame: ByteImage) -> dict[str, float]:
    """Borders of the film that the mask touches, with the touched share of the side.

    Args:
        mask: (h, w) of 0 and 1.
        frame: (h, w), 1 where the image shows a film border: the film ends before it.
    """
    height, width = mask.shape
    reach = max(1, round(_TOUCH_REACH * height)), max(1, round(_TOUCH_REACH * width))
    field = 1 - frame
    touched = {}
    for name, axis, flip in (
        ("left", 1, False),
        ("top", 0, False),
        ("right", 1, True),
        ("bottom", 0, True),
    ):
        shown, film = (mask.T, field.T) if axis else (mask, field)
        if flip:
            shown, film = shown[::-1], film[::-1]
        # A film border is no deeper than this; what begins further in touches nothing.
        outer = max(4, shown.shape[0] // 5)
        # A line per column of the side.
        seen = np.ascontiguousarray(shown[:outer].T) > 0
        start = seen.argmax(axis=1)
        gap = start - (np.ascontiguousarray(film[:outer].T) > 0).argmax(axis=1)
        share = float((seen[np.arange(start.size), start] & (gap <= reach[axis])).mean())
        if share >= _TOUCH_LENGTH:
            touched[name] = share
    return touched


def mask_quality(
    mask: ByteImage,
    touched: dict[str, float],
    chest_wall: Laterality,
    kept_fraction: float,
    contrast: float,
) -> float:
    """Score a mask from 0, not to be trusted, to 1: the product of five factors.

    Each falls linearly from 1 to its floor:

    - area: 1 from 6 % to 80 % of the image, 0 at 2 %, 0.3 at all of it;
    - nipple side: 1 where its border is free, 0.2 where half of it or more is touched;
    - outline: 1 up to 1.15 times the length of the smoothed outline, 0 at 1.6 times;
    - contrast: 1 from 40 grey levels of 255 between median tissue and air, 0 at 6;
    - kept: 1 from 90 % of the bright region, 0 at 40 %.

    Args:
        mask: (h, w) of 0 and 1.
        touched: The touched share of each touched border.
        chest_wall: Where touching is expected.
        kept_fraction: Of :func:`kept_share`.
        contrast: Grey levels of 255 between the median of the breast and air.
    """
    area = float(mask.mean())
    opposite = touched.get("right" if chest_wall is Laterality.L else "left", 0.0)
    return float(
        min(_ramp(area, 0.02, 0.06), 1 - 0.7 * _ramp(area, 0.8, 1.0))
        * (1 - 0.8 * _ramp(opposite, 0.0, 0.5))
        * (1 - _ramp(_raggedness(mask), 1.15, 1.6))
        * _ramp(contrast, 6.0, 40.0)
        * _ramp(kept_fraction, 0.4, 0.9)
    )


def _ramp(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _raggedness(mask: ByteImage) -> float:
    """Length of the outline over that of the outline of the smoothed mask."""
    side = max(3, round(_SMOOTHING * mask.shape[0]) | 1)
    # Borders of the image are no outline of the breast: continue the mask beyond them.
    edge = 2 * side
    wide = cv2.copyMakeBorder(mask * 255, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    smooth = cv2.blur(cv2.blur(wide, (side, side)), (side, side))
    lengths = []
    for image in (wide, smooth):
        outline = cv2.threshold(image, 127, 1, cv2.THRESH_BINARY)[1]
        contours, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        lengths.append(sum(cv2.arcLength(contour, closed=True) for contour in contours))
    return lengths[0] / max(1.0, lengths[1])
