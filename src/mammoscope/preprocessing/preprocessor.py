"""THE path from presentation pixels to network input, for training and serving alike."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammoscope.config import PreprocessConfig
from mammoscope.preprocessing.breast import BreastRegion, find_breast
from mammoscope.preprocessing.resample import Geometry
from mammoscope.types import FloatImage, GreyImage, Laterality

__all__ = ["PreparedImage", "Preprocessor"]

# The mask's outline is grown by this share of the image before the rest is blanked, so
# that the skin line, which is fainter than the tissue below it, is kept.
_SKIN_REACH = 0.015


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """Network input of one image.

    Attributes:
        pixels: (H, W) uint8 or uint16 grey values, chest wall on the left.
        geometry: The map between this grid and the original.
        breast_fraction: Share of the original that is breast.
        warnings: What a reader must know.
    """

    pixels: GreyImage
    geometry: Geometry
    breast_fraction: float
    warnings: tuple[str, ...] = ()


class Preprocessor:
    """Breast mask, crop, orientation, aspect-preserving fit and quantisation.

    Args:
        config: Every choice; a bundle stores it whole.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self.config = config

    def __call__(
        self,
        pixels: FloatImage,
        laterality: Laterality | None = None,
        pixel_aspect: float = 1.0,
    ) -> PreparedImage:
        """Prepare one image.

        Args:
            pixels: (H, W) float32 presentation values in [0, 1], tissue bright.
            laterality: What header or table say, to check the image against.
            pixel_aspect: True width of a pixel over its height.

        Raises:
            IneligibleImageError: If the image is blank or no breast is found.
        """
        config = self.config
        region = find_breast(pixels)
        notes: tuple[str, ...] = ()
        if laterality is not None and laterality is not region.chest_wall:
            # A left breast is stored with its chest wall on the left of the image.
            side = "left" if region.chest_wall is Laterality.L else "right"
            notes = (f"laterality is {laterality}, but the chest wall lies on the {side}",)
        mirrored = config.orient and region.chest_wall is Laterality.R
        height, width = pixels.shape
        crop = self._crop(region, height, width) if config.crop else (0, 0, width, height)
        if mirrored:
            crop = (width - crop[2], crop[1], width - crop[0], crop[3])
        geometry = Geometry.fit(
            (height, width),
            crop,
            (config.height, config.width),
            mirrored=mirrored,
            pixel_aspect=pixel_aspect,
        )
        fitted = geometry.apply(pixels)
        if config.crop:
            fitted *= geometry.apply(_spread_mask(region, height, width)) >= 0.5
        return PreparedImage(self._quantise(fitted), geometry, region.area_fraction, notes)

    def _crop(self, region: BreastRegion, height: int, width: int) -> tuple[int, int, int, int]:
        x_min, y_min, x_max, y_max = region.box
        add_x = round(self.config.margin * (x_max - x_min))
        add_y = round(self.config.margin * (y_max - y_min))
        return (
            max(0, x_min - add_x),
            max(0, y_min - add_y),
            min(width, x_max + add_x),
            min(height, y_max + add_y),
        )

    def _quantise(self, fitted: FloatImage) -> GreyImage:
        scaled = np.clip(fitted, 0.0, 1.0) * np.float32(self.config.max_value) + np.float32(0.5)
        if self.config.bits == 8:
            return np.asarray(scaled, dtype=np.uint8)
        return np.asarray(scaled, dtype=np.uint16)


def _spread_mask(region: BreastRegion, height: int, width: int) -> FloatImage:
    reach = max(3, round(_SKIN_REACH * max(region.mask.shape)) * 2 + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    grown = np.where(region.labels > 0, np.uint8(0), cv2.dilate(region.mask, kernel))
    spread = cv2.resize(grown.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(spread, dtype=np.float32)
