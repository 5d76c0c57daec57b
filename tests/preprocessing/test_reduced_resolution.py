"""JPEG 2000 decoded at a fraction of its resolution: the same picture, in the same place."""

import cv2
import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from fixtures.images import breast_pixels
from mammoscope.config import PreprocessConfig
from mammoscope.errors import PixelDecodeError
from mammoscope.preprocessing import Preprocessor, SourceImage
from mammoscope.types import Box, Laterality

SIZE = (1337, 903)
REDUCED = PreprocessConfig(height=256, width=160)
FULL = REDUCED.model_copy(update={"resolution": "full"})


def encode_three_resolutions(pixels, syntax):
    stream = imagecodecs.jpeg2k_encode(
        pixels, level=0, reversible=True, codecformat="jp2", resolutions=3, bitspersample=12
    )
    return encapsulate([bytes(stream)])


@pytest.fixture
def write_jpeg2000(tmp_path, write_mammogram):
    def write(pixels, **elements):
        return write_mammogram(
            tmp_path / "a.dcm",
            pixels,
            syntax=JPEG2000Lossless,
            encoder=encode_three_resolutions,
            **elements,
        )

    return write


def noisy_breast(laterality, seed=0):
    pixels = breast_pixels(*SIZE, laterality=laterality, seed=seed).astype(np.float32)
    pixels = cv2.GaussianBlur(pixels, (0, 0), 1.5)
    noise = np.random.default_rng(seed).normal(0, 20, SIZE)
    return np.clip(pixels + noise, 0, 4095).astype(np.uint16)


def area_means(pixels, geometry):
    """The network's grid from the full image by exact area averaging, fractions of pixels too."""
    x_min, y_min, x_max, y_max = geometry.crop
    image = pixels[:, ::-1] if geometry.mirrored else pixels
    sums = np.pad(image.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    edges_y = np.linspace(y_min, y_max, geometry.fitted_height + 1).clip(0, image.shape[0])
    edges_x = np.linspace(x_min, x_max, geometry.fitted_width + 1).clip(0, image.shape[1])
    rows = np.stack([np.interp(edges_y, np.arange(sums.shape[0]), column) for column in sums.T], 1)
    both = np.stack([np.interp(edges_x, np.arange(sums.shape[1]), row) for row in rows])
    areas = np.diff(edges_y)[:, None] * np.diff(edges_x)
    means = np.zeros((geometry.height, geometry.width))
    part = np.s_[geometry.top : geometry.top + geometry.fitted_height, : geometry.fitted_width]
    means[part] = np.diff(np.diff(both, axis=0), axis=1) / areas
    return means


@pytest.mark.parametrize("laterality", ["L", "R"])
def test_the_quarter_is_within_tolerance_of_the_full_decode(write_jpeg2000, laterality):
    source = SourceImage(write_jpeg2000(noisy_breast(laterality), laterality=laterality))
    prepared = Preprocessor(REDUCED).prepare(source, Laterality(laterality))
    assert prepared.reduction == 2
    assert prepared.decoder == "imagecodecs jpeg2k"
    full = area_means(source.read(0).pixels, prepared.geometry)
    inside = prepared.pixels > 0
    difference = np.abs(prepared.pixels / 255 - full)[inside]
    # The tolerance that docs/explanation/preprocessing.md states.
    assert difference.mean() < 0.01
    assert np.percentile(difference, 99) < 0.04
    # A crop found on the quarter is that of the full image, to a few pixels of the quarter.
    whole = Preprocessor(FULL).prepare(source, Laterality(laterality))
    assert whole.reduction == 0
    np.testing.assert_allclose(prepared.geometry.crop, whole.geometry.crop, atol=16)


@pytest.mark.parametrize("laterality", ["L", "R"])
@pytest.mark.parametrize("config", [REDUCED, FULL])
def test_a_bright_spot_maps_back_to_where_it_is(write_jpeg2000, laterality, config):
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    from_wall = x if laterality == "L" else SIZE[1] - 1 - x
    flat = ((y - 668) / 560) ** 2 + (from_wall / 600) ** 2 < 1
    at_y, at_x = 611.0, 203.0 if laterality == "L" else SIZE[1] - 1 - 203.0
    spot = np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * 9.0**2))
    pixels = np.rint(1500 * flat + 2400 * spot).astype(np.uint16)
    source = SourceImage(write_jpeg2000(pixels, laterality=laterality))
    prepared = Preprocessor(config).prepare(source, Laterality(laterality))
    shown = prepared.pixels.astype(float)
    weight = np.where(shown > 110, shown - 110, 0)
    row = (weight.sum(1) * (np.arange(weight.shape[0]) + 0.5)).sum() / weight.sum()
    column = (weight.sum(0) * (np.arange(weight.shape[1]) + 0.5)).sum() / weight.sum()
    found = prepared.geometry.to_original(Box(column - 0.5, row - 0.5, column + 0.5, row + 0.5))
    assert abs((found.x_min + found.x_max) / 2 - (at_x + 0.5)) < 0.5
    assert abs((found.y_min + found.y_max) / 2 - (at_y + 0.5)) < 0.5


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(200, 120, 2), (420, 260, 1), (1000, 600, 0)]
)
def test_the_smallest_resolution_serves_whose_crop_covers_the_input(
    write_jpeg2000, height, width, expected
):
    source = SourceImage(write_jpeg2000(noisy_breast("L")))
    config = PreprocessConfig(height=height, width=width)
    prepared = Preprocessor(config).prepare(source, Laterality.L)
    assert prepared.reduction == expected
    crop = prepared.geometry.crop
    if expected:
        assert (crop[3] - crop[1]) / 2**expected >= prepared.geometry.fitted_height
    if expected < 2:
        assert (crop[3] - crop[1]) / 2 ** (expected + 1) < height


