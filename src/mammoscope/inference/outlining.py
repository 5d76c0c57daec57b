"""From a map of logits to masks and candidates: windows joined, thresholds, parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from mammoscope.config import CandidateScore
from mammoscope.errors import BundleError
from mammoscope.explain import clipped
from mammoscope.inference.detector import image_score
from mammoscope.inference.tiles import cut, tile_corners
from mammoscope.masks import outline
from mammoscope.preprocessing import Geometry
from mammoscope.types import Bools, Box, Finding, FloatImage, GreyImage

__all__ = ["Candidate", "MaskSettings", "Outlined", "Outliner", "candidates_of"]

# Of pixels that no window has looked at, as there is nothing to see.
_NOTHING = -16.0
# The spread of a window's weights, as a share of its side (Isensee et al., nnU-Net, 2021).
_GAUSSIAN = 1 / 8
# Candidates of an image at most, as in COCO.
_MOST = 100
# Windows that are looked at together; more would only take memory.
_BATCH = 8
# Evidence for a candidate, in logits, at which its score is one half: a quarter of those of a
# segmenter of synthetic masses have three times as much, one of a hundred twenty times.
_HALF = 10.0


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """What a map is made into; the settings of the same names.

    Attributes:
        threshold: Score from which a pixel belongs to a mask.
        candidate_threshold: Score from which pixels that hang together are a candidate.
        min_area_px: Smallest predicted lesion.
        overlap: Share of a window that the next one sees again.
        blend: How windows are joined.
        candidate_score: What a candidate's score is: of its highest pixel, as of all graphs that
            do not say, or of the whole of it.
    """

    threshold: float
    candidate_threshold: float
    min_area_px: int
    overlap: float
    blend: Literal["gaussian", "mean"]
    candidate_score: CandidateScore = "highest"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A part of an image that may be a lesion.

    Attributes:
        box: On the network's grid.
        score: In [0, 1]; what of, the settings say.
        mask: (h, w) which pixels of the box belong to it.
    """

    box: Box
    score: float
    mask: Bools


@dataclass(frozen=True, slots=True)
class Outlined:
    """What a segmenter says of one image.

    Attributes:
        logits: (H, W) float32 on the network's grid.
        mask: (H, W) pixels that reach the threshold, in parts that are large enough.
        parts: Those parts.
        candidates: Parts of what reaches the lower threshold of candidates, by falling score.
        logit: The image's: of its highest pixel, or of its highest candidate where the whole of a
            candidate is what scores.
    """

    logits: FloatImage
    mask: Bools
    parts: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    logit: float

    @property
    def scores(self) -> FloatImage:
        """(H, W) float32 in [0, 1]."""
        return _sigmoid(self.logits)

    def findings(self, geometry: Geometry, kind: str = "suspicious") -> tuple[Finding, ...]:
        """Return the candidates in original pixels, with outlines; those outside are left out.

        The outline is that of the mask, whose threshold may be above that of candidates; of a
        candidate that has none of it, its own.
        """
        made = []
        for candidate in self.candidates:
            box = clipped(geometry.to_original(candidate.box), geometry)
            if box is not None:
                sure = candidate.mask & self.mask[_slices(candidate.box)]
                shape = sure if sure.any() else candidate.mask
                points = geometry.contour_to_original(_ring(shape, candidate.box))
                outlined = tuple(zip(points[::2], points[1::2], strict=True))
                made.append(
                    Finding(box, candidate.score, kind, found_by="segmenter", outline=outlined)
                )
        return tuple(made)


class Outliner:
    """Outlines images by a network that looks at whole images or at windows.

    Args:
        look: From B images or windows (H, W) to their logits (B, H, W).
        size: (H, W) of what it looks at; a square looks at images of any size in windows.
        settings: What the map is made into.
    """

    def __init__(
        self,
        look: Callable[[Sequence[GreyImage]], FloatImage],
        size: tuple[int, int],
        settings: MaskSettings,
    ) -> None:
        self.size = size
        self.settings = settings
        self._look = look
        self._weights = _weights(size, settings.blend)

    def __call__(self, image: GreyImage) -> Outlined:
        """Outline one prepared image (H, W)."""
        logits = self.logits(image)
        mask = np.zeros(logits.shape, dtype=np.bool_)
        parts = _parts(logits, self.settings.threshold, self.settings)
        for part in parts:
            rows, columns = _slices(part.box)
            mask[rows, columns] |= part.mask
        candidates = candidates_of(logits, self.settings)
        logit = float(logits.max())
        if self.settings.candidate_score == "whole":
            logit, _ = image_score([candidate.score for candidate in candidates])
        return Outlined(logits, mask, tuple(parts), candidates, logit)

    def logits(self, image: GreyImage) -> FloatImage:
        """Return the logits of a prepared image (H, W), windows joined.

        Raises:
            BundleError: If the network looks at whole images of another size.
        """
        if image.shape == self.size:
            only: FloatImage = self._look([image])[0]
            return only
        if self.size[0] != self.size[1]:
            raise BundleError(
                f"the segmenter looks at whole images of {self.size[0]} x {self.size[1]}; this one "
                f"is {image.shape[0]} x {image.shape[1]}"
            )
        side = self.size[0]
        height, width = image.shape
        total = np.zeros((max(height, side), max(width, side)), np.float32)
        weight = np.zeros_like(total)
        corners = tile_corners((height, width), side, self.settings.overlap)
        windows = [(corner, cut(image, corner, side)) for corner in corners]
        # A window without tissue has nothing to look at.
        seen = [(corner, window) for corner, window in windows if window.any()]
        for start in range(0, len(seen), _BATCH):
            batch = seen[start : start + _BATCH]
            made = self._look([window for _, window in batch])
            for ((top, left), _), logits in zip(batch, made, strict=True):
                total[top : top + side, left : left + side] += logits * self._weights
                weight[top : top + side, left : left + side] += self._weights
        total[weight > 0] /= weight[weight > 0]
        total[weight == 0] = _NOTHING
        joined: FloatImage = total[:height, :width]
        return joined


