"""Square tiles over an image, each overlapping the next."""

from __future__ import annotations

import math

import numpy as np

from mammoscope.types import GreyImage

__all__ = ["Corner", "cut", "tile_corners"]

#: (y, x) of a tile's upper left pixel.
Corner = tuple[int, int]


def tile_corners(size: tuple[int, int], side: int, overlap: float) -> list[Corner]:
    """Lay tiles over an image, evenly, the first at its upper left and the last at its lower right.

    Args:
        size: (H, W) of the image.
        side: Of a tile, in pixels.
        overlap: Share of it that the next tile sees again, at least.
    """
    rows, columns = (_starts(length, side, overlap) for length in size)
    return [(y, x) for y in rows for x in columns]


def cut(image: GreyImage, corner: Corner, side: int) -> GreyImage:
    """Return a tile (side, side) of an image (H, W), black where the image ends before it."""
    y, x = corner
    part = image[y : y + side, x : x + side]
    if part.shape == (side, side):
        return part
    tile = np.zeros((side, side), image.dtype)
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + math.ceil((length - side) / (side * (1 - overlap)))
    return [round(place) for place in np.linspace(0, length - side, count)]
