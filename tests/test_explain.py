"""Heat and boxes lie where the network looked, in the pixels of the original image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mammoscope.explain import called, find_regions, heatmap_in_original_pixels, overlay
from mammoscope.inference.joining import joined
from mammoscope.masks import outline
from mammoscope.preprocessing import Geometry
from mammoscope.types import Anomaly, Box, Finding, ImageResult, Laterality, View

CYAN = (64, 224, 255)
YELLOW = (255, 196, 0)


def geometry(mirrored=False):
    """A 400 x 300 image whose crop (50, 100) to (250, 400) fills a 96 x 64 grid."""
    return Geometry.fit((400, 300), (50, 100, 250, 400), (96, 64), mirrored=mirrored)


def result(heat, mirrored=False, findings=(), anomaly=None):
    return ImageResult(
        image_id="a",
        laterality=Laterality.L,
        view=View.CC,
        height_px=400,
        width_px=300,
        logit=0.0,
        score=0.5,
        suspicious=True,
        findings=findings,
        decoder="native",
        crop_quality=1.0,
        heatmap=heat,
        geometry=geometry(mirrored).as_dict(),
        anomaly=anomaly,
    )


def judged(score, *cells, unusual=True, mirrored=False):
    """What an anomaly model says whose map of 12 x 8 cells is as high at some as its score."""
    where = np.zeros((12, 8), np.float32)
    for cell in cells:
        where[cell] = score
    return Anomaly(score, unusual, where, geometry(mirrored).as_dict())


def places(drawn):
    """Left, top, right and bottom of what is drawn: a mask."""
    rows, columns = np.nonzero(drawn)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_hot_cell_becomes_a_box_around_its_place(mirrored):
    heat = np.zeros((12, 4), np.float32)
    heat[3, 1] = 0.9
    (finding,) = find_regions(heat, geometry(mirrored), 0.5)
    assert finding.score == pytest.approx(0.9)
    # A cell is 8 x 16 grid pixels, 25 x 50 of the original, and begins 75 down, 50 across.
    left = 150.0 if mirrored else 100.0
    assert finding.box.x_min == pytest.approx(left, abs=1.5)
    assert finding.box.x_max == pytest.approx(left + 50, abs=1.5)
    assert finding.box.y_min == pytest.approx(175, abs=1.5)
    assert finding.box.y_max == pytest.approx(200, abs=1.5)


def test_regions_touch_by_corners_are_ranked_and_are_at_most_five():
    heat = np.zeros((12, 8), np.float32)
    heat[0, 0] = heat[1, 1] = 0.6
    assert len(find_regions(heat, geometry(), 0.5)) == 1
    heat[:] = 0
    heat[::2, ::3] = np.linspace(0.5, 0.9, heat[::2, ::3].size).reshape(heat[::2, ::3].shape)
    found = find_regions(heat, geometry(), 0.5)
    assert len(found) == 5
    assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
    assert find_regions(heat, geometry(), 0.95) == ()


def test_heat_is_zero_outside_the_crop_and_peaks_over_its_cell():
    heat = np.zeros((12, 8), np.float32)
    heat[6, 4] = 1.0
    mapped = heatmap_in_original_pixels(result(heat))
    assert mapped.shape == (400, 300)
    assert mapped[:100].max() == 0
    assert mapped[:, 250:].max() == 0
    peak = np.unravel_index(mapped.argmax(), mapped.shape)
    assert 250 <= peak[0] < 275
    assert 150 <= peak[1] < 175


def test_an_image_without_suspicion_looks_like_itself():
    pixels = np.random.default_rng(0).random((400, 300)).astype(np.float32)
    picture = overlay(pixels, result(np.full((12, 8), 0.2, np.float32)))
    assert picture.shape == (400, 300, 3)
    grey = np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8)
    assert (picture == grey[..., None]).all()


def test_heat_colours_its_place_only_and_boxes_are_drawn():
    heat = np.zeros((12, 8), np.float32)
    heat[6, 4] = 1.0
    box = Finding(Box(150, 250, 175, 275), 1.0)
    picture = overlay(np.full((400, 300), 0.5, np.float32), result(heat, findings=(box,)))
    coloured = (picture.max(axis=2) - picture.min(axis=2)) > 0
    assert coloured[262, 162]
    assert tuple(picture[250, 160]) == (255, 196, 0)
    assert not coloured[:200].any()


def test_a_result_without_a_heatmap_says_so():
    with pytest.raises(ValueError, match="carries no heatmap"):
        heatmap_in_original_pixels(result(None))


def test_an_overlay_without_a_heatmap_shows_the_image_and_its_findings():
    pixels = np.full((400, 300), 0.5, np.float32)
    assert (overlay(pixels, result(None)) == 128).all()
    found = Finding(Box(150, 250, 175, 275), 1.0, "mass", "detector")
    picture = overlay(pixels, result(None, findings=(found,)))
    assert tuple(picture[250, 160]) == (255, 196, 0)
    assert (picture[300:] == 128).all()


def test_how_sure_a_second_stage_is_stands_beside_what_it_takes_a_finding_for():
    pixels, box = np.zeros((400, 600), np.float32), Box(50, 200, 100, 300)
    alone = Finding(box, 0.5, "malignant", "segmenter")
    told = Finding(box, 0.5, "malignant", "segmenter", kind_score=0.83)
    ends = [
        np.nonzero(overlay(pixels, result(None, findings=(one,)))[:200].any(axis=(0, 2)))[0].max()
        for one in (alone, told)
    ]
    assert ends[1] > ends[0] + 10


def test_an_overlay_draws_outlines_instead_of_boxes_and_names_what_was_found():
    heat = np.zeros((12, 4), np.float32)
    square = Box(100, 200, 200, 300)
    corners = ((150.0, 200.0), (199.0, 250.0), (150.0, 299.0), (100.0, 250.0))
    drawn = {
        "box": Finding(square, 0.5),
        "outline": Finding(square, 0.5, "mass", "segmenter", corners),
        "named": Finding(square, 0.5, "mass", "detector"),
    }
    pixels = np.zeros((400, 300), np.float32)
    lines = {
        name: overlay(pixels, result(heat, findings=(finding,))).any(axis=2)
        for name, finding in drawn.items()
    }
    # A corner of the box, and a corner of the outline.
    at_corner = {name: bool(shown[200, 100]) for name, shown in lines.items()}
    assert at_corner == {"box": True, "outline": False, "named": True}
    assert lines["outline"][250, 100]
    assert lines["outline"][200, 150]
    above = {name: shown[:200].any() for name, shown in lines.items()}
    assert above == {"box": False, "outline": True, "named": True}
    # At the image's upper border the words stand below.
    high = Finding(Box(100, 2, 200, 100), 0.5, "mass", "detector", matched=("b", 0))
    assert overlay(pixels, result(heat, findings=(high,))).any(axis=2)[105:].any()


def test_what_two_models_found_is_one_mark_of_box_and_outline_with_one_name():
    square = Box(100, 200, 200, 300)
    corners = ((150.0, 210.0), (190.0, 250.0), (150.0, 290.0), (110.0, 250.0))
    seen = Finding(square, 0.41, found_by="detector")
    (both,) = joined(
        [seen, Finding(Box(110, 210, 190, 290), 0.9, "suspicious", "segmenter", corners)]
    )
    pixels, heat = np.zeros((400, 300), np.float32), np.zeros((12, 4), np.float32)
    alone, shown = (overlay(pixels, result(heat, findings=(one,))) for one in (seen, both))
    # Box and name are the detector's; what is added is the outline.
    drawn = alone.any(axis=2)
    assert (shown[drawn] == alone[drawn]).all()
    rows, columns = np.nonzero(shown.any(axis=2) & ~drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (210, 290, 110, 190)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (("suspicious", "suspicious", None), "suspicious"),
        (("mass", "suspicious", None), "mass"),
        (("suspicious", "malignant", 0.996), "malignant (0.996)"),
        (("mass", "malignant", 0.87), "mass, malignant (0.87)"),
        (("malignant", "malignant", 0.87), "malignant (0.87)"),
    ],
)
def test_every_word_for_a_finding_is_told_once(kinds, words):
    first, second, sure = kinds
    place = Box(0, 0, 10, 10)
    (one,) = joined(
        [
            Finding(place, 0.4, first, "detector"),
            Finding(place, 0.9, second, "segmenter", ((1.0, 1.0),) * 3, kind_score=sure),
        ]
    )
    assert called(one) == words


def test_an_outline_is_drawn_on_the_outermost_pixels_of_its_mask():
    mask = np.zeros((400, 300), bool)
    mask[120:180, 60:110] = mask[170:200, 100:140] = True
    (ring,) = outline(mask)
    corners = tuple(zip(ring[::2], ring[1::2], strict=True))
    finding = Finding(Box(60, 120, 140, 200), 0.5, "mass", "segmenter", corners)
    heat = np.zeros((12, 4), np.float32)
    picture = overlay(np.zeros(mask.shape, np.float32), result(heat, findings=(finding,)))
    drawn = picture.any(axis=2)
    # The words stand above.
    drawn[:119] = False
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[2:, 1:-1] & mask[:-2, 1:-1] & mask[1:-1, 2:] & mask[1:-1, :-2]
    np.testing.assert_array_equal(drawn, mask & ~inner)


def test_names_of_two_findings_at_one_place_do_not_cover_each_other():
    box = Box(60, 200, 140, 280)
    one, other = (
        Finding(box, 0.5, kind="mass", found_by=found_by) for found_by in ("detector", "segmenter")
    )
    heat = np.zeros((12, 8), np.float32)

    def written(*findings):
        picture = overlay(np.zeros((400, 300), np.float32), result(heat, findings=findings))
        picture[200:280] = 0  # the boxes themselves
        return int(picture.any(axis=2).sum())

    assert written(one, other) == 2 * written(one)


def test_of_equal_regions_the_largest_comes_first():
    heat = np.zeros((12, 8), np.float32)
    heat[0, 0] = heat[4:6, 4:6] = 0.9
    first, second = find_regions(heat, geometry(), 0.5)
    assert first.box.x_max - first.box.x_min > second.box.x_max - second.box.x_min


def test_a_name_is_read_on_white_and_hides_no_other_finding():
    pixels = np.ones((400, 300), np.float32)
    one = Finding(Box(60, 200, 140, 280), 0.5, "mass", "detector")
    # Its upper line lies where the name of the first stands.
    other = Finding(Box(70, 192, 150, 260), 0.5, "mass", "heatmap")
    picture = overlay(pixels, result(None, findings=(one, other))).astype(int)
    name = picture[:200, :, :][picture[:200].max(axis=2) < 120]
    assert name.size > 500, "there is no dark plate"
    assert (picture[192, 71:149] == YELLOW).all(axis=1).mean() > 0.5
    # Beside the plate white stays white.
    assert (picture[150] == 255).all()


def test_how_unusual_an_image_is_stands_where_no_tissue_is():
    pixels = np.zeros((400, 300), np.float32)
    pixels[:, :140] = 0.6
    pixels[:200] = 0.6
    quiet = overlay(pixels, result(None, anomaly=judged(0.12, unusual=False)))
    grey = overlay(pixels, result(None))
    left, top, right, bottom = places((quiet != grey).any(axis=2))
    assert left > 140
    assert top > 200
    assert (right, bottom) > (280, 380)
    # Another sentence, in another colour.
    loud = overlay(pixels, result(None, anomaly=judged(0.997)))
    assert (loud == CYAN).all(axis=2)[200:].any()
    assert not (quiet == CYAN).all(axis=2).any()
    assert (quiet[top:bottom, left:right] != loud[top:bottom, left:right]).any()


def test_how_unusual_an_image_is_stands_on_no_name_and_fits_a_narrow_picture():
    pixels = np.zeros((400, 300), np.float32)
    pixels[20:] = 0.6
    told = judged(0.12, unusual=False)
    # Names in both upper corners, which are the dark ones.
    found = tuple(Finding(Box(x, 20, x + 60, 60), 0.5, "mass", "detector") for x in (0, 240))
    with_both, with_names = (
        overlay(pixels, result(None, findings=found, anomaly=one)) for one in (told, None)
    )
    changed = (with_both != with_names).any(axis=2)
    assert changed.any()
    assert not changed[:60].any(), "it covers a name"
    narrow = np.zeros((400, 60), np.float32)
    picture = overlay(narrow, result(None, anomaly=told)).any(axis=2)
    left, _, right, _ = places(picture)
    assert left >= 1
    assert right <= 59


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_most_unusual_place_is_ringed_in_strokes_and_looks_like_no_finding(mirrored):
    pixels = np.zeros((400, 300), np.float32)
    anomaly = judged(0.997, (6, 4), mirrored=mirrored)
    drawn = overlay(pixels, result(None, mirrored, anomaly=anomaly))
    ring = (drawn == CYAN).all(axis=2)
    ring[:60] = ring[340:] = False  # the words
    (cell,) = find_regions(anomaly.map, geometry(mirrored), 0.9)
    left, top, right, bottom = places(ring)
    assert left < cell.box.x_min < cell.box.x_max < right
    assert top < cell.box.y_min < cell.box.y_max < bottom
    assert (left + right) / 2 == pytest.approx((cell.box.x_min + cell.box.x_max) / 2, abs=3)
    assert (right - left) < 4 * (cell.box.x_max - cell.box.x_min)
    # Strokes with gaps between: several parts, and no yellow.
    assert cv2.connectedComponents(ring.astype(np.uint8))[0] - 1 >= 6
    assert not (drawn == YELLOW).all(axis=2).any()


def test_what_is_not_unusual_or_has_no_map_is_not_ringed():
    pixels = np.zeros((400, 300), np.float32)
    for anomaly in (judged(0.3, (6, 4), unusual=False), Anomaly(0.997, unusual=True)):
        drawn = overlay(pixels, result(None, anomaly=anomaly)).any(axis=2)
        assert drawn.any()
        assert not drawn[60:340].any()


def test_the_highest_cells_of_a_map_are_ringed_though_the_score_is_of_more_digits():
    pixels = np.zeros((400, 300), np.float32)
    anomaly = judged(1 - 1e-9, (6, 4))
    anomaly.map[6, 4] = np.float32(1 - 1e-7)
    assert (overlay(pixels, result(None, anomaly=anomaly)) == CYAN).all(axis=2)[60:340].any()
