"""DCMTK as a decoder: what it cannot read is an error, as is its absence."""

import shutil
from pathlib import Path

import pytest

from mammoscope.dicom import encoded_pixels, read_dicom
from mammoscope.dicom.dcmtk import decode_by_dcmtk

EXTENDED = Path(__file__).parents[1] / "golden" / "pixels" / "jpeg_extended_12.dcm"


@pytest.fixture
def encoded():
    return encoded_pixels(read_dicom(EXTENDED))


def test_a_machine_without_dcmtk_says_so(encoded, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(RuntimeError, match="dcmdjpeg of DCMTK is not installed"):
        decode_by_dcmtk(encoded.frame, encoded.file.header)


def test_a_frame_that_dcmtk_refuses_is_an_error_in_its_words(encoded):
    with pytest.raises(RuntimeError, match="JPEG") as refused:
        decode_by_dcmtk(b"\xff\xd8" + b"\0" * 400, encoded.file.header)
    assert "/" not in str(refused.value)
