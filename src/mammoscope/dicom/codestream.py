"""What a compressed frame says of itself, read before a decoder is let loose on it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Codestream", "read_codestream"]

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Start of codestream and SIZ, which follows it at once (ISO/IEC 15444-1, A.5.1).
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_CODING_STYLE, _START_OF_TILE = 0xFF52, 0xFF90
# Frame headers SOF0 to SOF15 (ISO/IEC 10918-1, B.1.1.3), and SOF55 of JPEG-LS; the marks
# between them are tables.
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


@dataclass(frozen=True, slots=True)
class Codestream:
    """The facts that a JPEG, JPEG-LS or JPEG 2000 codestream states.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        components: Samples per pixel.
        precision: Bits per sample.
        signed: Samples are signed; only JPEG 2000 says so, else ``None``.
        reductions: How many times a decoder can halve the image while it decodes.
        tiles: Tiles that a JPEG 2000 image is cut into, else 1.
        complete: The end mark is there. libjpeg fills what is missing of a cut codestream
            and says nothing.
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool | None = None
    reductions: int = 0
    tiles: int = 1
    complete: bool = True


def read_codestream(frame: bytes) -> Codestream | None:
    """Read the main header of a codestream; ``None`` if it is of no kind known here."""
    if frame.startswith(_JPEG_START):
        return _read_jpeg(frame)
    # A JP2 file holds boxes before its codestream.
    start = frame.find(_JPEG_2000_START)
    return None if start < 0 else _read_jpeg_2000(frame, start)


def _read_jpeg(frame: bytes) -> Codestream | None:
    at = 2
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        mark = frame[at + 1]
        if mark == 0xFF:
            # Marks may be preceded by fill bytes.
            at += 1
            continue
        if mark in _FRAME_HEADERS:
            return Codestream(
                rows=_number(frame, at + 5, 2),
                columns=_number(frame, at + 7, 2),
                components=frame[at + 9],
                precision=frame[at + 4],
                complete=frame.rstrip(b"\0").endswith(_JPEG_END),
            )
        at += 2 + _number(frame, at + 2, 2)
    return None


def _read_jpeg_2000(frame: bytes, start: int) -> Codestream | None:
    """Read SIZ (ISO/IEC 15444-1, A.5.1) and the levels of COD (A.6.1)."""
    if len(frame) < start + 45:
        return None
    columns, rows, left, top, tile_width, tile_height = (
        _number(frame, start + at, 4) for at in (8, 12, 16, 20, 24, 28)
    )
    if not (tile_width and tile_height):
        return None
    return Codestream(
        rows=rows - top,
        columns=columns - left,
        components=_number(frame, start + 40, 2),
        precision=(frame[start + 42] & 0x7F) + 1,
        signed=bool(frame[start + 42] & 0x80),
        reductions=_decomposition_levels(frame, start),
        tiles=-(-columns // tile_width) * -(-rows // tile_height),
    )


def _decomposition_levels(frame: bytes, start: int) -> int:
    at = start + 2
    while at + 10 <= len(frame):
        mark = _number(frame, at, 2)
        if mark == _CODING_STYLE:
            return min(frame[at + 9], 32)
        if mark == _START_OF_TILE:
            break
        at += 2 + _number(frame, at + 2, 2)
    return 0


def _number(frame: bytes, at: int, size: int) -> int:
    return int.from_bytes(frame[at : at + size])
