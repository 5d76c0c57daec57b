import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from mammoscope.masks import (
    decode,
    encode,
    outline,
    rasterise_circle,
    rasterise_ellipse,
    rasterise_polygon,
)

masks = nps.arrays(np.bool_, nps.array_shapes(min_dims=2, max_dims=2, max_side=12))


def test_runs_are_counted_row_by_row_from_zeros():
    assert encode(np.array([[0, 0, 1], [1, 0, 0]], bool)) == [2, 2, 2]
    assert encode(np.array([[1, 0]], bool)) == [0, 1, 1]
    assert encode(np.zeros((2, 3), bool)) == [6]
    assert encode(np.ones((2, 3), bool)) == [0, 6]


@given(masks)
def test_runs_give_the_mask_again(mask):
    again = decode(encode(mask), mask.shape)
    assert again.dtype == np.bool_
    np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize("runs", [[5], [3, 4], [-1, 7], []])
def test_runs_of_another_size_are_refused(runs):
    with pytest.raises(ValueError, match="not those of a mask of 2 x 3"):
        decode(runs, (2, 3))


def test_a_polygon_holds_the_pixels_whose_centres_it_holds():
    # A rectangle from 1.4 to 4.6 across: the centres 1.5 to 4.5; from 0.6 to 2 down: 1.5 alone.
    found = rasterise_polygon([1.4, 0.6, 4.6, 0.6, 4.6, 2.0, 1.4, 2.0], (4, 6))
    expected = np.zeros((4, 6), bool)
    expected[1, 1:5] = True
    np.testing.assert_array_equal(found, expected)


def test_a_triangle_has_its_area():
    found = rasterise_polygon([0, 0, 100, 0, 0, 100], (100, 100))
    assert found.sum() == pytest.approx(5000, rel=0.01)
    assert found[0, 90]
    assert not found[90, 90]


def test_two_neighbours_share_no_pixel_and_leave_none():
    whole = np.zeros((9, 9), int)
    for left, right in ((0, 4.5), (4.5, 9)):
        whole += rasterise_polygon([left, 0, right, 0, right, 9, left, 9], (9, 9))
    assert (whole == 1).all()


def test_the_direction_of_drawing_and_crossing_lines_change_nothing():
    ring = [2, 2, 8, 2, 8, 8, 2, 8]
    backwards = [2, 8, 8, 8, 8, 2, 2, 2]
    twice = ring * 2
    once = rasterise_polygon(ring, (10, 10))
    assert once.sum() == 36
    np.testing.assert_array_equal(rasterise_polygon(backwards, (10, 10)), once)
    np.testing.assert_array_equal(rasterise_polygon(twice, (10, 10)), once)


def test_what_lies_beyond_the_image_is_cut_off():
    found = rasterise_polygon([-5, -5, 3, -5, 3, 30, -5, 30], (10, 10))
    assert found[:, :3].all()
    assert not found[:, 3:].any()
    assert not rasterise_polygon([20, 20, 30, 20, 30, 30], (10, 10)).any()


@pytest.mark.parametrize("contour", [[], [1.5, 1.5], [1, 1, 5, 5]])
def test_a_point_or_a_line_holds_nothing(contour):
    assert not rasterise_polygon(contour, (8, 8)).any()


def test_half_a_point_is_refused():
    with pytest.raises(ValueError, match="5 numbers"):
        rasterise_polygon([1, 1, 2, 2, 3], (8, 8))


def test_a_circle_has_its_area_and_place():
    found = rasterise_circle(30, 20, 12, (64, 64))
    assert found.sum() == pytest.approx(np.pi * 144, rel=0.02)
    assert found[20, 41]
    assert not found[20, 42]
    assert found[8:32].any(axis=1).all()
    assert not found[:8].any()


def test_an_ellipse_fills_its_box():
    found = rasterise_ellipse((4, 10, 12, 30), (40, 20))
    ys, xs = np.nonzero(found)
    assert (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) == (4, 12, 10, 30)
    assert not rasterise_ellipse((5, 5, 5, 9), (10, 10)).any()


@given(masks)
def test_outlines_give_the_mask_again(mask):
    again = np.zeros(mask.shape, bool)
    for ring in outline(mask):
        again ^= rasterise_polygon(ring, mask.shape)
    np.testing.assert_array_equal(again, mask)


@given(st.lists(st.floats(-20, 60, allow_nan=False, width=32), min_size=6, max_size=6))
def test_a_triangle_agrees_with_opencv_away_from_its_edge(contour):
    found = rasterise_polygon(contour, (40, 40))
    points = np.array(contour).reshape(-1, 1, 2).astype(np.float32)
    for y in range(0, 40, 5):
        for x in range(0, 40, 5):
            away = cv2.pointPolygonTest(points, (x + 0.5, y + 0.5), measureDist=True)
            if abs(away) > 0.01:
                assert found[y, x] == (away > 0)
