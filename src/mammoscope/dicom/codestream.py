"""What a compressed frame says of itself, read before a decoder is let loose on it.

Decoders take sizes from the codestream: what is not read here to the last field that costs
memory or time is not decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "JPEG_2000_CODING_STYLE",
    "JPEG_END",
    "START_OF_SCAN",
    "Codestream",
    "jpeg_2000_marks",
    "jpeg_2000_start",
    "jpeg_marks",
    "read_codestream",
    "run_length_segments",
]

_JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Marks without a length: TEM and the restarts (ISO/IEC 10918-1, table B.1). Before the frame
# header they can only serve to make two readers see two things, as can a second start.
_NO_SEGMENT = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
START_OF_SCAN = 0xDA
# Frame headers SOF0 to SOF15 (ISO/IEC 10918-1, B.1.1.3), and SOF55 of JPEG-LS; the marks
# between them are tables.
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})

# Start of codestream and SIZ, which follows it at once (ISO/IEC 15444-1, A.5.1).
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
JPEG_2000_CODING_STYLE, _COMPONENT_STYLE, _ORDER_CHANGE = 0xFF52, 0xFF53, 0xFF5F
_START_OF_TILE, _START_OF_DATA = 0xFF90, 0xFF93
# Progressions by layer, by resolution and layer, by resolution and position (table A.16).
_BY_LAYER, _BY_RESOLUTION = 0, (1, 2)
_RLE_HEADER = 64
# Segments of a real image: one or two for each of at most some thousand tile parts.
_MOST_SEGMENTS = 100_000
# Length exponent of precincts where the codestream names none (A.6.1).
_WHOLE = 15


@dataclass(frozen=True, slots=True)
class Codestream:
    """The facts that a JPEG, JPEG-LS or JPEG 2000 codestream states.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        components: Samples per pixel.
        precision: Bits per sample.
        signed: Samples are signed; only JPEG 2000 says so, else ``None``.
        reductions: How many times the image can be halved while it is decoded, and damage be told:
            0 where packets of fine resolutions stand among coarse ones.
        tiles: Tiles that a JPEG 2000 image is cut into, else 1.
        packets: Packets that a JPEG 2000 image is cut into, of which each costs a decoder
            memory before it has decoded anything: precincts of all tiles and resolutions
            times layers.
        blocks: Code blocks of a JPEG 2000 image, about.
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
    packets: int = 1
    blocks: int = 1
    complete: bool = True


def read_codestream(frame: bytes) -> Codestream | None:
    """Read the headers of a codestream; ``None`` if it is of no kind known here."""
    if frame.startswith(_JPEG_START):
        return _read_jpeg(frame)
    start = jpeg_2000_start(frame)
    return None if start is None else _read_jpeg_2000(frame, start)


def run_length_segments(frame: bytes) -> int | None:
    """Count the segments of an RLE frame; ``None`` if its header is not sound (PS3.5, G.5)."""
    if len(frame) < _RLE_HEADER:
        return None
    count, *offsets = struct.unpack("<16I", frame[:_RLE_HEADER])
    if not 1 <= count <= 15:
        return None
    starts = (*offsets[:count], len(frame))
    rising = all(first < second for first, second in pairwise(starts))
    return count if starts[0] == _RLE_HEADER and rising else None


def _read_jpeg(frame: bytes) -> Codestream | None:
    """Read all segments up to the first scan, among which must be one frame header."""
    found = None
    for mark, at in jpeg_marks(frame):
        if mark == START_OF_SCAN:
            return found
        if mark in _NO_SEGMENT or (mark in _FRAME_HEADERS and (found or at + 10 > len(frame))):
            return None
        if mark in _FRAME_HEADERS:
            found = Codestream(
                rows=_number(frame, at + 5, 2),
                columns=_number(frame, at + 7, 2),
                components=frame[at + 9],
                precision=frame[at + 4],
                complete=frame.rstrip(b"\0").endswith(JPEG_END),
            )
    return None


