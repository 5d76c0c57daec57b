from __future__ import annotations

import pytest
import torch

from mammoscope.config import AugmentConfig
from mammoscope.training.augment import AugmentParameters, apply, draw

MAX = 255.0
OFF = AugmentConfig(flip_vertical=False, rotate_degrees=0, scale=0, shift=0, gamma=0, noise=0)


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
