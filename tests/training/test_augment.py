from __future__ import annotations

import pytest
import torch

from mammoscope.config import AugmentConfig
from mammoscope.training.augment import AugmentParameters, apply, draw

MAX = 255.0
OFF = AugmentConfig(flip_vertical=False, rotate_degrees=0, scale=0, shift=0, gamma=0, noise=0)


STRONG = AugmentConfig(
    flip_horizontal=True, resized_crop=0.4, elastic=0.02, grid_distortion=0.3, crop=0.3,
    brightness=0.3, contrast=0.3, tone_curve=0.1, auto_contrast=True, blur_px=1.5, downscale=0.6,
    jpeg_quality=30, noise=0.05, holes=4,
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 40, 24, generator=generator(1)) * MAX


def centre_of(image: torch.Tensor) -> tuple[float, float]:
    """(row, column) of the centre of brightness."""
    mass = image[0] / image.sum()
    rows, columns = torch.arange(mass.shape[0]) + 0.5, torch.arange(mass.shape[1]) + 0.5
    return float((mass.sum(1) * rows).sum()), float((mass.sum(0) * columns).sum())


def dot(row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 41, 21)
    image[0, row - 1 : row + 2, column - 1 : column + 2] = MAX
    return image


def test_parameters_that_change_nothing_give_the_same_pixels(image):
    assert torch.equal(apply(image, AugmentParameters(), MAX), image)


def test_a_configuration_switched_off_draws_parameters_that_change_nothing(image):
    for seed in range(5):
        assert torch.equal(apply(image, draw(OFF, generator(seed)), MAX), image)


def test_one_seed_draws_one_set_of_parameters():
    config = AugmentConfig(noise=0.1)
    assert draw(config, generator(4)) == draw(config, generator(4))
    assert draw(config, generator(4)) != draw(config, generator(5))


def test_switching_one_change_off_does_not_redraw_the_others():
    with_flip = draw(AugmentConfig(), generator(2))
    without = draw(AugmentConfig(flip_vertical=False, gamma=0), generator(2))
    assert with_flip.rotate_degrees == without.rotate_degrees
    assert with_flip.shift_x == without.shift_x


def test_draws_stay_within_the_configuration():
    config = AugmentConfig(rotate_degrees=5, scale=0.2, shift=0.1, gamma=0.3)
    drawn = [draw(config, generator(seed)) for seed in range(200)]
    for name, low, high in [
        ("rotate_degrees", -5, 5),
        ("zoom", 0.8, 1.2),
        ("shift_y", -0.1, 0.1),
        ("shift_x", -0.1, 0.1),
        ("gamma", 0.7, 1.3),
    ]:
        values = [getattr(parameters, name) for parameters in drawn]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high
    assert 60 < sum(parameters.flip_vertical for parameters in drawn) < 140


def test_the_chest_wall_never_changes_sides():
    wall = torch.zeros(1, 40, 24)
    wall[..., :6] = MAX
    config = AugmentConfig(rotate_degrees=20, scale=0.2, shift=0.1)
    for seed in range(50):
        changed = apply(wall, draw(config, generator(seed)), MAX)
        assert changed[..., :12].sum() > 10 * changed[..., 12:].sum()


def test_a_vertical_flip_turns_top_to_bottom(image):
    flipped = apply(image, AugmentParameters(flip_vertical=True), MAX)
    assert torch.equal(flipped, image.flip(1))


def test_a_shift_moves_down_and_to_the_right():
    moved = apply(dot(20, 10), AugmentParameters(shift_y=4 / 41, shift_x=2 / 21), MAX)
    assert centre_of(moved) == pytest.approx((24.5, 12.5), abs=0.01)


def test_a_rotation_keeps_distances_whatever_the_aspect_ratio():
    turned = apply(dot(20, 16), AugmentParameters(rotate_degrees=90), MAX)
    row, column = centre_of(turned)
    assert column == pytest.approx(10.5, abs=0.01)
    assert abs(row - 20.5) == pytest.approx(6, abs=0.01)


def test_a_zoom_enlarges_about_the_centre():
    enlarged = apply(dot(24, 10), AugmentParameters(zoom=2.0), MAX)
    assert centre_of(enlarged) == pytest.approx((28.5, 10.5), abs=0.05)
    assert float(enlarged.sum()) == pytest.approx(4 * 9 * MAX, rel=0.05)


def test_what_comes_into_view_is_black():
    moved = apply(torch.full((1, 40, 24), MAX), AugmentParameters(shift_x=0.5), MAX)
    assert torch.count_nonzero(moved[..., :11]) == 0


def test_gamma_keeps_black_and_white(image):
    image[0, 0, :2] = torch.tensor([0.0, MAX])
    changed = apply(image, AugmentParameters(gamma=1.5), MAX)
    assert changed[0, 0, 0] == 0
    assert changed[0, 0, 1] == MAX
    assert changed[0, 3, 3] < image[0, 3, 3]


