from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscope.inference.fusion import Boxes, fused
from mammoscope.inference.tiles import cut, tile_corners

SIZE, SIDE = (100, 160), 100
CORNERS = [(0, 0), (0, 60)]


def boxes(*rows):
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4], np.zeros(len(table), np.int64))


def fuse(left, right):
    return fused([left, right], CORNERS, SIDE, SIZE, iou=0.4, most=10)


def test_boxes_that_both_tiles_saw_become_their_mean_by_score():
    found = fuse(boxes([70, 40, 80, 50, 0.6]), boxes([12, 40, 22, 50, 0.2]))
    np.testing.assert_allclose(found.box, [[70.5, 40, 80.5, 50]])
    np.testing.assert_allclose(found.score, [0.4])


def test_what_one_of_two_tiles_saw_counts_half():
    found = fuse(boxes([70, 40, 80, 50, 0.6]), boxes())
    np.testing.assert_allclose(found.score, [0.3])


def test_what_one_tile_alone_could_see_keeps_its_score():
    found = fuse(boxes([10, 40, 20, 50, 0.6]), boxes([80, 1, 90, 9, 0.5]))
    np.testing.assert_allclose(found.box, [[10, 40, 20, 50], [140, 1, 150, 9]])
    np.testing.assert_allclose(found.score, [0.6, 0.5])


def test_a_box_that_a_border_cut_is_laid_to_the_whole_one():
    # The lesion spans 88 to 120; the left tile ends at 100.
    found = fuse(boxes([88, 40, 100, 60, 0.9]), boxes([28, 40, 60, 60, 0.8]))
    np.testing.assert_allclose(found.box, [[88, 40, 120, 60]])
    assert found.score[0] == pytest.approx(0.85)


def test_boxes_of_one_tile_stay_apart():
    found = fuse(boxes([10, 40, 20, 50, 0.6], [11, 41, 21, 51, 0.5]), boxes())
    assert len(found) == 2


def test_the_best_are_kept_in_order():
    found = fused(
        [boxes([1, 1, 5, 5, 0.2], [11, 1, 15, 5, 0.9]), boxes()], CORNERS, SIDE, SIZE, 0.4, most=1
    )
    np.testing.assert_allclose(found.score, [0.9])


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    side=st.sampled_from([32, 64, 96]),
    overlap=st.floats(0, 0.8),
)
def test_tiles_cover_every_pixel_and_overlap_enough(height, width, side, overlap):
    corners = tile_corners((height, width), side, overlap)
    seen = np.zeros((height, width), bool)
    for y, x in corners:
        seen[y : y + side, x : x + side] = True
    assert seen.all()
    for axis, length in ((0, height), (1, width)):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] == 0
        assert starts[-1] == max(0, length - side)
        # Rounded to whole pixels.
        assert all(b - a <= side * (1 - overlap) + 1 for a, b in pairwise(starts))


def test_a_tile_beyond_the_image_is_black():
    image = np.full((20, 50), 7, np.uint8)
    tile = cut(image, (0, 30), 32)
    assert tile.shape == (32, 32)
    assert (tile[:20, :20] == 7).all()
    assert tile.sum() == 7 * 400
