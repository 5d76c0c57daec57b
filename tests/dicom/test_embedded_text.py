"""Comments inside pixel data: blanked, and not a pixel the worse for it."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

from fixtures.images import breast_pixels
from mammoscope.dicom import decode, read_dicom
from mammoscope.dicom.embedded_text import blank_comments, blank_embedded_text

PIXELS = breast_pixels(64, 48)
NAME = b"Doe^Jane 1961-04-12"


def jpeg() -> bytes:
    return bytes(imagecodecs.jpeg_encode(PIXELS, lossless=True, predictor=1, bitspersample=12))


def jpeg_ls() -> bytes:
    return bytes(imagecodecs.jpegls_encode(PIXELS))


def jpeg_2000(kind: str = "j2k") -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(PIXELS, level=0, reversible=True, codecformat=kind))


def segment(mark: int, content: bytes) -> bytes:
    return bytes([0xFF, mark]) + (len(content) + 2).to_bytes(2) + content


def after_start(frame: bytes, *segments: bytes) -> bytes:
    return frame[:2] + b"".join(segments) + frame[2:]


def after_siz(frame: bytes, content: bytes) -> bytes:
    start = frame.find(b"\xff\x4f\xff\x51")
    end = start + 4 + int.from_bytes(frame[start + 4 : start + 6])
    return frame[:end] + segment(0x64, b"\0\1" + content) + frame[end:]


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4) + kind + content


@pytest.mark.parametrize(
    ("frame", "read"),
    [
        (after_start(jpeg(), segment(0xFE, NAME)), imagecodecs.jpeg_decode),
        (after_start(jpeg(), segment(0xE1, b"Exif\0\0" + NAME)), imagecodecs.jpeg_decode),
        (after_start(jpeg_ls(), segment(0xFE, NAME)), imagecodecs.jpegls_decode),
        (after_siz(jpeg_2000(), NAME), imagecodecs.jpeg2k_decode),
        (after_siz(jpeg_2000(), b"Created by OpenJPEG version 2.5 for " + NAME),
         imagecodecs.jpeg2k_decode),
        (jpeg_2000("jp2") + box(b"xml ", b"<name>" + NAME + b"</name>"),
         imagecodecs.jpeg2k_decode),
    ],
    ids=["jpeg", "exif", "jpeg-ls", "j2k", "not quite an encoder", "jp2"],
)  # fmt: skip
def test_a_name_goes_and_every_pixel_stays(frame, read):
    assert NAME in frame
    blanked = blank_comments(frame)
    assert NAME not in blanked
    assert len(blanked) == len(frame)
    assert (read(blanked) == PIXELS).all()


@pytest.mark.parametrize(
    "frame",
    [
        jpeg(),
        jpeg_ls(),
        jpeg_2000(),
        jpeg_2000("jp2"),
        after_start(jpeg(), segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")),
        after_start(jpeg(), segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")),
        after_siz(jpeg_2000(), b"Kakadu-v5.2.1"),
        b"",
        b"neither",
    ],
    ids=["jpeg", "jpeg-ls", "j2k", "jp2", "jfif", "adobe", "kakadu", "nothing", "other"],
)
def test_what_a_decoder_reads_or_names_stays(frame):
    assert blank_comments(frame) == frame


@pytest.mark.parametrize("cut", range(2, 40))
def test_a_cut_frame_is_no_trap(cut):
    frame = after_start(jpeg(), segment(0xFE, NAME))[:cut]
    assert len(blank_comments(frame)) == cut


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless])
def test_in_a_file_the_frame_is_replaced_only_where_it_speaks(tmp_path, write_mammogram, syntax):
    plain = write_mammogram(tmp_path / "plain.dcm", PIXELS, syntax=syntax)
    dataset = pydicom.dcmread(plain)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    insert = after_start if syntax == JPEGLosslessSV1 else after_siz
    content = segment(0xFE, NAME) if syntax == JPEGLosslessSV1 else NAME
    dataset.PixelData = encapsulate([insert(frame, content)])
    dataset.save_as(tmp_path / "named.dcm")
    untouched, changed = read_dicom(plain), read_dicom(tmp_path / "named.dcm")
    before = untouched.dataset.PixelData
    blank_embedded_text(untouched)
    blank_embedded_text(changed)
    assert untouched.dataset.PixelData == before
    assert NAME not in changed.dataset.PixelData
    assert (decode(changed).stored == PIXELS).all()


def test_bytes_after_native_pixels_are_cut_off(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", PIXELS)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = dataset.PixelData + NAME + b" "
    dataset.save_as(path)
    file = read_dicom(path)
    blank_embedded_text(file)
    assert file.dataset.PixelData == np.ascontiguousarray(PIXELS).tobytes()
