"""What lies on films beside the breast does not get into the mask, and the breast stays in it."""

import cv2
import numpy as np
import pytest

from fixtures.films import (
    HEIGHT,
    WIDTH,
    drawn_breast,
    with_fold,
    with_frame,
    with_implant,
    with_marker,
    with_muscle,
    with_plate,
    with_tape,
    with_tilted_frame,
    without_air,
)
from mammoscope.config import PreprocessConfig
from mammoscope.errors import IneligibleImageError, Reason
from mammoscope.preprocessing import Preprocessor, find_breast
from mammoscope.types import Box, Laterality


@pytest.fixture(scope="module")
def film():
    return drawn_breast()


def kept(region, tissue):
    """Share of the tissue that the mask keeps."""
    return (region.mask & tissue).sum() / tissue.sum()


def foreign(region, tissue):
    """What the mask holds beyond the tissue and a thin line around it, as a share of the tissue."""
    near = cv2.dilate(tissue, np.ones((13, 13), np.uint8))
    return (region.mask & (1 - near)).sum() / tissue.sum()


def test_the_breast_alone_is_kept_whole(film):
    region = find_breast(film[0])
    assert kept(region, film[1]) > 0.995
    assert foreign(region, film[1]) == 0
    assert region.chest_wall is Laterality.L
    assert region.borders == ("left",)
    assert region.kept_fraction > 0.98
    assert region.quality > 0.95
    assert not region.inverted


@pytest.mark.parametrize(
    ("sides", "depth"),
    [
        *[(sides, depth) for sides in ("l", "t", "r", "b", "ltrb") for depth in (4, 14)],
        *[(sides, 40) for sides in ("t", "r", "b", "rb")],
    ],
)
def test_a_white_border_on_any_side_goes(film, sides, depth):
    image, tissue = film
    region = find_breast(with_frame(image, depth=depth, sides=sides))
    shown = tissue.copy()
    if "l" in sides:
        shown[:, : depth + 5] = 0
        assert not region.mask[:, :depth].any()
    assert kept(region, shown) > 0.99
    assert foreign(region, tissue) == 0
    assert region.borders == ("left",)
    assert region.chest_wall is Laterality.L


@pytest.mark.parametrize("degrees", [-3, -1.5, 1.5, 3])
def test_a_tilted_border_goes(film, degrees):
    image, tissue = film
    tilted = with_tilted_frame(image, degrees)
    region = find_breast(tilted)
    white = (tilted == 1).astype(np.uint8)
    assert (region.mask & white).sum() / tissue.sum() < 0.002
    shown = tissue & (1 - cv2.dilate(white, np.ones((11, 11), np.uint8)))
    assert kept(region, shown) > 0.99
    assert region.chest_wall is Laterality.L


@pytest.mark.parametrize(
    ("x", "y", "width", "height"), [(190, 230, 90, 60), (120, 62, 40, 80), (60, 390, 90, 45)]
)
def test_tape_that_touches_the_breast_goes(film, x, y, width, height):
    image, tissue = film
    region = find_breast(with_tape(image, x, y, width, height))
    tape = np.zeros_like(tissue)
    tape[y : y + height, x : x + width] = 1
    assert (region.mask & tape).sum() / tape.sum() < 0.02
    around = cv2.dilate(tape, np.ones((21, 21), np.uint8))
    assert kept(region, tissue & (1 - around)) > 0.99
    assert region.kept_fraction < 0.95


def test_tape_is_blanked_in_the_network_input_though_the_mask_is_grown(film):
    x, y, width, height = 190, 230, 90, 60
    taped = with_tape(film[0], x, y, width, height)
    prepared = Preprocessor(PreprocessConfig(height=512, width=256))(taped)
    there = prepared.geometry.to_network(Box(x, y, x + width, y + height))
    rows = slice(round(there.y_min), round(there.y_max))
    columns = slice(round(there.x_min), round(there.x_max))
    assert prepared.pixels[rows, columns].max() == 0


