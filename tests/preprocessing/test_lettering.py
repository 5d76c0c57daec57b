"""Text outside the breast is seen; a plain mammogram is not suspected."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fixtures.images import breast_pixels
from mammoscope.errors import IneligibleImageError, Reason
from mammoscope.preprocessing.lettering import inspect_pixels


def mammogram(height: int = 1200, width: int = 960, laterality: str = "L") -> np.ndarray:
    pixels = breast_pixels(height, width, laterality=laterality)
    return pixels.astype(np.float32) / 4095


def write(pixels: np.ndarray, text: str, at: tuple[int, int], *, scale: float, ink: float) -> None:
    thickness = max(1, round(2 * scale))
    stencil = np.zeros(pixels.shape, np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(stencil, text, at, font, scale, (255,), thickness, cv2.LINE_AA)
    share = stencil / np.float32(255)
    pixels[:] = share * ink + (1 - share) * pixels


@pytest.mark.parametrize("laterality", ["L", "R"])
def test_a_plain_mammogram_has_no_text(laterality):
    assert inspect_pixels(mammogram(laterality=laterality)).text_boxes == ()


@pytest.mark.parametrize(("text", "scale"), [("R MLO", 1.2), ("DOE JANE 1961-04-12", 0.6)])
def test_bright_letters_are_seen_where_they_are(text, scale):
    pixels = mammogram()
    write(pixels, text, (560, 60), scale=scale, ink=0.95)
    boxes = inspect_pixels(pixels).text_boxes
    assert len(boxes) >= 3
    for x_min, y_min, x_max, y_max in boxes:
        assert x_min >= 550
        assert y_max <= 80
        assert x_min < x_max
        assert y_min < y_max


def test_letters_that_stand_on_end_are_seen():
    pixels = mammogram()
    turned = np.ascontiguousarray(np.rot90(pixels))
    write(turned, "DOE JANE", (60, 60), scale=0.8, ink=0.9)
    assert inspect_pixels(np.ascontiguousarray(np.rot90(turned, -1))).text_boxes


def test_dark_letters_on_a_bright_plate_are_seen():
    pixels = mammogram()
    pixels[20:110, 600:940] = 0.9
    write(pixels, "DOE JANE", (620, 80), scale=1.2, ink=0.05)
    assert len(inspect_pixels(pixels).text_boxes) >= 3


def test_a_lone_speck_is_not_text():
    pixels = mammogram()
    pixels[100:112, 800:812] = 1.0
    assert inspect_pixels(pixels).text_boxes == ()


def test_the_breast_lies_whole_inside_its_mask():
    pixels = mammogram()
    assert inspect_pixels(pixels).breast[pixels > 0].mean() > 0.999


def test_nothing_is_said_of_an_image_without_a_breast():
    with pytest.raises(IneligibleImageError) as refused:
        inspect_pixels(np.zeros((300, 200), np.float32))
    assert refused.value.reason is Reason.BLANK_IMAGE
