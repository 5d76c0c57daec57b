"""The mask follows the image's symmetries, and hardly notices how it was exposed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fixtures.films import drawn_breast, with_frame, with_marker, with_muscle
from mammoscope.errors import IneligibleImageError
from mammoscope.preprocessing import find_breast
from mammoscope.types import Laterality

seeds = st.integers(0, 40)
hazards = st.sampled_from(["none", "muscle", "frame", "marker"])


def film(seed, hazard):
    image, _ = drawn_breast(seed)
    if hazard == "muscle":
        return with_muscle(image)[0]
    if hazard == "frame":
        return with_frame(image, depth=8)
    return with_marker(image, "L CC", 290, 60) if hazard == "marker" else image


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def far(one, other):
    return np.abs(np.subtract(one, other)).max()


@settings(max_examples=20, deadline=None)
@given(seed=seeds, hazard=hazards)
def test_a_mirrored_image_gives_the_mirrored_mask_and_the_other_wall(seed, hazard):
    image = film(seed, hazard)
    region, mirrored = find_breast(image), find_breast(np.ascontiguousarray(image[:, ::-1]))
    assert overlap(region.mask, mirrored.mask[:, ::-1]) > 0.99
    assert (region.chest_wall, mirrored.chest_wall) == (Laterality.L, Laterality.R)
    swap = {"left": "right", "right": "left"}
    assert {swap.get(side, side) for side in mirrored.borders} == set(region.borders)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, hazard=hazards)
def test_an_image_upside_down_gives_the_mask_upside_down(seed, hazard):
    image = film(seed, hazard)
    region, turned = find_breast(image), find_breast(np.ascontiguousarray(image[::-1]))
    assert overlap(region.mask, turned.mask[::-1]) > 0.99
    assert turned.chest_wall is region.chest_wall


@settings(max_examples=30, deadline=None)
@given(
    seed=seeds,
    hazard=hazards,
    gamma=st.floats(0.7, 1.4),
    gain=st.floats(0.6, 1.0),
    noise=st.floats(0, 0.02),
)
def test_exposure_and_noise_hardly_move_the_box(seed, hazard, gamma, gain, noise):
    image = film(seed, hazard)
    rng = np.random.default_rng(seed)
    changed = gain * image**gamma + noise * rng.standard_normal(image.shape)
    if hazard == "frame":
        # The border of a film is white whatever the exposure.
        changed = np.where(image == 1, 1, changed)
    region = find_breast(image)
    other = find_breast(np.clip(changed, 0, 1).astype(np.float32))
    assert far(region.box, other.box) <= 12
    assert overlap(region.mask, other.mask) > 0.95
    assert not other.inverted


@settings(max_examples=10, deadline=None)
@given(seed=seeds, scale=st.floats(0.5, 3.0))
def test_the_resolution_hardly_moves_the_box(seed, scale):
    small = find_breast(drawn_breast(seed)[0]).box
    height, width = round(512 * scale), round(400 * scale)
    large = find_breast(drawn_breast(seed, height=height, width=width)[0]).box
    assert far(np.multiply(small, scale), large) <= 6 * scale + 2


@settings(max_examples=40, deadline=None)
@given(
    image=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 70), st.integers(1, 70)),
        elements=st.floats(0, 1, width=32),
        fill=st.sampled_from([0.0, 0.5, 1.0]).map(np.float32),
    )
)
def test_any_image_is_a_region_or_a_refusal(image):
    try:
        region = find_breast(image)
    except IneligibleImageError:
        return
    x_min, y_min, x_max, y_max = region.box
    assert 0 <= x_min < x_max <= image.shape[1]
    assert 0 <= y_min < y_max <= image.shape[0]
    assert 0 <= region.quality <= 1
    assert 0 <= region.kept_fraction <= 1
