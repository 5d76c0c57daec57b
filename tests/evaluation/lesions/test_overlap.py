import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.evaluation.lesions.overlap import (
    Overlap,
    compared,
    hausdorff_95,
    parts_found,
    window,
)


def rectangle(x_min, y_min, x_max, y_max, size=(40, 50)):
    mask = np.zeros(size, bool)
    mask[y_min:y_max, x_min:x_max] = True
    return mask


def by_scipy(one, other, spacing):
    """95th percentile of the distances of outline to outline: of either direction, the larger."""
    from scipy import ndimage

    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95))


def test_by_hand():
    # 10 x 10 and 10 x 10, half of each shared.
    found = compared(rectangle(5, 0, 15, 10), rectangle(0, 0, 10, 10))
    assert found.dice == pytest.approx(0.5)
    assert found.iou == pytest.approx(1 / 3)
    assert found.covered == pytest.approx(0.5)
    # A quarter of the left one's outline lies five columns off, the rest nearer.
    assert found.hausdorff_95 == pytest.approx(5.0)
    far = hausdorff_95(rectangle(5, 0, 15, 10), rectangle(0, 0, 10, 10), (1.0, 0.2))
    assert far == pytest.approx(1.0)


def test_what_is_empty():
    one, none = rectangle(0, 0, 3, 3), np.zeros((40, 50), bool)
    assert compared(none, none) == Overlap(None, None, None, None)
    assert compared(none, one) == Overlap(0.0, 0.0, 0.0, None)
    assert compared(one, none) == Overlap(0.0, 0.0, None, None)
    assert compared(one, one) == Overlap(1.0, 1.0, 1.0, 0.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(1.0, 1.0), (0.5, 0.5), (0.3, 0.7)]))
def test_the_distance_of_outlines_is_that_of_scipys_distance_transform(seed, spacing):
    rng = np.random.default_rng(seed)
    one, other = (
        (np.hypot(*(np.indices((40, 50)) - rng.uniform(8, 32, (2, 1, 1)))) < rng.uniform(1, 15))
        ^ (rng.random((40, 50)) < 0.02)
        for _ in range(2)
    )
    assert hausdorff_95(one, other, spacing) == pytest.approx(by_scipy(one, other, spacing))
    assert hausdorff_95(one, other, spacing) == hausdorff_95(other, one, spacing)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_dice_and_iou_agree_and_lie_between_none_and_all(seed):
    rng = np.random.default_rng(seed)
    one, other = (rng.random((6, 7)) < rng.uniform(0.1, 0.9) for _ in range(2))
    found = compared(one, other)
    if found.dice is None:
        return
    assert 0 <= found.iou <= found.dice <= 1
    assert found.dice == pytest.approx(2 * found.iou / (1 + found.iou))
    assert compared(other, one).dice == found.dice


def test_a_window_grows_by_the_longer_side_and_ends_at_the_border():
    assert window((10, 10, 20, 30), 0.5, (40, 50)) == (slice(0, 40), slice(0, 30))
    assert window((10.2, 15.7, 14.0, 18.0), 0.0, (40, 50)) == (slice(15, 18), slice(10, 14))
    assert window((45, 38, 60, 60), 0.0, (40, 50)) == (slice(38, 40), slice(45, 50))


def test_parts_of_a_mask_find_lesions_or_are_false():
    one, other = rectangle(0, 0, 10, 10), rectangle(20, 20, 40, 40)
    drawn = [
        rectangle(0, 0, 5, 5),  # a quarter of the first: found from an IoU of 0.25
        rectangle(30, 5, 34, 9),  # on nothing
        rectangle(34, 9, 36, 11),  # touches the one before by a corner
        rectangle(22, 22, 25, 25),  # a speck in the second: neither finds it nor is false
        rectangle(38, 30, 42, 33),  # half in the second: the same
    ]
    predicted = np.any(drawn, axis=0)
    assert parts_found(predicted, [one, other], 0.25) == ([True, False], 1)
    assert parts_found(predicted, [one, other], 0.26) == ([False, False], 1)
    assert parts_found(predicted, [], 0.1) == ([], 4)
    assert parts_found(np.zeros((40, 50), bool), [one], 0.1) == ([False], 0)
    # A mask over everything finds nothing, and is one false positive.
    assert parts_found(np.ones((40, 50), bool), [one], 0.1) == ([False], 1)