def test_a_view_marker_that_touches_the_breast_goes(film):
    image, tissue = film
    region = find_breast(with_marker(image, "L MLO", 198, 240))
    assert foreign(region, tissue) == 0
    assert kept(region, tissue) > 0.97


@pytest.mark.parametrize("muscle", [False, True])
def test_a_number_plate_on_a_fogged_strip_goes(film, muscle):
    image, tissue = film
    if muscle:
        image, place = with_muscle(image)
        tissue = tissue | place
    region = find_breast(with_plate(image))
    assert foreign(region, tissue) < 0.005
    assert region.box[2] < 240
    assert kept(region, tissue) > 0.98


def test_a_fold_does_not_cut_the_breast_in_two(film):
    assert kept(find_breast(with_fold(film[0])), film[1]) > 0.97


@pytest.mark.parametrize("level", [0.7, 1.0])
def test_an_implant_is_part_of_the_breast(film, level):
    region = find_breast(with_implant(film[0], level))
    assert kept(region, film[1]) > 0.99
    assert not region.inverted


@pytest.mark.parametrize("level", [0.6, 0.85, 1.0])
@pytest.mark.parametrize("framed", [False, True])
def test_muscle_up_to_the_border_is_kept(film, level, framed):
    image, muscle = with_muscle(film[0], level)
    if framed:
        image = with_frame(image, depth=6, sides="tr")
        muscle[:12] = 0
    region = find_breast(image)
    assert kept(region, film[1] | muscle) > 0.98
    assert region.borders == ("left", "top")
    assert not region.inverted


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: with_muscle(image)[0],
        with_implant,
        lambda image: with_marker(image, "L CC", 250, 60),
        lambda image: image**0.7,
    ],
)
def test_a_negative_is_told_and_gives_the_same_mask(film, change):
    image = change(film[0]).astype(np.float32)
    region, negative = find_breast(image), find_breast(1 - image)
    assert (region.inverted, negative.inverted) == (False, True)
    overlap = (region.mask & negative.mask).sum() / (region.mask | negative.mask).sum()
    assert overlap > 0.97
    assert negative.chest_wall is Laterality.L


@pytest.mark.parametrize("level", [0.25, 0.55, 0.8])
def test_tissue_without_air_is_kept_whole_and_scores_low(level):
    region = find_breast(without_air(level=level))
    assert region.box == (0, 0, WIDTH, HEIGHT)
    assert region.mask.all()
    assert set(region.borders) == {"left", "top", "right", "bottom"}
    assert not region.inverted
    assert region.quality < 0.3


@pytest.mark.parametrize("shape", [(512, 400), (1800, 1400)])
@pytest.mark.parametrize("level", [0.1, 0.5])
def test_noise_alone_is_refused(shape, level):
    noise = np.random.default_rng(0).normal(level, 0.08, shape)
    with pytest.raises(IneligibleImageError) as caught:
        find_breast(np.clip(noise, 0, 1).astype(np.float32))
    assert caught.value.reason in {Reason.NO_BREAST, Reason.BLANK_IMAGE}


def test_a_glow_along_the_chest_wall_does_not_stretch_the_box(film):
    image = film[0].copy()
    image[:, :24] = np.maximum(image[:, :24], np.linspace(0.5, 0.1, 24, dtype=np.float32))
    _, y_min, _, y_max = find_breast(image).box
    _, top, _, bottom = find_breast(film[0]).box
    assert abs(y_min - top) < 20
    assert abs(y_max - bottom) < 20


def test_fat_beside_a_dense_gland_is_breast():
    image, tissue = drawn_breast()
    gland = np.zeros_like(image)
    cv2.ellipse(gland, (130, 250), (60, 90), 0, 0, 360, 1.0, -1)
    image = np.maximum(0.3 * image, 0.95 * cv2.GaussianBlur(gland, (0, 0), 8))
    assert kept(find_breast(image), tissue) > 0.95
