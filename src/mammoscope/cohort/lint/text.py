"""Is there writing in the image: view markers, patient plates, dates?

Letters are small components of high contrast outside the breast, of one height, in a row, in
a column on films that were turned, or on a slanted line of three or more. No letter is read:
whose name it is cannot be said. De-identification has a finder of its own, which must miss
nothing and refuses; this one must not cry wolf on film after film, and warns.
"""

from __future__ import annotations

import cv2
import numpy as np

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some
from mammoscope.types import ByteImage, FloatImage

__all__ = ["burned_in_text", "count_characters"]

# Writing is looked for on a copy whose longest side is at most this.
_WORK_SIDE = 1024
# A letter is this high, on that copy; a stroke is thinner than _STROKE_PX.
_LETTER_PX = (7, 48)
_STROKE_PX = 11
# Grey levels of 255 by which a stroke differs from what it is written on.
_CONTRAST = 45
# Share of a letter's box that is ink.
_INK = (0.15, 0.85)
# Letters of one line differ in height by less than this, and lie as close as this many heights.
_SAME_HEIGHT = 1.5
_GAP = 1.2
# On a slanted line: centres as close as this many sizes, and the cosine of the bend.
_SLANTED_GAP, _STRAIGHT = 1.7, 0.95
# A view marker such as "R CC" or "L MLO" has at most this many letters; more is a plate.
_MARKER = 8

_Box = tuple[int, int, int, int]


def count_characters(pixels: FloatImage, mask: ByteImage | None) -> int:
    """Count letters outside the breast that stand in a line of at least two.

    Args:
        pixels: (H, W) float32 presentation values in [0, 1].
        mask: (h, w) uint8, 1 in the breast; ``None`` where it was not found.
    """
    scale = min(1.0, _WORK_SIDE / max(pixels.shape))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = np.clip(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), 0, 1)
    grey = np.rint(small * 255).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE_PX, _STROKE_PX))
    outside = np.ones(grey.shape, np.uint8)
    if mask is not None:
        breast = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        outside = np.asarray(1 - cv2.dilate(breast, kernel), np.uint8)
    best = 0
    # White on film, or dark on a white tape.
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = cv2.morphologyEx(grey, operation, kernel)
        ink = np.asarray((strokes > _CONTRAST) * outside, np.uint8)
        letters = _letters(ink)
        flipped = [(y, x, height, width) for x, y, width, height in letters]
        best = max(best, _in_lines(letters), _in_lines(flipped), _in_slanted_lines(letters))
    return best


def _letters(ink: ByteImage) -> list[_Box]:
    """Return (x, y, width, height) of the components that could be letters."""
    height, width = ink.shape
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    found = []
    for x, y, across, down, area in stats[1:].tolist():
        inside = x > 1 and y > 1 and x + across < width - 1 and y + down < height - 1
        longest, shortest = max(across, down), min(across, down)
        fits = _LETTER_PX[0] <= longest <= _LETTER_PX[1] and shortest * 8 >= longest
        if inside and fits and _INK[0] <= area / (across * down) <= _INK[1]:
            found.append((x, y, across, down))
    return found


def _in_lines(letters: list[_Box]) -> int:
    """Count letters with a neighbour of their height close by on their line."""
    counted: set[_Box] = set()
    for first in letters:
        right = [box for box in letters if box[0] > first[0] and _follows(first, box)]
        if right:
            counted |= {first, min(right)}
    return len(counted)


def _follows(first: _Box, second: _Box) -> bool:
    height = max(first[3], second[3])
    return (
        height < _SAME_HEIGHT * min(first[3], second[3])
        and height >= _LETTER_PX[0]
        and abs(first[1] + first[3] / 2 - second[1] - second[3] / 2) < 0.35 * height
        and 0 <= second[0] - first[0] - first[2] < _GAP * height
    )


def _in_slanted_lines(letters: list[_Box]) -> int:
    """Count letters of three or more that follow each other in one direction, any one."""
    if len(letters) < 3:
        return 0
    boxes = np.array(letters, np.float64)
    centre, size = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:].max(axis=1)
    step = centre[None] - centre[:, None]  # (from, to, xy)
    length = np.hypot(step[..., 0], step[..., 1])
    larger = np.maximum(size[:, None], size[None])
    alike = larger < _SAME_HEIGHT * np.minimum(size[:, None], size[None])
    near = alike & (length > 0.4 * larger) & (length < _SLANTED_GAP * larger)
    counted: set[int] = set()
    for first, second in np.argwhere(near):
        ahead = step[second] @ step[first, second]
        straight = ahead > _STRAIGHT * length[second] * length[first, second]
        for third in np.flatnonzero(near[second] & straight):
            counted |= {int(first), int(second), int(third)}
    return len(counted)


def burned_in_text(evidence: Evidence) -> Answer:
    """Images with writing outside the breast: a marker (information) or more (warning).

    A marker says laterality and view, which a network may read; a plate may say who she is.
    """
    if isinstance(evidence.images, Skipped):
        return evidence.images
    findings = []
    for machine, images in evidence.by_machine(evidence.images).items():
        markers = [f.image_id for f in images if 2 <= f.characters <= _MARKER]
        plates = [f.image_id for f in images if f.characters > _MARKER]
        if plates:
            findings.append(
                Finding(
                    "burned_in_text",
                    Severity.WARNING,
                    f"{machine}: more than a marker",
                    len(plates),
                    len(images),
                    "images",
                    f"More than {_MARKER} letters stand outside the breast: a plate or a label, "
                    "which may name the patient.",
                    "Look at the examples before the images are shared; prepare blanks what lies "
                    "outside the breast.",
                    some(plates),
                )
            )
        if markers:
            findings.append(
                Finding(
                    "burned_in_text",
                    Severity.INFO,
                    f"{machine}: markers",
                    len(markers),
                    len(images),
                    "images",
                    "A few letters stand outside the breast, such as a view marker.",
                    "Nothing, if images are prepared with the crop, which blanks them.",
                    some(markers),
                )
            )
    return findings
