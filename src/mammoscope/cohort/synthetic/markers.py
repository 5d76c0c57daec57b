"""Markers of side and view, as units and technologists write them into the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.cohort.synthetic.machines import MarkerStyle
from mammoscope.types import Laterality, View

__all__ = ["draw_marker"]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Height of a capital letter at scale 1 of the font, in pixels.
_CAPITAL_PX = 22
_WHITE = (250,)
_Patch = NDArray[np.uint8]


def draw_marker(
    picture: NDArray[np.uint16],
    style: MarkerStyle,
    laterality: Laterality,
    view: View,
    spacing_mm: float,
) -> None:
    """Write the marker into the upper corner away from the chest wall.

    Args:
        picture: (H, W) display values, 0 black to 65535 white; written to.
        style: How.
        laterality: A right breast has its chest wall at the right.
        view: Named on the marker.
        spacing_mm: Size of a pixel.
    """
    patch = _PATCHES[style](laterality, view, spacing_mm)
    height, width = picture.shape
    margin = round(0.03 * height)
    patch = patch[: max(0, height - margin), : max(0, width - margin)]
    rows, columns = patch.shape
    left = width - margin - columns if laterality is Laterality.L else margin
    target = picture[margin : margin + rows, left : left + columns]
    np.maximum(target, patch.astype(np.uint16) * np.uint16(257), out=target)


def _plain(laterality: Laterality, view: View, spacing_mm: float) -> _Patch:
    return _lettering(f"{laterality} {view}", 5.3, spacing_mm)


def _lead(laterality: Laterality, view: View, spacing_mm: float) -> _Patch:
    """Letters of lead on the paddle: large and thick, the technologist's below, all blurred."""
    rows = [_lettering(f"{laterality}{view}", 7.5, spacing_mm, bold=2.2)]
    rows.append(_lettering("SYN", 3.5, spacing_mm, bold=1.4))
    blur = 0.12 / spacing_mm
    stack = _stacked_rows(rows, round(2.5 / spacing_mm), at_end=laterality is Laterality.L)
    return np.asarray(cv2.GaussianBlur(stack, (0, 0), blur) if blur > 0.3 else stack, np.uint8)


def _boxed(laterality: Laterality, view: View, spacing_mm: float) -> _Patch:
    """Light letters in a frame."""
    text = _lettering(f"{laterality}-{view}", 4.5, spacing_mm)
    room, line = max(2, round(1.8 / spacing_mm)), max(1, round(0.4 / spacing_mm))
    framed = np.pad(text, room)
    return np.pad(framed, line, constant_values=_WHITE[0])


def _stacked(laterality: Laterality, view: View, spacing_mm: float) -> _Patch:
    """The side above the view."""
    rows = [_lettering(str(word), 5.0, spacing_mm, bold=1.2) for word in (laterality, view)]
    return _stacked_rows(rows, round(2 / spacing_mm), at_end=laterality is Laterality.L)


_PATCHES = {"plain": _plain, "lead": _lead, "boxed": _boxed, "stacked": _stacked}


def _lettering(text: str, capital_mm: float, spacing_mm: float, bold: float = 1.0) -> _Patch:
    scale = capital_mm / spacing_mm / _CAPITAL_PX
    thickness = max(1, round(2 * scale * bold))
    (across, down), below = cv2.getTextSize(text, _FONT, scale, thickness)
    patch = np.zeros((down + below, across), np.uint8)
    cv2.putText(patch, text, (0, down), _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
    return patch


def _stacked_rows(rows: list[_Patch], gap: int, *, at_end: bool) -> _Patch:
    width = max(row.shape[1] for row in rows)
    padded = []
    for row in rows:
        missing = width - row.shape[1]
        sides = (missing, 0) if at_end else (0, missing)
        padded += [np.pad(row, ((0, 0), sides)), np.zeros((gap, width), np.uint8)]
    return np.vstack(padded[:-1])
