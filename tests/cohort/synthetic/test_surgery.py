"""Implants hide tissue and push gland forward; metal is white, at one place in all views."""

from dataclasses import replace

import numpy as np
import pytest

from mammoscope.cohort.synthetic.anatomy import draw_anatomy, pulled_forward, seen_at
from mammoscope.cohort.synthetic.lesion_shapes import add_lesion
from mammoscope.cohort.synthetic.lesions import Lesion, draw_lesion
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.cohort.synthetic.surgery import Clip, draw_clips, draw_implant
from mammoscope.types import Density, View

SIZE, SPACING = (670, 450), 0.4


def breast(seed=2):
    return draw_anatomy(np.random.default_rng([seed, 5]), Density.B)


def with_implant(seed=2):
    return replace(breast(seed), implant=draw_implant(np.random.default_rng(seed)))


@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_an_implant_is_bright_and_even_and_reaches_as_far_as_it_says(view):
    anatomy = with_implant()
    shown = project(anatomy, view, SIZE, SPACING)
    row = round(shown.nipple_mm[1] / SPACING)
    reach = round(anatomy.implant.reach * anatomy.depth_mm / SPACING)
    inside = shown.pixels[row - 20 : row + 20, reach // 3 : reach - 12]
    assert inside.min() > 0.75
    assert inside.std() < 0.06
    before = shown.pixels[row - 20 : row + 20, reach + 8 : reach + 30]
    assert before.mean() < inside.mean() - 0.1
    assert shown.hidden[row, reach // 2] > 0.7
    assert shown.hidden[row, reach + 8] == 0


def test_gland_lies_before_an_implant():
    """Seen through one that hides nothing, there is fat alone."""
    anatomy = replace(with_implant(), density=Density.D)
    clear = replace(anatomy, implant=replace(anatomy.implant, clear=1.0))
    shown, bare = (
        project(one, View.CC, SIZE, SPACING) for one in (clear, replace(anatomy, implant=None))
    )
    row = round(shown.nipple_mm[1] / SPACING)
    reach = round(0.8 * anatomy.implant.reach * anatomy.depth_mm / SPACING)
    behind = np.s_[row - 60 : row + 60, reach // 2 : reach]
    assert np.median(bare.pixels[behind]) > anatomy.fat + 0.25
    assert np.median(shown.pixels[behind]) < anatomy.fat + 0.15


def test_tissue_gives_way_to_an_implant_without_a_tear():
    """Where it begins, above and below, the lines beside it are not of other tissue at once."""
    jumps = []
    for seed in (2, 3, 4):
        anatomy = replace(with_implant(seed), density=Density.D)
        shown = project(anatomy, View.CC, SIZE, SPACING)
        half = 0.5 * anatomy.implant.spread * anatomy.height_mm
        for end in (-half, half):
            row = round((shown.nipple_mm[1] + end) / SPACING)
            near = np.s_[row - 4 : row + 4, : round(0.8 * anatomy.depth_mm / SPACING)]
            seen = np.ma.masked_array(shown.pixels[near], shown.hidden[near] > 0)
            jumps.append(np.abs(seen[4:].mean(axis=0) - seen[:4].mean(axis=0)).mean())
    assert np.mean(jumps) < 0.04


def test_an_implant_that_is_pushed_back_leaves_the_breast_to_see():
    anatomy = with_implant()
    whole = project(anatomy, View.CC, SIZE, SPACING)
    pulled = project(pulled_forward(anatomy), View.CC, SIZE, SPACING)
    assert pulled.hidden.sum() < 0.15 * whole.hidden.sum()
    assert pulled.hidden.max() > 0
    assert pulled.nipple_mm[0] < whole.nipple_mm[0]


def test_lesions_lie_before_an_implant_and_one_behind_it_is_hidden():
    anatomy = with_implant()
    rng = np.random.default_rng(0)
    for _ in range(50):
        lesion = draw_lesion(rng, anatomy, malignant=True)
        assert lesion.depth_mm < (1 - 0.85 * anatomy.implant.reach) * anatomy.depth_mm
    behind = replace(lesion, depth_mm=0.85 * anatomy.depth_mm, place=(0.0, 0.0), radius_mm=4.0)
    anatomy = replace(anatomy, implant=replace(anatomy.implant, clear=0.0))
    shown = project(anatomy, View.CC, SIZE, SPACING)
    before = shown.pixels.copy()
    truth = add_lesion(shown, anatomy, behind, View.CC)
    np.testing.assert_array_equal(shown.pixels, before)
    assert truth.conspicuity == 0


def test_a_distortion_pulls_no_tissue_out_of_the_breast_nor_over_an_implant():
    anatomy = with_implant()
    anatomy = replace(anatomy, implant=replace(anatomy.implant, clear=0.0))
    for seed, share in enumerate((0.05, 0.3, 0.5)):
        lesion = Lesion(
            kind="architectural_distortion",
            malignant=True,
            depth_mm=share * anatomy.depth_mm,
            place=(0.2, 0.1),
            radius_mm=10.0,
            contrast=0.1,
            seed=seed,
        )
        shown = project(anatomy, View.CC, SIZE, SPACING)
        before = shown.pixels.copy()
        add_lesion(shown, anatomy, lesion, View.CC)
        changed = np.abs(shown.pixels - before)
        assert changed.max() > 0.05
        assert changed[~shown.inside].max() == 0
        assert changed[shown.hidden > 0.99].max() < 0.005
        assert not ((shown.pixels <= 0) & (before > 0.05)).any()


@pytest.mark.parametrize("shape", ["clip", "ring", "ribbon", "coil"])
@pytest.mark.parametrize("spacing", [0.07, 0.4, 1.0])
def test_metal_is_white_where_it_lies_and_changes_nothing_else(shape, spacing):
    clip = Clip(shape, 40.0, (0.2, 0.1), 3.0, 0.7)
    bare, size = breast(), (round(260 / spacing), round(160 / spacing))
    for view in (View.CC, View.MLO):
        without = project(bare, view, size, spacing)
        anatomy = replace(bare, clips=(clip,))
        shown = project(anatomy, view, size, spacing)
        rows, columns = np.nonzero(shown.pixels != without.pixels)
        x, y = seen_at(anatomy, view, shown.nipple_mm, clip.depth_mm, clip.place)
        assert np.hypot(columns * spacing - x, rows * spacing - y).max() < 4.0
        brightest = shown.pixels[rows, columns].max()
        assert brightest > (0.95 if spacing < 0.1 else 0.5)


def test_few_breasts_have_metal():
    rng = np.random.default_rng(0)
    found = [draw_clips(rng, 90.0) for _ in range(4000)]
    assert np.mean([bool(clips) for clips in found]) == pytest.approx(0.03, abs=0.01)
    assert {len(clips) for clips in found} == {0, 1, 3, 4, 5}
