"""Anatomy of a compressed breast, drawn in millimetres: the same breast in CC and MLO.

The picture is of presentation values in [0, 1], chest wall at the left edge. Gland comes from
one volume (``volume.py``) that both views project; what is finer than its voxels is noise whose
power falls as mammograms' does, stronger where there is gland.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.cohort.synthetic.anatomy import Anatomy, Outline
from mammoscope.cohort.synthetic.pectoral import with_pectoral
from mammoscope.cohort.synthetic.texture import fine_texture, power_law_noise
from mammoscope.cohort.synthetic.volume import Curve, across, make_volume
from mammoscope.types import FloatImage, View

__all__ = ["Projection", "project"]

# Grey of fat, and what gland adds to it.
_FAT, _GLAND = 0.30, 0.62
# Over this distance from the skin the compressed breast reaches its full thickness.
_EDGE_ROLL_MM = 14.0
# Spacing of the grid on which all is drawn that is no finer.
_COARSE_MM = 0.4
# Deviation of fine texture in fat and in gland.
_FINE_FAT, _FINE_GLAND = 0.013, 0.030


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


def project(anatomy: Anatomy, view: View, size: tuple[int, int], spacing_mm: float) -> Projection:
    """Draw one view.

    Args:
        anatomy: The breast.
        view: CC, or one from the side, with the pectoral muscle.
        size: (H, W) of the grid.
        spacing_mm: Size of a pixel.
    """
    height, width = size
    rng = np.random.default_rng([anatomy.texture_seed, list(View).index(view)])
    field_mm = (height * spacing_mm, width * spacing_mm)
    coarse_mm = max(_COARSE_MM, spacing_mm)
    rows, columns = (max(2, round(side / coarse_mm)) for side in field_mm)
    y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(field_mm[0] / rows)
    x = (np.arange(columns, dtype=np.float32) + 0.5) * np.float32(field_mm[1] / columns)
    outline = Outline.draw(anatomy, view, field_mm[0], rng)
    gland = _gland(anatomy, view, outline, x, y)
    curves = _curves(anatomy, view, outline, (rows, columns), coarse_mm)
    base = _FAT + _GLAND * gland + curves + _strands(anatomy, outline, gland, x, y, rng)
    fine = _FINE_FAT + (_FINE_GLAND - _FINE_FAT) * np.clip(gland / 0.5, 0, 1)
    if view is not View.CC:
        base, muscle = with_pectoral(base, anatomy, x, y, rng)
        fine = fine * (1 - muscle) + muscle * _FINE_FAT
    return _at_full_size(base, fine, outline, size, spacing_mm, rng)


def _at_full_size(
    base: FloatImage,
    fine: FloatImage,
    outline: Outline,
    size: tuple[int, int],
    spacing_mm: float,
    rng: np.random.Generator,
) -> Projection:
    """Add the fine texture, the skin and the falling thickness at the resolution asked for."""
    height, width = size
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) * spacing_mm
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) * spacing_mm
    inside = np.asarray(x < outline.border(y[:, 0])[:, None])
    nipple = outline.nipple_mm
    inside |= ((x - nipple[0] + 1.5) / 4.0) ** 2 + ((y - nipple[1]) / 5.0) ** 2 < 1
    # Right of the breast there is nothing to compute.
    end = min(width, int(np.ceil((nipple[0] + 4.0) / spacing_mm)) + 1)
    part = inside[:, :end]
    # The chest wall is no skin: the distance counts from the air alone.
    padded = cv2.copyMakeBorder(part.astype(np.uint8), 0, 0, 1, 0, cv2.BORDER_REPLICATE)
    skin_mm = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[:, 1:] * np.float32(spacing_mm)
    thickness = np.sqrt(np.clip(skin_mm / np.float32(_EDGE_ROLL_MM), 0, 1))
    full = cv2.resize(base, (width, height), interpolation=cv2.INTER_CUBIC)[:, :end]
    amplitude = cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)[:, :end]
    full = full + amplitude * fine_texture((height, end), spacing_mm, rng)
    skin = np.float32(0.10) * np.exp(-(((skin_mm - np.float32(0.8)) / np.float32(0.9)) ** 2))
    pixels = np.zeros(size, np.float32)
    pixels[:, :end] = (thickness * full + skin) * part
    return Projection(pixels, inside, nipple, spacing_mm)


def _gland(
    anatomy: Anatomy, view: View, outline: Outline, x: FloatImage, y: FloatImage
) -> FloatImage:
    """Return the share of gland along the rays: (rows, columns) float32."""
    share = make_volume(anatomy.texture_seed, anatomy.density).projected(view)
    depth, places = share.shape
    at_depth = np.broadcast_to(x[None, :] / anatomy.depth_mm * depth - 0.5, (y.size, x.size))
    at_place = np.broadcast_to((outline.along(y)[:, None] + 1) / 2 * places - 0.5, (y.size, x.size))
    mapped = cv2.remap(
        share,
        np.ascontiguousarray(at_place, np.float32),
        np.ascontiguousarray(at_depth, np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.asarray(np.clip(mapped, 0, 1), np.float32)


def _curves(
    anatomy: Anatomy, view: View, outline: Outline, shape: tuple[int, int], coarse_mm: float
) -> FloatImage:
    """Draw ducts and vessels: (rows, columns) float32 to add."""
    volume = make_volume(anatomy.texture_seed, anatomy.density)
    drawn = np.zeros(shape, np.float32)
    for curves, grey in ((volume.ducts, 0.04), (volume.vessels, 0.07)):
        for curve in curves:
            layer = _drawn(curve, anatomy, view, outline, shape, coarse_mm)
            np.maximum(drawn, grey * layer, out=drawn)
    return drawn


def _drawn(
    curve: Curve,
    anatomy: Anatomy,
    view: View,
    outline: Outline,
    shape: tuple[int, int],
    coarse_mm: float,
) -> FloatImage:
    """Draw one curve, 1 at its middle."""
    place = across(view, curve.points[:, 1], curve.points[:, 2])
    x = curve.points[:, 0] * anatomy.depth_mm / coarse_mm
    y = (place * 0.5 * anatomy.height_mm + outline.nipple_mm[1]) / coarse_mm
    points = np.rint(np.stack([x, y], axis=1) * 16).astype(np.int32)
    layer = np.zeros(shape, np.uint8)
    widths = np.linspace(*curve.width_mm, len(points) - 1) / coarse_mm
    for start, end, width in zip(points[:-1], points[1:], widths, strict=True):
        cv2.line(
            layer, start.tolist(), end.tolist(), (255,), max(1, round(width)), cv2.LINE_AA, shift=4
        )
    soft = cv2.GaussianBlur(layer, (0, 0), max(0.5, 0.35 / coarse_mm))
    return np.asarray(soft / np.float32(255), np.float32)


def _strands(
    anatomy: Anatomy,
    outline: Outline,
    gland: FloatImage,
    x: FloatImage,
    y: FloatImage,
    rng: np.random.Generator,
) -> FloatImage:
    """Draw fibrous strands that converge on the nipple, and Cooper's ligaments in the fat.

    The strands are ridges of noise that is drawn out towards the nipple, the ligaments ridges of
    noise that is not.
    """
    nipple_x, nipple_y = outline.nipple_mm
    away = np.hypot(nipple_x + 12 - x[None, :], y[:, None] - nipple_y)
    angle = np.arctan2(y[:, None] - nipple_y, nipple_x + 12 - x[None, :])
    turned = power_law_noise((512, 512), 2.4, rng)
    at_angle = ((angle / np.pi + 0.5) * 2.2 % 1.0) * 511
    at_depth = np.clip(away / (3.2 * anatomy.depth_mm), 0, 1) * 511
    drawn = cv2.remap(
        turned, at_depth.astype(np.float32), at_angle.astype(np.float32), cv2.INTER_LINEAR
    )
    strands = np.exp(-((drawn / 0.16) ** 2))
    web = np.exp(-((power_law_noise((y.size, x.size), 3.2, rng) / 0.035) ** 2))
    near = np.clip(gland / 0.25, 0, 1)
    return np.asarray(0.025 * strands * (0.25 + 0.75 * near) + 0.022 * web * (1 - near), np.float32)
