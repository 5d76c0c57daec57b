"""Lesions as a view shows them: what they add, and the mask of their truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.cohort.synthetic.anatomy import Anatomy, seen_at
from mammoscope.cohort.synthetic.lesions import Lesion
from mammoscope.cohort.synthetic.phantom import Projection
from mammoscope.types import Box, FloatImage, View

__all__ = ["Truth", "add_lesion"]

# Half the side of the patch on which a lesion is drawn, in its radii: spicules reach beyond.
_EXTENT = 2.7
# Share of its greatest value from which on what a lesion adds counts as lesion.
_MASK_LEVEL = 0.25

# Offsets from the centre in mm, radius in mm, and randomness to a picture in [0, 1].
_Shape = Callable[[FloatImage, FloatImage, float, np.random.Generator], FloatImage]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a lesion in a view.

    Attributes:
        box: In pixels, chest wall at the left.
        patch: (h, w) uint8, 1 on the lesion: the part of the mask around it.
        corner: Row and column of the image at which the patch begins.
        size: (H, W) of the image.
        conspicuity: What it adds within its mask, on average, in deviations of the tissue around
            it.
    """

    box: Box
    patch: NDArray[np.uint8]
    corner: tuple[int, int]
    size: tuple[int, int]
    conspicuity: float

    @property
    def mask(self) -> NDArray[np.uint8]:
        """The mask of the whole image: (H, W) uint8, 1 on the lesion."""
        whole = np.zeros(self.size, np.uint8)
        (top, left), (rows, columns) = self.corner, self.patch.shape
        whole[top : top + rows, left : left + columns] = self.patch
        return whole

    def mirrored(self) -> Truth:
        """Return the truth of the image mirrored left to right."""
        width = self.size[1]
        box = Box(width - self.box.x_max, self.box.y_min, width - self.box.x_min, self.box.y_max)
        corner = self.corner[0], width - self.corner[1] - self.patch.shape[1]
        return replace(self, box=box, patch=self.patch[:, ::-1], corner=corner)


def add_lesion(projection: Projection, anatomy: Anatomy, lesion: Lesion, view: View) -> Truth:
    """Add a lesion to the pixels of a view, where no implant hides it.

    Args:
        projection: The view; its pixels are changed.
        anatomy: The breast.
        lesion: The lesion.
        view: Which view it is.

    Returns:
        The truth of it.
    """
    spacing, (height, width) = projection.spacing_mm, projection.pixels.shape
    centre = seen_at(anatomy, view, projection.nipple_mm, lesion.depth_mm, lesion.place)
    extent = _EXTENT * lesion.radius_mm
    left, right = _span(centre[0], extent, spacing, width)
    top, bottom = _span(centre[1], extent, spacing, height)
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    dx, dy = (x + 0.5) * spacing - centre[0], (y + 0.5) * spacing - centre[1]
    # Another projection of the same body: turned round, and a little shorter.
    down = dy if view is View.CC else -dy / np.float32(0.9)
    rng = np.random.default_rng(lesion.seed)
    drawn = _SHAPES[lesion.kind](dx, down, lesion.radius_mm, rng)
    patch = projection.pixels[top:bottom, left:right]
    inside = projection.inside[top:bottom, left:right]
    around = float(patch[inside].std()) if inside.any() else 1.0
    shown = inside.astype(np.float32)
    if projection.hidden is not None:
        shown *= 1 - projection.hidden[top:bottom, left:right]
    if lesion.kind == "architectural_distortion" and lesion.contrast > 0:
        pulled = _pulled(patch, dx, dy, lesion.radius_mm)
        # Near the skin or an implant the tissue has nowhere to come from.
        patch += (pulled - patch) * shown * (pulled > 0)
    added = lesion.contrast * drawn * shown
    patch += added
    mask = _mask_of(lesion, drawn, dx, down) & inside
    seen = mask > 0
    conspicuity = float(added[seen].mean()) / max(around, 1e-3) if seen.any() else 0.0
    x_min, y_min, across, down = cv2.boundingRect(mask)
    if across and down:
        box = Box(
            float(left + x_min),
            float(top + y_min),
            float(left + x_min + across),
            float(top + y_min + down),
        )
    else:
        # Nothing of it lies in the breast.
        box = _place_of(centre, lesion.radius_mm, spacing, (height, width))
    return Truth(box, mask, (top, left), (height, width), conspicuity)


def _span(centre_mm: float, extent_mm: float, spacing: float, length: int) -> tuple[int, int]:
    low = int(np.clip((centre_mm - extent_mm) / spacing, 0, length - 2))
    high = int(np.clip(np.ceil((centre_mm + extent_mm) / spacing), low + 1, length))
    return low, high


