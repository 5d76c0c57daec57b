"""Pictures are refused by what their header says, before OpenCV makes room for it."""

import struct

import cv2
import numpy as np
import pytest

from mammoscope.errors import DicomError, Reason
from mammoscope.preprocessing.picture_size import decoded_bytes
from mammoscope.preprocessing.reading import read_picture

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".pgm"])
def test_a_sound_picture_says_its_size(suffix):
    assert decoded_bytes(cv2.imencode(suffix, GREY)[1].tobytes()) == (48, 48)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_two_bytes(suffix):
    data = cv2.imencode(suffix, GREY.astype(np.uint16) * 256)[1].tobytes()
    assert decoded_bytes(data) == (48, 96)


def enlarged(suffix):
    data = cv2.imencode(suffix, GREY)[1].tobytes()
    if suffix == ".png":
        return data[:16] + struct.pack(">II", 40000, 40000) + data[24:]
    if suffix == ".jpg":
        at = data.index(b"\xff\xc0")
        return data[: at + 5] + struct.pack(">HH", 65000, 65000) + data[at + 9 :]
    if suffix == ".pgm":
        return b"P5\n40000 40000\n255\n" + bytes(100)
    (at,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[at : at + 2])
    broken = bytearray(data)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack("<H", data[entry : entry + 2])[0] in (256, 257):
            broken[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 40000)
    return bytes(broken)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".pgm"])
def test_a_picture_of_billions_of_pixels_is_refused_unread(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(enlarged(suffix))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DicomError, match="pixels in") as caught:
        read_picture(path)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "data", [b"P5\n", b"II*\0", b"\x89PNG\r\n\x1a\n", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_a_picture_that_does_not_say_its_size_is_damaged(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DicomError, match="does not say how large"):
        read_picture(tmp_path / "a.png")
