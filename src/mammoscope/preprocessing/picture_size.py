"""What a plain picture says of itself, read before OpenCV makes room for it."""

from __future__ import annotations

import re
import struct

from mammoscope.dicom.codestream import read_codestream

__all__ = ["decoded_bytes", "is_white_at_zero", "white_level"]

_PNG, _PNM = b"\x89PNG\r\n\x1a\n", re.compile(rb"P[25]((?:\s+|#[^\n]*\n)+(\d{1,9})){3}\s")
# Samples of a pixel by PNG's colour type (ISO/IEC 15948, table 11.1); a palette's are three.
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
# TIFF 6.0, section 8 and 15: the fields that a reader's buffers follow.
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 277, 322, 323
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_TIFF_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}


def decoded_bytes(data: bytes) -> tuple[int, int] | None:
    """Return the pixels and the bytes that a picture decodes to; ``None`` if it cannot say.

    Args:
        data: A PNG, TIFF, PGM or JPEG file.
    """
    try:
        if data.startswith(_PNG):
            width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
            return width * height, width * height * _PNG_SAMPLES[colour] * max(1, depth // 8)
        if data.startswith(b"\xff\xd8"):
            stream = read_codestream(data)
            pixels = stream.rows * stream.columns if stream else 0
            return (pixels, pixels * stream.components) if stream else None
        if data.startswith((b"II", b"MM")):
            return _tiff(_first_directory(data))
        return _pnm(data)
    except (struct.error, KeyError):
        return None


def _tiff(fields: dict[int, int]) -> tuple[int, int]:
    pixels = fields[_WIDTH] * fields[_HEIGHT]
    tile = fields.get(_TILE_WIDTH, 0) * fields.get(_TILE_HEIGHT, 0)
    each = fields.get(_SAMPLES, 1) * max(1, fields.get(_BITS, 1) // 8)
    return max(pixels, tile), max(pixels, tile) * each


def _first_directory(data: bytes) -> dict[int, int]:
    """Read the first value of each short field of the first directory."""
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack(f"{order}I", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[at : at + 2])
    fields: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack(f"{order}HHI", data[entry : entry + 8])
        if kind not in _TIFF_TYPES:
            continue
        letter, size = _TIFF_TYPES[kind]
        where = entry + 8
        if values * size > 4:
            (where,) = struct.unpack(f"{order}I", data[where : where + 4])
        found = data[where : where + size]
        # A field told twice: the larger counts, whichever a reader takes.
        fields[tag] = max(fields.get(tag, 0), *struct.unpack(f"{order}{letter}", found))
    return fields


def is_white_at_zero(data: bytes) -> bool:
    """Say whether a TIFF's low values are white; OpenCV turns 8 bits round, and 16 not."""
    if not data.startswith((b"II", b"MM")):
        return False
    return _first_directory(data).get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def white_level(data: bytes) -> int | None:
    """Return the value that a PGM calls white; OpenCV leaves values as they are stored."""
    head = _pnm_header(data)
    return head[2] if head else None


def _pnm(data: bytes) -> tuple[int, int] | None:
    head = _pnm_header(data)
    if head is None:
        return None
    width, height, most = head
    return width * height, width * height * (1 if most < 256 else 2)


def _pnm_header(data: bytes) -> tuple[int, int, int] | None:
    """Return width, height and the largest value of a PGM."""
    head = _PNM.match(data[:4096])
    if head is None:
        return None
    text = re.sub(rb"#[^\n]*\n", b" ", head.group(0))
    width, height, most = (int(word) for word in text.split()[1:4])
    return width, height, most
