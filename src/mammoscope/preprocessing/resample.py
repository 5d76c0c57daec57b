"""Geometry between an original image and the network's input, and the way back.

Steps in order: mirror (chest wall to the left), crop, scale each axis, place in a
canvas of zeros. All are axis-aligned, so the whole is one linear map per axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.dicom.presented import Presented
from mammoscope.types import Box, FloatImage

__all__ = ["Geometry", "halved_margin"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How an original image maps to the network's input.

    Attributes:
        original_height: Height of the original, in pixels.
        original_width: Width of the original, in pixels.
        mirrored: The original is mirrored left to right first.
        crop: (x_min, y_min, x_max, y_max), half-open, in mirrored original pixels; whole
            numbers, unless the image was halved while it was decoded.
        height: Height of the network's input.
        width: Width of the network's input.
        fitted_height: Rows of the input that the crop fills.
        fitted_width: Columns of the input that the crop fills.
        top: First row that the crop fills; the first column is 0, at the chest wall.
    """

    original_height: int
    original_width: int
    mirrored: bool
    crop: tuple[float, float, float, float]
    height: int
    width: int
    fitted_height: int
    fitted_width: int
    top: int

    @classmethod
    def fit(
        cls,
        original: tuple[int, int],
        crop: tuple[float, float, float, float],
        size: tuple[int, int],
        *,
        mirrored: bool,
        pixel_aspect: float = 1.0,
    ) -> Geometry:
        """Fit a crop into (H, W), keeping the true aspect ratio.

        Args:
            original: (H, W) of the original.
            crop: Box in mirrored original pixels, half-open.
            size: (H, W) of the network's input.
            mirrored: Whether the original is mirrored first.
            pixel_aspect: True width of a pixel over its height.
        """
        height, width = size
        crop_height, crop_width = crop[3] - crop[1], crop[2] - crop[0]
        scale = min(height / crop_height, width / (crop_width * pixel_aspect))
        fitted_height = min(height, max(1, round(crop_height * scale)))
        fitted_width = min(width, max(1, round(crop_width * pixel_aspect * scale)))
        return cls(
            original_height=original[0],
            original_width=original[1],
            mirrored=mirrored,
            crop=crop,
            height=height,
            width=width,
            fitted_height=fitted_height,
            fitted_width=fitted_width,
            top=(height - fitted_height) // 2,
        )

    @property
    def _scales(self) -> tuple[float, float]:
        x_min, y_min, x_max, y_max = self.crop
        return self.fitted_width / (x_max - x_min), self.fitted_height / (y_max - y_min)

    def apply(self, pixels: FloatImage | Presented, reduction: int = 0) -> FloatImage:
        """Map an original (H, W) image to the network's grid, (height, width) float32.

        Args:
            pixels: The original, halved ``reduction`` times with sides rounded up.
            reduction: As often as the image was halved for which the geometry was made.

        Raises:
            ValueError: If the image is not of the original's size.
        """
        step = 1 << reduction
        due = (-(-self.original_height // step), -(-self.original_width // step))
        if pixels.shape != due:
            raise ValueError(f"geometry is for {due}, the image is {pixels.shape}")
        x_min, y_min, x_max, y_max = self.crop
        if self.mirrored:
            # Cut and shrunk before it is mirrored, which gives the same and copies less.
            x_min, x_max = self.original_width - x_max, self.original_width - x_min
        left, top, right, bottom = (
            round((edge + halved_margin(reduction)) / step) for edge in (x_min, y_min, x_max, y_max)
        )
        rows, columns = bottom - top, right - left
        shrinks = self.fitted_height < rows or self.fitted_width < columns
        image = Presented.of(pixels)
        if (
            min(rows / self.fitted_height, columns / self.fitted_width) >= 2
            and not (top | bottom | left | right) % 2
        ):
            # OpenCV is ten times faster at whole ratios.
            part = image.halved[top // 2 : bottom // 2, left // 2 : right // 2]
        else:
            part = image.full[top:bottom, left:right]
        fitted = cv2.resize(
            part,
            (self.fitted_width, self.fitted_height),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        if self.mirrored:
            fitted = fitted[:, ::-1]
        canvas = np.zeros((self.height, self.width), np.float32)
        canvas[self.top : self.top + self.fitted_height, : self.fitted_width] = fitted
        return canvas

    def filled(self) -> NDArray[np.bool_]:
        """Return which pixels of the network's grid the crop fills: (height, width) bool."""
        filled = np.zeros((self.height, self.width), dtype=np.bool_)
        filled[self.top : self.top + self.fitted_height, : self.fitted_width] = True
        return filled

    def apply_to_grid(self, grid: FloatImage) -> FloatImage:
        """Map a coarse grid over the whole original, such as a mask, to the network's grid.

        Args:
            grid: (h, w) float32 that covers the original.

        Returns:
            (height, width) float32, interpolated, 0 outside the crop.
        """
        across, down = self._scales
        # Position on the grid, in its cells, of a pixel of the network: a factor and an offset
        # for each axis; pixel centres lie at 0.5.
        per_x = grid.shape[1] / self.original_width / across
        per_y = grid.shape[0] / self.original_height / down
        from_x = self.crop[0] * grid.shape[1] / self.original_width
        from_y = (self.crop[1] - self.top / down) * grid.shape[0] / self.original_height
        if self.mirrored:
            from_x, per_x = grid.shape[1] - from_x, -per_x
        matrix = np.array(
            [
                [per_x, 0.0, from_x + 0.5 * per_x - 0.5],
                [0.0, per_y, from_y + 0.5 * per_y - 0.5],
            ]
        )
        fitted = cv2.warpAffine(
            grid,
            matrix,
            (self.width, self.height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        fitted[: self.top] = 0
        fitted[self.top + self.fitted_height :] = 0
        fitted[:, self.fitted_width :] = 0
        return np.asarray(fitted, dtype=np.float32)

    def to_network(self, box: Box) -> Box:
        """Map a box in original pixels to the network's grid, not clipped to it."""
        across, down = self._scales
        left, right = box.x_min, box.x_max
        if self.mirrored:
            left, right = self.original_width - right, self.original_width - left
        return Box(
            (left - self.crop[0]) * across,
            (box.y_min - self.crop[1]) * down + self.top,
            (right - self.crop[0]) * across,
            (box.y_max - self.crop[1]) * down + self.top,
        )

    def contour_to_network(self, contour: Sequence[float]) -> list[float]:
        """Map the points of a contour, x and y in turn, from original pixels to the grid."""
        points = np.array(contour, dtype=np.float64).reshape(-1, 2)
        if self.mirrored:
            points[:, 0] = self.original_width - points[:, 0]
        mapped: list[float] = (
            ((points - self.crop[:2]) * self._scales + (0, self.top)).ravel().tolist()
        )
        return mapped

    def to_original(self, box: Box) -> Box:
        """Map a box on the network's grid to original pixels, not clipped to the image."""
        across, down = self._scales
        left, right = box.x_min / across + self.crop[0], box.x_max / across + self.crop[0]
        if self.mirrored:
            left, right = self.original_width - right, self.original_width - left
        return Box(
            left,
            (box.y_min - self.top) / down + self.crop[1],
            right,
            (box.y_max - self.top) / down + self.crop[1],
        )

    def map_to_original(self, grid: FloatImage) -> FloatImage:
        """Spread a map over the network's field of view back over the original.

        Args:
            grid: (h, w) float32 map that covers the network's input, at any resolution.

        Returns:
            (original_height, original_width) float32, 0 outside the crop.
        """
        down, across = grid.shape[0] / self.height, grid.shape[1] / self.width
        x_min, y_min, x_max, y_max = self._pixels_within()
        rows = np.arange(y_min, y_max, dtype=np.float32) + np.float32(0.5 - self.crop[1])
        columns = np.arange(x_min, x_max, dtype=np.float32) + np.float32(0.5 - self.crop[0])
        x_scale, y_scale = self._scales
        # Pixel centres of the crop, in cells of the grid whose centres lie at 0.5.
        map_y = (rows * np.float32(y_scale) + np.float32(self.top)) * np.float32(down) - 0.5
        map_x = columns * np.float32(x_scale * across) - np.float32(0.5)
        part = _bilinear(grid, map_y.astype(np.float32), map_x.astype(np.float32))
        if self.mirrored:
            part = part[:, ::-1]
            x_min, x_max = self.original_width - x_max, self.original_width - x_min
        spread = np.zeros((self.original_height, self.original_width), np.float32)
        spread[y_min:y_max, x_min:x_max] = part
        return spread

    @property
    def original_crop(self) -> Box:
        """What the network sees, in original pixels."""
        x_min, y_min, x_max, y_max = self.crop
        if self.mirrored:
            x_min, x_max = self.original_width - x_max, self.original_width - x_min
        return Box(x_min, y_min, x_max, y_max)

    def _pixels_within(self) -> tuple[int, int, int, int]:
        """The original's (mirrored) pixels whose centres lie in the crop."""
        x_min, y_min, x_max, y_max = (math.ceil(edge - 0.5) for edge in self.crop)
        return (
            max(0, x_min),
            max(0, y_min),
            min(self.original_width, x_max),
            min(self.original_height, y_max),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the plain form that JSON takes."""
        return {**asdict(self), "crop": list(self.crop)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Geometry:
        """Rebuild a geometry from :meth:`as_dict`."""
        return cls(**{**values, "crop": tuple(values["crop"])})


def halved_margin(reduction: int) -> float:
    """Return how far a halved image begins before the original, in original pixels.

    Sample ``k`` of an image halved r times is centred on pixel ``k * 2**r``, and so stands for
    ``2**r`` pixels around that one.
    """
    return ((1 << reduction) - 1) / 2


def _bilinear(grid: FloatImage, at_y: FloatImage, at_x: FloatImage) -> FloatImage:
    """Interpolate a grid at the product of two coordinate vectors, edges replicated."""

    def weights(at: FloatImage, length: int) -> FloatImage:
        low = np.clip(np.floor(at), 0, length - 1).astype(np.int64)
        high = np.minimum(low + 1, length - 1)
        share = np.clip(at - low, 0.0, 1.0).astype(np.float32)
        matrix = np.zeros((at.size, length), np.float32)
        index = np.arange(at.size)
        matrix[index, low] += 1.0 - share
        matrix[index, high] += share
        return matrix

    rows, columns = weights(at_y, grid.shape[0]), weights(at_x, grid.shape[1])
    return np.asarray(rows @ grid @ columns.T, dtype=np.float32)
