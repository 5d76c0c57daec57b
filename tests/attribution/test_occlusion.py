"""Hiding what a model looks at changes its score; hiding what it does not look at changes none."""

from __future__ import annotations

import numpy as np
import pytest

from mammoscope.attribution.occlusion import occlude, patch_at


def image(spot=(44, 20)):
    pixels = np.zeros((96, 48), np.uint8)
    pixels[8:88, :40] = 60
    pixels[spot[0] - 3 : spot[0] + 3, spot[1] - 3 : spot[1] + 3] = 250
    return pixels


def heat(place=(40, 20)):
    made = np.zeros((12, 6), np.float32)
    made[place[0] // 8, place[1] // 8] = 1
    return made


def brightest(batch):
    """A model that sees the brightest pixel alone."""
    return np.array([float(pixels.max()) for pixels in batch])


def test_hiding_the_spot_that_is_seen_lowers_the_score_and_hiding_others_does_not():
    found = occlude(image(), heat(), brightest, side_px=12, others=8, seed=0)
    assert found.hottest > 150
    assert found.others.shape == (8,)
    assert found.others.max() <= 0


def test_a_heatmap_that_points_elsewhere_is_found_out():
    found = occlude(image(), heat((80, 10)), brightest, side_px=12, others=60, seed=0)
    assert found.hottest <= 0
    assert found.others.max() > 150


def test_what_is_hidden_looks_like_its_surroundings():
    seen = []

    def watch(batch):
        seen.extend(batch)
        return brightest(batch)

    occlude(image(), heat(), watch, side_px=12, others=1, seed=0)
    filled = seen[1][patch_at((96, 48), (44, 20), 12)]
    assert filled.min() > 40
    assert filled.max() < 80


def test_other_patches_lie_in_the_breast_and_never_touch_the_hottest():
    pixels, seen = image(), []

    def watch(batch):
        seen.extend(batch)
        return brightest(batch)

    pixels = pixels + np.random.default_rng(0).integers(0, 5, pixels.shape).astype(np.uint8) * (
        pixels > 0
    )
    occlude(pixels, heat(), watch, side_px=12, others=20, seed=0)
    hottest = seen[1] != pixels
    for other in seen[2:]:
        changed = other != pixels
        assert changed.any()
        assert not (changed & hottest).any()


def test_the_same_seed_hides_the_same_patches():
    first, again, other = (
        occlude(image(), heat(), brightest, side_px=12, others=5, seed=seed) for seed in (1, 1, 2)
    )
    assert first.others.tolist() == again.others.tolist()
    assert other is not None


def test_a_breast_without_room_for_another_patch_says_so():
    assert occlude(image(), heat(), brightest, side_px=90, others=3, seed=0) is None
    black = np.zeros((96, 48), np.uint8)
    assert occlude(black, heat(), brightest, side_px=12, others=3, seed=0) is None


@pytest.mark.parametrize("centre", [(0, 0), (95, 47), (40, 47)])
def test_a_patch_at_the_border_keeps_its_size(centre):
    rows, columns = patch_at((96, 48), centre, 12)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (12, 12)
    assert 0 <= rows.start < rows.stop <= 96
    assert 0 <= columns.start < columns.stop <= 48
