"""Mutations of plain pictures: PNG, JPEG, TIFF, PGM."""

from __future__ import annotations

import functools
import struct
import zlib
from random import Random

import cv2
import numpy as np

from fixtures.images import breast_pixels
from fuzz.registry import damaged, picture_mutation

_SIDES = (0, 1, 2, 255, 9000, 30000, 65535, 0x7FFFFFFF, 0xFFFFFFFF)


@functools.cache
def pictures() -> dict[str, tuple[str, bytes]]:
    """(suffix, bytes) of sound pictures by name."""
    deep = breast_pixels(120, 90) * 16
    flat = (deep // 256).astype(np.uint8)
    colour = np.dstack([flat, flat, flat])
    made = {
        "png_16": (".png", deep),
        "png_8": (".png", flat),
        "png_rgb": (".png", colour),
        "jpeg": (".jpg", flat),
        "tiff_16": (".tif", deep),
        "tiff_8": (".tiff", flat),
        "pgm_16": (".pgm", deep),
        "pgm_8": (".pgm", flat),
    }
    return {
        name: (suffix, cv2.imencode(suffix, a)[1].tobytes()) for name, (suffix, a) in made.items()
    }


@picture_mutation
def picture_damaged(data: bytes, draw: Random) -> bytes:
    return damaged(data, draw)


@picture_mutation
def picture_head_damaged(data: bytes, draw: Random) -> bytes:
    size = draw.choice((16, 40, 128))
    return damaged(data[:size], draw, 3) + data[size:]


@picture_mutation
def picture_cut(data: bytes, draw: Random) -> bytes:
    return data[: draw.randrange(len(data))]


@picture_mutation
def picture_of_another(data: bytes, draw: Random) -> bytes:
    other = draw.choice(list(pictures().values()))[1]
    return draw.choice((other, data[: draw.randrange(len(data))] + other, b"", b"P5\n"))


@picture_mutation
def png_chunks(data: bytes, draw: Random) -> bytes | None:
    """IHDR and chunks that lie, with checksums that are right."""
    if not data.startswith(b"\x89PNG"):
        return None
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    for _ in range(draw.randint(1, 2)):
        kind = draw.randrange(4)
        if kind == 0:
            width = draw.choice(_SIDES)
        elif kind == 1:
            height = draw.choice(_SIDES)
        elif kind == 2:
            depth = draw.choice((0, 1, 2, 4, 8, 16, 32))
        else:
            colour = draw.choice((0, 2, 3, 4, 6, 7))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, draw.choice((0, 1, 9)))
    return data[:8] + _chunk(b"IHDR", header) + data[33:]


@picture_mutation
def png_bomb(data: bytes, draw: Random) -> bytes | None:
    """Few bytes that inflate to as many pixels as the header says."""
    if not data.startswith(b"\x89PNG"):
        return None
    side, colour, channels = draw.choice(((8000, 0, 1), (9000, 6, 4), (16000, 6, 4)))
    header = struct.pack(">IIBBBBB", side, side, 16, colour, 0, 0, 0)
    deflater = zlib.compressobj(9)
    line = bytes(1 + side * channels * 2)
    lines = draw.choice((10, 2000))
    body = b"".join(deflater.compress(line) for _ in range(lines)) + deflater.flush()
    comment = _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50 << 20), 9))
    return data[:8] + _chunk(b"IHDR", header) + comment + _chunk(b"IDAT", body) + data[-12:]


@picture_mutation
def tiff_fields(data: bytes, draw: Random) -> bytes | None:
    """Entries of the first directory: sizes, bits, compression, strips."""
    if not data.startswith(b"II*\0"):
        return None
    at = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[at : at + 2])[0]
    broken = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        entry = at + 2 + 12 * draw.randrange(count)
        kind = draw.randrange(4)
        if kind == 0:
            broken[entry + 8 : entry + 12] = struct.pack("<I", draw.choice(_SIDES))
        elif kind == 1:
            broken[entry + 2 : entry + 4] = struct.pack("<H", draw.choice((0, 1, 3, 4, 5, 12, 99)))
        elif kind == 2:
            broken[entry + 4 : entry + 8] = struct.pack("<I", draw.choice(_SIDES))
        else:
            value = draw.choice((1, 2, 5, 7, 8, 32, 64, 34712, 50000))
            broken[entry + 8 : entry + 12] = struct.pack("<I", value)
    return bytes(broken)


@picture_mutation
def tiff_round_trip(data: bytes, draw: Random) -> bytes | None:
    """A directory that names itself as the next one."""
    if not data.startswith(b"II*\0"):
        return None
    at = struct.unpack("<I", data[4:8])[0]
    end = at + 2 + 12 * struct.unpack("<H", data[at : at + 2])[0]
    return data[:end] + struct.pack("<I", draw.choice((at, 0, 4, 0xFFFFFFFF))) + data[end + 4 :]


@picture_mutation
def pgm_header(data: bytes, draw: Random) -> bytes | None:
    if not data.startswith(b"P5"):
        return None
    words = (*map(str, _SIDES), "-1", "9" * 50, "x", "")
    head = f"{draw.choice(('P5', 'P2', 'P6', 'P4'))}\n{draw.choice(words)} {draw.choice(words)}\n"
    return (head + draw.choice(("255\n", "65535\n", "0\n", "99999\n", ""))).encode() + data[15:]


@picture_mutation
def jpeg_picture_size(data: bytes, draw: Random) -> bytes | None:
    at = data.find(b"\xff\xc0")
    if at < 0 or not data.startswith(b"\xff\xd8"):
        return None
    sides = struct.pack(">HH", *(draw.choice((0, 1, 9000, 30000, 65535)) for _ in range(2)))
    return data[: at + 5] + sides + data[at + 9 :]


def _chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
