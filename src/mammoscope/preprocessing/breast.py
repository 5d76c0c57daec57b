"""Where the breast is: mask, bounding box, the side of the chest wall, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammoscope.dicom.presented import Presented
from mammoscope.errors import IneligibleImageError, Reason
from mammoscope.preprocessing.film import cut_labels, cut_strips, film_frame
from mammoscope.preprocessing.levels import LEAST_CONTRAST, Levels, grey_at, tissue_levels
from mammoscope.preprocessing.polarity import is_inverted
from mammoscope.preprocessing.quality import borders_touched, kept_share, mask_quality
from mammoscope.types import ByteImage, FloatImage, Laterality

__all__ = ["BreastRegion", "find_breast"]

# The mask is found on a copy of at most this height: outlines need no more.
_WORK_HEIGHT = 512
# A 2D mammogram shows the breast on at least this share of the detector.
_LEAST_AREA = 0.02
# Bridges narrower than twice this share of the shorter side part a label from the breast.
_BRIDGE = 0.025
# White noise loses three quarters of its spread where the smoothing widens fourfold; tissue,
# whose structure is coarse, loses little.
_NOISE_LOSS = 0.45


@dataclass(frozen=True, slots=True)
class BreastRegion:
    """The breast found in an image.

    Attributes:
        mask: (h, w) uint8 of 0 and 1 on a reduced grid.
        labels: (h, w) uint8, 1 where a label that touched the breast was cut out: not breast,
            however far the mask is grown.
        box: (x_min, y_min, x_max, y_max), half-open, in pixels of the image.
        chest_wall: Side of the image on which the chest wall lies, ``L`` for left.
        area_fraction: Share of the image that is breast.
        inverted: Air is bright and tissue dark: a MONOCHROME1 image that nobody inverted. The
            mask is that of the image with its grey values turned round.
        kept_fraction: Share of the bright region that hangs together with the breast which
            the mask keeps; the rest was taken for labels or edges of the film.
        borders: Borders of the film that the mask touches, of ``left``, ``top``, ``right`` and
            ``bottom``. The chest wall's is expected; the one opposite is suspicious.
        quality: In [0, 1]; low for a mask to look at (see :func:`.quality.mask_quality`).
    """

    mask: ByteImage
    labels: ByteImage
    box: tuple[int, int, int, int]
    chest_wall: Laterality
    area_fraction: float
    inverted: bool
    kept_fraction: float
    borders: tuple[str, ...]
    quality: float


def find_breast(pixels: FloatImage | Presented) -> BreastRegion:
    """Find the breast: the largest bright region, without film borders, strips and labels.

    Args:
        pixels: (H, W) presentation values in [0, 1].

    Raises:
        IneligibleImageError: ``blank_image`` if all pixels are alike, ``no_breast`` if
            nothing large enough stands out of the background, or all is noise.
    """
    height, width = pixels.shape
    grey = _reduce(Presented.of(pixels))
    inverted = is_inverted(grey)
    if inverted:
        grey = 255 - grey
    smooth = np.asarray(cv2.GaussianBlur(grey, (0, 0), 2.0), np.uint8)
    if int(smooth.max()) - int(smooth.min()) < LEAST_CONTRAST:
        raise IneligibleImageError(
            Reason.BLANK_IMAGE, "all pixels are alike: their grey values span less than 3 %"
        )
    frame = film_frame(grey, tissue_levels(smooth).threshold)
    levels = tissue_levels(smooth, frame)
    foreground = _foreground(smooth, frame, levels)
    mask, labels = foreground, np.zeros_like(grey)
    if levels.has_air:
        whole = cut_strips(_largest_core(foreground), frame)
        clean = cut_labels(whole, grey, levels.threshold)
        mask, labels = _largest(clean), whole & (1 - clean)
    area = float(mask.mean())
    if area < _LEAST_AREA:
        raise IneligibleImageError(
            Reason.NO_BREAST,
            f"the largest bright region covers {area:.1%} of the image; a breast covers "
            f"at least {_LEAST_AREA:.0%}",
        )
    wall = _chest_wall(mask, frame)
    kept = kept_share(mask, foreground)
    touched = borders_touched(mask, frame)
    air = levels.background if levels.has_air else 0
    contrast = grey_at(0.5, grey, mask) - air
    return BreastRegion(
        mask=mask,
        labels=labels,
        box=_box(mask, height, width),
        chest_wall=wall,
        area_fraction=area,
        inverted=inverted,
        kept_fraction=kept,
        borders=tuple(touched),
        quality=mask_quality(mask, touched, wall, kept, contrast),
    )


def _reduce(image: Presented) -> ByteImage:
    """Shrink to at most the working height, and to 8 bits.

    Halves first: OpenCV averages whole pairs ten times faster than broken ratios. An odd
    last row or column is left out, which moves nothing by more than a cell of the result.
    """
    height, width = image.shape
    while image.shape[0] >= 2 * _WORK_HEIGHT and image.shape[1] > 1:
        image = Presented(image.halved)
    pixels = image.full
    if height > _WORK_HEIGHT:
        size = (max(1, round(width * _WORK_HEIGHT / height)), _WORK_HEIGHT)
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        pixels = np.asarray(small, dtype=np.float32)
    grey = np.clip(pixels * np.float32(255) + np.float32(0.5), 0, 255)
    return np.asarray(grey, dtype=np.uint8)


def _foreground(smooth: ByteImage, frame: ByteImage, levels: Levels) -> ByteImage:
    """Tissue by its grey level; the whole film where there is no air."""
    film = frame == 0
    if levels.has_air:
        return np.asarray(film & (smooth > levels.threshold), dtype=np.uint8)
    coarse = cv2.blur(smooth.astype(np.float32), (27, 27))
    if float(coarse[film].std()) < _NOISE_LOSS * float(smooth[film].std()):
        raise IneligibleImageError(
            Reason.NO_BREAST, "the image holds noise alone: no air, and no structure in it"
        )
    return np.asarray(film, np.uint8)


def _largest_core(foreground: ByteImage) -> ByteImage:
    """Keep the largest part of the foreground after cutting bridges; fill its holes.

    The outside of the image counts as air where bridges are cut, so that strips along the
    border vanish too, while tissue that is cut by the border only loses its corners, which
    are then given back.
    """
    reach = max(2.0, _BRIDGE * min(foreground.shape))
    padded = cv2.copyMakeBorder(foreground, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.distanceTransform(padded, cv2.DIST_L2, 5)
    core = _largest(np.asarray(inner > reach, dtype=np.uint8))
    if not core.any():
        return np.zeros_like(foreground)
    # What lies within reach of the core is the opening; two pixels more give back the nipple.
    near = cv2.distanceTransform(1 - core, cv2.DIST_L2, 5) <= reach + 2
    return _largest(np.asarray(near & (padded > 0), dtype=np.uint8))[1:-1, 1:-1]


def _largest(mask: ByteImage) -> ByteImage:
    """The largest region, its holes filled."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    if contours:
        largest = max(contours, key=cv2.contourArea)
        cv2.drawContours(filled, [largest], -1, color=1, thickness=cv2.FILLED)
    return filled


def _box(mask: ByteImage, height: int, width: int) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    down, across = height / mask.shape[0], width / mask.shape[1]
    return (
        int(np.floor(columns[0] * across)),
        int(np.floor(rows[0] * down)),
        min(width, int(np.ceil((columns[-1] + 1) * across))),
        min(height, int(np.ceil((rows[-1] + 1) * down))),
    )


def _chest_wall(mask: ByteImage, frame: ByteImage) -> Laterality:
    """The side with more breast along the film's edge, or in its half: tissue tapers away."""
    columns = mask.sum(axis=0, dtype=np.int64)
    film = np.flatnonzero((frame.mean(axis=0) < 0.5) | (columns > 0))
    first, end = int(film[0]), int(film[-1]) + 1
    band = max(1, round(0.05 * mask.shape[1]))
    left = int(columns[first : first + band].sum())
    right = int(columns[max(first, end - band) : end].sum())
    if left == right:
        present = np.flatnonzero(columns)
        middle = (present[0] + present[-1] + 1) // 2
        left, right = int(columns[:middle].sum()), int(columns[middle:].sum())
    return Laterality.L if left >= right else Laterality.R
