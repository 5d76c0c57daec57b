"""Text that encoders and archives leave inside pixel data, beside the pixels themselves.

JPEG has comment and application segments, JPEG 2000 comment segments, JP2 files boxes of XML.
None of them is needed to decode; any of them can hold a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID

from mammoscope.dicom.file import DicomFile

__all__ = ["blank_comments", "blank_embedded_text"]

_JPEG_START = b"\xff\xd8"
_CODESTREAM_START = b"\xff\x4f\xff\x51"  # SOC and SIZ, ISO/IEC 15444-1, A.5.1
_START_OF_SCAN, _END_OF_IMAGE, _COMMENT = 0xDA, 0xD9, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_START_OF_TILE, _J2K_COMMENT = 0x90, 0x64
# Segments that decoders read: JFIF without a thumbnail, Adobe's colour transform, SPIFF's header
# and end of directory.
_READ_BY_DECODERS = re.compile(
    rb"JFIF\0.{9}|Adobe.{7}|SPIFF\0.{24}|\x00\x00\x00\x01\xff\xd8", re.DOTALL
)
_ENCODERS = re.compile(
    rb"Created by OpenJPEG version [\d.]+|Kakadu-v?[\d.]+|JasPer Version [\d.]+|"
    rb"LEAD Technologies Inc\. V[\d.]+"
)
_TEXT_BOXES = (b"xml ", b"uuid", b"uinf")

_Span = tuple[int, int]


def blank_embedded_text(file: DicomFile) -> None:
    """Blank comments in a file's compressed frame, and cut what follows native pixels.

    Pixel data without such text stay byte for byte as they are.

    Args:
        file: A file of one frame; its pixel data may be replaced.
    """
    dataset, header = file.dataset, file.header
    if UID(header.transfer_syntax_uid).is_encapsulated:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        blanked = blank_comments(frame)
        if blanked != frame:
            dataset.PixelData = encapsulate([blanked])
        return
    due = header.rows * header.columns * header.samples_per_pixel * header.bits_allocated // 8
    due += due % 2
    if len(dataset.PixelData) > due:
        dataset.PixelData = dataset.PixelData[:due]


def blank_comments(frame: bytes) -> bytes:
    """Return a codestream of the same length in which comments are spaces.

    Comments that name a known encoder stay.

    Args:
        frame: JPEG, JPEG-LS, JPEG 2000 or JP2; anything else comes back as it is.
    """
    blanked = bytearray(frame)
    for start, end in _comments(frame):
        blanked[start:end] = b" " * (end - start)
    return bytes(blanked)


def _comments(frame: bytes) -> Iterator[_Span]:
    if frame.startswith(_JPEG_START):
        yield from _jpeg_comments(frame)
        return
    start = frame.find(_CODESTREAM_START)
    if start >= 0:
        yield from _text_boxes(frame)
        yield from _jpeg_2000_comments(frame, start)


def _segments(frame: bytes, at: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Yield (mark, start, end) of the payloads of marker segments up to a mark."""
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        mark = frame[at + 1]
        if mark in (last, _END_OF_IMAGE):
            return
        if mark == 0xFF:
            at += 1  # fill byte
            continue
        end = at + 2 + int.from_bytes(frame[at + 2 : at + 4])
        yield mark, at + 4, min(end, len(frame))
        at = end


def _jpeg_comments(frame: bytes) -> Iterator[_Span]:
    for mark, start, end in _segments(frame, 2, _START_OF_SCAN):
        text = frame[start:end]
        if (mark in _APPLICATION and not _READ_BY_DECODERS.fullmatch(text)) or (
            mark == _COMMENT and not _ENCODERS.fullmatch(text.rstrip(b"\0 "))
        ):
            yield start, end


def _jpeg_2000_comments(frame: bytes, start: int) -> Iterator[_Span]:
    for mark, first, end in _segments(frame, start + 2, _START_OF_TILE):
        # Two bytes say whether the comment is binary or Latin text.
        text = frame[first + 2 : end]
        if mark == _J2K_COMMENT and not _ENCODERS.fullmatch(text.rstrip(b"\0 ")):
            yield first + 2, end


def _text_boxes(frame: bytes) -> Iterator[_Span]:
    """Yield the contents of JP2 boxes that hold XML or a vendor's own (ISO/IEC 15444-1, I)."""
    at = 0
    while at + 8 <= len(frame):
        length, kind = int.from_bytes(frame[at : at + 4]), frame[at + 4 : at + 8]
        first = at + 8
        if length == 1:
            length, first = int.from_bytes(frame[at + 8 : at + 16]), at + 16
        end = len(frame) if length == 0 else at + length
        if end <= first:
            return
        if kind in _TEXT_BOXES:
            yield first, min(end, len(frame))
        at = end
