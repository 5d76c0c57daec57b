"""The same lesion in two views: candidates of CC and MLO matched by depth and size.

A breast is pressed between plates, from above in CC and from the side in the oblique views, and
each projection keeps how far a lesion lies from nipple and chest wall. What is a lesion lies
equally deep in both, and is about as large; what looks like one in a single view, where layers of
tissue happen to lie over each other, mostly has no counterpart.

Idea: Kopans, Breast Imaging, 3rd ed. 2007, on locating lesions by their distance from the nipple;
Paquerault et al., Med. Phys. 29, 2002, who join the candidates of two views by that distance and
by likeness, and by it raise the sensitivity at a price in false positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mammoscope.config import ViewMatching
from mammoscope.inference.fusion import Boxes
from mammoscope.types import Floats, GreyImage, View

__all__ = ["ViewCandidates", "breast_depth", "matched"]

# Grey, as a share of the largest, above which a pixel is tissue; as models.judges has it.
_TISSUE = 0.02
_CLIP = 1e-6


@dataclass(frozen=True, slots=True)
class ViewCandidates:
    """The candidates of one image of a breast.

    Attributes:
        image_id: The image.
        view: Its projection; ``None`` where unknown, which is matched with nothing.
        boxes: Its candidates on the network's grid, whose chest wall is on the left.
        depth_px: How deep the breast is on that grid; see :func:`breast_depth`.
    """

    image_id: str
    view: str | None
    boxes: Boxes
    depth_px: float

    @property
    def depth(self) -> Floats:
        """How deep the middle of each candidate lies: 0 at the chest wall, 1 at the nipple."""
        return np.asarray((self.boxes.box[:, 0] + self.boxes.box[:, 2]) / 2 / self.depth_px)

    @property
    def size(self) -> Floats:
        """The logarithm of each candidate's size, as a share of the breast's depth.

        Two views of a breast are not prepared to one scale, and the spacing is not always known.
        """
        sides = self.boxes.box[:, 2:] - self.boxes.box[:, :2]
        return np.asarray(np.log(np.maximum(sides.prod(axis=1), 1.0)) / 2 - np.log(self.depth_px))


def breast_depth(image: GreyImage, max_value: int) -> float:
    """Return how far from the left border tissue reaches in a prepared image, in pixels."""
    tissue = (image > _TISSUE * max_value).any(axis=0)
    columns = np.flatnonzero(tissue)
    return float(columns[-1] + 1) if columns.size else 1.0


def matched(
    views: Sequence[ViewCandidates], config: ViewMatching
) -> list[tuple[Floats, list[tuple[str, int] | None]]]:
    """Match the candidates of one breast, and move their scores.

    Each pair of images of different projections is matched by itself: of all pairs of candidates
    that agree enough, the pair whose agreement times both scores is highest is taken first, and
    each candidate once. A candidate's score rises with the agreement and score of its counterpart.
    One without stays as it is: if it fell, candidates of breasts with a single projection, which
    nothing can match, would overtake those of all others.

    Args:
        views: The images of one breast.
        config: Tolerances, and by how much scores move.

    Returns:
        For each image, in order: the moved scores (N,) of its candidates, and for each candidate
        the image and number of its counterpart, or ``None``.
    """
    support = [np.zeros(len(view.boxes)) for view in views]
    partner: list[list[tuple[str, int] | None]] = [[None] * len(view.boxes) for view in views]
    for one, first in enumerate(views):
        for other, second in enumerate(views[one + 1 :], start=one + 1):
            if not _differ(first.view, second.view):
                continue
            for a, b, agreement in _pairs(first, second, config):
                for here, place, there, counterpart in (
                    (one, a, other, b),
                    (other, b, one, a),
                ):
                    backing = agreement * views[there].boxes.score[counterpart]
                    if backing > support[here][place]:
                        support[here][place] = backing
                        partner[here][place] = (views[there].image_id, counterpart)
    return [
        (_moved(view.boxes.score, config.rise * support[number]), partner[number])
        for number, view in enumerate(views)
    ]


def _differ(one: str | None, other: str | None) -> bool:
    """Say whether two projections see a breast from different sides: CC, and all others."""
    return one is not None and other is not None and (one == View.CC) != (other == View.CC)


def _pairs(
    first: ViewCandidates, second: ViewCandidates, config: ViewMatching
) -> list[tuple[int, int, float]]:
    """Return candidates that are one lesion, with their agreement in [0, 1]."""
    if not len(first.boxes) or not len(second.boxes):
        return []
    depth = np.abs(first.depth[:, None] - second.depth[None]) / config.depth_tolerance
    size = np.abs(first.size[:, None] - second.size[None]) / config.size_tolerance
    agreement = np.exp(-depth - size)
    worth = agreement * first.boxes.score[:, None] * second.boxes.score[None]
    worth = np.where(agreement >= config.least_agreement, worth, 0.0)
    made = []
    while worth.max() > 0:
        a, b = (int(place) for place in np.unravel_index(worth.argmax(), worth.shape))
        made.append((a, b, float(agreement[a, b])))
        worth[a], worth[:, b] = 0.0, 0.0
    return made


def _moved(score: Floats, logits: Floats) -> Floats:
    """Move scores by logits."""
    bounded = np.clip(score, _CLIP, 1 - _CLIP)
    odds = np.log(bounded / (1 - bounded)) + logits
    return np.asarray(1 / (1 + np.exp(-odds)))