def _mask_of(
    lesion: Lesion, drawn: FloatImage, dx: FloatImage, dy: FloatImage
) -> NDArray[np.uint8]:
    """Return the mask of a patch: the body of a mass, the region that holds grains."""
    if lesion.kind.endswith("_calcifications"):
        grains = np.asarray(drawn > _MASK_LEVEL, np.uint8)
        if not grains.any():
            return grains
        points = cv2.findNonZero(grains)
        hull = np.zeros_like(grains)
        cv2.fillConvexPoly(hull, cv2.convexHull(points), (1,))
        return hull
    if lesion.kind == "architectural_distortion":
        return np.asarray(np.hypot(dx, dy) < lesion.radius_mm, np.uint8)
    return np.asarray(drawn > _MASK_LEVEL, np.uint8)


def _place_of(
    centre_mm: tuple[float, float], radius_mm: float, spacing: float, size: tuple[int, int]
) -> Box:
    """Return the box of a place, cut to the image."""
    reach = radius_mm / spacing
    column, row = centre_mm[0] / spacing, centre_mm[1] / spacing
    return Box(
        max(0.0, column - reach),
        max(0.0, row - reach),
        min(float(size[1]), column + reach),
        min(float(size[0]), row + reach),
    )


def _pulled(patch: FloatImage, dx: FloatImage, dy: FloatImage, radius: float) -> FloatImage:
    """Pull tissue towards the centre, as a scar or a tumour without a body does."""
    distance = np.hypot(dx, dy) / (2.0 * radius)
    factor = 1 + 0.55 * np.exp(-((distance / 0.45) ** 2))
    rows, columns = patch.shape
    spacing = float(dx[0, 1] - dx[0, 0]) if columns > 1 else 1.0
    at_x = (dx * (factor - 1)) / spacing + np.arange(columns, dtype=np.float32)[None, :]
    at_y = (dy * (factor - 1)) / spacing + np.arange(rows, dtype=np.float32)[:, None]
    return np.asarray(
        cv2.remap(
            patch,
            at_x.astype(np.float32),
            at_y.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )


def _lobed(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator, depth: float
) -> FloatImage:
    """Return the distance from the centre in radii of an irregular margin."""
    distance, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    margin = np.full_like(distance, radius)
    for lobes in range(2, 7):
        margin += radius * rng.normal(0, depth) * np.cos(lobes * angle + rng.uniform(0, 6.3))
    # Lobes, not petals: nowhere does the margin come near the centre.
    return np.asarray(distance / np.maximum(margin, 0.7 * radius), np.float32)


def _edge(distance: FloatImage, softness: float) -> FloatImage:
    """Fall from 1 to 0 at the margin, over this share of the radius."""
    return np.asarray(1 / (1 + np.exp(np.clip((distance - 0.9) / softness, -30, 30))), np.float32)


def _oval(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator, ratio: float
) -> FloatImage:
    turn = rng.uniform(0, np.pi)
    along = dx * np.cos(turn) + dy * np.sin(turn)
    aside = (-dx * np.sin(turn) + dy * np.cos(turn)) / ratio
    return np.asarray(np.hypot(along, aside) / radius, np.float32)


def _spiculated(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    body = _edge(_lobed(dx, dy, 0.85 * radius, rng, 0.10), 0.13)
    return np.asarray(np.maximum(body, 0.75 * _rays(dx, dy, radius, rng, (11, 18))), np.float32)


def _rays(
    dx: FloatImage,
    dy: FloatImage,
    radius: float,
    rng: np.random.Generator,
    count: tuple[int, int],
) -> FloatImage:
    """Strands that taper away from the centre."""
    rays = np.zeros_like(dx)
    for direction in np.linspace(0, 2 * np.pi, int(rng.integers(*count)), endpoint=False):
        turned = direction + rng.normal(0, 0.15)
        along = dx * np.cos(turned) + dy * np.sin(turned)
        aside = -dx * np.sin(turned) + dy * np.cos(turned)
        length = radius * rng.uniform(1.6, 2.5)
        taper = np.clip(1 - along / length, 0, 1) * (along > 0)
        rays = np.maximum(rays, taper * np.exp(-((aside / (0.3 + 0.5 * taper)) ** 2)))
    return rays


def _indistinct(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    return _edge(_lobed(dx, dy, radius, rng, 0.13), 0.24)


def _obscured(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """A sharp margin on one side, lost in the tissue on the other."""
    body = _dome(_oval(dx, dy, radius, rng, rng.uniform(0.7, 0.95)))
    turn = rng.uniform(0, 2 * np.pi)
    side = (dx * np.cos(turn) + dy * np.sin(turn)) / radius
    return np.asarray(body / (1 + np.exp(np.clip(-4 * (side + 0.3), -30, 30))), np.float32)


def _circumscribed_oval(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    return _dome(_oval(dx, dy, radius, rng, rng.uniform(0.6, 0.85)))


def _circumscribed_round(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    return _dome(_oval(dx, dy, radius, rng, rng.uniform(0.92, 1.0)))


def _dome(distance: FloatImage) -> FloatImage:
    """What a solid body of sharp margin adds: as much as the ray's way through it."""
    body = np.sqrt(np.clip(1 - distance**2, 0, 1))
    return np.asarray(0.75 * body + 0.25 * np.clip((1 - distance) / 0.06, 0, 1), np.float32)


def _grains(
    dx: FloatImage,
    dy: FloatImage,
    places: NDArray[np.float64],
    sizes: NDArray[np.float64],
    brightness: NDArray[np.float64] | None = None,
) -> FloatImage:
    """Draw grains at places, of sizes in mm and of unlike brightness if given."""
    grains = np.zeros_like(dx)
    bright = np.ones(len(places)) if brightness is None else brightness
    for (x, y), size, light in zip(places, sizes, bright, strict=True):
        spot = np.exp(-(((dx - x) ** 2 + (dy - y) ** 2) / size**2))
        grains = np.maximum(grains, np.float32(light) * spot)
    return np.asarray(grains, np.float32)


def _pleomorphic(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """Many small grains of unlike size and brightness, in a group."""
    count = int(rng.integers(12, 32))
    places = rng.normal(0, 0.42 * radius, (count, 2))
    grains = np.zeros_like(dx)
    for place in places:
        bits = place + rng.normal(0, 0.18, (int(rng.integers(1, 4)), 2))
        grain = _grains(dx, dy, bits, rng.uniform(0.14, 0.34, len(bits)))
        grains = np.maximum(grains, rng.uniform(0.4, 1.0) * grain)
    return grains


def _fine_linear(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """Thin lines of grains that branch, as casts of a duct."""
    places: list[NDArray[np.float64]] = []
    heads = [(np.array([-0.7 * radius, 0.0]), 0.0)]
    turn = rng.uniform(0, 2 * np.pi)
    while heads and len(places) < 70:
        at, direction = heads.pop(0)
        for _ in range(int(rng.integers(8, 18))):
            direction += rng.normal(0, 0.12)
            step = rng.uniform(0.2, 0.65)
            at = at + step * np.array([np.cos(direction), np.sin(direction)])
            if np.hypot(*at) > radius:
                break
            places.append(at + rng.normal(0, 0.09, 2))
        else:
            heads += [(at, direction + 0.6), (at, direction - 0.5)]
    turned = np.array(places) @ np.array(
        [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    )
    count = len(turned)
    return _grains(dx, dy, turned, rng.uniform(0.1, 0.28, count), rng.uniform(0.35, 1, count))


def _coarse(dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator) -> FloatImage:
    """A few large round grains."""
    count = int(rng.integers(3, 8))
    return _grains(dx, dy, rng.normal(0, radius / 2, (count, 2)), rng.uniform(0.5, 1.1, count))


def _rim(dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator) -> FloatImage:
    """A bright shell around a clear middle."""
    distance = _oval(dx, dy, radius, rng, rng.uniform(0.8, 1.0))
    shell = np.exp(-(((distance - 0.85) * radius / 0.35) ** 2))
    return np.asarray(shell + 0.15 * (distance < 0.85), np.float32)


def _vascular(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """Two broken parallel tracks along a winding vessel."""
    along = np.linspace(-radius, radius, 90)
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    bend = 0.16 * radius * np.sin(along / radius * 3 + phase)
    grains = np.zeros_like(dx)
    for side in (-0.7, 0.7):
        track = np.stack([along, bend + side], axis=1)[rng.random(90) < 0.5]
        track = track + rng.normal(0, 0.14, track.shape)
        turned = track @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        count = len(turned)
        grains = np.maximum(
            grains,
            _grains(dx, dy, turned, rng.uniform(0.12, 0.36, count), rng.uniform(0.3, 1, count)),
        )
    return grains


def _distortion(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """Strands without a body."""
    centre = 1 - 0.6 * np.exp(-((np.hypot(dx, dy) / (0.25 * radius)) ** 2))
    return np.asarray(_rays(dx, dy, 0.8 * radius, rng, (9, 15)) * centre, np.float32)


def _asymmetry(
    dx: FloatImage, dy: FloatImage, radius: float, rng: np.random.Generator
) -> FloatImage:
    """More tissue than the other breast has there, without a margin."""
    return np.asarray(np.exp(-(_lobed(dx, dy, radius, rng, 0.10) ** 2) * 1.3), np.float32)


_SHAPES: dict[str, _Shape] = {
    "irregular_spiculated_mass": _spiculated,
    "irregular_indistinct_mass": _indistinct,
    "oval_obscured_mass": _obscured,
    "oval_circumscribed_mass": _circumscribed_oval,
    "round_circumscribed_mass": _circumscribed_round,
    "pleomorphic_calcifications": _pleomorphic,
    "fine_linear_branching_calcifications": _fine_linear,
    "coarse_calcifications": _coarse,
    "rim_calcifications": _rim,
    "vascular_calcifications": _vascular,
    "architectural_distortion": _distortion,
    "asymmetry": _asymmetry,
}
