"""What surgery leaves in a breast: implants, clips of an operation, markers of a biopsy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.types import FloatImage

__all__ = ["Clip", "Implant", "draw_clips", "draw_implant"]

# Of breasts, how many bear metal. Assumed: the table does not say who was operated on before.
_WITH_CLIPS = 0.03
# Greys of silicone under its capsule and of saline, which lets some tissue through.
_SILICONE, _SALINE = 0.93, 0.80
_METAL = 0.99
_Shape = Literal["clip", "ring", "ribbon", "coil"]
_MARKERS: tuple[_Shape, ...] = ("ring", "ribbon", "coil")


@dataclass(frozen=True, slots=True)
class Implant:
    """A prosthesis before the chest wall.

    Attributes:
        reach: How far it comes forward, as a share of the breast's depth.
        spread: Its extent along the chest wall, as a share of the breast's.
        grey: Its presentation value.
        clear: Share of the tissue before it and behind it that shows through.
        edge_mm: Over which its margin falls off.
    """

    reach: float
    spread: float
    grey: float
    clear: float
    edge_mm: float

    def displaced(self) -> Implant:
        """Return what a view shows of it that pushes it back (Eklund): a rim, or nothing."""
        return replace(self, reach=0.12 * self.reach, spread=0.8 * self.spread)

    def front(self, along: FloatImage) -> FloatImage:
        """Return how far forward it comes at places along the chest wall, as a share of depth."""
        inside = np.clip(1 - np.abs(along / self.spread) ** 2.4, 0, 1)
        return np.asarray(self.reach * inside ** (1 / 2.4), np.float32)

    def covers(
        self, depth: FloatImage, along: FloatImage, depth_mm: float
    ) -> tuple[FloatImage, FloatImage]:
        """Return how far it hides tissue, and its grey.

        Args:
            depth: Distance from the chest wall as a share of the breast's depth.
            along: Place along the chest wall, -1 to 1.
            depth_mm: The breast's depth.

        Returns:
            Share in [0, 1] by which it covers, and presentation values, of the inputs' shape
            broadcast.
        """
        # A disc's section is flatter than an ellipse.
        radius = ((depth / self.reach) ** 2.4 + np.abs(along / self.spread) ** 2.4) ** (1 / 2.4)
        inner_mm = (1 - radius) * self.reach * depth_mm
        cover = np.clip(inner_mm / self.edge_mm, 0, 1)
        # The capsule is a bright line, and the middle, where there is most of it, brighter.
        capsule = np.exp(-(((inner_mm - self.edge_mm) / 0.8) ** 2))
        bulge = np.sqrt(np.clip(1 - radius**2, 0, 1))
        grey = self.grey * (0.88 + 0.12 * bulge) + 0.05 * capsule
        hidden = cover * (1 - self.clear)
        return np.asarray(hidden, np.float32), np.asarray(grey, np.float32)


@dataclass(frozen=True, slots=True)
class Clip:
    """A piece of metal of some millimetres.

    Attributes:
        shape: A surgeon's clip, or the forms of biopsy markers.
        depth_mm: Distance behind the nipple.
        place: Across the breast, as that of a lesion.
        size_mm: Its length.
        turn: Its angle, in radians.
    """

    shape: _Shape
    depth_mm: float
    place: tuple[float, float]
    size_mm: float
    turn: float

    def draw(self, pixels: FloatImage, x_mm: float, y_mm: float, spacing_mm: float) -> None:
        """Draw it into (H, W) presentation values, its middle at (x, y)."""
        reach = max(2, int(np.ceil(self.size_mm / spacing_mm)))
        column, row = round(x_mm / spacing_mm), round(y_mm / spacing_mm)
        top, left = row - reach, column - reach
        bottom, right = row + reach + 1, column + reach + 1
        if min(top, left) < 0 or bottom > pixels.shape[0] or right > pixels.shape[1]:
            return
        # Drawn eight times finer: wires are thinner than coarse pixels.
        fine = 8 if spacing_mm > 0.2 else 2
        side = (2 * reach + 1) * fine
        layer = np.zeros((side, side), np.uint8)
        points = np.rint(self._path() / spacing_mm * fine + side / 2).astype(np.int32)
        width = max(1, round(0.35 / spacing_mm * fine))
        cv2.polylines(layer, [points], isClosed=False, color=(255,), thickness=width)
        cover = cv2.resize(layer, (side // fine,) * 2, interpolation=cv2.INTER_AREA)
        share = cover.astype(np.float32) / np.float32(255)
        patch = pixels[top:bottom, left:right]
        patch += share * (np.float32(_METAL) - patch)

    def _path(self) -> FloatImage:
        """Return its wire: (n, 2) in mm around its middle."""
        t = np.linspace(-1, 1, 48)
        half = self.size_mm / 2
        if self.shape == "ring":
            path = np.stack([np.cos(np.pi * t), np.sin(np.pi * t)], axis=1) * half
        elif self.shape == "ribbon":
            path = np.stack([np.sin(1.5 * np.pi * t), t], axis=1) * (0.5 * half, half)
        elif self.shape == "coil":
            path = np.stack([t + 0.12 * np.cos(16 * t), 0.3 * np.sin(16 * t)], axis=1) * half
        else:
            path = np.stack([t, 0.25 * np.abs(t)], axis=1) * half
        turn = np.array(
            [[np.cos(self.turn), np.sin(self.turn)], [-np.sin(self.turn), np.cos(self.turn)]]
        )
        return np.asarray(path @ turn, np.float32)


def draw_implant(rng: np.random.Generator) -> Implant:
    """Draw an implant: silicone more often than saline."""
    silicone = rng.random() < 0.8
    return Implant(
        reach=float(rng.uniform(0.50, 0.68)),
        spread=float(rng.uniform(0.50, 0.66)),
        grey=_SILICONE if silicone else _SALINE,
        clear=0.0 if silicone else 0.25,
        edge_mm=float(rng.uniform(1.5, 3.0)),
    )


def draw_clips(rng: np.random.Generator, depth_mm: float) -> tuple[Clip, ...]:
    """Draw what metal a breast of this depth has: most often none."""
    chance, many, count = rng.random(), rng.random(), int(rng.integers(3, 6))
    if chance >= _WITH_CLIPS:
        return ()
    depth = float(rng.uniform(0.25, 0.65)) * depth_mm
    place = rng.uniform(-0.35, 0.35, 2)
    if many < 0.6:
        # A marker, where a biopsy was taken.
        shape = _MARKERS[int(rng.integers(len(_MARKERS)))]
        return (Clip(shape, depth, _pair(place), float(rng.uniform(2, 3)), _turn(rng)),)
    # The bed of an operation.
    return tuple(
        Clip(
            "clip",
            depth + float(rng.normal(0, 6)),
            _pair(place + rng.normal(0, 0.1, 2)),
            float(rng.uniform(3, 5)),
            _turn(rng),
        )
        for _ in range(count)
    )


def _turn(rng: np.random.Generator) -> float:
    return float(rng.uniform(0, 2 * np.pi))


def _pair(place: NDArray[np.float64]) -> tuple[float, float]:
    return float(place[0]), float(place[1])
