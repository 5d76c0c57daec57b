"""One breast from outside: its size, and the skin line that each view shows of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammoscope.types import Density, FloatImage, View

__all__ = ["Anatomy", "Outline", "draw_anatomy"]


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


def draw_anatomy(rng: np.random.Generator, density: Density) -> Anatomy:
    """Draw the size and tissue of one breast."""
    depth = float(np.clip(rng.normal(84, 14), 55, 118))
    return Anatomy(
        depth_mm=depth,
        height_mm=float(np.clip(depth * rng.normal(1.85, 0.12), 115, 205)),
        density=density,
        texture_seed=int(rng.integers(2**31)),
    )


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
    wobble: tuple[float, float]

    @classmethod
    def draw(
        cls, anatomy: Anatomy, view: View, field_mm: float, rng: np.random.Generator
    ) -> Outline:
        """Place a breast on a detector of this height."""
        phases = (float(rng.uniform(0, 6.3)), float(rng.uniform(0, 6.3)))
        top = float(rng.uniform(0.34, 0.5)) * anatomy.depth_mm
        if view is View.CC:
            centre = field_mm * float(rng.uniform(0.46, 0.54))
            return cls(anatomy, view, (anatomy.depth_mm, centre), 0.0, 0.0, phases)
        nipple = min(field_mm * 0.72, 0.62 * anatomy.height_mm + field_mm * 0.08)
        bottom = min(field_mm * 0.97, nipple + 0.44 * anatomy.height_mm)
        return cls(anatomy, view, (anatomy.depth_mm, nipple), top, bottom, phases)

    def border(self, y: FloatImage) -> FloatImage:
        """Return the skin's distance from the chest wall at heights y, in mm."""
        depth, nipple_y = self.nipple_mm
        wobble = (
            1 + 0.015 * np.sin(y / 23 + self.wobble[0]) + 0.008 * np.sin(y / 9 + self.wobble[1])
        )
        if self.view is View.CC:
            away = np.clip(np.abs(y - nipple_y) / (self.anatomy.height_mm / 2), 0, 1)
            border = depth * (1 - away**2.2) ** 0.62
        else:
            above = np.clip(y / nipple_y, 0, 1)
            below = np.clip((y - nipple_y) / (self.bottom_mm - nipple_y), 0, 1)
            rise = self.top_mm + (depth - self.top_mm) * np.sin(above * np.pi / 2) ** 1.6
            border = np.where(y < nipple_y, rise, depth * (1 - below**2.3) ** 0.6)
        return np.asarray(border * wobble, np.float32)

    def along(self, y: FloatImage) -> FloatImage:
        """Return the place across the breast, -1 to 1, of heights y in mm."""
        return np.asarray((y - self.nipple_mm[1]) / (0.5 * self.anatomy.height_mm), np.float32)
