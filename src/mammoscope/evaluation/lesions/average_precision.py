"""Average precision of boxes by the rules of COCO.

Source: Lin et al., Microsoft COCO, ECCV 2014, and the evaluation that goes with it
(cocodataset.org/#detection-eval): 101 levels of sensitivity, precision made to fall, candidates
matched greedily by falling score, further ones on a taken lesion false, and at most so many of an
image. Regions that are not to be judged absorb any number of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.evaluation.bootstrap import Draws
from mammoscope.evaluation.lesions.matching import (
    Candidates,
    Lesions,
    box_overlaps,
    pairs_within,
)
from mammoscope.types import Bools, Floats, Ints

__all__ = ["IOUS", "Ranked", "precision_steps", "rank_candidates", "replicates", "summarised"]

#: The overlaps over which COCO averages.
IOUS: tuple[float, ...] = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
_LEVELS = np.linspace(0.0, 1.0, 101)
_CELLS = 500_000
_ANY_AREA = (0.0, float("inf"))


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates by falling score, judged at T overlaps.

    Attributes:
        score: (D,).
        hit: (T, D) it is on a lesion that none before it took.
        false: (T, D) it is on none; what is neither is not judged.
        image: (D,) which image, from 0.
        lesions: (L,) the image of each lesion that is judged.
    """

    score: Floats
    hit: Bools
    false: Bools
    image: Ints
    lesions: Ints


def rank_candidates(
    candidates: Candidates,
    lesions: Lesions,
    *,
    ious: tuple[float, ...] = IOUS,
    area: tuple[float, float] = _ANY_AREA,
    most: int = 100,
) -> Ranked:
    """Judge candidates of one kind at every overlap.

    Args:
        candidates: Boxes of all images.
        lesions: Boxes of the same images; what is no target is a region that is not judged, met
            by the share of the candidate that lies in it.
        ious: Overlaps from which a candidate is on a lesion.
        area: Least and largest area of lesions that are judged, both included. Others are not
            judged, nor are candidates of another size that meet none.
        most: Candidates of an image that are judged, those of the highest scores.
    """
    kept = _highest(candidates, most)
    image, box, score = candidates.image[kept], candidates.box[kept], candidates.score[kept]
    judged = lesions.target & _within(lesions.box, area)
    one, other = pairs_within(image, lesions.image)
    overlap = box_overlaps(box[one], lesions.box[other], ~lesions.target[other])
    near = overlap >= min(ious) - 1e-9
    # Judged lesions before others, each group as it came.
    order = np.lexsort((other, ~judged[other], one))
    order = order[near[order]]
    one, other, overlap = one[order], other[order], overlap[order]
    _, first, count = np.unique(one, return_index=True, return_counts=True)
    groups = list(zip(first.tolist(), (first + count).tolist(), strict=True))
    hit = np.zeros((len(ious), score.size), np.bool_)
    unjudged = np.zeros_like(hit)
    for row, iou in enumerate(ious):
        taken: set[int] = set()
        for start, stop in groups:
            lesion = _chosen(other[start:stop], overlap[start:stop], iou, judged, lesions, taken)
            if lesion < 0:
                continue
            taken.add(lesion)
            (hit if judged[lesion] else unjudged)[row, one[start]] = True
    false = ~hit & ~unjudged & _within(box, area)
    ranking = np.argsort(-score, kind="stable")
    return Ranked(
        score[ranking],
        hit[:, ranking],
        false[:, ranking],
        image[ranking],
        lesions.image[judged],
    )


def _chosen(
    places: Ints, overlaps: Floats, iou: float, judged: Bools, lesions: Lesions, taken: set[int]
) -> int:
    """Return the lesion that one candidate takes, -1 if none: the judged one of best overlap."""
    best, least = -1, min(iou, 1 - 1e-10)
    for lesion, overlap in zip(places.tolist(), overlaps.tolist(), strict=True):
        if lesion in taken and lesions.target[lesion]:
            continue
        if best >= 0 and judged[best] and not judged[lesion]:
            break
        if overlap >= least:
            best, least = lesion, overlap
    return best


def precision_steps(hit: Bools, false: Bools, lesions: int) -> tuple[Floats, Floats]:
    """Return sensitivity and precision after each candidate that is judged, (K,) each."""
    judged = hit | false
    found = np.cumsum(hit[judged])
    return found / max(lesions, 1), found / np.arange(1, found.size + 1)


def summarised(ranked: Ranked) -> Floats:
    """Return the average precision at each overlap, (T,); NaN where nothing is to be found."""
    images = int(max(ranked.image.max(initial=-1), ranked.lesions.max(initial=-1))) + 1
    every = np.ones((1, images), np.uint16)
    whole: Floats = replicates(ranked, np.arange(images), every)[0]
    return whole


def replicates(ranked: Ranked, patient: Ints, draws: Draws) -> Floats:
    """Return the average precision at each overlap in every replicate.

    Args:
        ranked: Candidates that were judged.
        patient: (N,) whose each image is.
        draws: (R, P) how often each patient counts.

    Returns:
        (R, T); NaN where a replicate has nothing to find.
    """
    hits = [np.flatnonzero(row) for row in ranked.hit]
    # Precision rises at hits alone, so that nothing after the last one matters.
    owner = patient[ranked.image[: 1 + max((int(at[-1]) for at in hits if at.size), default=-1)]]
    skipped = [np.flatnonzero(row[: owner.size]) for row in ~(ranked.hit | ranked.false)]
    made = np.full((draws.shape[0], len(hits)), np.nan)
    block = max(1, _CELLS // max(1, owner.size))
    for start in range(0, draws.shape[0], block):
        weight = draws[start : start + block].astype(np.int32)
        lesions = weight[:, patient[ranked.lesions]].sum(axis=1)
        by_candidate = np.take(weight, owner, axis=1)
        reached = np.cumsum(by_candidate, axis=1)
        for row, (at, not_judged) in enumerate(zip(hits, skipped, strict=True)):
            found = np.cumsum(by_candidate[:, at], axis=1)
            unjudged = _sums(by_candidate[:, not_judged])[:, np.searchsorted(not_judged, at)]
            called = reached[:, at] - unjudged
            for number in np.flatnonzero(lesions > 0):
                made[start + number, row] = _average(found[number], called[number], lesions[number])
    return made


def _sums(weight: NDArray[np.int32]) -> Ints:
    """Return the sums of the first 0, 1, 2 ... columns, (R, K + 1)."""
    sums = np.zeros((weight.shape[0], weight.shape[1] + 1), np.int64)
    np.cumsum(weight, axis=1, out=sums[:, 1:])
    return sums


def _average(found: Ints, called: Ints, lesions: int) -> float:
    """Return the mean precision over the levels of sensitivity.

    Args:
        found: (K,) weight of hits at each hit.
        called: (K,) weight of all candidates that are judged, as far as that hit.
        lesions: Weight of lesions.
    """
    precision = np.divide(found, called, out=np.zeros(found.size), where=called > 0)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(found / lesions, _LEVELS, side="left")
    return float(np.append(falling, 0.0)[place].mean())


def _highest(candidates: Candidates, most: int) -> Ints:
    """Return the places of the highest candidates of each image, by image and falling score."""
    order = np.lexsort((-candidates.score, candidates.image))
    image = candidates.image[order]
    within = np.arange(image.size) - np.searchsorted(image, image, side="left")
    kept: Ints = order[within < most]
    return kept


def _within(box: Floats, area: tuple[float, float]) -> Bools:
    found = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    return np.asarray((found >= area[0]) & (found <= area[1]))
