"""The inside of one breast, of which each view is a projection.

A volume of glandular tissue in coordinates that go with the breast: depth from the chest wall (0)
to the nipple (1), and across it two axes from -1 to 1, lateral to medial and superior to inferior.
Compression changes lengths and leaves these; so what CC and MLO show of a breast agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.cohort.synthetic.texture import coloured_noise
from mammoscope.types import Density, FloatImage, View

__all__ = ["Curve", "Volume", "across", "make_volume"]

#: Voxels from chest wall to nipple, and across.
DEPTH, ACROSS = 72, 112
# Share of the volume behind the skin that is glandular. Projected, more of the area is dense.
_GLAND_SHARE = {Density.A: 0.035, Density.B: 0.11, Density.C: 0.24, Density.D: 0.42}
# Power of tissue falls as about 1 / f^3 (Burgess, Med. Phys. 28, 2001), and so does that of its
# projections; a little steeper here, as strands, texture and detector noise come on top.
_BETA = 3.3
# By how much the rays of a view are turned against those from above: the oblique ones nearly by
# half a right angle, that of the axillary tail less.
_TURN = {
    View.CC: 0.0,
    View.MLO: np.deg2rad(48.0),
    View.LMO: np.deg2rad(48.0),
    View.ML: np.deg2rad(90.0),
    View.LM: np.deg2rad(90.0),
    View.AT: np.deg2rad(30.0),
}
_MOST_VESSELS, _MOST_BRANCHES = 7, 3


@dataclass(frozen=True, slots=True)
class Curve:
    """A duct or a vessel.

    Attributes:
        points: (n, 3) depth and the two axes across.
        width_mm: At its beginning and at its end.
    """

    points: NDArray[np.float64]
    width_mm: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Volume:
    """What a breast is made of.

    Attributes:
        gland: (DEPTH, ACROSS, ACROSS) float32, share of gland; 0 outside the breast.
        ducts: From the nipple into the gland.
        vessels: Through the fat.
    """

    gland: NDArray[np.float32]
    ducts: tuple[Curve, ...]
    vessels: tuple[Curve, ...]

    def projected(self, view: View, roll: float = 0.0) -> FloatImage:
        """Return the mean share of gland along the rays of a view: (DEPTH, ACROSS) float32.

        Args:
            view: The view.
            roll: By how many radians the breast is rolled under the paddle.
        """
        turn = _TURN[view] + roll
        gland = _turned(self.gland, turn) if turn else self.gland
        return np.asarray(gland.sum(axis=2) / _ray_lengths(turn), dtype=np.float32)


def across(
    view: View,
    first: NDArray[np.float64] | float,
    second: NDArray[np.float64] | float,
    roll: float = 0.0,
) -> NDArray[np.float64]:
    """Return where along the chest wall a view shows places, from -1 to 1.

    Args:
        view: The view.
        first: Places on the axis from lateral to medial.
        second: Places on the axis from superior to inferior.
        roll: As of :meth:`Volume.projected`.
    """
    turn = _TURN[view] + roll
    return np.asarray(np.cos(turn) * first + np.sin(turn) * second, np.float64)


@lru_cache(maxsize=2)
def make_volume(seed: int, density: Density) -> Volume:
    """Make the inside of one breast; the same seed gives the same, bit for bit."""
    rng = np.random.default_rng([seed, 11])
    depth = (np.arange(DEPTH, dtype=np.float32)[:, None, None] + 0.5) / DEPTH
    axis = (np.arange(ACROSS, dtype=np.float32) + 0.5) / ACROSS * 2 - 1
    first, second = axis[None, :, None], axis[None, None, :]
    radius = np.hypot(first, second)
    inside = _inside()
    # Gland lies in a cone behind the nipple, more of it outwards and above, and fat under the
    # skin and before the muscle.
    shift = rng.normal(0, 0.08, 2)
    cone = np.exp(
        -(((depth - 0.50) / 0.30) ** 2)
        - ((first + 0.12 + shift[0]) / 0.50) ** 2
        - ((second + 0.10 + shift[1]) / 0.50) ** 2
    )
    rim = np.clip((np.sqrt(np.maximum(1 - depth**2.4, 0)) - radius) / 0.16, 0, 1)
    field = _noise(rng) + 2.6 * cone - 2.0 * (1 - rim) - 1.2 * np.clip(0.16 - depth, 0, 1) / 0.16
    threshold = float(np.quantile(field[inside > 0][::7], 1 - _GLAND_SHARE[density]))
    gland = inside / (1 + np.exp(np.clip(-5.0 * (field - threshold), -30, 30)))
    # Even the densest breast has fat under its skin.
    gland *= np.clip(2.5 * rim - 0.75, 0, 1)
    return Volume(np.asarray(gland, np.float32), _ducts(rng, density), _vessels(rng))


def _inside() -> NDArray[np.float32]:
    """Return where the breast is: (DEPTH, ACROSS, ACROSS) float32, 1 in it."""
    depth = (np.arange(DEPTH, dtype=np.float32)[:, None, None] + 0.5) / DEPTH
    axis = (np.arange(ACROSS, dtype=np.float32) + 0.5) / ACROSS * 2 - 1
    radius = np.hypot(axis[None, :, None], axis[None, None, :])
    return np.asarray(radius**2 < 1 - depth**2.4, np.float32)


@lru_cache(maxsize=64)
def _ray_lengths(turn: float) -> NDArray[np.float32]:
    """Return (DEPTH, ACROSS) voxels that rays of a turn go through, at least one.

    Turned like the gland: near the skin, where few are, a fraction of a voxel counts.
    """
    inside = _turned(_inside(), turn) if turn else _inside()
    return np.asarray(np.maximum(inside.sum(axis=2), 1.0), np.float32)


def _noise(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise of mean 0 and deviation 1 whose power falls as 1 / f^3.3."""
    noise = coloured_noise((DEPTH, ACROSS, ACROSS), _amplitude(), rng)
    return np.asarray(noise / noise.std(), np.float32)