def candidates_of(logits: FloatImage, settings: MaskSettings) -> tuple[Candidate, ...]:
    """Return the candidates of a map (H, W) before the sigmoid, by falling score."""
    found = _parts(logits, settings.candidate_threshold, settings)
    return tuple(sorted(found, key=lambda candidate: -candidate.score)[:_MOST])


def _weights(size: tuple[int, int], blend: str) -> FloatImage:
    """Return how much each pixel of a window counts where windows overlap."""
    if blend == "mean":
        return np.ones(size, np.float32)
    sides = []
    for length in size:
        offsets = (np.arange(length) - (length - 1) / 2) / (length * _GAUSSIAN)
        sides.append(np.exp(-(offsets**2) / 2))
    # Its corners count too, where no other window looks.
    return np.maximum(np.outer(*sides), 1e-4).astype(np.float32)


def _parts(logits: FloatImage, threshold: float, settings: MaskSettings) -> list[Candidate]:
    """Return what reaches a threshold, in parts: pixels that touch by side or corner, and enough.

    Args:
        logits: (H, W) of the map.
        threshold: Score from which a pixel belongs to a part.
        settings: Least area, and how parts are scored.
    """
    reached = _sigmoid(logits) >= threshold
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        reached.astype(np.uint8), connectivity=8
    )
    rate = _RATED[settings.candidate_score]
    parts = []
    for number in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[number])
        if area < settings.min_area_px:
            continue
        place = (slice(top, top + height), slice(left, left + width))
        own = labels[place] == number
        box = Box(float(left), float(top), float(left + width), float(top + height))
        score = rate(logits[place][own], settings.candidate_threshold)
        parts.append(Candidate(box, score, own))
    return parts


def _highest(logits: FloatImage, least: float) -> float:
    """Return the score of the highest pixel, whose place among others a sure network blurs."""
    del least
    return float(_sigmoid(logits.max(keepdims=True))[0])


def _whole(logits: FloatImage, least: float) -> float:
    """Return the evidence of all pixels of a part, as a score.

    That is the sum of how far their logits lie above the least of a candidate's, over the root of
    their number: the rule by which Stouffer joins z-values of many tests. The sum alone would put
    large parts before sure ones, the mean specks before masses; the highest pixel, which a sure
    network takes to its last digit, hardly tells parts apart.

    Source: Stouffer et al., The American Soldier, vol. 1, 1949, p. 45.
    """
    above = logits.astype(np.float64) - np.log(least / (1 - least))
    # A pixel at the threshold may lie below it by its last digit.
    evidence = max(0.0, float(above.sum() / np.sqrt(above.size)))
    return evidence / (evidence + _HALF)


_RATED: dict[CandidateScore, Callable[[FloatImage, float], float]] = {
    "highest": _highest,
    "whole": _whole,
}


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(int(box.y_min), int(box.y_max)), slice(int(box.x_min), int(box.x_max))


def _ring(mask: Bools, box: Box) -> list[float]:
    """Return the outer contour of a box's largest part on the network's grid, x and y in turn."""
    rings = outline(mask)
    largest = np.array(max(rings, key=_enclosed)).reshape(-1, 2)
    corner = np.array([box.x_min, box.y_min])
    ring: list[float] = (largest + corner).ravel().tolist()
    return ring


def _enclosed(ring: list[float]) -> float:
    points = np.array(ring, np.float32).reshape(-1, 1, 2)
    return float(cv2.contourArea(points))


def _sigmoid(logits: FloatImage) -> FloatImage:
    # Half a hyperbolic tangent, which no logit overflows.
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), dtype=np.float32)
