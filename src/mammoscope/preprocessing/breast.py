"""Where the breast is: mask, bounding box, and the side of the chest wall."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammoscope.errors import IneligibleImageError, Reason
from mammoscope.types import ByteImage, FloatImage, Laterality

__all__ = ["BreastRegion", "find_breast"]

# The mask is found on a copy of at most this height: outlines need no more.
_WORK_HEIGHT = 512
# A 2D mammogram shows the breast on at least this share of the detector.
_LEAST_AREA = 0.02
# Grey levels of 255 above the background's that count as tissue, at the least.
_LEAST_CONTRAST = 6
# Grey level of 255 above which the darkest peak of the histogram is tissue, not air.
_BRIGHTEST_BACKGROUND = 64


@dataclass(frozen=True, slots=True)
class BreastRegion:
    """The breast found in an image.

    Attributes:
        mask: (h, w) uint8 of 0 and 1 on a reduced grid.
        box: (x_min, y_min, x_max, y_max), half-open, in pixels of the image.
        chest_wall: Side of the image on which the chest wall lies, ``L`` for left.
        area_fraction: Share of the image that is breast.
    """

    mask: ByteImage
    box: tuple[int, int, int, int]
    chest_wall: Laterality
    area_fraction: float


def find_breast(pixels: FloatImage) -> BreastRegion:
    """Find the breast as the largest bright region that labels and frames do not belong to.

    Args:
        pixels: (H, W) float32 presentation values in [0, 1].

    Raises:
        IneligibleImageError: ``blank_image`` if all pixels are alike, ``no_breast`` if
            nothing large enough stands out of the background.
    """
    height, width = pixels.shape
    scale = min(1.0, _WORK_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey: ByteImage = np.clip(small * 255.0 + 0.5, 0, 255).astype(np.uint8)
    if int(grey.max()) - int(grey.min()) < _LEAST_CONTRAST:
        raise IneligibleImageError(
            Reason.BLANK_IMAGE, "all pixels are alike: their grey values span less than 3 %"
        )
    mask = _largest_region(_foreground(_without_frame(grey)))
    area = float(mask.mean())
    if area < _LEAST_AREA:
        raise IneligibleImageError(
            Reason.NO_BREAST,
            f"the largest bright region covers {area:.1%} of the image; a breast covers "
            f"at least {_LEAST_AREA:.0%}",
        )
    return BreastRegion(mask, _box(mask, height, width), _chest_wall(mask), area)


def _without_frame(grey: ByteImage) -> ByteImage:
    """Blank the white frame of a scanned film: bright lines along an edge of the image.

    A line counts where at least 30 % of it is nearly white and it lies within the outer
    6 %; all lines from it out to the edge are blanked. Tissue at the chest wall is not white
    over such a length, or the film would be overexposed.
    """
    clean = grey.copy()
    black = int(grey.min())
    for view, lines in ((clean, grey), (clean.T, grey.T)):
        length = lines.shape[0]
        depth = max(1, round(0.06 * length))
        white = (lines > 235).mean(axis=1) >= 0.3
        first, last = np.flatnonzero(white[:depth]), np.flatnonzero(white[length - depth :])
        if first.size:
            view[: first[-1] + 2] = black
        if last.size:
            view[length - depth + last[0] - 1 :] = black
    return clean


def _foreground(grey: ByteImage) -> ByteImage:
    """Threshold between background and tissue.

    The background is the darkest large peak of the histogram; Otsu's threshold alone
    lies too high, as it parts fat from gland.
    """
    smooth = cv2.GaussianBlur(grey, (0, 0), 2.0)
    otsu, _ = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    dark = smooth[smooth <= otsu]
    counts = np.bincount(dark, minlength=256)
    background = int(np.argmax(counts))
    if background > _BRIGHTEST_BACKGROUND:
        # Air is shown dark: where nothing is, the breast fills the image.
        return np.ones_like(grey)
    threshold = background + max(_LEAST_CONTRAST, 0.35 * (float(otsu) - background))
    return np.asarray(smooth > threshold, dtype=np.uint8)


def _largest_region(foreground: ByteImage) -> ByteImage:
    """Keep the largest region after parting thin bridges; fill its holes.

    Labels and tape touch the breast by thin bridges at most, which the opening cuts. The
    outside of the image counts as background, so film edges, which are thin strips along
    the border, vanish too, while tissue that is cut by the border only loses its corners.
    """
    height, width = foreground.shape
    reach = max(3, round(0.03 * min(height, width)) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    padded = cv2.copyMakeBorder(
        foreground, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0
    )
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)
    opened = opened[reach : reach + height, reach : reach + width]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros_like(foreground)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    region = (labels == largest).astype(np.uint8)
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(region)
    cv2.drawContours(filled, contours, -1, color=1, thickness=cv2.FILLED)
    return np.asarray(filled, dtype=np.uint8)


def _box(mask: ByteImage, height: int, width: int) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    down, across = height / mask.shape[0], width / mask.shape[1]
    return (
        int(np.floor(columns[0] * across)),
        int(np.floor(rows[0] * down)),
        min(width, int(np.ceil((columns[-1] + 1) * across))),
        min(height, int(np.ceil((rows[-1] + 1) * down))),
    )


def _chest_wall(mask: ByteImage) -> Laterality:
    """The side with more breast in its half of the breast's own box: tissue tapers away."""
    columns = mask.sum(axis=0, dtype=np.int64)
    band = max(1, round(0.05 * mask.shape[1]))
    left, right = int(columns[:band].sum()), int(columns[-band:].sum())
    if left == right:
        present = np.flatnonzero(columns)
        middle = (present[0] + present[-1] + 1) // 2
        left, right = int(columns[:middle].sum()), int(columns[middle:].sum())
    return Laterality.L if left >= right else Laterality.R
