"""Plain pictures: what their own headers call white, and those that use little of their range."""

import struct

import cv2
import numpy as np
import pytest

from mammoscope.errors import PixelDecodeError
from mammoscope.preprocessing import SourceImage
from mammoscope.preprocessing.reading import read_picture


def pgm(path, values, white):
    height, width = values.shape
    path.write_bytes(b"P5\n%d %d\n%d\n" % (width, height, white) + values.astype(">u2").tobytes())
    return path


def test_a_pgm_says_itself_what_is_white(tmp_path):
    values = np.array([[0, 1000], [2000, 4095]], np.uint16)
    found = read_picture(pgm(tmp_path / "a.pgm", values, 4095))
    np.testing.assert_allclose(found, values / 4095, atol=1e-6)


def test_a_pgm_that_holds_more_than_it_calls_white_is_refused(tmp_path):
    with pytest.raises(PixelDecodeError, match="holds 2000 where its header says 1000"):
        read_picture(pgm(tmp_path / "a.pgm", np.full((8, 8), 2000), 1000))


def tiff(path, values, photometric):
    """The least TIFF: one strip, and what 0 stands for."""
    height, width = values.shape
    fields = {256: width, 257: height, 258: values.itemsize * 8, 259: 1, 262: photometric}
    fields |= {273: 8, 277: 1, 278: height, 279: values.nbytes}
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    directory = struct.pack("<H", len(fields))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory + bytes(4))
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_is_turned_round(tmp_path, kind):
    white = np.iinfo(kind).max
    values = np.linspace(0, white, 256).astype(kind).reshape(16, 16)
    plain = read_picture(tiff(tmp_path / "a.tif", values, photometric=1))
    turned = read_picture(tiff(tmp_path / "b.tif", values, photometric=0))
    np.testing.assert_allclose(plain, values / white, atol=1e-6)
    np.testing.assert_allclose(turned, 1 - values / white, atol=1e-6)


@pytest.mark.parametrize(("peak", "noted"), [(4095, True), (60000, False)])
def test_twelve_bits_in_sixteen_are_noted(tmp_path, peak, noted):
    picture = np.linspace(0, peak, 400).astype(np.uint16).reshape(20, 20)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    warnings = SourceImage(tmp_path / "a.png").read().warnings
    assert any("normalise=breast" in note for note in warnings) is noted
