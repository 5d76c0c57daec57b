"""Lesions with truth: spiculated malignant masses, circumscribed benign ones, calcifications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mammoscope.cohort.synthetic.anatomy import Anatomy
from mammoscope.cohort.synthetic.phantom import Projection
from mammoscope.cohort.synthetic.volume import across
from mammoscope.types import Box, FloatImage, View

__all__ = ["Lesion", "add_lesion", "draw_lesion"]

Kind = Literal["spiculated_mass", "circumscribed_mass", "benign_calcifications"]


# Share of benign lesions that are calcifications; the rest are masses.
_CALCIFICATION_RATE = 0.3


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion of a breast, seen in every view.

    Attributes:
        kind: What it is.
        malignant: Whether it is cancer.
        depth_mm: Distance behind the nipple, the same in CC and MLO.
        place: Where it lies across the breast, on the volume's two axes, each from -1 to 1;
            what a view shows of it follows (:func:`~.volume.across`).
        radius_mm: Radius of its body.
        contrast: Presentation value added at its centre.
        seed: Seed of its shape.
    """

    kind: Kind
    malignant: bool
    depth_mm: float
    place: tuple[float, float]
    radius_mm: float
    contrast: float
    seed: int


def draw_lesion(
    rng: np.random.Generator, anatomy: Anatomy, *, malignant: bool, conspicuity: float = 1.0
) -> Lesion:
    """Draw a lesion.

    Args:
        rng: Source of randomness.
        anatomy: The breast that holds it.
        malignant: Cancer, or a benign finding that looks like one to the careless.
        conspicuity: Factor on the contrast of malignant lesions; 0 hides them.
    """
    depth = float(rng.uniform(0.2, 0.68)) * anatomy.depth_mm
    turn, radius_share = rng.uniform(0, 2 * np.pi), 0.6 * np.sqrt(rng.uniform(0, 1))
    place = (float(radius_share * np.cos(turn)), float(radius_share * np.sin(turn)))
    kind: Kind
    if malignant:
        kind, radius, contrast = "spiculated_mass", (5.0, 10.0), (0.18, 0.42)
    elif rng.random() < _CALCIFICATION_RATE:
        kind, radius, contrast = "benign_calcifications", (3.0, 7.0), (0.4, 0.5)
    else:
        kind, radius, contrast = "circumscribed_mass", (4.0, 9.0), (0.10, 0.26)
    return Lesion(
        kind=kind,
        malignant=malignant,
        depth_mm=depth,
        place=place,
        radius_mm=float(rng.uniform(*radius)),
        contrast=float(rng.uniform(*contrast)) * (conspicuity if malignant else 1.0),
        seed=int(rng.integers(2**31)),
    )


def add_lesion(
    projection: Projection, anatomy: Anatomy, lesion: Lesion, view_index: int
) -> tuple[FloatImage, Box]:
    """Add a lesion to a view.

    Args:
        projection: The view.
        anatomy: The breast.
        lesion: The lesion.
        view_index: 0 for CC, 1 for MLO.

    Returns:
        (H, W) float32 pixels with the lesion, and its box in pixels, chest wall at the left.
    """
    spacing = projection.spacing_mm
    height, width = projection.pixels.shape
    centre_x = projection.nipple_mm[0] - lesion.depth_mm
    reach_y = 0.5 * anatomy.height_mm * np.sqrt(max(0.05, 1 - (centre_x / anatomy.depth_mm) ** 2))
    along = float(across(View.MLO if view_index else View.CC, *lesion.place))
    centre_y = projection.nipple_mm[1] + along * reach_y
    extent = lesion.radius_mm * (2.6 if lesion.kind == "spiculated_mass" else 1.5)
    left, right = _span(centre_x, extent, spacing, width)
    top, bottom = _span(centre_y, extent, spacing, height)
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    dx, dy = (x + 0.5) * spacing - centre_x, (y + 0.5) * spacing - centre_y
    rng = np.random.default_rng([lesion.seed, view_index])
    added = lesion.contrast * _SHAPES[lesion.kind](dx, dy, lesion.radius_mm, rng)
    pixels = projection.pixels.copy()
    patch = pixels[top:bottom, left:right]
    patch += added * projection.inside[top:bottom, left:right]
    reach = lesion.radius_mm * 1.25 / spacing
    column, row = centre_x / spacing, centre_y / spacing
    box = Box(
        max(0.0, column - reach),
        max(0.0, row - reach),
        min(float(width), column + reach),
        min(float(height), row + reach),
    )
    return pixels, box


def _span(centre_mm: float, extent_mm: float, spacing: float, length: int) -> tuple[int, int]:
    low = int(np.clip((centre_mm - extent_mm) / spacing, 0, length - 2))
    high = int(np.clip(np.ceil((centre_mm + extent_mm) / spacing), low + 1, length))
    return low, high


def _spiculated(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """An irregular body with an indistinct margin, and rays that taper away from it."""
    distance, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    margin = np.full_like(distance, radius)
    for lobes in range(2, 7):
        margin += radius * rng.normal(0, 0.10) * np.cos(lobes * angle + rng.uniform(0, 6.3))
    body = 1 / (1 + np.exp(np.clip((distance - 0.85 * margin) / (0.14 * radius), -30, 30)))
    rays = np.zeros_like(distance)
    for direction in np.linspace(0, 2 * np.pi, int(rng.integers(11, 18)), endpoint=False):
        turned = direction + rng.normal(0, 0.15)
        along = dx * np.cos(turned) + dy * np.sin(turned)
        across = -dx * np.sin(turned) + dy * np.cos(turned)
        length = radius * rng.uniform(1.6, 2.5)
        taper = np.clip(1 - along / length, 0, 1) * (along > 0)
        rays = np.maximum(rays, taper * np.exp(-((across / (0.35 + 0.55 * taper)) ** 2)))
    return np.asarray(np.maximum(body, 0.75 * rays), np.float32)


def _circumscribed(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """A round or oval body with a sharp margin."""
    turn, ratio = rng.uniform(0, np.pi), rng.uniform(0.7, 1.0)
    along = dx * np.cos(turn) + dy * np.sin(turn)
    across = (-dx * np.sin(turn) + dy * np.cos(turn)) / ratio
    distance = np.hypot(along, across) / radius
    body = np.sqrt(np.clip(1 - distance**2, 0, 1))
    return np.asarray(0.6 * body + 0.4 * (distance < 1), np.float32)


def _calcifications(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """A few coarse round grains."""
    grains = np.zeros_like(dx)
    for _ in range(int(rng.integers(3, 8))):
        x, y = rng.normal(0, radius / 2, 2)
        size = rng.uniform(0.4, 0.9)
        grains = np.maximum(grains, np.exp(-(((dx - x) ** 2 + (dy - y) ** 2) / size**2)))
    return np.asarray(grains, np.float32)


_SHAPES = {
    "spiculated_mass": _spiculated,
    "circumscribed_mass": _circumscribed,
    "benign_calcifications": _calcifications,
}
