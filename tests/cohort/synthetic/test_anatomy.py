"""The phantom: one breast in two views, more gland with more density, texture as tissue has it."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammoscope.cohort.findings import kind_of
from mammoscope.cohort.synthetic.anatomy import draw_anatomy
from mammoscope.cohort.synthetic.lesion_shapes import _lobed, add_lesion
from mammoscope.cohort.synthetic.lesions import KINDS, Lesion, draw_lesion
from mammoscope.cohort.synthetic.likeness import spectrum_slopes
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.cohort.synthetic.texture import coloured_noise, fine_texture, power_law_noise
from mammoscope.cohort.synthetic.volume import _TURN, _ray_lengths, across, make_volume
from mammoscope.types import Density, View

SIZE, SPACING = (600, 450), 0.4


def breast(seed, density=Density.B):
    return draw_anatomy(np.random.default_rng([seed, 5]), density)


def well_inside(projection):
    return cv2.erode(projection.inside.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0


def test_the_same_seed_draws_the_same_pixels():
    first, second = (project(breast(3), View.MLO, SIZE, SPACING) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    other = project(breast(4), View.MLO, SIZE, SPACING)
    assert not np.array_equal(first.pixels, other.pixels)


@pytest.mark.parametrize("seed", range(4))
def test_more_density_is_more_gland_in_both_views(seed):
    for view in (View.CC, View.MLO):
        shares = [
            make_volume(breast(seed, density).texture_seed, density).projected(view).mean()
            for density in Density
        ]
        assert shares == sorted(shares)
        assert shares[0] < 0.5 * shares[1]


@pytest.mark.parametrize("seed", range(4))
def test_both_views_project_one_volume(seed):
    anatomy = breast(seed, Density.C)
    volume = make_volume(anatomy.texture_seed, anatomy.density)
    above, aside = volume.projected(View.CC), volume.projected(View.MLO)
    # At each depth behind the nipple both see the same gland.
    assert np.corrcoef(above.sum(1), aside.sum(1))[0, 1] > 0.97
    # And not the same picture.
    assert np.corrcoef(above.ravel(), aside.ravel())[0, 1] < 0.97


def test_no_ray_is_more_than_gland():
    """Not at the skin of oblique views either, where rays are short."""
    for seed in range(12):
        volume = make_volume(seed, Density.D)
        for view in View:
            for roll in (0.0, 0.12):
                share = volume.projected(view, roll)
                assert share.max() < 1.05
                # Under the skin there is fat: no bright beads along it.
                lengths = _ray_lengths(_TURN[view] + roll)
                assert share[lengths < 6].max() < 0.35


def test_a_spot_of_gland_is_seen_where_geometry_says():
    volume = make_volume(1, Density.A)
    side = volume.gland.shape[1]
    for first, second in ((0.4, 0.0), (0.0, 0.4), (-0.3, 0.3)):
        gland = np.zeros_like(volume.gland)
        row, column = (round((place + 1) / 2 * side - 0.5) for place in (first, second))
        gland[30, row, column] = 1
        spot = replace(volume, gland=gland)
        assert abs(float(across(View.CC, first, second, 0.15) - first)) > 0.004
        for view in View:
            for roll in (0.0, 0.15):
                found = int(spot.projected(view, roll)[30].argmax())
                assert (found + 0.5) / side * 2 - 1 == pytest.approx(
                    float(across(view, first, second, roll)), abs=0.04
                )


def test_each_view_from_the_side_has_its_own_turn():
    volume = make_volume(3, Density.C)
    pictures = {view: volume.projected(view) for view in (View.CC, View.AT, View.MLO, View.ML)}
    near = np.corrcoef([picture.ravel() for picture in pictures.values()])
    # The further turned from above, the less alike.
    assert list(near[0]) == sorted(near[0], reverse=True)
    # A lateromedial picture is a mediolateral one from the other side.
    np.testing.assert_array_equal(volume.projected(View.LM), pictures[View.ML])


def test_vessels_branch_and_stay_in_the_breast():
    counts = []
    for seed in range(40):
        vessels = make_volume(seed, Density.A).vessels
        counts.append(len(vessels))
        # A vessel begins at the chest wall, or on another.
        for number, vessel in enumerate(vessels):
            others = [other.points for at, other in enumerate(vessels) if at != number]
            away = [np.linalg.norm(points - vessel.points[0], axis=1).min() for points in others]
            assert vessel.points[0, 0] == 0 or min(away) < 1e-6
        for vessel in vessels:
            assert np.hypot(vessel.points[:, 1], vessel.points[:, 2]).max() < 1.1
    assert max(counts) > 8


def test_a_lesion_lies_at_one_depth_and_where_its_place_is_seen():
    anatomy = breast(2)
    lesion = draw_lesion(np.random.default_rng(0), anatomy, malignant=True)
    for view in (View.CC, View.MLO):
        projection = project(anatomy, view, SIZE, SPACING)
        truth = add_lesion(projection, anatomy, lesion, view)
        behind = projection.nipple_mm[0] - (truth.box.x_min + truth.box.x_max) / 2 * SPACING
        assert behind == pytest.approx(lesion.depth_mm, abs=2 * SPACING)
        above = (truth.box.y_min + truth.box.y_max) / 2 * SPACING - projection.nipple_mm[1]
        assert np.sign(above) == np.sign(across(view, *lesion.place))


def test_the_slope_of_known_noise_is_found():
    noise = power_law_noise((512, 512), 3.0, np.random.default_rng(0))
    slopes = spectrum_slopes(np.exp(0.1 * noise - 1), np.ones((512, 512), bool))
    assert np.median(slopes) == pytest.approx(3.0, abs=0.15)


def test_tissue_has_the_power_law_of_mammograms():
    """Films of CBIS-DDSM have a median of 2.7, and 2.1 to 3.3 from 5 to 95 %."""
    slopes = []
    for seed in range(4):
        for density in Density:
            projection = project(breast(seed, density), View.CC, (867, 650), 0.3)
            slopes.extend(spectrum_slopes(projection.pixels, well_inside(projection)))
    assert np.median(slopes) == pytest.approx(2.7, abs=0.3)
    assert 0.5 < np.subtract(*np.percentile(slopes, (95, 5))) < 1.6


@pytest.mark.parametrize("shape", [(64, 96), (64, 97), (12, 40, 40)])
def test_noise_of_amplitude_1_is_white(shape):
    half = (*shape[:-1], shape[-1] // 2 + 1)
    noise = coloured_noise(shape, np.ones(half, np.float32), np.random.default_rng(0))
    assert noise.shape == shape
    assert noise.std() == pytest.approx(1, abs=0.03)
    power = np.abs(np.fft.fftn(noise)) ** 2 / noise.size
    # Frequencies that are their own mirror image have no more and no less of it.
    for part in (power[..., 0], power[..., 1:-1], power[..., shape[-1] // 2]):
        assert part.mean() == pytest.approx(1, abs=0.35)


def test_texture_does_not_depend_on_the_size_of_pixels():
    """What pixels of 0.4 mm show of it is what finer ones show, averaged."""
    fine = fine_texture((2048, 2048), 0.1, np.random.default_rng(0))
    averaged = fine.reshape(512, 4, 512, 4).mean((1, 3))
    coarse = fine_texture((512, 512), 0.4, np.random.default_rng(0))
    assert coarse.std() == pytest.approx(averaged.std(), rel=0.15)


def lesion_of(kind, anatomy, contrast):
    return Lesion(
        kind=kind,
        malignant=True,
        depth_mm=0.45 * anatomy.depth_mm,
        place=(0.1, 0.05),
        radius_mm=7.0,
        contrast=contrast,
        seed=3,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("view", [View.CC, View.MLO])
def test_every_kind_of_lesion_is_drawn_where_its_truth_says(kind, view):
    anatomy = breast(5)
    lesion = lesion_of(kind, anatomy, contrast=0.3)
    projection = project(anatomy, view, (900, 675), 0.27)
    before, pixels = projection.pixels.copy(), projection.pixels
    truth = add_lesion(projection, anatomy, lesion, view)
    changed = np.abs(pixels - before)
    assert truth.mask.any()
    assert truth.conspicuity > 0
    rows, columns = np.nonzero(truth.mask)
    box = truth.box
    assert (box.x_min, box.y_min) == (columns.min(), rows.min())
    assert (box.x_max, box.y_max) == (columns.max() + 1, rows.max() + 1)
    inside, outside = changed[truth.mask > 0].mean(), changed[truth.mask == 0].mean()
    assert inside > 20 * outside
    assert pixels.min() >= 0
    mirrored = truth.mirrored()
    np.testing.assert_array_equal(mirrored.mask[:, ::-1], truth.mask)
    assert mirrored.box.x_min == 675 - box.x_max


@pytest.mark.parametrize("kind", [k for k in KINDS if k.endswith("calcifications")])
def test_both_views_show_as_many_grains(kind):
    counts = []
    for view in (View.CC, View.MLO):
        projection = project(breast(5), view, (2600, 1500), 0.1)
        before = projection.pixels.copy()
        add_lesion(projection, breast(5), lesion_of(kind, breast(5), contrast=0.5), view)
        grains = (projection.pixels - before > 0.2).astype(np.uint8)
        counts.append(cv2.connectedComponents(grains)[0])
    assert counts[0] > 1
    assert counts[0] == pytest.approx(counts[1], rel=0.25)


def test_a_lobed_mass_is_a_body_and_no_flower():
    """Nowhere does its margin run to the centre, which would leave petals that meet in a point."""
    y, x = np.mgrid[-30:31, -30:31].astype(np.float32)
    for seed in range(600):
        distance = _lobed(x, y, 12.0, np.random.default_rng(seed), 0.13)
        assert np.hypot(x, y)[distance >= 1].min() > 0.65 * 12.0


def test_a_hidden_lesion_changes_nothing():
    anatomy = breast(5)
    projection = project(anatomy, View.CC, SIZE, SPACING)
    for kind in KINDS:
        lesion = lesion_of(kind, anatomy, contrast=0.0)
        before = projection.pixels.copy()
        add_lesion(projection, anatomy, lesion, View.CC)
        np.testing.assert_array_equal(before, projection.pixels)


def drawn_kinds(difficulty):
    rng = np.random.default_rng(0)
    return [
        Counter(
            draw_lesion(rng, breast(0), malignant=malignant, difficulty=difficulty).kind
            for _ in range(1500)
        )
        for malignant in (True, False)
    ]


def test_morphology_tells_outcomes_apart_but_for_an_overlap():
    sick, well = drawn_kinds(1.0)
    assert sick["irregular_spiculated_mass"] > 8 * well["irregular_spiculated_mass"] > 0
    assert well["oval_circumscribed_mass"] > 6 * sick["oval_circumscribed_mass"] > 0
    sick, well = drawn_kinds(0.0)
    assert not set(sick) & set(well)
    assert sick["irregular_spiculated_mass"] > 1200


def test_masses_are_as_large_and_as_bright_as_published():
    """Half of screen-detected invasive cancers are below 15 mm, and attenuate little more."""
    rng = np.random.default_rng(0)
    drawn = [draw_lesion(rng, breast(0), malignant=True, difficulty=1.0) for _ in range(3000)]
    masses = [lesion for lesion in drawn if lesion.kind.startswith("irregular")]
    diameters = 2 * np.array([lesion.radius_mm for lesion in masses])
    assert np.mean(diameters < 15) == pytest.approx(0.54, abs=0.05)
    assert np.mean(diameters < 10) == pytest.approx(0.19, abs=0.05)
    by_cm = [3.0 * mass.contrast / (0.2 * mass.radius_mm) for mass in masses]
    assert 0.10 < min(by_cm) < max(by_cm) < 0.39
    easier = [draw_lesion(rng, breast(0), malignant=True, difficulty=0.0) for _ in range(500)]
    brighter = [3.0 * mass.contrast / (0.2 * mass.radius_mm) for mass in easier]
    assert max(brighter) > 3 * max(by_cm)
    # Raised, a large mass does not become a white hole; what is published may be as bright.
    published = max(lesion.contrast for lesion in drawn)
    assert max(lesion.contrast for lesion in easier) <= max(0.4, published) < 0.6


def test_every_kind_is_one_that_findings_know():
    kinds = {kind_of(kind) for kind in KINDS}
    assert kinds == {"mass", "calcification", "architectural_distortion", "asymmetry"}
