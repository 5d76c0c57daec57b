"""Presentation pixels that are made when they are asked for: all of them, or averaged by twos."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.types import FloatImage

__all__ = ["Presented"]

# Lines that are looked up and averaged while they lie in the processor's cache.
_LINES = 64


class Presented:
    """An image in presentation values, [0, 1], tissue bright.

    Args:
        values: (H, W) float32 presentation values, or the unsigned integers that a table maps
            to them.
        table: Presentation value of each integer, float32.
    """

    def __init__(
        self, values: FloatImage | NDArray[Any], table: NDArray[np.float32] | None = None
    ) -> None:
        self._values = values
        self._table = None if table is None else table.reshape(1, -1)
        height, width = values.shape
        #: (H, W)
        self.shape = (height, width)

    @classmethod
    def of(cls, pixels: FloatImage | Presented) -> Presented:
        """Take pixels as they are, or as they will be made."""
        return pixels if isinstance(pixels, Presented) else cls(pixels)

    @cached_property
    def full(self) -> FloatImage:
        """(H, W) float32."""
        return self._shown(0, self.shape[0])

    @cached_property
    def halved(self) -> FloatImage:
        """Squares of two by two averaged: (H // 2, W // 2) float32.

        Without the full image, which takes more time to write and read than to look up.
        """
        rows, columns = self.shape[0] // 2, self.shape[1] // 2
        halved = np.empty((rows, columns), np.float32)
        for top in range(0, 2 * rows, _LINES):
            lines = self._shown(top, min(top + _LINES, 2 * rows))[:, : 2 * columns]
            to = halved[top // 2 : (top + len(lines)) // 2]
            to[:] = cv2.resize(lines, to.shape[::-1], interpolation=cv2.INTER_AREA)
        return halved

    def _shown(self, top: int, bottom: int) -> FloatImage:
        lines = self._values[top:bottom]
        if self._table is not None:
            lines = cv2.LUT(lines, self._table)
        return np.asarray(lines, dtype=np.float32)