def jpeg_marks(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield (mark, where) of the segments of a JPEG frame up to its first scan, that included."""
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        mark = frame[at + 1]
        if mark == 0xFF:
            # Marks may be preceded by fill bytes.
            at += 1
            continue
        yield mark, at
        if mark == START_OF_SCAN:
            return
        at += 2 + _number(frame, at + 2, 2)


def jpeg_2000_start(frame: bytes) -> int | None:
    """Find the codestream: the frame itself, or the ``jp2c`` box of a JP2 file (I.5)."""
    if frame.startswith(_JPEG_2000_START):
        return 0
    if not frame.startswith(_JP2_SIGNATURE):
        return None
    at = 0
    while at + 16 <= len(frame):
        size, kind, head = _number(frame, at, 4), frame[at + 4 : at + 8], 8
        if size == 1:
            size, head = _number(frame, at + 8, 8), 16
        if kind == b"jp2c":
            return at + head if frame.startswith(_JPEG_2000_START, at + head) else None
        if size < head:
            return None
        at += size
    return None


def _read_jpeg_2000(frame: bytes, start: int) -> Codestream | None:
    """Read SIZ (ISO/IEC 15444-1, A.5.1) and COD (A.6.1); a tile must have none of its own."""
    if len(frame) < start + 45:
        return None
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = (
        _number(frame, start + at, 4) for at in range(8, 40, 4)
    )
    # The first tile holds the image's first pixel (B.3), and its one component each sample.
    sound = tile_left <= left < tile_left + tile_width and tile_top <= top < tile_top + tile_height
    if not (sound and left < right and top < bottom) or frame[start + 43 : start + 45] != b"\1\1":
        return None
    coding: int | None = None
    reordered = False
    whole = frame.rstrip(b"\0").endswith(JPEG_END)
    for count, (mark, at) in enumerate(jpeg_2000_marks(frame, start + 2)):
        if count > _MOST_SEGMENTS:
            return None
        if mark == _COMPONENT_STYLE or (mark == JPEG_2000_CODING_STYLE and coding is not None):
            # Twice, or for a component or a tile alone: what counts is not what was read.
            return None
        if mark == JPEG_2000_CODING_STYLE:
            coding = at
        reordered |= mark == _ORDER_CHANGE
        if mark == _START_OF_TILE:
            whole &= at + _number(frame, at + 6, 4) <= len(frame)
    if coding is None or coding + 14 > len(frame) or frame[coding + 9] > 32:
        return None
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    tile = (min(tile_width, right), min(tile_height, bottom))
    precincts, blocks = _pieces(frame, coding, tile)
    # Of a cut codestream the coarse part may be there: it is for the full decode to refuse.
    # Halves of an image that begins elsewhere than at 0 are centred elsewhere too.
    halves = whole and not (left or top) and not reordered and _coarse_first(frame, coding)
    return Codestream(
        rows=bottom - top,
        columns=right - left,
        components=_number(frame, start + 40, 2),
        precision=(frame[start + 42] & 0x7F) + 1,
        signed=bool(frame[start + 42] & 0x80),
        reductions=_halvings(frame[coding + 9], tile, tiles) if halves else 0,
        tiles=tiles,
        packets=tiles * precincts * _number(frame, coding + 6, 2),
        blocks=tiles * blocks,
    )


def _halvings(levels: int, tile: tuple[int, int], tiles: int) -> int:
    """Return how often tiles can be halved so that they still meet, at most the levels."""
    while tiles > 1 and any(side % (1 << levels) for side in tile):
        levels -= 1
    return levels


def _coarse_first(frame: bytes, coding: int) -> bool:
    """Say whether all packets of a coarse resolution stand before those of finer ones."""
    order, layers = frame[coding + 5], _number(frame, coding + 6, 2)
    return order in _BY_RESOLUTION or (order == _BY_LAYER and layers == 1)


def jpeg_2000_marks(frame: bytes | bytearray, at: int) -> Iterator[tuple[int, int]]:
    """Yield (mark, where) of all segments of the main header and of every tile part's."""
    tile_part = 0
    while at + 4 <= len(frame):
        mark = _number(frame, at, 2)
        if mark == _START_OF_DATA:
            size = _number(frame, tile_part + 6, 4)
            # The length counts this mark as well; one of 0 lasts to the end (A.4.2).
            if size < at + 2 - tile_part:
                return
            at = tile_part + size
            continue
        if mark == _START_OF_TILE:
            tile_part = at
        elif mark < 0xFF00:
            return
        yield mark, at
        at += 2 + max(2, _number(frame, at + 2, 2))


def _pieces(frame: bytes, coding: int, tile: tuple[int, int]) -> tuple[int, int]:
    """Return the precincts and code blocks of one tile, of all its resolutions (B.6, B.7)."""
    levels, own = frame[coding + 9], frame[coding + 4] & 1
    block = (frame[coding + 10] + 2, frame[coding + 11] + 2)
    precincts = blocks = 0
    for resolution in range(levels + 1):
        at = coding + 14 + resolution
        sizes = frame[at] if own and at < len(frame) else _WHOLE << 4 | _WHOLE
        exponents = (sizes & 15, sizes >> 4)
        shift = levels - resolution
        sides = [-(-side >> shift) for side in tile]
        across, down = (
            -(-side >> exponent) for side, exponent in zip(sides, exponents, strict=True)
        )
        precincts += across * down
        # A block is no larger than its precinct, which holds it at half the size.
        across, down = (
            -(-side >> min(size, max(0, exponent - 1)))
            for side, size, exponent in zip(sides, block, exponents, strict=True)
        )
        blocks += across * down
    return precincts, blocks


def _number(frame: bytes | bytearray, at: int, size: int) -> int:
    return int.from_bytes(frame[at : at + size])
