"""Grey levels that part air from tissue."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.types import ByteImage

__all__ = ["LEAST_CONTRAST", "Levels", "grey_at", "tissue_levels"]

#: Grey levels of 255 above the background's that count as tissue, at the least.
LEAST_CONTRAST = 6
# Grey level of 255 above which the darkest peak of the histogram is tissue, not air.
_BRIGHTEST_BACKGROUND = 64
# Grey level of the median of tissue over that of air, at the least.
_LEAST_RATIO = 1.5
# Air fills one narrow peak: this share of all dark pixels within so many grey levels.
_LEAST_PEAK, _PEAK_WIDTH = 0.25, 4


class Levels(NamedTuple):
    """Where air ends and tissue begins.

    Attributes:
        background: Grey level of air.
        threshold: Grey level above which a pixel is tissue.
        has_air: False where the dark pixels are no air: the breast fills the image.
    """

    background: int
    threshold: int
    has_air: bool


def tissue_levels(smooth: ByteImage, excluded: ByteImage | None = None) -> Levels:
    """Find air's peak in the histogram and the threshold above it.

    Otsu's threshold (Otsu 1979, IEEE Trans SMC 9:62) on grey levels parts gland from fat, and
    lies so high that fat beside a dense gland counts as air. On the logarithm of the level
    above air, in which fat and gland lie close together, it parts air from skin.

    Args:
        smooth: (h, w) grey values, noise smoothed.
        excluded: (h, w), not 0 where a pixel does not count.
    """
    counted = None if excluded is None else np.asarray(excluded == 0, dtype=np.uint8)
    counts = cv2.calcHist([smooth], [0], counted, [256], [0, 256]).ravel().astype(np.float64)
    grey = np.arange(256.0)
    dark = counts[: _otsu(counts, grey) + 1]
    background = int(np.argmax(dark))
    above = np.log2(1.0 + np.maximum(0.0, grey - background))
    threshold = max(background + LEAST_CONTRAST, _otsu(counts, above))
    peak = dark[max(0, background - _PEAK_WIDTH) : background + _PEAK_WIDTH + 1].sum()
    tissue = np.cumsum(counts[threshold + 1 :])
    median = threshold + 1 + int(np.searchsorted(tissue, tissue[-1] / 2)) if tissue.size else 255
    has_air = (
        background <= _BRIGHTEST_BACKGROUND
        and bool(peak >= _LEAST_PEAK * dark.sum())
        and median >= _LEAST_RATIO * background
    )
    return Levels(background, threshold, has_air)


def grey_at(share: float, grey: ByteImage, mask: ByteImage) -> int:
    """Grey level that this share of the mask's pixels do not exceed."""
    counts = cv2.calcHist([grey], [0], mask, [256], [0, 256]).ravel().astype(np.float64)
    below = np.cumsum(counts)
    return int(np.searchsorted(below, share * below[-1]))


def _otsu(counts: NDArray[np.float64], at: NDArray[np.float64]) -> int:
    """Index of the last bin of the lower class that makes the classes' means differ most."""
    weight, moment = np.cumsum(counts), np.cumsum(counts * at)
    both = weight * (weight[-1] - weight)
    between = (moment[-1] * weight - weight[-1] * moment) ** 2 / np.maximum(both, 1.0)
    return int(np.argmax(np.where(both > 0, between, -1.0)))
