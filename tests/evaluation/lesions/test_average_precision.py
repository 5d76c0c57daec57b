"""Average precision beside pycocotools, whose rules it follows."""

import contextlib
import io

import numpy as np
import pytest

from mammoscope.evaluation.bootstrap import draw
from mammoscope.evaluation.lesions.average_precision import (
    IOUS,
    precision_steps,
    rank_candidates,
    replicates,
    summarised,
)
from mammoscope.evaluation.lesions.matching import Candidates, Lesions


def random_case(seed, *, images=12, ties=False):
    """Boxes that overlap one another, and regions that are not judged."""
    rng = np.random.default_rng(seed)
    boxes, where, target = [], [], []
    for image in range(images):
        for _ in range(rng.integers(0, 5)):
            corner, sides = rng.uniform(0, 120, 2), rng.uniform(8, 130, 2)
            boxes.append([*corner, *(corner + sides)])
            where.append(image)
            target.append(rng.random() > 0.25)
    truth = np.array(boxes).reshape(-1, 4)
    made, image_of = [], []
    for box, image in zip(boxes, where, strict=True):
        for _ in range(rng.integers(0, 4)):
            made.append(np.array(box) + rng.normal(0, 6, 4))
            image_of.append(image)
    for _ in range(25):
        corner, sides = rng.uniform(0, 120, 2), rng.uniform(8, 130, 2)
        made.append([*corner, *(corner + sides)])
        image_of.append(int(rng.integers(images)))
    found = np.array(made)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
    score = rng.random(len(made))
    order = np.argsort(image_of, kind="stable")
    candidates = Candidates(
        np.array(image_of)[order], found[order], np.round(score, 1) if ties else score
    )
    return candidates, Lesions(np.array(where, int), truth, np.array(target, bool)), images


def by_pycocotools(candidates, lesions, images, area=(0, 1e10), most=100):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def sized(box):
        return [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i} for i in range(images)],
            "categories": [{"id": 1}],
            "annotations": [
                {
                    "id": n + 1,
                    "image_id": int(image),
                    "category_id": 1,
                    "bbox": sized(box),
                    "area": float((box[2] - box[0]) * (box[3] - box[1])),
                    "iscrowd": int(not target),
                }
                for n, (image, box, target) in enumerate(
                    zip(lesions.image, lesions.box, lesions.target, strict=True)
                )
            ],
        }
        truth.createIndex()
        found = truth.loadRes(
            [
                {"image_id": int(i), "category_id": 1, "bbox": sized(b), "score": float(s)}
                for i, b, s in zip(candidates.image, candidates.box, candidates.score, strict=True)
            ]
        )
        judge = COCOeval(truth, found, "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = [list(area)], ["some"]
        judge.params.maxDets = [most]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, 0, 0, 0]
    return np.where((precision > -1).all(axis=1), precision.mean(axis=1), np.nan)


@pytest.mark.parametrize("seed", range(12))
def test_is_that_of_pycocotools(seed):
    candidates, lesions, images = random_case(seed, ties=seed % 3 == 0)
    ours = summarised(rank_candidates(candidates, lesions))
    np.testing.assert_allclose(ours, by_pycocotools(candidates, lesions, images), atol=1e-6)
    assert 0.02 < ours[0] < 0.98


@pytest.mark.parametrize("area", [(0, 32**2), (32**2, 96**2), (96**2, 1e10)])
@pytest.mark.parametrize("most", [2, 100])
def test_areas_and_the_most_of_an_image_are_those_of_pycocotools(area, most):
    candidates, lesions, images = random_case(100 + most)
    ours = summarised(rank_candidates(candidates, lesions, area=area, most=most))
    theirs = by_pycocotools(candidates, lesions, images, area, most)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_overlap_of_just_the_threshold_counts_and_of_equal_ones_the_later_is_taken():
    boxes = np.array([[0, 0, 10, 20], [0, 0, 10, 20], [50, 0, 60, 10.0]])
    lesions = Lesions(np.zeros(3, int), boxes, np.array([True, True, True]))
    drawn = np.array([[0, 0, 10, 10], [0, 10, 10, 20], [70, 0, 80, 10.0]])
    candidates = Candidates(np.zeros(3, int), drawn, np.array([0.9, 0.8, 0.7]))
    ranked = rank_candidates(candidates, lesions)
    assert ranked.hit[0].tolist() == [True, True, False]
    assert not ranked.hit[1].any()
    np.testing.assert_allclose(summarised(ranked), by_pycocotools(candidates, lesions, 1))


def test_by_hand():
    # Two lesions; found, false, found: precision 1 to sensitivity 0.5, then 2/3.
    lesions = Lesions(
        np.array([0, 1]), np.array([[0, 0, 10, 10], [0, 0, 10, 10.0]]), np.array([True, True])
    )
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10.0]])
    candidates = Candidates(np.array([0, 0, 1]), boxes, np.array([0.9, 0.8, 0.7]))
    ranked = rank_candidates(candidates, lesions, ious=(0.5,))
    assert summarised(ranked)[0] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    sensitivity, precision = precision_steps(ranked.hit[0], ranked.false[0], 2)
    assert sensitivity.tolist() == [0.5, 0.5, 1.0]
    assert precision.tolist() == [1.0, 0.5, pytest.approx(2 / 3)]


def test_a_second_candidate_on_a_lesion_is_false_and_one_in_an_unjudged_region_is_not():
    boxes = np.array([[0, 0, 10, 10], [100, 100, 200, 200.0]])
    lesions = Lesions(np.array([0, 0]), boxes, np.array([True, False]))
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [110, 110, 120, 120], [150, 150, 170, 170.0]])
    ranked = rank_candidates(
        Candidates(np.zeros(4, int), found, np.array([0.9, 0.8, 0.7, 0.6])), lesions, ious=(0.5,)
    )
    assert ranked.hit[0].tolist() == [True, False, False, False]
    assert ranked.false[0].tolist() == [False, True, False, False]


def test_a_replicate_is_the_measure_of_the_patients_drawn():
    candidates, lesions, images = random_case(7)
    patient = np.arange(images) // 2
    draws = draw(images // 2, 6, 0)
    drawn = replicates(rank_candidates(candidates, lesions), patient, draws)
    for row, times in zip(drawn, draws, strict=True):
        # The same images, written out as often as their patient was drawn.
        copies = np.repeat(np.arange(images), times[patient])
        new = [np.flatnonzero(copies == image) for image in range(images)]

        def spread(image, *values, new=new):
            place = [(k, n) for k, i in enumerate(image) for n in new[i]]
            taken = [k for k, _ in place]
            return np.array([n for _, n in place]), *(v[taken] for v in values)

        again = summarised(
            rank_candidates(
                Candidates(*spread(candidates.image, candidates.box, candidates.score)),
                Lesions(*spread(lesions.image, lesions.box, lesions.target)),
            )
        )
        np.testing.assert_allclose(row, again, atol=1e-12)


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero():
    none = Lesions(np.empty(0, int), np.empty((0, 4)), np.empty(0, bool))
    one = Candidates(np.array([0]), np.array([[0, 0, 5, 5.0]]), np.array([0.5]))
    assert np.isnan(summarised(rank_candidates(one, none))).all()
    empty = Candidates(np.empty(0, int), np.empty((0, 4)), np.empty(0))
    lesion = Lesions(np.array([0]), np.array([[0, 0, 5, 5.0]]), np.array([True]))
    assert summarised(rank_candidates(empty, lesion)).tolist() == [0.0] * len(IOUS)
