"""Is the image upside down in grey: air bright and tissue dark?"""

from __future__ import annotations

import cv2
import numpy as np

from mammoscope.preprocessing.film import film_frame
from mammoscope.preprocessing.levels import grey_at, tissue_levels
from mammoscope.types import ByteImage

__all__ = ["is_inverted"]

# The question needs no more rows than this.
_ROWS = 256
# Air varies by no more than this many grey levels of 255 within five pixels.
_FLAT = 4
# Air lies within this share of the image's range of grey from its darkest or brightest end.
_EXTREME = 0.08
# By how much bright air must outweigh dark air, as a sum of two shares (see is_inverted).
_LEAST_EXCESS = 0.1
# Where dark air outweighs bright by this much, film borders cannot change the answer.
_CLEAR = -0.4


def is_inverted(grey: ByteImage) -> bool:
    """Tell a MONOCHROME1 image that nobody inverted from one shown as it should be.

    Air is flat, lies at one end of the range of grey, and takes up much of the image and of
    the film's border. Flat dark and flat bright pixels are compared on both counts: (bright
    minus dark) share of the area, plus the same along the border. Saturated muscle, implants
    and film borders are flat and bright too, but take up less of either. Of 1,592 films the
    sum lay below -0.1 for all, and above 0.1 for all of their negatives.

    Args:
        grey: (h, w) grey values.
    """
    height, width = grey.shape
    if height > _ROWS:
        size = (max(1, round(width * _ROWS / height)), _ROWS)
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    smooth = np.asarray(cv2.blur(grey, (3, 3)), np.uint8)
    film = np.ones_like(grey)
    if _excess(smooth, film) < _CLEAR:
        return False
    negative: ByteImage = 255 - grey
    frame = film_frame(grey, tissue_levels(smooth).threshold)
    frame |= film_frame(negative, tissue_levels(255 - smooth).threshold)
    film -= frame
    return bool(film.any()) and _excess(smooth, film) > _LEAST_EXCESS


def _excess(smooth: ByteImage, film: ByteImage) -> float:
    """Flat bright minus flat dark pixels: share of the area plus share of the border."""
    square = np.ones((5, 5), np.uint8)
    spread = cv2.subtract(cv2.dilate(smooth, square), cv2.erode(smooth, square))
    inside = film > 0
    flat = inside & (spread <= _FLAT)
    low, high = grey_at(0.01, smooth, film), grey_at(0.99, smooth, film)
    reach = _EXTREME * (high - low)
    dark, bright = flat & (smooth <= low + reach), flat & (smooth >= high - reach)
    nine = np.ones((9, 9), np.uint8)
    inner = cv2.erode(film, nine, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    ring = inside & (inner == 0)
    area = int(bright.sum()) - int(dark.sum())
    along = int((bright & ring).sum()) - int((dark & ring).sum())
    return area / smooth.size + along / max(1, int(ring.sum()))
