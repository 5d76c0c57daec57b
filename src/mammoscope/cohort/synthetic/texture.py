"""Tissue that is too fine for the volume: noise whose power falls as mammograms' does."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from mammoscope.types import FloatImage

__all__ = ["fine_texture", "power_law_noise"]

# Side of the tile of fine texture, and its power law.
_TILE, _FINE_BETA = 1024, 3.1
# Tissue coarser than this comes from the volume.
_VOXEL_MM = 2.6


def power_law_noise(shape: tuple[int, int], beta: float, rng: np.random.Generator) -> FloatImage:
    """Return (H, W) float32 noise of mean 0 and deviation 1 whose power falls as 1 / f^beta."""
    height, width = (cv2.getOptimalDFTSize(n) for n in shape)
    spectrum = np.fft.rfft2(rng.standard_normal((height, width), dtype=np.float32))
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None, :] * width
    # Per axis in cycles over the longer side, so that the texture is isotropic.
    longest = max(height, width)
    frequency = np.hypot(fy * longest / height, fx * longest / width)
    frequency[0, 0] = 1.0
    noise = np.fft.irfft2(spectrum * frequency ** (-beta / 2), s=(height, width))
    noise = noise[: shape[0], : shape[1]]
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def fine_texture(shape: tuple[int, int], spacing_mm: float, rng: np.random.Generator) -> FloatImage:
    """Return (H, W) float32 texture finer than a voxel, of deviation 1 over all its scales."""
    tile = _tile(int(rng.integers(8)), round(spacing_mm, 3))
    rows, columns = shape
    start = rng.integers(0, _TILE, 2)
    tile = np.roll(tile, tuple(start), (0, 1))
    if rng.random() < 0.5:
        tile = tile[::-1]
    repeats = (-(-rows // _TILE), -(-columns // _TILE))
    return np.tile(tile, repeats)[:rows, :columns]


@lru_cache(maxsize=8)
def _tile(number: int, spacing_mm: float) -> FloatImage:
    """Make a periodic tile of fine texture, which no eye sees repeat."""
    rng = np.random.default_rng([number, 13])
    spectrum = np.fft.rfft2(rng.standard_normal((_TILE, _TILE), dtype=np.float32))
    fy = np.fft.fftfreq(_TILE, spacing_mm)[:, None]
    fx = np.fft.rfftfreq(_TILE, spacing_mm)[None, :]
    frequency = np.hypot(fy, fx)
    lowest = 1 / (2 * _VOXEL_MM)
    # Per unit of area the same at any spacing; what is coarser comes from the volume.
    weight = np.maximum(frequency, lowest) ** (-_FINE_BETA / 2)
    weight *= 1 / (1 + (lowest / np.maximum(frequency, 1e-6)) ** 4)
    bins = float((weight**2).sum()) / weight.size
    fixed = np.sqrt(_variance(spacing_mm) / bins)
    noise = np.fft.irfft2(spectrum * weight * fixed, s=(_TILE, _TILE))
    return np.asarray(noise, np.float32)


def _variance(spacing_mm: float) -> float:
    """Return the share of the texture's variance that pixels of this size still show."""
    # Of power f^-beta over a plane, from the lowest frequency to that of the pixels.
    lowest, highest = 1 / (2 * _VOXEL_MM), 1 / (2 * spacing_mm)
    return float(1 - (highest / lowest) ** (2 - _FINE_BETA))