def test_padding_of_another_grey_is_decoded_in_full(write_jpeg2000):
    pixels = noisy_breast("L")
    source = write_jpeg2000(
        np.where(pixels > 60, 4095 - pixels, 0).astype(np.uint16),
        PixelPaddingValue=0,
        PixelPaddingRangeLimit=100,
        PhotometricInterpretation="MONOCHROME1",
    )
    prepared = Preprocessor(REDUCED).prepare(SourceImage(source), Laterality.L)
    assert prepared.reduction == 0


def test_without_resizing_nothing_is_resampled(write_jpeg2000):
    pixels = noisy_breast("L")
    config = PreprocessConfig(resize=False, mask=False, bits=16, margin=0.0)
    prepared = Preprocessor(config).prepare(SourceImage(write_jpeg2000(pixels)), Laterality.L)
    x_min, y_min, x_max, y_max = (int(edge) for edge in prepared.geometry.crop)
    assert prepared.reduction == 0
    shown = np.clip((pixels - 2047.5) / 4095 + 0.5, 0, 1) * 65535
    np.testing.assert_allclose(prepared.pixels, shown[y_min:y_max, x_min:x_max], atol=1)


def test_without_a_window_grey_values_do_not_depend_on_the_resolution(write_jpeg2000):
    """The range of a halved image is narrower: one hot pixel is averaged away."""
    pixels = noisy_breast("L")
    pixels[600, 200] = 4095
    source = SourceImage(write_jpeg2000(pixels, WindowCenter=None, WindowWidth=None))
    prepared = Preprocessor(REDUCED).prepare(source, Laterality.L)
    assert prepared.reduction == 0


def test_what_is_refused_in_full_is_refused_however_little_is_needed(write_jpeg2000):
    source = SourceImage(write_jpeg2000(noisy_breast("L"), BitsStored=11, HighBit=10))
    with pytest.raises(PixelDecodeError, match="BitsStored 11"):
        Preprocessor(REDUCED).prepare(source, Laterality.L)


def test_an_image_that_was_prepared_has_a_picture_even_if_its_finest_part_is_damaged(
    write_jpeg2000, monkeypatch
):
    source = SourceImage(write_jpeg2000(noisy_breast("L")))
    prepared = Preprocessor(REDUCED).prepare(source, Laterality.L)
    whole = source.shown()
    assert whole.shape == SIZE
    source.read(prepared.reduction)

    def damaged(encoded, reduction):
        raise PixelDecodeError("the finest part is damaged")

    monkeypatch.setattr("mammoscope.preprocessing.reading.decode", damaged)
    enlarged = source.shown()
    assert enlarged.shape == SIZE
    assert np.abs(enlarged - whole).mean() < 0.02
