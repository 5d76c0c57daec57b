import numpy as np
import pytest

from mammoscope.config import PreprocessConfig
from mammoscope.errors import IneligibleImageError, Reason
from mammoscope.preprocessing import Preprocessor, SourceImage
from mammoscope.types import Box, Laterality


@pytest.fixture
def image():
    """A left breast with a bright square at known pixels."""
    y, x = np.mgrid[0:600, 0:500]
    inside = ((y - 300) / 220) ** 2 + (x / 300) ** 2 < 1
    pixels = np.where(inside, 0.4, 0.0).astype(np.float32)
    pixels[280:320, 100:140] = 1.0
    return pixels


SQUARE = Box(100, 280, 140, 320)
CONFIG = PreprocessConfig(height=256, width=128)


def hot(prepared):
    rows, columns = np.nonzero(prepared.pixels > 0.8 * 255)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize("side", list(Laterality))
def test_the_chest_wall_ends_up_on_the_left(image, side):
    pixels = image if side is Laterality.L else np.ascontiguousarray(image[:, ::-1])
    prepared = Preprocessor(CONFIG)(pixels, side)
    assert prepared.pixels.shape == (256, 128)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.geometry.mirrored is (side is Laterality.R)
    assert prepared.pixels[:, 0].astype(int).sum() > 0
    assert prepared.pixels[:, -1].max() == 0 or prepared.geometry.fitted_width == 128
    assert prepared.warnings == ()


@pytest.mark.parametrize("side", list(Laterality))
def test_a_box_goes_to_the_network_and_comes_back(image, side):
    pixels, square = image, SQUARE
    if side is Laterality.R:
        pixels = np.ascontiguousarray(image[:, ::-1])
        square = Box(500 - SQUARE.x_max, SQUARE.y_min, 500 - SQUARE.x_min, SQUARE.y_max)
    prepared = Preprocessor(CONFIG)(pixels, side)
    there = prepared.geometry.to_network(square)
    found = hot(prepared)
    np.testing.assert_allclose(
        found, [there.x_min, there.y_min, there.x_max, there.y_max], atol=1.01
    )
    back = prepared.geometry.to_original(Box(*found))
    np.testing.assert_allclose(
        [back.x_min, back.y_min, back.x_max, back.y_max],
        [square.x_min, square.y_min, square.x_max, square.y_max],
        atol=2.5,
    )


def test_the_true_aspect_ratio_is_kept(image):
    squeezed = np.ascontiguousarray(image[:, ::2])
    plain = Preprocessor(CONFIG)(image)
    restored = Preprocessor(CONFIG)(squeezed, pixel_aspect=2.0)
    difference = plain.pixels.astype(int) - restored.pixels.astype(int)
    assert np.abs(difference).mean() < 3
    assert abs(plain.geometry.fitted_width - restored.geometry.fitted_width) <= 2


def test_a_laterality_that_the_image_contradicts_is_told(image):
    assert "chest wall lies on the left" in Preprocessor(CONFIG)(image, Laterality.R).warnings[0]


def test_sixteen_bits_hold_finer_steps(image):
    image[image == np.float32(0.4)] = 0.4001
    prepared = Preprocessor(PreprocessConfig(height=256, width=128, bits=16))(image)
    assert prepared.pixels.dtype == np.uint16
    assert round(0.4001 * 65535) in prepared.pixels


def test_without_crop_and_orientation_the_whole_image_is_fitted(image):
    config = PreprocessConfig(height=300, width=250, crop=False, orient=False)
    prepared = Preprocessor(config)(np.ascontiguousarray(image[:, ::-1]))
    assert prepared.geometry.crop == (0, 0, 500, 600)
    assert not prepared.geometry.mirrored
    assert prepared.pixels[150, -1] > 0


def test_a_label_inside_the_crop_is_blanked(image):
    image[90:110, 250:290] = 1.0
    prepared = Preprocessor(CONFIG)(image)
    there = prepared.geometry.to_network(Box(250, 90, 290, 110))
    patch = prepared.pixels[
        int(there.y_min) : int(there.y_max), int(there.x_min) : int(there.x_max)
    ]
    assert patch.max() == 0


def test_an_inverted_image_is_turned_round_refused_or_left(image):
    inverted = 1 - image
    right_way = Preprocessor(CONFIG)(image, Laterality.L)
    corrected = Preprocessor(CONFIG)(inverted, Laterality.L)
    np.testing.assert_allclose(corrected.pixels, right_way.pixels, atol=1)
    assert corrected.warnings == (
        "the background is bright and tissue dark although the header says otherwise: inverted",
    )
    with pytest.raises(IneligibleImageError) as caught:
        Preprocessor(CONFIG.model_copy(update={"inverted": "refuse"}))(inverted, Laterality.L)
    assert caught.value.reason is Reason.INVERTED
    left = Preprocessor(CONFIG.model_copy(update={"inverted": "ignore"}))(inverted, Laterality.L)
    assert left.warnings[0].endswith("left as it is")
    assert left.pixels[128, 40] < 255 - 60


def test_what_is_known_of_the_crop_goes_with_the_image(image):
    prepared = Preprocessor(CONFIG)(image, Laterality.L)
    assert prepared.borders == ("left",)
    assert prepared.kept_fraction > 0.95
    assert prepared.quality > 0.5


def test_the_breasts_own_values_can_span_the_grey_range(image):
    dim = image * np.float32(0.5)
    config = CONFIG.model_copy(update={"normalise": "breast"})
    # Where the skin begins depends a little on how bright it is.
    inner = np.s_[60:196, :60]
    spread = [Preprocessor(config)(one).pixels[inner].astype(int) for one in (dim, image)]
    assert np.abs(spread[0] - spread[1]).mean() < 2
    assert Preprocessor(CONFIG)(dim).pixels.max() < 140
    assert Preprocessor(config)(dim).pixels.max() == 255


@pytest.mark.parametrize(
    ("orientation", "warned"), [(["A", "F"], False), (["P", "F"], True), (["AFL", "FP"], False)]
)
def test_patient_orientation_is_checked_against_the_image(
    tmp_path, write_mammogram, orientation, warned
):
    path = write_mammogram(tmp_path / "a.dcm", PatientOrientation=orientation)
    prepared = Preprocessor(CONFIG).prepare(SourceImage(path), Laterality.L)
    assert prepared.geometry.mirrored is False
    found = any("(0020,0020) PatientOrientation puts" in note for note in prepared.warnings)
    assert found is warned
