import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.lesions.matching import (
    Candidates,
    Lesions,
    Outcome,
    box_overlaps,
    match,
    pairs_within,
)

CENTRE = EvaluationConfig()
OVERLAP = EvaluationConfig(hit="iou", iou=0.5)
NEAR = EvaluationConfig(hit="distance", hit_distance_px=10)


def candidates(*rows):
    table = np.array(rows, float).reshape(-1, 6)
    return Candidates(table[:, 0].astype(int), table[:, 1:5], table[:, 5])


def lesions(*rows):
    table = np.array(rows, float).reshape(-1, 6)
    return Lesions(table[:, 0].astype(int), table[:, 1:5], table[:, 5] == 1)


def test_by_hand():
    there = lesions((0, 0, 0, 10, 10, 1), (0, 100, 0, 140, 40, 1), (1, 0, 0, 10, 10, 0))
    drawn = candidates(
        (0, 2, 2, 8, 8, 0.4),  # on the first lesion, after the next one
        (0, 1, 1, 9, 9, 0.9),
        (0, 50, 50, 60, 60, 0.8),  # on nothing
        (1, 4, 4, 6, 6, 0.7),  # on what is no target
        (2, 0, 0, 10, 10, 0.6),  # where another image has a lesion
    )
    made = match(drawn, there, CENTRE)
    assert made.outcome.tolist() == [
        Outcome.DUPLICATE, Outcome.HIT, Outcome.FALSE, Outcome.IGNORED, Outcome.FALSE,
    ]  # fmt: skip
    assert made.score.tolist() == [0.9, -np.inf, -np.inf]
    assert made.candidate.tolist() == [1, -1, -1]


def test_of_two_lesions_that_overlap_a_candidate_takes_the_nearer_and_the_next_the_other():
    there = lesions((0, 0, 0, 30, 30, 1), (0, 0, 0, 10, 10, 1))
    made = match(candidates((0, 4, 4, 6, 6, 0.9), (0, 3, 3, 5, 5, 0.8)), there, CENTRE)
    assert made.candidate.tolist() == [1, 0]
    assert made.outcome.tolist() == [Outcome.HIT, Outcome.HIT]


def test_a_target_is_taken_before_what_is_no_target():
    there = lesions((0, 0, 0, 10, 10, 0), (0, 0, 0, 12, 12, 1))
    made = match(candidates((0, 4, 4, 6, 6, 0.9)), there, CENTRE)
    assert made.outcome.tolist() == [Outcome.HIT]


def test_the_ways_to_hit_differ():
    there = lesions((0, 100, 100, 120, 120, 1))
    shifted, large = (0, 112, 100, 132, 120, 0.5), (0, 60, 60, 160, 160, 0.5)
    outcomes = {
        config.hit: [int(match(candidates(row), there, config).outcome[0]) for row in rows]
        for config, rows in ((c, (shifted, large)) for c in (CENTRE, OVERLAP, NEAR))
    }
    # Centre at 122 lies beyond the box, nearer than half its diagonal of 28; the large box is on
    # the same centre, with a twenty-fifth of its area shared.
    assert outcomes == {"centre": [0, 1], "iou": [0, 0], "distance": [1, 1]}
    tiny = lesions((0, 100, 100, 102, 102, 1))
    beside = candidates((0, 106, 100, 108, 102, 0.5))
    assert match(beside, tiny, NEAR).outcome[0] == Outcome.HIT
    assert match(beside, tiny, CENTRE).outcome[0] == Outcome.FALSE


def test_nothing_with_nothing():
    made = match(candidates(), lesions(), CENTRE)
    assert made.outcome.size == made.score.size == 0
    made = match(candidates(), lesions((0, 0, 0, 1, 1, 1)), CENTRE)
    assert made.score.tolist() == [-np.inf]
    assert match(candidates((0, 0, 0, 1, 1, 0.5)), lesions(), CENTRE).outcome.tolist() == [0]


def test_overlap_of_boxes():
    one = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 10], [0, 0, 10, 10.0]])
    other = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10], [0, 0, 100, 100.0]])
    assert box_overlaps(one, other) == pytest.approx([1 / 3, 0, 0, 0.01])
    crowd = np.array([False, False, False, True])
    assert box_overlaps(one, other, crowd)[3] == pytest.approx(1.0)


@st.composite
def scenes(draw):
    images = draw(st.integers(1, 4))

    def boxes(most):
        rows = draw(
            st.lists(
                st.tuples(
                    st.integers(0, images - 1), st.integers(0, 20), st.integers(0, 20),
                    st.integers(1, 12), st.integers(1, 12), st.integers(0, 4),
                ),
                max_size=most,
            )
        )  # fmt: skip
        return [(i, x, y, x + w, y + h, v) for i, x, y, w, h, v in rows]

    found = candidates(*((*row[:5], row[5] / 4) for row in boxes(12)))
    return found, lesions(*((*row[:5], row[5] > 0) for row in boxes(6)))


@settings(deadline=None, max_examples=60)
@given(scenes(), st.sampled_from([CENTRE, OVERLAP, NEAR]))
def test_each_lesion_is_hit_once_and_a_threshold_keeps_what_was_matched_above_it(scene, config):
    found, there = scene
    made = match(found, there, config)
    hit = made.candidate[made.candidate >= 0]
    assert len(set(hit.tolist())) == hit.size == (made.outcome == Outcome.HIT).sum()
    assert (found.image[hit] == there.image[made.candidate >= 0]).all()
    assert there.target[made.candidate >= 0].all()
    assert (found.score[hit] == made.score[made.candidate >= 0]).all()
    above = found.score >= 0.5
    again = match(
        Candidates(found.image[above], found.box[above], found.score[above]), there, config
    )
    assert (again.outcome == made.outcome[above]).all()
    assert (again.score == np.where(made.score >= 0.5, made.score, -np.inf)).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=20), st.lists(st.integers(0, 5), max_size=20))
def test_pairs_are_all_of_one_image(one, other):
    first, second = pairs_within(np.array(one, int), np.array(other, int))
    expected = {(i, j) for i, a in enumerate(one) for j, b in enumerate(other) if a == b}
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected
    assert first.size == len(expected)
