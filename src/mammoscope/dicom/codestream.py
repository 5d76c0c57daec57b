"""What a compressed frame says of itself, read before a decoder is let loose on it."""

from __future__ import annotations

__all__ = ["ends_early", "frame_size"]

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Start of codestream and SIZ, which follows it at once (ISO/IEC 15444-1, A.5.1).
_JPEG_2000_START = b"\xff\x4f\xff\x51"
# Frame headers SOF0 to SOF15 (ISO/IEC 10918-1, B.1.1.3), and SOF55 of JPEG-LS; the marks
# between them are tables.
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def ends_early(frame: bytes) -> bool:
    """Say whether a JPEG or JPEG-LS codestream lacks its end mark.

    libjpeg fills what is missing of a cut codestream and says nothing.
    """
    return frame.startswith(_JPEG_START) and not frame.rstrip(b"\0").endswith(_JPEG_END)


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a JPEG, JPEG-LS or JPEG 2000 codestream, if it says so."""
    if frame.startswith(_JPEG_START):
        return _jpeg_size(frame)
    # A JP2 file holds boxes before its codestream.
    start = frame.find(_JPEG_2000_START)
    if start < 0 or len(frame) < start + 24:
        return None
    columns, rows, left, top = (
        int.from_bytes(frame[start + at : start + at + 4]) for at in (8, 12, 16, 20)
    )
    return rows - top, columns - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        mark = frame[at + 1]
        if mark in _FRAME_HEADERS:
            rows = int.from_bytes(frame[at + 5 : at + 7])
            return rows, int.from_bytes(frame[at + 7 : at + 9])
        at += 2 + int.from_bytes(frame[at + 2 : at + 4])
    return None
