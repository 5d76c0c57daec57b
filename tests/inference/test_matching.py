import numpy as np
import pytest

from mammoscope.config import ViewMatching
from mammoscope.inference.fusion import Boxes
from mammoscope.inference.matching import ViewCandidates, breast_depth, matched

CONFIG = ViewMatching(depth_tolerance=0.1, size_tolerance=0.7, least_agreement=0.3, rise=1.0)


def view(name, projection, *rows, depth_px=100.0):
    """Candidates by (depth, side in pixels, score)."""
    box = [[d * depth_px - s / 2, 20, d * depth_px + s / 2, 20 + s] for d, s, _ in rows]
    score = np.array([row[2] for row in rows], dtype=np.float64)
    boxes = Boxes(np.array(box, dtype=np.float64).reshape(-1, 4), score, np.zeros(len(rows), int))
    return ViewCandidates(name, projection, boxes, depth_px)


def logit(score):
    return np.log(score / (1 - score))


def test_a_lesion_at_one_depth_in_both_views_rises_and_a_lonely_one_stays():
    cc = view("a", "CC", (0.5, 10, 0.5), (0.2, 10, 0.5))
    mlo = view("b", "MLO", (0.5, 10, 0.8))
    (cc_score, cc_partner), (mlo_score, mlo_partner) = matched([cc, mlo], CONFIG)
    assert cc_partner == [("b", 0), None]
    assert mlo_partner == [("a", 0)]
    # Equal depth and size agree wholly: raised by rise times the score of the other.
    assert logit(cc_score[0]) == pytest.approx(logit(0.5) + 0.8)
    assert logit(cc_score[1]) == pytest.approx(logit(0.5))
    assert logit(mlo_score[0]) == pytest.approx(logit(0.8) + 0.5)


def test_the_breast_s_own_depth_is_the_unit():
    cc = view("a", "CC", (0.5, 10, 0.5))
    mlo = view("b", "MLO", (0.5, 20, 0.5), depth_px=200.0)
    assert matched([cc, mlo], CONFIG)[0][1] == [("b", 0)]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ((0.7, 10, 0.9), "another depth"),
        ((0.5, 40, 0.9), "another size"),
    ],
)
def test_what_differs_is_no_counterpart(second, why):
    cc, mlo = view("a", "CC", (0.5, 10, 0.5)), view("b", "MLO", second)
    assert matched([cc, mlo], CONFIG)[0][1] == [None], why


def test_each_candidate_has_one_counterpart_the_best_first():
    cc = view("a", "CC", (0.50, 10, 0.4), (0.52, 10, 0.9))
    mlo = view("b", "MLO", (0.51, 10, 0.9))
    (_, of_cc), (_, of_mlo) = matched([cc, mlo], CONFIG)
    assert of_cc == [None, ("b", 0)]
    assert of_mlo == [("a", 1)]


@pytest.mark.parametrize("other", ["CC", None])
def test_without_another_projection_scores_stay(other):
    first, second = view("a", "CC", (0.5, 10, 0.5)), view("b", other, (0.5, 10, 0.9))
    for (score, partner), own in zip(matched([first, second], CONFIG), (0.5, 0.9), strict=True):
        np.testing.assert_allclose(score, [own])
        assert partner == [None]


def test_the_depth_of_a_breast_ends_with_its_tissue():
    image = np.zeros((10, 30), np.uint8)
    image[4, :20] = 100
    image[4, 20:25] = 3  # darker than tissue
    assert breast_depth(image, 255) == 20
    assert breast_depth(np.zeros((10, 30), np.uint8), 255) == 1
