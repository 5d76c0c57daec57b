"""What is on a film besides the breast: white borders, fogged edges, labels and tape."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.preprocessing.levels import grey_at
from mammoscope.types import ByteImage

__all__ = ["cut_labels", "cut_strips", "film_frame"]

# A border of the film lies within this share of the image's side.
_BAND_DEPTH = 0.12
# It begins within this share of the side, with at least this grey level of 255.
_BAND_START, _BAND_LEVEL = 0.03, 200
# Where it borders on tissue rather than air: within this share, so white, and ending in
# a drop of so many grey levels within three pixels.
_EDGE_DEPTH, _EDGE_LEVEL, _EDGE_DROP = 0.07, 232, 25
# Before air it ends as sharply; the glow of the film's edge fades instead.
_AIR_DROP = 40
# A film lies in the scanner within about three degrees, which a stretched image steepens.
_STEEPEST = 0.085
# Share of a side along which a straight inner edge has to be seen.
_LEAST_AIR_EDGE, _LEAST_TISSUE_EDGE = 0.15, 0.3
# Share of the edge's points that have to lie on one line, within this share of the side.
_LEAST_ON_LINE, _LINE_TOLERANCE = 0.6, 0.01
# A strip along the film's edge: its greatest width and least length, as shares of the sides,
# and the length from which on a wider one counts; how much of it keeps its width, how closely;
# how far from the edge it may lie.
_STRIP_WIDTH, _STRIP_LENGTH = 0.09, 0.06
_WIDER_STRIP_WIDTH, _WIDER_STRIP_LENGTH = 0.11, 0.1
_LEAST_EVEN, _STRIP_EVEN, _STRIP_GAP = 0.6, 0.012, 0.02
# A label is at least this white, and at most this share of the mask.
_LABEL_LEVEL, _LARGEST_LABEL = 190, 0.2
# Pixels of a label's sharp edge, as a share of the height.
_LABEL_EDGE = 0.03


def film_frame(grey: ByteImage, dark: float) -> ByteImage:
    """Find white film borders on any side: bands with a straight, sharp inner edge.

    A scanned film has unexposed, hence white, margins, often tilted and fading inwards. Each
    is recognised by its inner edge: straight, along a good part of the side, against air or,
    where it is nearly white, against tissue. The edge's line is then taken along the whole
    side, so that the part behind the breast goes too. Tissue that is white at the border
    (muscle, an implant) has a curved or a gradual edge, and stays.

    Args:
        grey: (h, w) grey values.
        dark: Grey level up to which a pixel is air.

    Returns:
        (h, w) uint8, 1 where a border is.
    """
    frame = np.zeros_like(grey)
    # Views in which the side's depth runs down the rows.
    for turned, target in (
        (grey, frame),
        (grey[::-1], frame[::-1]),
        (grey.T, frame.T),
        (grey.T[::-1], frame.T[::-1]),
    ):
        depth = _band(turned, dark)
        if depth is not None:
            deepest = int(depth.max())
            target[:deepest] |= np.arange(deepest)[:, np.newaxis] < depth
    return frame


def _band(side: ByteImage, dark: float) -> NDArray[np.float64] | None:
    """Depth of the band along the first rows, one value per column, or None."""
    length = side.shape[0]
    block = side[: max(4, round(_BAND_DEPTH * length))]
    white = block >= _BAND_LEVEL
    starts = white[: max(2, round(_BAND_START * length))].any(axis=0)
    if starts.mean() < _LEAST_AIR_EDGE:
        return None
    after = np.arange(block.shape[0])[:, np.newaxis] > white.argmax(axis=0)
    air = (block <= dark) & after
    ends = air.argmax(axis=0)
    before = np.take_along_axis(block, np.maximum(ends - 4, 0)[np.newaxis], axis=0)[0]
    sharp = starts & air.any(axis=0) & (before > dark + _AIR_DROP)
    line = _line(ends, sharp, length, _LEAST_AIR_EDGE)
    if line is None:
        line = _tissue_edge(side[: max(6, round(_EDGE_DEPTH * length))], length)
    return line


def _tissue_edge(block: ByteImage, length: int) -> NDArray[np.float64] | None:
    white = block >= _EDGE_LEVEL
    starts = white[: max(2, round(_BAND_START * length))].any(axis=0)
    # The last white row, and how far the level falls in the three rows below it.
    last = block.shape[0] - 1 - white[::-1].argmax(axis=0)
    below = np.minimum(last + 3, block.shape[0] - 1)
    fall = _EDGE_LEVEL - np.take_along_axis(block, below[np.newaxis], axis=0)[0].astype(np.int64)
    ends = starts & (fall >= _EDGE_DROP)
    return _line(last + 1, ends, length, _LEAST_TISSUE_EDGE)


def _line(
    depth: NDArray[np.int64], seen: NDArray[np.bool_], length: int, least: float
) -> NDArray[np.float64] | None:
    """Fit one line to most of the edge's points; None where there is none."""
    at = np.flatnonzero(seen)
    if at.size < max(4, least * depth.size):
        return None
    tolerance = max(2.0, _LINE_TOLERANCE * length)
    points, near = depth[at].astype(np.float64), np.ones(at.size, bool)
    middle = at.size // 2
    run = float(np.median(at[middle:]) - np.median(at[:middle]))
    slope = float(np.median(points[middle:]) - np.median(points[:middle])) / max(1.0, run)
    offset = float(np.median(points - slope * at))
    for _ in range(3):
        near = np.abs(points - slope * at - offset) <= tolerance
        if near.sum() < max(4.0, _LEAST_ON_LINE * at.size, least * depth.size):
            return None
        slope, offset = np.polyfit(at[near], points[near], 1)
        if abs(slope) > _STEEPEST:
            return None
    # A little more: the reduction has mixed the edge with what lies beside it.
    fitted = slope * np.arange(depth.size) + offset + tolerance / 4 + 1
    return np.asarray(np.clip(fitted, 0, _BAND_DEPTH * 1.5 * length))


