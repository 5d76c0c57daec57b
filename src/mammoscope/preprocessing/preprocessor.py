"""THE path from a file's pixels to network input, for training and serving alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.config import PreprocessConfig
from mammoscope.dicom.elements import tag_name
from mammoscope.dicom.presented import Presented
from mammoscope.errors import IneligibleImageError, Reason
from mammoscope.preprocessing.breast import BreastRegion, find_breast
from mammoscope.preprocessing.reading import SourceImage
from mammoscope.preprocessing.resample import Geometry, halved_margin
from mammoscope.types import FloatImage, GreyImage, Laterality

__all__ = ["PreparedImage", "Preprocessor"]

# The mask's outline is grown by this share of the image before the rest is blanked, so
# that the skin line, which is fainter than the tissue below it, is kept.
_SKIN_REACH = 0.015
# Shares of the detector that a breast commonly covers: where they are wrong, an image is decoded
# twice.
_USUAL_HEIGHT, _USUAL_WIDTH = 0.85, 0.5
# Percentiles of the breast's pixels that become black and white under ``normalise: breast``.
_BREAST_ENDS = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """Network input of one image.

    Attributes:
        pixels: (H, W) uint8 or uint16 grey values, chest wall on the left.
        geometry: The map between this grid and the original.
        breast_fraction: Share of the original that is breast.
        kept_fraction: Share of the bright region that hangs together with the breast which the
            mask keeps.
        borders: Borders of the original that the breast touches, of ``left``, ``top``,
            ``right``, ``bottom``.
        quality: Of the crop, in [0, 1]; the lowest are to be looked at.
        decoder: Which decoder served; empty where pixels were handed in.
        reduction: How often the image was halved while it was decoded.
        warnings: What a reader must know.
    """

    pixels: GreyImage
    geometry: Geometry
    breast_fraction: float
    kept_fraction: float
    borders: tuple[str, ...]
    quality: float
    decoder: str = ""
    reduction: int = 0
    warnings: tuple[str, ...] = ()


class Preprocessor:
    """Breast mask, crop, orientation, aspect-preserving fit and quantisation.

    Args:
        config: Every choice; a bundle stores it whole.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self.config = config

    def prepare(
        self,
        source: SourceImage,
        laterality: Laterality | None = None,
        pixel_aspect: float = 1.0,
    ) -> PreparedImage:
        """Prepare one file, decoding no more than the network's input needs.

        Args:
            source: The file, opened.
            laterality: What header or table say, to check the image against.
            pixel_aspect: True width of a pixel over its height.

        Raises:
            DicomError: If its pixels cannot be decoded.
            IneligibleImageError: If the image is blank or no breast is found.
        """
        reduction, made = self._first_guess(source, pixel_aspect), dict[int, PreparedImage]()
        while reduction not in made:
            read = source.read(reduction)
            prepared = self(
                read.image,
                laterality,
                pixel_aspect,
                chest_wall=source.chest_wall,
                original=source.shape,
                reduction=read.reduction,
            )
            made[reduction] = replace(
                prepared, decoder=read.decoder, warnings=(*read.warnings, *prepared.warnings)
            )
            if read.reduction != reduction:
                # Only the full image will do.
                break
            if reduction and not _covers(prepared.geometry, reduction):
                reduction -= 1
            elif (
                reduction < self._most(source)
                and reduction + 1 not in made
                and _covers(prepared.geometry, reduction + 1)
            ):
                reduction += 1
        return made[reduction]

    def __call__(
        self,
        pixels: FloatImage | Presented,
        laterality: Laterality | None = None,
        pixel_aspect: float = 1.0,
        *,
        chest_wall: Laterality | None = None,
        original: tuple[int, int] | None = None,
        reduction: int = 0,
    ) -> PreparedImage:
        """Prepare the pixels of one image.

        Args:
            pixels: (H, W) presentation values in [0, 1], tissue bright.
            laterality: What header or table say, to check the image against.
            pixel_aspect: True width of a pixel over its height.
            chest_wall: On which side the header puts it, to check the image against.
            original: (H, W) of the original, where ``pixels`` are it halved.
            reduction: How often they were halved.

        Raises:
            IneligibleImageError: If the image is blank, no breast is found, or it is inverted
                and that is refused.
        """
        pixels = Presented.of(pixels)
        region = find_breast(pixels)
        notes = self._contradictions(region, laterality, chest_wall)
        height, width = pixels.shape
        geometry = self._geometry(
            self._crop(region, height, width) if self.config.crop else (0, 0, width, height),
            original or (height, width),
            reduction,
            mirrored=self.config.orient and region.chest_wall is Laterality.R,
            pixel_aspect=pixel_aspect,
        )
        fitted = geometry.apply(pixels, reduction)
        if region.inverted and self.config.inverted == "correct":
            # Beside the crop there is nothing, which is black.
            fitted = np.where(geometry.filled(), np.float32(1) - fitted, np.float32(0))
        inside = geometry.apply_to_grid(_spread_mask(region)) >= 0.5
        if self.config.normalise == "breast":
            fitted = _stretched(fitted, inside)
        if self.config.mask:
            fitted *= inside
        return PreparedImage(
            self._quantise(fitted),
            geometry,
            region.area_fraction,
            region.kept_fraction,
            region.borders,
            region.quality,
            reduction=reduction,
            warnings=notes,
        )

    def _contradictions(
        self, region: BreastRegion, laterality: Laterality | None, chest_wall: Laterality | None
    ) -> tuple[str, ...]:
        """Say what the image shows that table or header deny."""
        notes = []
        if region.inverted:
            seen = "the background is bright and tissue dark although the header says otherwise"
            if self.config.inverted == "refuse":
                raise IneligibleImageError(Reason.INVERTED, seen)
            done = "inverted" if self.config.inverted == "correct" else "left as it is"
            notes.append(f"{seen}: {done}")
        side = "left" if region.chest_wall is Laterality.L else "right"
        # A left breast is stored with its chest wall on the left of the image.
        if laterality not in (None, region.chest_wall):
            notes.append(f"laterality is {laterality}, but the chest wall lies on the {side}")
        if chest_wall not in (None, region.chest_wall):
            other = "right" if side == "left" else "left"
            notes.append(
                f"{tag_name('PatientOrientation')} puts the chest wall on the {other}; "
                f"it is on the {side}"
            )
        return tuple(notes)

    def _most(self, source: SourceImage) -> int:
        """How often an image may be halved while it is decoded."""
        return (
            source.reductions if self.config.resolution == "reduced" and self.config.resize else 0
        )

    def _first_guess(self, source: SourceImage, pixel_aspect: float) -> int:
        """Return the most reductions under which a breast of usual size covers the input."""
        height, width = source.shape
        rows, columns = round(_USUAL_HEIGHT * height), round(_USUAL_WIDTH * width)
        usual = Geometry.fit(
            (height, width),
            (0, 0, max(1, columns), max(1, rows)),
            (self.config.height, self.config.width),
            mirrored=False,
            pixel_aspect=pixel_aspect,
        )
        return max(r for r in range(self._most(source) + 1) if r == 0 or _covers(usual, r))

    def _geometry(
        self,
        crop: tuple[int, int, int, int],
        original: tuple[int, int],
        reduction: int,
        *,
        mirrored: bool,
        pixel_aspect: float,
    ) -> Geometry:
        """Return the geometry of a crop given in pixels of the halved image."""
        step, margin = 1 << reduction, halved_margin(reduction)
        x_min, y_min, x_max, y_max = (edge * step - margin for edge in crop)
        if mirrored:
            x_min, x_max = original[1] - x_max, original[1] - x_min
        size = (self.config.height, self.config.width)
        if not self.config.resize:
            size, pixel_aspect = (crop[3] - crop[1], crop[2] - crop[0]), 1.0
        return Geometry.fit(
            original,
            (x_min, y_min, x_max, y_max),
            size,
            mirrored=mirrored,
            pixel_aspect=pixel_aspect,
        )

    def _crop(self, region: BreastRegion, height: int, width: int) -> tuple[int, int, int, int]:
        x_min, y_min, x_max, y_max = region.box
        add_x = round(self.config.margin * (x_max - x_min))
        add_y = round(self.config.margin * (y_max - y_min))
        left, right = _even(max(0, x_min - add_x), min(width, x_max + add_x), width)
        top, bottom = _even(max(0, y_min - add_y), min(height, y_max + add_y), height)
        return left, top, right, bottom

    def _quantise(self, fitted: FloatImage) -> GreyImage:
        scaled = np.clip(fitted, 0.0, 1.0) * np.float32(self.config.max_value) + np.float32(0.5)
        if self.config.bits == 8:
            return np.asarray(scaled, dtype=np.uint8)
        return np.asarray(scaled, dtype=np.uint16)


def _even(first: int, last: int, end: int) -> tuple[int, int]:
    """Widen a span by a pixel so that it falls into pairs from 0 on; an odd last one is left."""
    return first - first % 2, min(last + last % 2, end - end % 2)


def _covers(geometry: Geometry, reduction: int) -> bool:
    """Say whether a crop of the halved image has a pixel for each of the network's."""
    x_min, y_min, x_max, y_max = geometry.crop
    rows, columns = (y_max - y_min) / (1 << reduction), (x_max - x_min) / (1 << reduction)
    return geometry.fitted_height <= rows and geometry.fitted_width <= columns


def _spread_mask(region: BreastRegion) -> FloatImage:
    reach = max(3, round(_SKIN_REACH * max(region.mask.shape)) * 2 + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    grown = np.where(region.labels > 0, np.uint8(0), cv2.dilate(region.mask, kernel))
    return np.asarray(grown, dtype=np.float32)


def _stretched(fitted: FloatImage, inside: NDArray[np.bool_]) -> FloatImage:
    black, white = np.percentile(fitted[inside], _BREAST_ENDS)
    if white <= black:
        return fitted
    return np.asarray(np.clip((fitted - black) / (white - black), 0.0, 1.0), dtype=np.float32)
