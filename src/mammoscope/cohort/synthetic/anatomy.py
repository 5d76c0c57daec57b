"""One breast from outside: its size, and the skin line that each view shows of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mammoscope.cohort.synthetic.surgery import Clip, Implant
from mammoscope.cohort.synthetic.volume import across
from mammoscope.types import Density, FloatImage, View

__all__ = [
    "Anatomy",
    "Outline",
    "draw_anatomy",
    "of_other_side",
    "placed_again",
    "pulled_forward",
    "seen_at",
]

# Chest wall to nipple, and along the chest wall as a multiple of it: mean, deviation, range.
_DEPTH_MM = (92.0, 17.0, 52.0, 140.0)
_HEIGHT_SHARE, _HEIGHT_MM = (2.1, 0.2), (110.0, 232.0)
# Grey of fat, and what gland adds to it.
_FAT, _GLAND = (0.36, 0.05, 0.25, 0.50), (0.56, 0.05, 0.45, 0.70)
# Of the depth without its implant: the part in front of one that is pushed back.
_PULLED = 0.82


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One breast, whatever the view.

    Attributes:
        depth_mm: Chest wall to nipple.
        height_mm: Extent along the chest wall in CC.
        thickness_mm: Compressed.
        density: Category of composition.
        fat: Presentation value of fat.
        gland: What gland adds to it.
        fullness: 0 for a pointed outline, 1 for a full one.
        texture_seed: Seed of its tissue.
        implant: If it has one.
        clips: Of surgery or biopsy.
        roll: By how many radians it is rolled under the paddle.
    """

    depth_mm: float
    height_mm: float
    thickness_mm: float
    density: Density
    fat: float
    gland: float
    fullness: float
    texture_seed: int
    implant: Implant | None = None
    clips: tuple[Clip, ...] = ()
    roll: float = 0.0


def draw_anatomy(rng: np.random.Generator, density: Density) -> Anatomy:
    """Draw the size and tissue of one breast."""
    depth = _normal(rng, *_DEPTH_MM)
    return Anatomy(
        depth_mm=depth,
        height_mm=float(np.clip(depth * rng.normal(*_HEIGHT_SHARE), *_HEIGHT_MM)),
        # Large breasts are thicker under the same force.
        thickness_mm=_normal(rng, 15 + 0.42 * depth, 8, 20, 95),
        density=density,
        fat=_normal(rng, *_FAT),
        gland=_normal(rng, *_GLAND),
        fullness=float(rng.uniform(0, 1)),
        texture_seed=int(rng.integers(2**31)),
    )