def cut_strips(mask: ByteImage, frame: ByteImage) -> ByteImage:
    """Cut off narrow strips of even width along the film's edges.

    Light that leaks in at the edge of a film, and the shadow of the cassette, leave a strip
    that hangs on the breast where it meets the chest wall, or leads on to a number plate. A
    strip keeps its width over a length in which a breast tapers.

    Args:
        mask: (h, w) of 0 and 1.
        frame: (h, w), 1 where a film border was found: the film's edge lies inside of it.

    Returns:
        (h, w) uint8, the mask without strips; what hung on them is still there.
    """
    cut = mask.copy()
    for side, border, target in (
        (mask, frame, cut),
        (mask[::-1], frame[::-1], cut[::-1]),
        (mask.T, frame.T, cut.T),
        (mask.T[::-1], frame.T[::-1], cut.T[::-1]),
    ):
        _cut_side(side, border, target)
    return cut


def _cut_side(side: ByteImage, border: ByteImage, target: ByteImage) -> None:
    """Cut the strips along the first rows of the side out of the target."""
    depth, length = side.shape
    # A strip must end within a little more than its greatest width.
    reach = min(depth, round(_BAND_DEPTH * depth) + round(2 * _WIDER_STRIP_WIDTH * depth) + 2)
    # A line per column of the side: the first flag of a line that lies together is found fast.
    lines = np.ascontiguousarray(side[:reach].T) > 0
    start = lines.argmax(axis=1)
    at = np.arange(reach)
    gone = ~lines & (at > start[:, np.newaxis])
    ends = gone.argmax(axis=1)
    ends[ends == 0] = reach
    width = np.where(lines[np.arange(length), start], ends - start, 0)
    edge = (np.ascontiguousarray(border[:reach].T) == 0).argmax(axis=1)
    narrow = (width > 0) & (width <= _WIDER_STRIP_WIDTH * depth)
    narrow &= start - edge <= max(2, _STRIP_GAP * depth)
    for first, last in _runs(narrow, max(6, round(_STRIP_LENGTH * length))):
        widths = width[first:last]
        even = float(np.median(widths))
        if even > _STRIP_WIDTH * depth and last - first < _WIDER_STRIP_LENGTH * length:
            continue
        tolerance = max(2.0, _STRIP_EVEN * depth)
        if (np.abs(widths - even) <= tolerance).mean() >= _LEAST_EVEN:
            columns = first + np.flatnonzero(widths <= even + 1.5 * tolerance)
            within = at[:, np.newaxis] <= ends[columns]
            target[:reach, columns] = np.where(within, 0, target[:reach, columns])


def _runs(flags: NDArray[np.bool_], least: int) -> list[tuple[int, int]]:
    """Half-open ranges of at least so many flags in a row."""
    steps = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    pairs = zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True)
    return [(first, last) for first, last in pairs if last - first >= least]


def cut_labels(mask: ByteImage, grey: ByteImage, dark: float) -> ByteImage:
    """Cut labels and tape out of the outer part of a mask: white up to a sharp outer edge.

    Skin fades into air over several pixels, as less and less tissue lies in the beam; a lead
    letter or a piece of tape is as bright at its edge as in its middle.

    Args:
        mask: (h, w) of 0 and 1.
        grey: (h, w) grey values.
        dark: Grey level up to which a pixel is air.

    Returns:
        (h, w) uint8, the mask without labels.
    """
    white = max(_LABEL_LEVEL, grey_at(0.9, grey, mask))
    bright = (grey >= white) & (mask > 0)
    # Not the thin black lines along the edges of scans, which muscle meets as sharply.
    square = np.ones((2 * max(2, grey.shape[0] // 64) - 1,) * 2, np.uint8)
    air = cv2.morphologyEx(
        (grey <= dark).astype(np.uint8),
        cv2.MORPH_OPEN,
        square,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    rim = bright & (cv2.dilate(air, _disc(3)) > 0)
    least = max(6, round(_LABEL_EDGE * grey.shape[0]))
    if np.count_nonzero(rim) < least:
        return mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        bright.astype(np.uint8), connectivity=8
    )
    touching = np.bincount(labels[rim], minlength=count)
    areas = stats[:, cv2.CC_STAT_AREA]
    # Two pixels of the rim are white: along one side of a square they come to twice the root
    # of its area.
    wanted = (touching >= least) & (touching >= 1.5 * np.sqrt(areas))
    wanted &= areas <= _LARGEST_LABEL * np.count_nonzero(mask)
    wanted[0] = False
    if not wanted.any():
        return mask
    found = cv2.dilate(wanted[labels].astype(np.uint8), _disc(max(3, grey.shape[0] // 80)))
    return np.where(found > 0, np.uint8(0), mask)


def _disc(radius: int) -> ByteImage:
    side = 2 * radius + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(disc, dtype=np.uint8)
