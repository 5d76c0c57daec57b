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

from mammoscope.cohort.synthetic.anatomy import Anatomy, Outline, seen_at
from mammoscope.cohort.synthetic.pectoral import with_pectoral
from mammoscope.cohort.synthetic.texture import fine_texture, power_law_noise
from mammoscope.cohort.synthetic.volume import Curve, across, make_volume
from mammoscope.types import FloatImage, View

__all__ = ["Projection", "project"]

# Over this share of its thickness from the skin the compressed breast reaches all of it.
_EDGE_ROLL = 0.2
# Spacing of the grid on which all is drawn that is no finer.
_COARSE_MM = 0.4
# Over this distance tissue gives way to an implant.
_GIVES_WAY_MM = 12.0
# Deviation of fine texture in fat and in gland.
_FINE_FAT, _FINE_GLAND = 0.009, 0.020


@dataclass(frozen=True, slots=True)
class Projection:
    """One view of a breast on a grid of square pixels, chest wall at column 0.

    Attributes:
        pixels: (H, W) float32 presentation values in [0, 1], 0 outside the breast.
        inside: (H, W) bool, the breast with its skin.
        nipple_mm: (x, y) of the nipple.
        spacing_mm: Size of a pixel.
        hidden: (H, W) float32, share by which an implant hides tissue; ``None`` without one.
    """

    pixels: FloatImage
    inside: NDArray[np.bool_]
    nipple_mm: tuple[float, float]
    spacing_mm: float
    hidden: FloatImage | None = None


def project(
    anatomy: Anatomy, view: View, size: tuple[int, int], spacing_mm: float, take: int = 0
) -> Projection:
    """Draw one view.

    Args:
        anatomy: The breast.
        view: CC, or one from the side, with the pectoral muscle.
        size: (H, W) of the grid.
        spacing_mm: Size of a pixel.
        take: Which exposure of this view: the breast is placed anew for each.
    """
    height, width = size
    rng = np.random.default_rng([anatomy.texture_seed, list(View).index(view), take])
    field_mm = (height * spacing_mm, width * spacing_mm)
    coarse_mm = max(_COARSE_MM, spacing_mm)
    rows, columns = (max(2, round(side / coarse_mm)) for side in field_mm)
    y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(field_mm[0] / rows)
    x = (np.arange(columns, dtype=np.float32) + 0.5) * np.float32(field_mm[1] / columns)
    outline = Outline.draw(anatomy, view, field_mm[0], rng)
    gland = _gland(anatomy, view, outline, x, y)
    curves = _curves(anatomy, view, outline, (rows, columns), coarse_mm)
    base = anatomy.fat + anatomy.gland * gland + curves
    base += _strands(anatomy, outline, gland, x, y, rng)
    fine = _FINE_FAT + (_FINE_GLAND - _FINE_FAT) * np.clip(gland / 0.5, 0, 1)
    if view is not View.CC:
        base, muscle = with_pectoral(base, anatomy, view, x, y, rng)
        fine = fine * (1 - muscle) + muscle * _FINE_FAT
    hidden: FloatImage | None = None
    if anatomy.implant is not None:
        depth, along = x[None, :] / anatomy.depth_mm, outline.along(y)[:, None]
        cover, grey = anatomy.implant.covers(depth, along, anatomy.depth_mm)
        base, fine = base * (1 - cover) + grey * cover, fine * (1 - cover)
        hidden = _enlarged(cover, size, width, cv2.INTER_LINEAR)
    pixels, inside = _at_full_size(base, fine, outline, size, spacing_mm, rng)
    for clip in anatomy.clips:
        at = seen_at(anatomy, view, outline.nipple_mm, clip.depth_mm, clip.place)
        clip.draw(pixels, *at, spacing_mm)
    return Projection(pixels, inside, outline.nipple_mm, spacing_mm, hidden)


