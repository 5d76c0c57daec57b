"""Presentation pixels that are made late are those that are made at once."""

import cv2
import numpy as np
import pytest

from mammoscope.dicom.presented import Presented

TABLE = np.sqrt(np.linspace(0, 1, 1 << 16)).astype(np.float32)


@pytest.mark.parametrize("shape", [(200, 90), (201, 91), (64, 2), (3, 3), (129, 40)])
def test_squares_are_averaged_after_the_table_and_an_odd_line_is_left_out(shape):
    stored = np.random.default_rng(0).integers(0, 1 << 16, shape).astype(np.uint16)
    image = Presented(stored, TABLE)
    rows, columns = shape[0] // 2, shape[1] // 2
    values = TABLE[stored][: 2 * rows, : 2 * columns]
    expected = values.reshape(rows, 2, columns, 2).mean((1, 3))
    np.testing.assert_allclose(image.halved, expected, atol=1e-6)
    np.testing.assert_array_equal(image.full, TABLE[stored])


def test_halving_does_not_make_the_full_image(monkeypatch):
    looked_up = []
    lut = cv2.LUT
    monkeypatch.setattr(cv2, "LUT", lambda part, table: looked_up.append(part) or lut(part, table))
    image = Presented(np.zeros((512, 64), np.uint16), TABLE)
    assert image.halved is image.halved
    assert max(len(part) for part in looked_up) < 512
    assert sum(len(part) for part in looked_up) == 512


def test_pixels_are_taken_as_they_are():
    pixels = np.random.default_rng(0).random((10, 8)).astype(np.float32)
    image = Presented.of(pixels)
    assert Presented.of(image) is image
    assert image.shape == (10, 8)
    np.testing.assert_array_equal(image.full, pixels)
