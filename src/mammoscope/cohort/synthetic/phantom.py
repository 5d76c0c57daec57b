"""Anatomy of a compressed breast, drawn in millimetres: the same breast in CC and MLO.

The picture is of presentation values in [0, 1], chest wall at the left edge. Glandular
tissue has the power-law texture of mammograms (power falling as 1 / f^3; Burgess,
Med. Phys. 28, 2001), thresholded so that its share follows the density.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.types import Density, FloatImage, View

__all__ = ["Anatomy", "Projection", "draw_anatomy", "power_law_noise", "project"]

_GLAND_SHARE = {Density.A: 0.08, Density.B: 0.22, Density.C: 0.42, Density.D: 0.65}
_FAT, _GLAND, _PECTORAL = 0.34, 0.40, 0.62
# Over this distance from the skin the compressed breast reaches its full thickness.
_EDGE_ROLL_MM = 14.0


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One breast, whatever the view.

    Attributes:
        depth_mm: Chest wall to nipple.
        height_mm: Extent along the chest wall in CC.
        density: Category of composition.
        texture_seed: Seed of its tissue.
    """

    depth_mm: float
    height_mm: float
    density: Density
    texture_seed: int


@dataclass(frozen=True, slots=True)
class Projection:
    """One view of a breast on a grid of square pixels, chest wall at column 0.

    Attributes:
        pixels: (H, W) float32 presentation values in [0, 1], 0 outside the breast.
        inside: (H, W) bool, the breast with its skin.
        nipple_mm: (x, y) of the nipple.
        spacing_mm: Size of a pixel.
    """

    pixels: FloatImage
    inside: NDArray[np.bool_]
    nipple_mm: tuple[float, float]
    spacing_mm: float


def draw_anatomy(rng: np.random.Generator, density: Density) -> Anatomy:
    """Draw the size and tissue of one breast."""
    depth = float(np.clip(rng.normal(84, 14), 55, 118))
    return Anatomy(
        depth_mm=depth,
        height_mm=float(np.clip(depth * rng.normal(1.85, 0.12), 115, 205)),
        density=density,
        texture_seed=int(rng.integers(2**31)),
    )


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


def project(anatomy: Anatomy, view: View, size: tuple[int, int], spacing_mm: float) -> Projection:
    """Draw one view.

    Args:
        anatomy: The breast.
        view: CC, or MLO with the pectoral muscle.
        size: (H, W) of the grid.
        spacing_mm: Size of a pixel.
    """
    height, width = size
    # Own tissue for each view, as each compression superposes it anew.
    rng = np.random.default_rng([anatomy.texture_seed, list(View).index(view)])
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * spacing_mm
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) * spacing_mm
    border, nipple = _outline(anatomy, view, y[:, 0], height * spacing_mm, rng)
    inside = np.asarray(x < border[:, None])
    bump = ((x - nipple[0] + 1.5) / 4.0) ** 2 + ((y - nipple[1]) / 5.0) ** 2 < 1
    inside |= bump
    # The chest wall is no skin: the distance counts from the air alone.
    padded = cv2.copyMakeBorder(inside.astype(np.uint8), 0, 0, 1, 0, cv2.BORDER_REPLICATE)
    skin_mm = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[:, 1:] * spacing_mm
    thickness = np.sqrt(np.clip(skin_mm / _EDGE_ROLL_MM, 0, 1))
    tissue = _tissue(anatomy, (x, y), nipple, inside, rng)
    pixels = thickness * tissue + 0.10 * np.exp(-(((skin_mm - 0.8) / 0.9) ** 2)) * inside
    if view is View.MLO:
        pixels = _with_pectoral(pixels, anatomy, x, y, rng)
    smooth = np.asarray(np.where(inside, pixels, 0.0), dtype=np.float32)
    return Projection(smooth, inside, nipple, spacing_mm)


def _outline(
    anatomy: Anatomy,
    view: View,
    y: FloatImage,
    field_mm: float,
    rng: np.random.Generator,
) -> tuple[FloatImage, tuple[float, float]]:
    """Return the skin's distance from the chest wall for every row, and the nipple."""
    wobble = 1 + 0.02 * np.sin(y / 23 + rng.uniform(0, 6.3)) + 0.01 * np.sin(y / 9)
    if view is View.MLO:
        top = rng.uniform(0.34, 0.5) * anatomy.depth_mm
        nipple_y = min(field_mm * 0.72, 0.62 * anatomy.height_mm + field_mm * 0.08)
        bottom = min(field_mm * 0.97, nipple_y + 0.44 * anatomy.height_mm)
        above = np.clip(y / nipple_y, 0, 1)
        below = np.clip((y - nipple_y) / (bottom - nipple_y), 0, 1)
        rise = top + (anatomy.depth_mm - top) * np.sin(above * np.pi / 2) ** 1.6
        fall = anatomy.depth_mm * (1 - below**2.3) ** 0.6
        border = np.where(y < nipple_y, rise, fall)
        return np.asarray(border * wobble, np.float32), (anatomy.depth_mm, nipple_y)
    centre = field_mm * rng.uniform(0.46, 0.54)
    across = np.clip(np.abs(y - centre) / (anatomy.height_mm / 2), 0, 1)
    border = anatomy.depth_mm * (1 - across**2.2) ** 0.62
    return np.asarray(border * wobble, np.float32), (anatomy.depth_mm, centre)


def _tissue(
    anatomy: Anatomy,
    grid: tuple[FloatImage, FloatImage],
    nipple: tuple[float, float],
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
) -> FloatImage:
    """Fat with gland in it: a cone behind the nipple, strands, and fine texture."""
    x, y = grid
    depth, half = anatomy.depth_mm, anatomy.height_mm / 2
    shape = inside.shape
    coarse = power_law_noise(shape, 3.0, rng)
    middle = depth * 0.52
    cone = 2.6 * np.exp(
        -(((x - middle) / (0.46 * depth)) ** 2) - ((y - nipple[1]) / (0.62 * half)) ** 2
    )
    field = coarse + cone
    share = _GLAND_SHARE[anatomy.density]
    threshold = float(np.quantile(field[inside][::17], 1 - share))
    gland = 1 / (1 + np.exp(-2.8 * (field - threshold)))
    strands = np.exp(-((power_law_noise(shape, 2.6, rng) / 0.09) ** 2))
    fine = power_law_noise(shape, 2.4, rng)
    fat = _FAT + 0.035 * fine + 0.06 * strands * (1 - gland)
    return np.asarray(fat + gland * (_GLAND * 0.75 + 0.06 * coarse + 0.05 * fine), np.float32)


def _with_pectoral(
    pixels: FloatImage,
    anatomy: Anatomy,
    x: FloatImage,
    y: FloatImage,
    rng: np.random.Generator,
) -> FloatImage:
    """Lay the pectoral muscle, a bright triangle with a soft edge, over the upper corner."""
    width = rng.uniform(0.36, 0.52) * anatomy.depth_mm
    length = rng.uniform(0.85, 1.1) * anatomy.height_mm * 0.62
    edge = width * np.clip(1 - y / length, 0, 1) ** 0.85
    share = 1 / (1 + np.exp(-np.clip((edge - x) / 1.6, -30, 30))) * (y < length)
    muscle = _PECTORAL + 0.04 * power_law_noise(pixels.shape, 2.6, rng)
    return np.asarray(pixels * (1 - 0.75 * share) + 0.75 * share * muscle, np.float32)