def _at_full_size(
    base: FloatImage,
    fine: FloatImage,
    outline: Outline,
    size: tuple[int, int],
    spacing_mm: float,
    rng: np.random.Generator,
) -> tuple[FloatImage, NDArray[np.bool_]]:
    """Add the fine texture, the skin and the falling thickness at the resolution asked for."""
    height, width = size
    nipple, y = outline.nipple_mm, (np.arange(height, dtype=np.float32) + 0.5) * spacing_mm
    border = outline.border(y)
    # Right of the breast there is nothing to compute.
    end = min(width, int(np.ceil(max(nipple[0] + 4.0, float(border.max())) / spacing_mm)) + 1)
    x = (np.arange(end, dtype=np.float32)[None, :] + 0.5) * spacing_mm
    part = x < border[:, None]
    rows = np.abs(y - nipple[1]) < 5.0
    across_, down = (x - nipple[0] + 1.5) / 4.0, (y[rows, None] - nipple[1]) / 5.0
    part[rows] |= across_**2 + down**2 < 1
    inside = np.zeros(size, bool)
    inside[:, :end] = part
    # The chest wall is no skin: the distance counts from the air alone.
    padded = cv2.copyMakeBorder(part.astype(np.uint8), 0, 0, 1, 0, cv2.BORDER_REPLICATE)
    skin_mm = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[:, 1:] * np.float32(spacing_mm)
    roll_mm = np.float32(_EDGE_ROLL * outline.anatomy.thickness_mm)
    thickness = np.sqrt(np.clip(skin_mm / roll_mm, 0, 1))
    full = _enlarged(base, size, end, cv2.INTER_CUBIC)
    amplitude = _enlarged(fine, size, end, cv2.INTER_LINEAR)
    full = full + amplitude * fine_texture((height, end), spacing_mm, rng)
    skin = np.float32(0.10) * np.exp(-(((skin_mm - np.float32(0.8)) / np.float32(0.9)) ** 2))
    pixels = np.zeros(size, np.float32)
    pixels[:, :end] = (thickness * full + skin) * part
    return pixels, inside


def _enlarged(part: FloatImage, size: tuple[int, int], end: int, how: int) -> FloatImage:
    """Return the first columns, up to ``end``, of a picture enlarged to a size."""
    y, x = part.shape[0] / size[0], part.shape[1] / size[1]
    back = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])
    enlarged = cv2.warpAffine(
        part,
        back,
        (end, size[0]),
        flags=how | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(enlarged, np.float32)


def _gland(
    anatomy: Anatomy, view: View, outline: Outline, x: FloatImage, y: FloatImage
) -> FloatImage:
    """Return the share of gland along the rays: (rows, columns) float32."""
    share = make_volume(anatomy.texture_seed, anatomy.density).projected(view, anatomy.roll)
    depth, places = share.shape
    behind = np.broadcast_to(x[None, :] / anatomy.depth_mm, (y.size, x.size))
    if anatomy.implant is not None:
        # Gland lies before an implant, not in it.
        front = anatomy.implant.front(outline.along(y))[:, None]
        # It is pushed aside smoothly, above and below as well.
        step_mm = float(y[1] - y[0])
        reach = round(3 * _GIVES_WAY_MM / step_mm)
        weights = np.exp(-((np.arange(-reach, reach + 1) * step_mm / _GIVES_WAY_MM) ** 2) / 2)
        smooth = cv2.filter2D(front, -1, (weights / weights.sum())[:, None])
        front = np.asarray(smooth, np.float32)
        behind = (behind - front) / (1 - front)
    at_depth = behind * depth - 0.5
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
        layer = np.zeros(shape, np.uint8)
        for curve in curves:
            _draw(layer, curve, anatomy, view, outline, coarse_mm)
        soft = cv2.GaussianBlur(layer, (0, 0), max(0.5, 0.35 / coarse_mm))
        np.maximum(drawn, soft * np.float32(grey / 255), out=drawn)
    return drawn


def _draw(
    layer: NDArray[np.uint8],
    curve: Curve,
    anatomy: Anatomy,
    view: View,
    outline: Outline,
    coarse_mm: float,
) -> None:
    """Draw one curve in white."""
    place = across(view, curve.points[:, 1], curve.points[:, 2], anatomy.roll)
    x = curve.points[:, 0] * anatomy.depth_mm / coarse_mm
    y = (place * 0.5 * anatomy.height_mm + outline.nipple_mm[1]) / coarse_mm
    points = np.rint(np.stack([x, y], axis=1) * 16).astype(np.int32)
    widths = np.linspace(*curve.width_mm, len(points) - 1) / coarse_mm
    for start, end, width in zip(points[:-1], points[1:], widths, strict=True):
        cv2.line(
            layer, start.tolist(), end.tolist(), (255,), max(1, round(width)), cv2.LINE_AA, shift=4
        )


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
    web = np.exp(-((power_law_noise((y.size, x.size), 4.0, rng) / 0.035) ** 2))
    near = np.clip(gland / 0.25, 0, 1)
    return np.asarray(0.045 * strands * (0.25 + 0.75 * near) + 0.060 * web * (1 - near), np.float32)
