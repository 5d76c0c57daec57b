"""The pectoral muscle of views from the side, and lymph nodes of the armpit."""

from __future__ import annotations

import cv2
import numpy as np

from mammoscope.cohort.synthetic.anatomy import Anatomy
from mammoscope.cohort.synthetic.texture import power_law_noise
from mammoscope.types import FloatImage, View

__all__ = ["with_pectoral"]

_GREY = 0.60
# How much of it a view shows, as a share of what the mediolateral oblique one does.
_SHOWN = {View.ML: 0.6, View.LM: 0.6, View.AT: 1.2}


def with_pectoral(
    base: FloatImage,
    anatomy: Anatomy,
    view: View,
    x: FloatImage,
    y: FloatImage,
    rng: np.random.Generator,
) -> tuple[FloatImage, FloatImage]:
    """Lay the pectoral muscle with a node or two of the armpit over the upper corner.

    Returns:
        What is seen, and how far the muscle covers what lies there.
    """
    width = rng.uniform(0.30, 0.56) * anatomy.depth_mm * _SHOWN.get(view, 1.0)
    length = rng.uniform(0.52, 0.80) * anatomy.height_mm
    bulge = rng.uniform(0.5, 1.25)
    edge = width * np.clip(1 - y / length, 0, 1) ** bulge
    edge += 1.2 * np.sin(y / 11 + rng.uniform(0, 6)) + 2.0 * np.sin(y / 31 + rng.uniform(0, 6))
    away = (edge[:, None] - x[None, :]) / rng.uniform(1.0, 2.4)
    share = 0.8 / (1 + np.exp(-np.clip(away, -30, 30))) * np.clip((length - y) / 8, 0, 1)[:, None]
    # Fibres run along the edge, from above to the chest wall.
    tilt = width / length
    fibres = power_law_noise((256, 512), 2.2, rng)
    down = (y[:, None] / max(y[-1], 1.0) * 60 + 0 * x[None, :]).astype(np.float32)
    to_side = ((x[None, :] + tilt * y[:, None]) / 90 * 511 % 511).astype(np.float32)
    muscle = _GREY + 0.03 * cv2.remap(fibres, to_side, down, cv2.INTER_LINEAR)
    muscle -= 0.10 * (x[None, :] / max(width, 1.0)) * np.clip(1 - y / length, 0, 1)[:, None]
    seen = base * (1 - share) + share * (0.85 * muscle + 0.15 * base)
    for _ in range(int(rng.choice(3, p=(0.65, 0.25, 0.1)))):
        seen = seen + _node(x, y, rng.uniform(0.1, 0.9) * width, rng)
    return np.asarray(seen, np.float32), np.asarray(share, np.float32)


def _node(x: FloatImage, y: FloatImage, near_mm: float, rng: np.random.Generator) -> FloatImage:
    """Draw what a lymph node of the armpit adds: an oval with a darker hilum."""
    centre = near_mm, rng.uniform(6, 45)
    length, turn = rng.uniform(4, 8), rng.uniform(0, np.pi)
    dx, dy = x[None, :] - centre[0], y[:, None] - centre[1]
    along = (dx * np.cos(turn) + dy * np.sin(turn)) / length
    aside = (-dx * np.sin(turn) + dy * np.cos(turn)) / (0.6 * length)
    body = np.clip((1 - np.hypot(along, aside)) / 0.35, 0, 1)
    hilum = np.exp(-((along / 0.5) ** 2) - ((aside - 0.3) / 0.4) ** 2)
    return np.asarray(0.16 * body * (1 - 0.9 * hilum), np.float32)
