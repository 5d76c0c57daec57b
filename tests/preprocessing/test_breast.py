import cv2
import numpy as np
import pytest

from mammoscope.errors import IneligibleImageError, Reason
from mammoscope.preprocessing import find_breast
from mammoscope.types import Laterality


def breast(height=400, width=300, level=0.5):
    image = np.zeros((height, width), np.float32)
    cv2.ellipse(
        image, (0, height // 2), (int(width * 0.6), int(height * 0.35)), 0, 0, 360, level, -1
    )
    return image


def test_the_box_is_the_breast():
    x_min, y_min, x_max, y_max = find_breast(breast()).box
    assert x_min == 0
    assert abs(x_max - 181) <= 4
    assert abs(y_min - 60) <= 4
    assert abs(y_max - 341) <= 4


@pytest.mark.parametrize("side", list(Laterality))
def test_the_chest_wall_is_where_the_breast_touches_the_edge(side):
    image = breast()
    if side is Laterality.R:
        image = np.ascontiguousarray(image[:, ::-1])
    assert find_breast(image).chest_wall is side


def test_a_label_away_from_the_breast_is_not_breast():
    image = breast()
    clean = find_breast(image).box
    cv2.rectangle(image, (240, 20), (290, 60), 1.0, -1)
    assert find_breast(image).box == clean


def test_a_white_film_frame_is_not_breast():
    image = breast()
    clean = find_breast(image).box
    image[:6], image[-6:], image[:, -5:] = 1.0, 1.0, 1.0
    framed = find_breast(image).box
    assert np.abs(np.subtract(framed, clean)).max() <= 4


def test_a_faint_breast_on_a_grey_background_is_found():
    rng = np.random.default_rng(0)
    image = (breast(level=0.25) + 0.1 + rng.normal(0, 0.005, (400, 300))).astype(np.float32)
    _, y_min, x_max, y_max = find_breast(image).box
    assert abs(x_max - 181) <= 6
    assert abs(y_max - y_min - 281) <= 10


def test_an_image_that_is_all_breast_is_kept_whole():
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(size=(400, 300)).astype(np.float32), (0, 0), 9)
    region = find_breast((0.6 + 1.5 * texture).clip(0.35, 1).astype(np.float32))
    assert region.box == (0, 0, 300, 400)


def test_zeros_are_refused_as_blank():
    with pytest.raises(IneligibleImageError, match="all pixels are alike") as caught:
        find_breast(np.zeros((200, 100), np.float32))
    assert caught.value.reason is Reason.BLANK_IMAGE


def test_specks_alone_are_refused_as_no_breast():
    image = np.zeros((400, 300), np.float32)
    image[100:110, 100:120] = 1.0
    with pytest.raises(IneligibleImageError, match="a breast covers") as caught:
        find_breast(image)
    assert caught.value.reason is Reason.NO_BREAST
