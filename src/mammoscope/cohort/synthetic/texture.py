"""Tissue that is too fine for the volume: noise whose power falls as mammograms' does."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.types import FloatImage

__all__ = ["coloured_noise", "fine_texture", "power_law_noise"]

# Side of the tile of fine texture, and its power law.
_TILE, _FINE_BETA = 1024, 3.1
# Tiles of each size of pixels; all units' fit into memory.
_TILES = 3
# Tissue coarser than this comes from the volume.
_VOXEL_MM = 2.6


def coloured_noise(
    shape: tuple[int, ...], amplitude: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return float32 noise of this shape and spectrum.

    Args:
        shape: Of two axes or three.
        amplitude: Of each frequency, laid out as by :func:`numpy.fft.rfftn`; where it is 1 all
            over, the noise is white and of deviation 1.
        rng: Source of randomness.
    """
    drawn = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32)
    spectrum = drawn.view(np.complex64)[..., 0]
    spectrum *= amplitude * np.float32(np.sqrt(np.prod(shape) / 2))
    # Of frequencies that are their own mirror image only the real part counts.
    spectrum[..., 0] *= np.float32(np.sqrt(2))
    if shape[-1] % 2 == 0:
        spectrum[..., -1] *= np.float32(np.sqrt(2))
    return np.asarray(np.fft.irfftn(spectrum, shape, range(len(shape))), np.float32)


def power_law_noise(shape: tuple[int, int], beta: float, rng: np.random.Generator) -> FloatImage:
    """Return (H, W) float32 noise of mean 0 and deviation 1 whose power falls as 1 / f^beta."""
    height, width = (cv2.getOptimalDFTSize(n) for n in shape)
    noise = coloured_noise((height, width), _power_law(height, width, beta), rng)
    noise = noise[: shape[0], : shape[1]]
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


@lru_cache(maxsize=16)
def _power_law(height: int, width: int, beta: float) -> NDArray[np.float32]:
    # Per axis in cycles over the longer side, so that the texture is isotropic.
    longest = max(height, width)
    fy = np.fft.fftfreq(height, 1 / longest)[:, None]
    fx = np.fft.rfftfreq(width, 1 / longest)[None, :]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    return np.asarray(frequency ** (-beta / 2), np.float32)


def fine_texture(shape: tuple[int, int], spacing_mm: float, rng: np.random.Generator) -> FloatImage:
    """Return (H, W) float32 texture finer than a voxel, of deviation 1 over all its scales."""
    tile = _tile(int(rng.integers(_TILES)), round(spacing_mm, 3))
    rows, columns = shape
    start = rng.integers(0, _TILE, 2)
    tile = np.roll(tile, tuple(start), (0, 1))
    if rng.random() < 0.5:
        tile = tile[::-1]
    repeats = (-(-rows // _TILE), -(-columns // _TILE))
    return np.tile(tile, repeats)[:rows, :columns]


@lru_cache(maxsize=8 * _TILES)
def _tile(number: int, spacing_mm: float) -> FloatImage:
    """Make a periodic tile of fine texture, which no eye sees repeat."""
    fy = np.fft.fftfreq(_TILE, spacing_mm)[:, None]
    fx = np.fft.rfftfreq(_TILE, spacing_mm)[None, :]
    frequency = np.hypot(fy, fx)
    lowest = 1 / (2 * _VOXEL_MM)
    # Per unit of area the same at any spacing; what is coarser comes from the volume.
    weight = np.maximum(frequency, lowest) ** (-_FINE_BETA / 2)
    weight *= 1 / (1 + (lowest / np.maximum(frequency, 1e-6)) ** 4)
    # Every column but two stands for its mirror image too.
    power = 2 * (weight**2).sum() - (weight[:, [0, -1]] ** 2).sum()
    amplitude = weight * np.sqrt(_variance(spacing_mm) * _TILE**2 / power)
    rng = np.random.default_rng([number, 13])
    return coloured_noise((_TILE, _TILE), np.asarray(amplitude, np.float32), rng)


def _variance(spacing_mm: float) -> float:
    """Return the share of the texture's variance that pixels of this size still show."""
    # Of power f^-beta over a plane, from the lowest frequency to that of the pixels.
    lowest, highest = 1 / (2 * _VOXEL_MM), 1 / (2 * spacing_mm)
    return float(1 - (highest / lowest) ** (2 - _FINE_BETA))
