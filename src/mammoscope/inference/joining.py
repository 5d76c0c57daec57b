"""What detector and segmenter both find, made into one finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mammoscope.inference.fusion import paired_overlaps, sides_of
from mammoscope.types import Box, Finding

__all__ = ["JOINED_IOU", "joined"]

#: Overlap of a detector's box and the box around a segmenter's part from which they are one
#: lesion: what ``evaluation.iou`` takes for a hit. A part of less is not the outline of what the
#: box holds, though it may lie in it.
JOINED_IOU = 0.2


def joined(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Put the findings of one image together, a lesion that two models find once.

    Of all pairs of a box and a part that overlap enough, the pair that overlaps most is taken
    first, and each finding once. The two become one with the detector's box and score and the
    segmenter's outline; its kind is that of a second stage where one has told it, else the
    detector's. What each model says by itself is kept in ``seen_by``.

    Args:
        found: Of a detector and a segmenter, each in its order; of one of them, or none.

    Returns:
        The detector's in their order, by which counterparts in other views are named, then those
        that the segmenter alone has found.
    """
    boxes = [one for one in found if one.found_by == "detector"]
    parts = [one for one in found if one.found_by != "detector"]
    partner = _pairs([one.box for one in boxes], [one.box for one in parts])
    both = [
        _one(box, parts[partner[place]]) if place in partner else box
        for place, box in enumerate(boxes)
    ]
    taken = set(partner.values())
    return (*both, *(part for place, part in enumerate(parts) if place not in taken))


def _pairs(boxes: Sequence[Box], parts: Sequence[Box]) -> dict[int, int]:
    """Return which part belongs to a box, for each box that has one."""
    if not boxes or not parts:
        return {}
    sides = sides_of(parts)
    overlap = np.stack(
        [paired_overlaps(box, sides)[0] for box in sides_of(boxes)]
    )  # (boxes, parts)
    made: dict[int, int] = {}
    # Of equal overlaps the surest box chooses first.
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        box, part = (int(of) for of in np.unravel_index(place, overlap.shape))
        if overlap[box, part] < JOINED_IOU:
            break
        if box not in made and part not in made.values():
            made[box] = part
    return made


def _one(box: Finding, part: Finding) -> Finding:
    told = box if part.kind_score is None else part
    return replace(
        box,
        kind=told.kind,
        kind_score=told.kind_score,
        outline=part.outline,
        seen_by=(*box.sightings, *part.sightings),
    )
