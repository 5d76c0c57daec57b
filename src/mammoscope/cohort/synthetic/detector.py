"""From presentation values to stored values: point spread, scatter, noise, look, marker.

Presentation values stand for the logarithm of the exposure, as For Presentation images do:
black is the open field, white lets one part in exp(:data:`BLACK_TO_WHITE`) through. Quantum
noise of the logarithm is therefore 1 / sqrt(quanta), larger where tissue is brighter, and falls
with the pixel's area and with the exposure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.cohort.synthetic.exposure import Exposure
from mammoscope.cohort.synthetic.machines import Detector, Machine
from mammoscope.cohort.synthetic.markers import draw_marker
from mammoscope.types import FloatImage, Laterality, View

__all__ = ["BLACK_TO_WHITE", "expose", "tone_curve"]

#: Logarithm of the exposures' range from black to white.
BLACK_TO_WHITE = 3.0
# How far scatter reaches, and how far beyond the skin any of it is left.
_SCATTER_MM, _GLOW_MM = 6.0, 16.0
# Presentation value of what the collimator keeps from light.
_UNEXPOSED = 0.8
_LEVELS = 65535
_BAND_PIXELS = 1 << 16


def expose(
    pixels: FloatImage,
    machine: Machine,
    laterality: Laterality,
    view: View,
    rng: np.random.Generator,
    exposure: Exposure | None = None,
) -> NDArray[np.uint16]:
    """Return the stored values of one exposure.

    Args:
        pixels: (H, W) presentation values in [0, 1], chest wall at the left, 0 outside the breast.
        machine: Which unit; a pixel's size follows from its field.
        laterality: A right breast is stored with its chest wall at the right.
        view: Named on the marker.
        rng: Source of noise.
        exposure: How much light there was; that of a usual breast by default.
    """
    spacing_mm = machine.field_mm / pixels.shape[0]
    levels = np.zeros(pixels.shape, np.uint16)
    rows, columns = _neighbourhood(pixels, spacing_mm)
    if rows.stop > rows.start:
        relative = 1.0 if exposure is None else exposure.relative
        breast = np.ascontiguousarray(pixels[rows, columns])
        seen = _detected(breast, machine.detector, spacing_mm, relative, rng)
        levels[rows, columns] = _as_levels(_sharpened(seen, machine, spacing_mm))
    _draw_border(levels, round(machine.border_mm / spacing_mm))
    if laterality is Laterality.R:
        levels = np.ascontiguousarray(levels[:, ::-1])
    draw_marker(levels, machine.marker, laterality, view, spacing_mm)
    low, high = machine.display.padding
    padding = int(rng.integers(low, high + 1))
    shown = tone_curve(machine, np.arange(_LEVELS + 1) / _LEVELS)
    return _looked_up(machine.display.stored(shown, padding), levels)


def tone_curve(machine: Machine, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the unit shows for presentation values that were drawn."""
    return np.asarray(np.clip(drawn, 0, 0.995) ** machine.look.gamma)


def _neighbourhood(pixels: FloatImage, spacing_mm: float) -> tuple[slice, slice]:
    """Return the rows and columns with anything but background: the breast and its glow."""
    left, top, width, height = cv2.boundingRect((pixels > 0).view(np.uint8))
    if not width:
        return slice(0, 0), slice(0, 0)
    room = round(_GLOW_MM / spacing_mm)
    return (
        slice(max(0, top - room), min(pixels.shape[0], top + height + room)),
        slice(max(0, left - room), min(pixels.shape[1], left + width + room)),
    )


def _detected(
    breast: FloatImage,
    detector: Detector,
    spacing_mm: float,
    relative: float,
    rng: np.random.Generator,
) -> FloatImage:
    """Return (H, W) what the detector hands on.

    A scintillator and a storage plate spread the light of each quantum, and its noise with
    it; selenium reads charge where it falls, so that its noise is white.
    """
    picture = _scattered(breast, detector.scatter, spacing_mm)
    blur_px = detector.blur_mm / spacing_mm
    white = detector.kind == "DIRECT"
    if white:
        picture = _spread(picture, blur_px)
    open_field = detector.photons_per_mm2 * relative * spacing_mm**2
    for band in _bands(breast):
        picture[band] += _noise(breast[band], detector.electronic, open_field, rng)
    if not white:
        picture = _spread(picture, blur_px)
    return np.asarray(picture, np.float32)


def _noise(
    tissue: FloatImage, electronic: float, open_field: float, rng: np.random.Generator
) -> FloatImage:
    """Draw (H, W) noise: of each pixel's quanta, and of the electronics whatever their number."""
    # Square root of how much the tissue holds back.
    held: FloatImage = np.exp(tissue * np.float32(BLACK_TO_WHITE / 2))
    noise = rng.standard_normal(tissue.shape, dtype=np.float32)
    noise *= held
    np.square(held, out=held)
    held *= electronic**2 / open_field
    held += 1
    noise *= np.sqrt(held, out=held)
    noise *= 1 / (BLACK_TO_WHITE * np.sqrt(open_field))
    noise[tissue <= 0] = 0
    return noise


def _scattered(breast: FloatImage, share: float, spacing_mm: float) -> FloatImage:
    """Mix in what comes from around: a little less contrast, and a glow beside the skin."""
    step = max(1, round(1 / spacing_mm))
    height, width = breast.shape
    small = (max(1, width // step), max(1, height // step))
    coarse = cv2.resize(breast, small, interpolation=cv2.INTER_AREA)
    sigma = _SCATTER_MM / (spacing_mm * step)
    coarse = cv2.GaussianBlur(coarse, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    around = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.addWeighted(breast, 1 - share, around, share, 0), np.float32)


def _spread(picture: FloatImage, blur_px: float) -> FloatImage:
    # Narrower than this, what is left after sampling is below a thousandth.
    if blur_px < 0.2:
        return picture
    side = 2 * max(1, round(3 * blur_px)) + 1
    return np.asarray(cv2.GaussianBlur(picture, (side, side), blur_px), np.float32)


def _sharpened(seen: FloatImage, machine: Machine, spacing_mm: float) -> FloatImage:
    """Add what a mean over some tenths of a millimetre leaves out."""
    side = round(machine.look.reach_mm / spacing_mm) | 1
    amount = machine.look.sharpening
    if amount == 0 or side < 3:
        return seen
    smooth = cv2.blur(seen, (side, side))
    return np.asarray(cv2.addWeighted(seen, 1 + amount, smooth, -amount, 0), np.float32)


def _as_levels(picture: FloatImage) -> NDArray[np.uint16]:
    levels = np.empty(picture.shape, np.uint16)
    for band in _bands(picture):
        scaled = picture[band] * np.float32(_LEVELS)
        levels[band] = np.clip(scaled, 0, _LEVELS, out=scaled)
    return levels


def _looked_up(table: NDArray[np.uint16], levels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    values = np.empty_like(levels)
    for band in _bands(levels):
        values[band] = table[levels[band]]
    return values


def _bands(picture: NDArray[Any]) -> Iterator[slice]:
    """Give slices of rows that stay in a core's cache, as whole images do not."""
    rows = max(1, _BAND_PIXELS // picture.shape[1])
    for first in range(0, picture.shape[0], rows):
        yield slice(first, first + rows)


def _draw_border(levels: NDArray[np.uint16], width: int) -> None:
    """Whiten the edges that the collimator covers: all but the chest wall's."""
    if width:
        value = round(_UNEXPOSED * _LEVELS)
        levels[:width], levels[-width:], levels[:, -width:] = value, value, value