@lru_cache(maxsize=1)
def _amplitude() -> NDArray[np.float32]:
    # Voxels are a little less deep than wide, and gland a little finer in depth.
    f0 = np.fft.fftfreq(DEPTH)[:, None, None] * 1.2
    f1 = np.fft.fftfreq(ACROSS)[None, :, None]
    f2 = np.fft.rfftfreq(ACROSS)[None, None, :]
    frequency = np.sqrt(f0**2 + f1**2 + f2**2)
    frequency[0, 0, 0] = np.inf
    return np.asarray(np.maximum(frequency, 1 / ACROSS) ** (-_BETA / 2), np.float32)


def _turned(volume: NDArray[np.float32], turn: float) -> NDArray[np.float32]:
    """Turn every slice, so that the rays of a view run along the last axis."""
    centre = (ACROSS - 1) / 2
    # OpenCV turns x to y; rows are the first axis across.
    matrix = cv2.getRotationMatrix2D((centre, centre), -np.rad2deg(turn), 1.0)
    turned = [cv2.warpAffine(part, matrix, (ACROSS, ACROSS)) for part in volume]
    return np.stack(turned).astype(np.float32)


def _ducts(rng: np.random.Generator, density: Density) -> tuple[Curve, ...]:
    """Draw ducts that spread from the nipple and end in the gland."""
    count = int(rng.integers(7, 12)) if density is not Density.A else int(rng.integers(4, 8))
    ducts = []
    for _ in range(count):
        end = np.array([rng.uniform(0.35, 0.7), *rng.normal(0, 0.32, 2)])
        start = np.array([0.985, *rng.normal(0, 0.012, 2)])
        ducts.append(Curve(_wavy(rng, start, end, 0.04), (0.9, 0.3)))
    return tuple(ducts)


def _vessels(rng: np.random.Generator) -> tuple[Curve, ...]:
    """Draw vessels that run under the skin from the chest wall towards the nipple, and branch."""
    vessels: list[Curve] = []
    for _ in range(int(rng.integers(3, _MOST_VESSELS))):
        turn = rng.uniform(0, 2 * np.pi)
        out = np.array([np.cos(turn), np.sin(turn)])
        start = np.array([0.0, *(out * rng.uniform(0.5, 0.85))])
        end = np.array([rng.uniform(0.55, 0.9), *(out * rng.uniform(0.15, 0.4))])
        trunk = Curve(_wavy(rng, start, end, 0.09), (rng.uniform(0.9, 1.7), 0.4))
        vessels += [trunk, *(_branch(rng, trunk) for _ in range(rng.integers(_MOST_BRANCHES)))]
    return tuple(vessels)


def _branch(rng: np.random.Generator, trunk: Curve) -> Curve:
    """Draw a vessel that leaves another at a sharp angle and is narrower."""
    at = int(rng.integers(10, 45))
    start, ahead = trunk.points[at], trunk.points[at + 10] - trunk.points[at]
    end = start + rng.uniform(1.0, 2.5) * ahead + rng.normal(0, 0.16, 3)
    # Nothing leaves the breast.
    end[0] = np.clip(end[0], 0.0, 0.95)
    end[1:] *= min(1.0, 0.85 / max(float(np.hypot(*end[1:])), 1e-6))
    width = trunk.width_mm[0] + (trunk.width_mm[1] - trunk.width_mm[0]) * at / len(trunk.points)
    return Curve(_wavy(rng, start, end, 0.04), (0.8 * width, 0.3))


def _wavy(
    rng: np.random.Generator, start: NDArray[np.float64], end: NDArray[np.float64], sway: float
) -> NDArray[np.float64]:
    """Return 60 points from start to end that sway on their way."""
    along = np.linspace(0, 1, 60)[:, None]
    points = start + (end - start) * along
    for waves in (1, 2, 3, 5):
        phase = rng.uniform(0, 2 * np.pi, 3)
        points += (
            sway
            / waves
            * rng.normal(0, 1, 3)
            * np.sin(waves * np.pi * along + phase)
            * (4 * along * (1 - along))
        )
    return np.asarray(points)