def of_other_side(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Draw a breast alike to this one, as a woman's two are, with tissue of its own."""
    return replace(
        anatomy,
        depth_mm=anatomy.depth_mm * float(rng.normal(1, 0.05)),
        height_mm=anatomy.height_mm * float(rng.normal(1, 0.05)),
        thickness_mm=anatomy.thickness_mm + float(rng.normal(0, 2)),
        fullness=float(np.clip(anatomy.fullness + rng.normal(0, 0.15), 0, 1)),
        texture_seed=int(rng.integers(2**31)),
    )


def placed_again(anatomy: Anatomy, take: int) -> Anatomy:
    """Return a breast as it lies in a further exposure: pulled, pressed and rolled otherwise."""
    if not take:
        return anatomy
    rng = np.random.default_rng([anatomy.texture_seed, 17, take])
    pull, spread = rng.uniform(0.03, 0.06) * (1 if take % 2 else -1), rng.uniform(0.98, 1.02)
    return replace(
        anatomy,
        depth_mm=anatomy.depth_mm * float(1 + pull),
        height_mm=anatomy.height_mm * float(spread),
        thickness_mm=anatomy.thickness_mm * float(1 - 0.5 * pull),
        roll=float(np.deg2rad(rng.uniform(5, 10)) * (1 if take % 2 else -1)),
    )


def pulled_forward(anatomy: Anatomy) -> Anatomy:
    """Return a breast with its implant pushed back, out of the picture."""
    return replace(
        anatomy,
        depth_mm=_PULLED * anatomy.depth_mm,
        thickness_mm=_PULLED * anatomy.thickness_mm,
        implant=None if anatomy.implant is None else anatomy.implant.displaced(),
    )


def seen_at(
    anatomy: Anatomy,
    view: View,
    nipple_mm: tuple[float, float],
    depth_mm: float,
    place: tuple[float, float],
) -> tuple[float, float]:
    """Return where a view shows a point of a breast, in mm.

    Args:
        anatomy: The breast.
        view: The view.
        nipple_mm: (x, y) of the nipple in it.
        depth_mm: Distance of the point behind the nipple.
        place: On the volume's two axes across, as shares of the breast's half-width there.
    """
    x = nipple_mm[0] - depth_mm
    reach = 0.5 * anatomy.height_mm * np.sqrt(max(0.05, 1 - (x / anatomy.depth_mm) ** 2))
    return x, nipple_mm[1] + float(across(view, *place, anatomy.roll)) * float(reach)


def _normal(
    rng: np.random.Generator, mean: float, deviation: float, low: float, high: float
) -> float:
    return float(np.clip(rng.normal(mean, deviation), low, high))


@dataclass(frozen=True, slots=True)
class Outline:
    """The skin line of one view.

    Attributes:
        anatomy: The breast.
        view: The view.
        nipple_mm: (x, y).
        top_mm: From the side: depth of the breast at the upper edge.
        bottom_mm: From the side: where the fold below lies.
        wobble: Phases of small irregularities.
    """

    anatomy: Anatomy
    view: View
    nipple_mm: tuple[float, float]
    top_mm: float
    bottom_mm: float
    wobble: tuple[float, float, float]

    @classmethod
    def draw(
        cls, anatomy: Anatomy, view: View, field_mm: float, rng: np.random.Generator
    ) -> Outline:
        """Place a breast on a detector of this height."""
        first, second, third = (float(rng.uniform(0, 6.3)) for _ in range(3))
        top = float(rng.uniform(0.36, 0.58)) * anatomy.depth_mm
        # Nobody is placed with the nipple quite in the middle.
        shift = float(rng.uniform(-0.04, 0.04)) * field_mm
        if view is View.CC:
            nipple = field_mm / 2 + shift
            return cls(anatomy, view, (anatomy.depth_mm, nipple), 0.0, 0.0, (first, second, third))
        nipple = min(field_mm * 0.72, 0.58 * anatomy.height_mm + field_mm * 0.10) + shift
        bottom = min(field_mm * 0.985, nipple + 0.46 * anatomy.height_mm)
        return cls(anatomy, view, (anatomy.depth_mm, nipple), top, bottom, (first, second, third))

    def border(self, y: FloatImage) -> FloatImage:
        """Return the skin's distance from the chest wall at heights y, in mm."""
        depth, nipple_y = self.nipple_mm
        full = self.anatomy.fullness
        wobble = (
            1
            + 0.020 * np.sin(y / 37 + self.wobble[2])
            + 0.012 * np.sin(y / 21 + self.wobble[0])
            + 0.006 * np.sin(y / 9 + self.wobble[1])
        )
        if self.view is View.CC:
            away = np.clip(np.abs(y - nipple_y) / (self.anatomy.height_mm / 2), 0, 1)
            border = depth * (1 - away ** (1.8 + 0.8 * full)) ** (0.70 - 0.16 * full)
        else:
            above = np.clip(y / nipple_y, 0, 1)
            below = np.clip((y - nipple_y) / (self.bottom_mm - nipple_y), 0, 1)
            rise = self.top_mm + (depth - self.top_mm) * np.sin(above * np.pi / 2) ** (
                1.9 - 0.6 * full
            )
            fall = depth * (1 - below ** (1.9 + 0.8 * full)) ** (0.68 - 0.16 * full)
            border = np.where(y < nipple_y, rise, fall)
        return np.asarray(border * wobble, np.float32)

    def along(self, y: FloatImage) -> FloatImage:
        """Return the place across the breast, -1 to 1, of heights y in mm."""
        return np.asarray((y - self.nipple_mm[1]) / (0.5 * self.anatomy.height_mm), np.float32)
