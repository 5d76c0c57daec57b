"""Heat and boxes lie where the network looked, in the pixels of the original image."""

from __future__ import annotations

import numpy as np
import pytest

from mammoscope.explain import called, find_regions, heatmap_in_original_pixels, overlay
from mammoscope.inference.joining import joined
from mammoscope.masks import outline
from mammoscope.preprocessing import Geometry
from mammoscope.types import Box, Finding, ImageResult, Laterality, View


def geometry(mirrored=False):
    """A 400 x 300 image whose crop (50, 100) to (250, 400) fills a 96 x 64 grid."""
    return Geometry.fit((400, 300), (50, 100, 250, 400), (96, 64), mirrored=mirrored)


def result(heat, mirrored=False, findings=()):
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
    )


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