def test_noise_is_repeatable_stays_in_range_and_leaves_the_background(image):
    image[..., 12:] = 0
    parameters = AugmentParameters(noise=0.2, noise_seed=9)
    noisy = apply(image, parameters, MAX)
    assert torch.equal(noisy, apply(image, parameters, MAX))
    assert not torch.equal(noisy, image)
    assert noisy.min() >= 0
    assert noisy.max() <= MAX
    assert torch.count_nonzero(noisy[..., 12:]) == 0


@pytest.fixture
def breast() -> torch.Tensor:
    """(1, 64, 32): a half disc of smooth tissue on the left, exact black around it."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(32.0), indexing="ij")
    tissue = 90 + 40 * torch.sin(y / 3) + 20 * torch.cos(x / 2)
    return torch.where((y - 32) ** 2 + x**2 < 26**2, tissue, 0.0)[None]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_drawn_stays_in_range_and_leaves_the_original_alone(breast, seed):
    before = breast.clone()
    parameters = draw(STRONG, generator(seed))
    changed = apply(breast, parameters, MAX)
    assert torch.equal(breast, before)
    assert changed.shape == breast.shape
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert changed.min() >= 0
    assert changed.max() <= MAX
    assert torch.equal(changed, apply(breast, parameters, MAX))


@pytest.mark.parametrize("seed", range(8))
def test_eight_and_sixteen_bits_of_one_image_are_changed_alike(breast, seed):
    parameters = draw(STRONG, generator(seed))
    ours, theirs = apply(breast, parameters, MAX), apply(breast * 257, parameters, 65535.0)
    # Auto-contrast counts in bins, and JPEG holds 8 bits of either.
    assert torch.allclose(ours, theirs / 257, atol=0.01 * MAX)


def test_the_black_around_tissue_stays_exact_whatever_happens_to_grey_values(breast):
    config = OFF.model_copy(
        update={
            "brightness": 0.3, "contrast": 0.3, "tone_curve": 0.1, "auto_contrast": True,
            "blur_px": 2.0, "downscale": 0.6, "jpeg_quality": 5, "noise": 0.1,
        }
    )  # fmt: skip
    for seed in range(8):
        changed = apply(breast, draw(config, generator(seed)), MAX)
        assert torch.count_nonzero(changed[breast == 0]) == 0
        assert not torch.equal(changed, breast)


# How often and how large; and what is left out of a unit of several images, not changed in one.
NO_CHANGES = {"probability", "one_geometry", "hole_size", "drop_view", "drop_fact"}


@pytest.mark.parametrize("name", sorted(AugmentConfig.model_fields.keys() - NO_CHANGES))
def test_each_change_is_drawn_when_it_is_asked_for_and_only_then(name):
    value = getattr(STRONG, name) or True
    asked = OFF.model_copy(update={name: value})
    drawn = [draw(asked, generator(seed)) for seed in range(20)]
    still = [draw(OFF, generator(seed)) for seed in range(20)]
    fields = {
        key
        for ours, theirs in zip(drawn, still, strict=True)
        for key in AugmentParameters.__slots__
        if getattr(ours, key) != getattr(theirs, key)
    }
    own = {
        "scale": {"zoom"},
        "shift": {"shift_y", "shift_x"},
        "resized_crop": {"window"},
        "grid_distortion": {"bands_y", "bands_x"},
        "crop": {"kept"},
        "tone_curve": {"tone"},
    }
    assert fields == own.get(name, {name})


def test_each_change_is_made_to_as_many_images_as_asked():
    config = STRONG.model_copy(update={"probability": 0.3})
    drawn = [draw(config, generator(seed)) for seed in range(400)]
    assert 80 < sum(p.auto_contrast for p in drawn) < 160
    assert 80 < sum(p.elastic > 0 for p in drawn) < 160
    assert 80 < sum(p.rotate_degrees != 0 for p in drawn) < 160
    both = sum(p.auto_contrast and p.elastic > 0 for p in drawn)
    assert 15 < both < 65  # One says nothing about another.
    assert 160 < sum(p.flip_vertical for p in drawn) < 240


def bent(parameters):
    """Which changes of geometry were drawn."""
    turned = parameters.rotate_degrees, parameters.shift_y, parameters.shift_x
    return {
        "affine": any(turned) or parameters.zoom != 1,
        "elastic": parameters.elastic > 0,
        "grid": bool(parameters.bands_y),
    }


def test_one_geometry_makes_one_of_three_changes_as_often_as_asked():
    config = STRONG.model_copy(update={"probability": 0.4, "one_geometry": True})
    drawn = [bent(draw(config, generator(seed))) for seed in range(1200)]
    assert max(sum(kinds.values()) for kinds in drawn) == 1
    # 480 of 1,200, a third each; four standard deviations on either side.
    assert 412 < sum(any(kinds.values()) for kinds in drawn) < 548
    for name in ("affine", "elastic", "grid"):
        assert 112 < sum(kinds[name] for kinds in drawn) < 208


def test_one_geometry_chooses_among_the_changes_that_are_on():
    always = AugmentConfig(grid_distortion=0.3, one_geometry=True)
    drawn = [bent(draw(always, generator(seed))) for seed in range(100)]
    assert all(kinds["affine"] != kinds["grid"] and not kinds["elastic"] for kinds in drawn)
    assert 30 < sum(kinds["grid"] for kinds in drawn) < 70
    off = OFF.model_copy(update={"one_geometry": True})
    assert draw(off, generator(1)) == draw(OFF, generator(1))


def test_one_geometry_leaves_all_other_draws_as_they_are():
    config = STRONG.model_copy(update={"probability": 0.4})
    one = config.model_copy(update={"one_geometry": True})
    geometry = {"rotate_degrees", "zoom", "shift_y", "shift_x", "elastic", "bands_y", "bands_x"}
    for seed in range(50):
        ours, theirs = (draw(c, generator(seed)) for c in (one, config))
        for key in AugmentParameters.__slots__:
            assert key in geometry or getattr(ours, key) == getattr(theirs, key)


def test_draws_without_one_geometry_are_those_of_before_it():
    parameters = draw(STRONG.model_copy(update={"probability": 0.4}), generator(6))
    again = generator(6)
    u = 2 * torch.rand(6, generator=again, dtype=torch.float64) - 1
    torch.randint(2**31, (1,), generator=again)
    chance = torch.rand(18, generator=again, dtype=torch.float64)
    made = (chance < 0.4).tolist()
    assert parameters.rotate_degrees == (10 * u[1].item() if made[0] else 0)
    assert parameters.zoom == (1 + 0.1 * u[2].item() if made[1] else 1)
    assert parameters.shift_y == (0.05 * u[3].item() if made[2] else 0)
    assert bool(parameters.bands_y) == made[7]
    assert bool(parameters.elastic) == made[8]


def test_older_draws_are_those_of_earlier_versions():
    parameters = draw(AugmentConfig(noise=0.1), generator(3))
    u = 2 * torch.rand(6, generator=(again := generator(3)), dtype=torch.float64) - 1
    assert parameters.rotate_degrees == 10 * u[1].item()
    assert parameters.gamma == 1 + 0.2 * u[5].item()
    assert parameters.noise_seed == int(torch.randint(2**31, (1,), generator=again))


def test_a_horizontal_flip_mirrors(image):
    assert torch.equal(apply(image, AugmentParameters(flip_horizontal=True), MAX), image.flip(2))


def test_a_window_is_enlarged_to_the_whole():
    whole = dot(10, 5) + dot(30, 15)
    enlarged = apply(whole, AugmentParameters(window=(0.5, 0.5, 1.0, 1.0)), MAX)
    # Only the lower right dot is left: its centre (30.5, 15.5) lies at twice its distance from
    # the window's corner (20.5, 10.5).
    assert centre_of(enlarged) == pytest.approx((20.0, 10.0), abs=0.05)
    assert float(enlarged.sum()) == pytest.approx(4 * 9 * MAX, rel=0.02)


def test_a_window_after_a_shift_is_of_the_shifted_image():
    window, shift = (0.25, 0.25, 0.75, 0.75), {"shift_y": 4 / 41, "shift_x": 2 / 21}
    at_once = apply(dot(18, 9), AugmentParameters(window=window, **shift), MAX)
    shifted = apply(dot(18, 9), AugmentParameters(**shift), MAX)
    in_turn = apply(shifted, AugmentParameters(window=window), MAX)
    assert centre_of(at_once) == pytest.approx(centre_of(in_turn), abs=0.05)


def test_a_drawn_window_has_the_asked_area_and_lies_within():
    config = OFF.model_copy(update={"resized_crop": 0.6})
    areas = []
    for seed in range(200):
        top, left, bottom, right = draw(config, generator(seed)).window
        assert 0 <= top < bottom <= 1 + 1e-9
        assert 0 <= left < right <= 1 + 1e-9
        areas.append((bottom - top) * (right - left))
    assert 0.35 < min(areas) < 0.5
    assert 0.9 < max(areas) <= 1


def test_a_crop_blanks_a_border_and_moves_nothing(image):
    image += 1
    cropped = apply(image, AugmentParameters(kept=(0.25, 0.0, 1.0, 0.5)), MAX)
    assert torch.equal(cropped[:, 10:, :12], image[:, 10:, :12])
    assert torch.count_nonzero(cropped) == 30 * 12


def test_bands_stretch_and_press_and_keep_the_ends():
    ramp = torch.arange(41.0)[None, :, None].expand(1, 41, 21) * 5
    bent = apply(ramp, AugmentParameters(bands_y=(0.4, 0.2, 0.2, 0.1, 0.1)), MAX)
    column = bent[0, :, 10]
    assert torch.all(column.diff() >= 0)
    assert column[0] < 10
    assert column[-1] > 190
    # A fifth of the output's rows shows what were two fifths of the input's.
    assert column[8].item() == pytest.approx(0.4 * 41 * 5, abs=12)


def test_elastic_displacements_are_smooth_and_of_the_asked_spread():
    wide = torch.arange(128.0)[None, None, :].expand(1, 256, 128).clone()
    moved = []
    for seed in range(12):
        bent = apply(wide, AugmentParameters(elastic=0.02, detail_seed=seed), MAX)
        inner = (bent - wide)[0, 32:-32, 32:-32]
        assert inner.diff(dim=0).abs().max() < 1
        moved.append(inner)
    spread = torch.stack(moved).std().item()
    assert 0.4 * 0.02 * 128 < spread < 1.3 * 0.02 * 128


def test_brightness_multiplies_and_contrast_spreads_about_the_mean_of_tissue(breast):
    brighter = apply(breast, AugmentParameters(brightness=1.2), MAX)
    assert torch.allclose(brighter, breast * 1.2)
    tissue = breast > 0
    flatter = apply(breast, AugmentParameters(contrast=0.5), MAX)
    assert flatter[tissue].mean().item() == pytest.approx(breast[tissue].mean().item(), rel=1e-4)
    assert flatter[tissue].std().item() == pytest.approx(0.5 * breast[tissue].std().item())


def test_a_tone_curve_bends_between_black_and_white(image):
    image[0, 0, :2] = torch.tensor([0.0, MAX])
    lifted = apply(image, AugmentParameters(tone=(0.6, 0.8)), MAX)
    assert lifted[0, 0, :2].tolist() == [0.0, MAX]
    inner = (image > 5) & (image < 250)
    assert torch.all(lifted[inner] > image[inner])
    order = image.flatten().argsort()
    assert torch.all(lifted.flatten()[order].diff() >= -1e-3)


def test_auto_contrast_stretches_tissue_to_the_whole_range(breast):
    stretched = apply(breast, AugmentParameters(auto_contrast=True), MAX)
    assert stretched.max() == MAX
    assert stretched[breast > 0].min() < 0.03 * MAX
    order = breast.flatten().argsort()
    assert torch.all(stretched.flatten()[order].diff() >= 0)
    assert torch.equal(apply(breast * 0, AugmentParameters(auto_contrast=True), MAX), breast * 0)


def test_a_blur_has_the_asked_width():
    flat = torch.full((1, 61, 61), 1.0)
    flat[0, 30, 30] = MAX
    blurred = (apply(flat, AugmentParameters(blur_px=2.0), MAX) - 1)[0].double()
    across = torch.arange(61) - 30
    variance = float((blurred.sum(0) * across**2).sum() / blurred.sum())
    assert variance == pytest.approx(4.0, rel=0.03)


def test_downscaling_loses_what_is_fine_and_keeps_what_is_coarse():
    y = torch.arange(64.0)
    for period, kept in ((2, 0.2), (32, 0.9)):
        wave = (120 + 100 * torch.cos(2 * torch.pi * y / period))[None, :, None].expand(1, 64, 32)
        lost = apply(wave.clone(), AugmentParameters(downscale=0.25), MAX)
        share = (lost.std() / wave.std()).item()
        assert share < kept if period == 2 else share > kept


def test_compression_takes_more_the_lower_the_quality(breast):
    differences = [
        (apply(breast, AugmentParameters(jpeg_quality=quality), MAX) - breast).abs().mean().item()
        for quality in (5, 40, 95)
    ]
    assert differences[0] > 2 * differences[1] > 2 * differences[2] > 0


def test_holes_are_blanked_and_as_many_and_as_large_as_asked(image):
    holed = apply(image + 1, AugmentParameters(holes=((0.5, 0.25, 0.75, 0.5),)), MAX)
    assert torch.count_nonzero(holed == 0) == 10 * 6
    assert torch.count_nonzero(holed[0, 20:30, 6:12]) == 0
    config = OFF.model_copy(update={"holes": 5, "hole_size": 0.2})
    drawn = [draw(config, generator(seed)).holes for seed in range(100)]
    assert {len(holes) for holes in drawn} == {1, 2, 3, 4, 5}
    sides = [bottom - top for holes in drawn for top, _, bottom, _ in holes]
    assert 0.1 <= min(sides) < 0.12
    assert 0.18 < max(sides) <= 0.2
    assert all(top >= 0 and bottom <= 1 for holes in drawn for top, _, bottom, _ in holes)
