"""Which candidate hits which lesion: greedily, by falling score, one lesion a candidate.

A candidate takes the best lesion that it meets and none before it has taken. One that meets only
taken lesions is a duplicate: it brings nobody back for nothing, and counts neither as a hit nor as
a false positive, as in LUNA16 (Setio et al., Med. Image Anal. 42, 2017) and CAMELYON16 (Ehteshami
Bejnordi et al., JAMA 318, 2017). Lesions that are no targets are neither: what meets them alone is
ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mammoscope.config import EvaluationConfig
from mammoscope.types import Bools, Floats, Ints

__all__ = ["Candidates", "Lesions", "Matching", "Outcome", "box_overlaps", "match", "pairs_within"]


class Outcome(IntEnum):
    """What became of a candidate."""

    FALSE = 0
    HIT = 1
    DUPLICATE = 2
    IGNORED = 3


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes that a model drew.

    Attributes:
        image: (C,) which image, from 0.
        box: (C, 4) x_min, y_min, x_max, y_max, half-open.
        score: (C,).
    """

    image: Ints
    box: Floats
    score: Floats


@dataclass(frozen=True, slots=True)
class Lesions:
    """Boxes of what is there.

    Attributes:
        image: (L,) which image, from 0.
        box: (L, 4) as those of the candidates.
        target: (L,) whether it is to be found; what is no target is neither hit nor missed.
    """

    image: Ints
    box: Floats
    target: Bools


@dataclass(frozen=True, slots=True)
class Matching:
    """Who met whom.

    Attributes:
        outcome: (C,) an :class:`Outcome` for each candidate.
        score: (L,) of the candidate that hit each lesion; -inf where none did.
        candidate: (L,) which one it was; -1 where none.
    """

    outcome: NDArray[np.int8]
    score: Floats
    candidate: Ints


def match(candidates: Candidates, lesions: Lesions, config: EvaluationConfig) -> Matching:
    """Match the candidates of all images with their lesions.

    Among equal scores the earlier candidate chooses first. What was matched above a threshold is
    the same for every lower one, so that one matching serves a whole curve.

    Args:
        candidates: Of all images, in any order.
        lesions: Of the same images.
        config: ``hit``, ``iou`` and ``hit_distance_px``.
    """
    outcome = np.full(candidates.score.size, Outcome.FALSE, np.int8)
    score = np.full(lesions.image.size, -np.inf)
    hit_by = np.full(lesions.image.size, -1, np.int64)
    one, other = pairs_within(candidates.image, lesions.image)
    nearness = _nearness(candidates.box[one], lesions.box[other], config)
    met = np.isfinite(nearness)
    one, other, nearness = one[met], other[met], nearness[met]
    rank = np.empty(candidates.score.size, np.int64)
    rank[np.argsort(-candidates.score, kind="stable")] = np.arange(rank.size)
    # By candidate, the nearest lesion first.
    order = np.lexsort((-nearness, rank[one]))
    for candidate, lesion in zip(one[order].tolist(), other[order].tolist(), strict=True):
        if outcome[candidate] == Outcome.HIT:
            continue
        if not lesions.target[lesion]:
            if outcome[candidate] == Outcome.FALSE:
                outcome[candidate] = Outcome.IGNORED
        elif hit_by[lesion] < 0:
            outcome[candidate] = Outcome.HIT
            hit_by[lesion] = candidate
            score[lesion] = candidates.score[candidate]
        else:
            outcome[candidate] = Outcome.DUPLICATE
    return Matching(outcome, score, hit_by)


def pairs_within(one: Ints, other: Ints) -> tuple[Ints, Ints]:
    """Return every pair of items of one image.

    Args:
        one: (C,) the image of each item.
        other: (L,) the image of each item of the other kind.

    Returns:
        Places in ``one`` and in ``other``, (K,) each, by falling order of neither.
    """
    order = np.argsort(other, kind="stable")
    ranked = other[order]
    start = np.searchsorted(ranked, one, side="left")
    count = np.searchsorted(ranked, one, side="right") - start
    first = np.repeat(np.arange(one.size), count)
    within = np.arange(first.size) - np.repeat(np.cumsum(count) - count, count)
    return first, order[np.repeat(start, count) + within]


def box_overlaps(one: Floats, other: Floats, crowd: Bools | None = None) -> Floats:
    """Return the intersection over union of pairs of boxes, (K,); 0 where one has no area.

    Args:
        one: (K, 4).
        other: (K, 4).
        crowd: (K,) where the area of ``one`` takes the place of the union, as COCO does for
            regions that hold more than one object.
    """
    shared = np.ones(one.shape[0])
    for low in (0, 1):
        high = np.minimum(one[:, low + 2], other[:, low + 2])
        shared *= np.clip(high - np.maximum(one[:, low], other[:, low]), 0, None)
    first, second = (
        np.clip(box[:, 2] - box[:, 0], 0, None) * np.clip(box[:, 3] - box[:, 1], 0, None)
        for box in (one, other)
    )
    union = first + second - shared
    if crowd is not None:
        union = np.where(crowd, first, union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _nearness(one: Floats, other: Floats, config: EvaluationConfig) -> Floats:
    """Return how near each candidate is to its lesion, (K,); -inf where it does not meet it."""
    if config.hit == "iou":
        overlap = box_overlaps(one, other)
        return np.where(overlap >= config.iou, overlap, -np.inf)
    x, y = (one[:, 0] + one[:, 2]) / 2, (one[:, 1] + one[:, 3]) / 2
    away = np.hypot(x - (other[:, 0] + other[:, 2]) / 2, y - (other[:, 1] + other[:, 3]) / 2)
    if config.hit == "centre":
        across = (other[:, 0] <= x) & (x < other[:, 2])
        met = across & (other[:, 1] <= y) & (y < other[:, 3])
    else:
        # The rule of the DBTex challenge (Konz et al., JAMA Netw. Open 6, 2023, e230524).
        diagonal = np.hypot(other[:, 2] - other[:, 0], other[:, 3] - other[:, 1])
        met = away < np.maximum(diagonal / 2, config.hit_distance_px)
    return np.where(met, -away, -np.inf)
