"""Pictures of the explanation page: the image with its boxes, and each method's heat over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import polars as pl

from mammoscope.explain import is_flat, overlay_colours
from mammoscope.preprocessing import Geometry
from mammoscope.types import Box, ByteImage, FloatImage, GreyImage

__all__ = ["Shown", "chosen_for_show"]

_MOST = 12
_HEIGHT_PX = 360
_BOX_COLOUR, _POINT_COLOUR = (255, 196, 0), (0, 229, 255)


@dataclass(frozen=True, slots=True)
class Shown:
    """One image of the gallery.

    Attributes:
        name: Which image.
        score: The model's.
        lesion: What kind of lesion it has.
        picture: (H, W, 3) uint8 RGB: the image, then each method.
        methods: Names of the methods, from left to right.
    """

    name: str
    score: float
    lesion: str
    picture: ByteImage
    methods: tuple[str, ...]

    @classmethod
    def of(
        cls,
        row: dict[str, Any],
        pixels: GreyImage,
        maps: dict[str, FloatImage],
        boxes: pl.DataFrame,
        geometry: Geometry,
    ) -> Shown:
        """Draw one image as the network sees it.

        Args:
            row: Its row of the predictions.
            pixels: (H, W) prepared grey values.
            maps: Each method's (h, w) map.
            boxes: Its lesions, in original pixels.
            geometry: How original pixels map to the network's grid.
        """
        scale = _HEIGHT_PX / pixels.shape[0]
        size = (round(pixels.shape[1] * scale), _HEIGHT_PX)
        top = np.iinfo(pixels.dtype).max
        small = cv2.resize(
            pixels.astype(np.float32) / top * 255.0, size, None, 0, 0, cv2.INTER_AREA
        )
        grey = np.repeat(np.clip(small, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        places = [
            geometry.to_network(Box(*sides))
            for sides in boxes.select("x_min", "y_min", "x_max", "y_max").iter_rows()
        ]
        panels = [_boxed(grey.copy(), places, scale)]
        for heat in maps.values():
            panel = grey.copy()
            spread = cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR)
            overlay_colours(panel, spread.astype(np.float32, copy=False))
            boxed = _boxed(panel, places, scale)
            panels.append(boxed if is_flat(heat) else _pointed(boxed, heat))
        gap = np.full((_HEIGHT_PX, 4, 3), 128, np.uint8)
        parts = [part for panel in panels for part in (panel, gap)][:-1]
        picture: ByteImage = np.concatenate(parts, axis=1)
        name, score, lesion = str(row["image_id"]), float(row["score"]), str(row["lesion"])
        return cls(name, score, lesion, picture, tuple(maps))


def chosen_for_show(rows: pl.DataFrame) -> list[str]:
    """Choose images over the whole range of scores: the surest, the most missed, and between."""
    ordered = rows.sort("score", "image_id")["image_id"].to_list()
    places = np.linspace(0, len(ordered) - 1, min(_MOST, len(ordered)))
    return [str(ordered[round(place)]) for place in places]


def _boxed(picture: ByteImage, boxes: list[Box], scale: float) -> ByteImage:
    for box in boxes:
        corners = [round(v * scale) for v in (box.x_min, box.y_min, box.x_max, box.y_max)]
        cv2.rectangle(picture, corners[:2], corners[2:], _BOX_COLOUR, 1)
    return picture


def _pointed(picture: ByteImage, heat: FloatImage) -> ByteImage:
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    place = (
        round((int(column) + 0.5) * picture.shape[1] / heat.shape[1]),
        round((int(row) + 0.5) * picture.shape[0] / heat.shape[0]),
    )
    cv2.drawMarker(picture, place, _POINT_COLOUR, cv2.MARKER_CROSS, 13, 1)
    return picture
