"""A lesion that detector and segmenter both find is one finding, and nothing of either is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mammoscope.inference.joining import JOINED_IOU, joined
from mammoscope.types import Box, Finding, Sighting

RING = ((12.0, 10.0), (48.0, 30.0), (12.0, 50.0))


def box(place, score=0.4, kind="suspicious", **more):
    return Finding(Box(*place), score, kind, "detector", **more)


def part(place, score=0.996, kind="suspicious", **more):
    return Finding(Box(*place), score, kind, "segmenter", RING, **more)


def test_what_both_find_has_the_box_and_score_of_one_and_the_outline_of_the_other():
    seen, outlined = box((10, 10, 50, 50)), part((12, 8, 48, 50))
    assert joined([seen, outlined]) == (
        replace(
            seen,
            outline=RING,
            seen_by=(
                Sighting("detector", seen.box, 0.4, "suspicious", None),
                Sighting("segmenter", outlined.box, 0.996, "suspicious", None),
            ),
        ),
    )


def test_a_second_stage_says_what_it_is_and_the_detectors_word_is_kept():
    seen = box((10, 10, 50, 50), kind="mass")
    (plain,) = joined([seen, part((10, 10, 50, 50))])
    assert (plain.kind, plain.kind_score) == ("mass", None)
    told = part((10, 10, 50, 50), kind="malignant", kind_score=0.87)
    (both,) = joined([seen, told])
    assert (both.kind, both.kind_score) == ("malignant", 0.87)
    assert [(one.kind, one.kind_score) for one in both.sightings] == [
        ("mass", None),
        ("malignant", 0.87),
    ]


def test_what_one_model_alone_finds_is_left_as_it_is():
    boxes = (box((10, 10, 50, 50), 0.8), box((200, 10, 240, 50), 0.3))
    parts = (part((100, 100, 140, 150)), part((300, 300, 310, 310), 0.9))
    assert joined(boxes) == boxes
    assert joined(parts) == parts
    # The segmenter may stand first in a bundle.
    assert joined([*parts, *boxes]) == (*boxes, *parts)
    assert joined([]) == ()
    assert boxes[0].sightings == (Sighting("detector", boxes[0].box, 0.8, "suspicious", None),)


@pytest.mark.parametrize(("height", "together"), [(20, True), (19, False)])
def test_they_are_one_from_a_fifth_of_their_union_on(height, together):
    assert JOINED_IOU == 0.2
    found = joined([box((0, 0, 100, 100)), part((0, 0, 100, height))])
    assert len(found) == (1 if together else 2)


def test_each_is_taken_once_and_those_that_overlap_most_choose_first():
    sure, loose = box((0, 0, 100, 100), 0.9), box((20, 20, 100, 100), 0.5)
    near, far = part((22, 22, 100, 100)), part((0, 0, 60, 60))
    first, second = joined([sure, loose, near, far])
    # The surest box would take the near part as well: 0.61 of the union.
    assert second.sightings[1].box == near.box
    assert first.sightings[1].box == far.box
    (alone, rest) = joined([sure, near, far])
    assert alone.sightings[1].box == near.box
    assert rest is far
    one, other = joined([sure, loose, near])
    assert one is sure
    assert other.outline


def test_counterparts_in_other_views_are_named_by_places_that_joining_does_not_move():
    boxes = [box((60 * k, 0, 60 * k + 40, 40), 0.9 - 0.1 * k) for k in range(3)]
    boxes[2] = replace(boxes[2], matched=("other", 1))
    found = joined([part((0, 300, 40, 340)), part((121, 0, 160, 40)), *boxes])
    assert [one.box for one in found[:3]] == [one.box for one in boxes]
    assert [bool(one.outline) for one in found] == [False, False, True, True]
    assert found[2].matched == ("other", 1)
