"""Mutations of compressed pixel data: encapsulation, JPEG and JPEG 2000 headers, RLE."""

from __future__ import annotations

import struct
from random import Random

from pydicom.encaps import encapsulate

from fuzz.raw import UNDEFINED, RawFile
from fuzz.registry import damaged, mutation

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_BIG = (0, 1, 2, 61, 255, 256, 4096, 9000, 32768, 65535)
_HUGE = (0, 1, 2, 44, 45, 46, 61, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@mutation
def encapsulation_faults(file: RawFile, draw: Random) -> bool | None:
    fragments = file.fragments()
    pixels = file.get("PixelData")
    if not fragments or pixels is None:
        return False
    frame = b"".join(fragments)
    kinds = {
        "offset table of garbage": lambda: _item(draw.randbytes(40)) + _item(frame),
        "offset table that points out": lambda: _item(struct.pack("<I", 1 << 30)) + _item(frame),
        "offset table of odd length": lambda: _item(b"abc") + _item(frame),
        "no offset table": lambda: _item(frame),
        "many empty fragments": lambda: _item(b"") * draw.choice((50, 100_000)) + _item(frame),
        "empty fragments after": lambda: _item(b"") + _item(frame) + _item(b"") * 20_000,
        "in small pieces": lambda: b"".join(
            [_item(b""), *(_item(frame[at : at + 16]) for at in range(0, len(frame), 16))]
        ),
        "fragment longer than it is": lambda: _item(b"") + _item(frame, draw.choice(_HUGE)),
        "items of other tags": lambda: _item(b"") + b"\xfe\xff\x0d\xe0" + _item(frame)[4:],
        "nothing": lambda: draw.choice((b"", _item(b""), _item(b"") + _item(b""))),
        "an end in the middle": lambda: _item(b"") + _END + bytes(4) + _item(frame),
        "not encapsulated": lambda: frame,
        "of known length": lambda: encapsulate([frame]),
        "two frames": lambda: encapsulate([frame, frame]),
    }
    kind = draw.choice(list(kinds))
    pixels.value = kinds[kind]()
    pixels.length = None if kind in ("of known length", "not encapsulated") else UNDEFINED
    return None


@mutation
def missing_delimiter(file: RawFile, draw: Random) -> bytes | bool:
    if file.fragments() is None:
        return False
    whole = file.to_bytes()
    return whole[: whole.rindex(_END)] + draw.choice((b"", b"\0" * 8, _item(b"")))


@mutation
def extended_offsets(file: RawFile, draw: Random) -> bool | None:
    """Extended Offset Table (7FE0,0001) that points anywhere."""
    if file.fragments() is None:
        return False
    file.set("ExtendedOffsetTable", draw.randbytes(draw.choice((8, 16, 7))), "OV")
    file.set("ExtendedOffsetTableLengths", draw.randbytes(8), "OV")
    return None


@mutation
def frame_damaged(file: RawFile, draw: Random) -> bool | None:
    return _reframed(file, lambda frame: damaged(frame, draw))


@mutation
def frame_header_damaged(file: RawFile, draw: Random) -> bool | None:
    size = draw.choice((64, 128, 256))
    return _reframed(file, lambda frame: damaged(frame[:size], draw, 3) + frame[size:])


@mutation
def frame_bits_damaged(file: RawFile, draw: Random) -> bool | None:
    """Entropy-coded data flipped; all headers stay as they are."""
    return _reframed(file, lambda frame: frame[:200] + damaged(frame[200:-2], draw) + frame[-2:])


@mutation
def frame_cut_but_ended(file: RawFile, draw: Random) -> bool | None:
    return _reframed(file, lambda frame: frame[: draw.randrange(len(frame))] + frame[-2:])


@mutation
def frame_of_garbage(file: RawFile, draw: Random) -> bool | None:
    size = draw.choice((0, 1, 2, 64, 5000))
    return _reframed(file, lambda frame: frame[: draw.choice((0, 2, 4))] + draw.randbytes(size))


@mutation
def jpeg_frame_header(file: RawFile, draw: Random) -> bool | None:
    """SOF and SOF55: precision, size, components, sampling; the header may go along."""

    def change(frame: bytes) -> bytes | None:
        at = _jpeg_marker(frame, range(0xC0, 0xD0)) or _jpeg_marker(frame, (0xF7,))
        if at is None:
            return None
        broken = bytearray(frame)
        kind = draw.randrange(6)
        if kind == 0:
            broken[at + 4] = draw.choice((0, 1, 2, 8, 12, 16, 17, 255))
        elif kind in (1, 2):
            rows, columns = draw.choice(_BIG), draw.choice(_BIG)
            broken[at + 5 : at + 9] = struct.pack(">HH", rows, columns)
            if kind == 2:
                file.set("Rows", rows)
                file.set("Columns", columns)
        elif kind == 3:
            broken[at + 9] = draw.choice((0, 2, 3, 4, 255))
        elif kind == 4:
            broken[at + 11] = draw.choice((0, 0x12, 0x21, 0x44, 0xFF))
        else:
            broken[at + 1] = draw.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCB, 0xCD, 0xF7))
        return bytes(broken)

    return _reframed(file, change)


@mutation
def jpeg_bomb(file: RawFile, draw: Random) -> bool | None:
    """A few thousand bytes that say they are tens of millions of pixels; header agrees."""

    def change(frame: bytes) -> bytes | None:
        at = _jpeg_marker(frame, (*range(0xC0, 0xD0), 0xF7))
        if at is None:
            return None
        rows, columns = draw.choice(((9000, 9000), (65535, 1296), (1, 65535), (65535, 65535)))
        file.set("Rows", rows)
        file.set("Columns", columns)
        return frame[: at + 5] + struct.pack(">HH", rows, columns) + frame[at + 9 :]

    return _reframed(file, change)


@mutation
def jpeg_segments(file: RawFile, draw: Random) -> bool | None:
    """Markers told twice, missing, of wrong length; a second frame header; many scans."""

    def change(frame: bytes) -> bytes | None:
        markers = _jpeg_markers(frame)
        if not markers:
            return None
        at, size = draw.choice(markers)
        segment = frame[at : at + 2 + size]
        kind = draw.randrange(6)
        if kind == 0:
            return frame[:at] + frame[at + 2 + size :]
        if kind == 1:
            return frame[:at] + segment * draw.choice((2, 3, 5000)) + frame[at + 2 + size :]
        if kind == 2:
            lie = struct.pack(">H", draw.choice((0, 1, 2, size + 1, 0xFFFF)))
            return frame[: at + 2] + lie + frame[at + 4 :]
        if kind == 3:
            return frame[:at] + segment[:4] + damaged(segment[4:], draw) + frame[at + 2 + size :]
        if kind == 4:
            interval = b"\xff\xdd\0\4" + struct.pack(">H", draw.choice((0, 1, 3, 65535)))
            return frame[:at] + interval + frame[at:]
        start = markers[-1][0]
        scans = frame[start:-2] * draw.choice((2, 20, 500 if len(frame) < 9000 else 2))
        return frame[:start] + scans + frame[-2:]

    return _reframed(file, change)


@mutation
def jpeg_hidden_size(file: RawFile, draw: Random) -> bool | None:
    """A frame header before the true one, or hidden in a comment, of another size."""

    def change(frame: bytes) -> bytes | None:
        at = _jpeg_marker(frame, (*range(0xC0, 0xD0), 0xF7))
        if at is None:
            return None
        size = struct.unpack(">H", frame[at + 2 : at + 4])[0]
        said = frame[at : at + 2 + size]
        other = said[:5] + struct.pack(">HH", *draw.choice(((65535, 65535), (1, 1)))) + said[9:]
        if draw.random() < 0.5:
            return frame[:at] + said + other + frame[at + 2 + size :]
        comment = b"\xff\xfe" + struct.pack(">H", 2 + len(said)) + said
        return frame[:at] + comment + other + frame[at + 2 + size :]

    return _reframed(file, change)


@mutation
def jpeg_2000_size(file: RawFile, draw: Random) -> bool | None:
    """SIZ: image, offset and tile sizes, components, precision, subsampling."""

    def change(frame: bytes) -> bytes | None:
        siz = frame.find(b"\xff\x4f\xff\x51")
        if siz < 0:
            return None
        broken = bytearray(frame)
        for _ in range(draw.randint(1, 2)):
            kind = draw.randrange(5)
            if kind == 0:
                at = siz + draw.choice((8, 12, 16, 20, 24, 28, 32, 36))
                broken[at : at + 4] = struct.pack(">I", draw.choice(_HUGE))
            elif kind == 1:
                count = draw.choice((0, 2, 3, 255, 16384, 65535))
                broken[siz + 40 : siz + 42] = struct.pack(">H", count)
            elif kind == 2:
                broken[siz + 42] = draw.choice((0, 7, 11, 15, 31, 37, 38, 0x7F, 0x8B, 0xFF))
            elif kind == 3:
                broken[siz + draw.choice((43, 44))] = draw.choice((0, 2, 16, 255))
            else:
                broken[siz + 6 : siz + 8] = draw.randbytes(2)
        return bytes(broken)

    return _reframed(file, change)


@mutation
def jpeg_2000_bomb(file: RawFile, draw: Random) -> bool | None:
    """SIZ and header agree on tens of millions of pixels, in one tile or many."""

    def change(frame: bytes) -> bytes | None:
        siz = frame.find(b"\xff\x4f\xff\x51")
        if siz < 0:
            return None
        rows, columns = draw.choice(((9000, 9000), (9200, 9200), (65535, 1290), (65535, 65535)))
        tile = draw.choice(((columns, rows), (64, 64), (1, 1), (150, 150), (2048, 2048)))
        sizes = struct.pack(">8I", columns, rows, 0, 0, *tile, 0, 0)
        file.set("Rows", rows)
        file.set("Columns", columns)
        return frame[: siz + 8] + sizes + frame[siz + 40 :]

    return _reframed(file, change)


@mutation
def jpeg_2000_coding(file: RawFile, draw: Random) -> bool | None:
    """COD: progression, layers, levels, code blocks, transform, precincts."""

    def change(frame: bytes) -> bytes | None:
        cod = frame.find(b"\xff\x52", max(0, frame.find(b"\xff\x4f\xff\x51")))
        if cod < 0:
            return None
        broken = bytearray(frame)
        for _ in range(draw.randint(1, 3)):
            kind = draw.randrange(4)
            if kind == 0:
                layers = draw.choice((0, 1, 2, 1000, 65535))
                broken[cod + 6 : cod + 8] = struct.pack(">H", layers)
            elif kind == 1:
                broken[cod + 9] = draw.choice((0, 1, 5, 6, 31, 32, 33, 255))
            elif kind == 2:
                broken[cod + 4 + draw.choice((0, 1))] = draw.choice((0, 1, 4, 5, 7, 255))
            else:
                broken[cod + draw.choice((10, 11, 12, 13))] = draw.choice((0, 1, 8, 10, 64, 255))
        return bytes(broken)

    return _reframed(file, change)


@mutation
def jpeg_2000_segments(file: RawFile, draw: Random) -> bool | None:
    """Any marker segment repeated, dropped, damaged; tile parts that lie about their length."""

    def change(frame: bytes) -> bytes | None:
        start = frame.find(b"\xff\x4f\xff\x51")
        if start < 0:
            return None
        kind = draw.randrange(4)
        marks = (b"\xff\x90", b"\xff\x5c", b"\xff\x52", b"\xff\x64", b"\xff\x93", b"\xff\x50")
        found = [at for at in (frame.find(mark, start) for mark in marks) if at > 0]
        at = draw.choice(found)
        size = min(struct.unpack(">H", frame[at + 2 : at + 4])[0], 200)
        segment = frame[at : at + 2 + size]
        if kind == 0:
            return frame[:at] + segment * draw.choice((2, 300)) + frame[at + 2 + size :]
        if kind == 1:
            return frame[:at] + frame[at + 2 + size :]
        if kind == 2:
            sot = frame.find(b"\xff\x90", start)
            lie = struct.pack(
                ">HIBB", draw.choice((0, 1, 65535)), draw.choice((12, 14, *_HUGE)), 0, 255
            )
            return frame[: sot + 4] + lie + frame[sot + 12 :]
        return frame[: at + 2] + damaged(segment[2:], draw, 3) + frame[at + 2 + size :]

    return _reframed(file, change)


@mutation
def jpeg_2000_hidden_size(file: RawFile, draw: Random) -> bool | None:
    """A box before the codestream that looks like one of the size the header says."""

    def change(frame: bytes) -> bytes | None:
        siz = frame.find(b"\xff\x4f\xff\x51")
        if siz < 0:
            return None
        decoy = frame[siz : siz + 60]
        true = frame[siz:]
        sizes = struct.pack(">2I", *draw.choice(((65535, 65535), (30000, 30000), (1, 1))))
        true = true[:8] + sizes + true[16:24] + sizes + true[32:]
        box = struct.pack(">I4s", 8 + len(decoy), b"free") + decoy
        signature = bytes.fromhex("0000000c6a5020200d0a870a")
        head = frame[:siz] if siz else signature
        return head[:12] + box + head[12:] + true

    return _reframed(file, change)


@mutation
def rle_header(file: RawFile, draw: Random) -> bool | None:
    if not (file.frame() or b"").startswith((b"\1\0\0\0", b"\2\0\0\0")):
        return False

    def change(frame: bytes) -> bytes:
        broken = bytearray(frame)
        count = draw.choice((0, 1, 2, 3, 15, 16, 255, 0xFFFFFFFF))
        if draw.random() < 0.6:
            broken[:4] = struct.pack("<I", count)
        for _ in range(draw.randint(0, 3)):
            at = 4 * draw.randint(1, 15)
            broken[at : at + 4] = struct.pack("<I", draw.choice((*_HUGE, 64, len(frame))))
        return bytes(broken)

    return _reframed(file, change)


@mutation
def rle_runs(file: RawFile, draw: Random) -> bool | None:
    """Runs beyond the image, literals beyond the data, and no runs at all."""
    if not (file.frame() or b"").startswith((b"\1\0\0\0", b"\2\0\0\0")):
        return False
    body = draw.choice((b"\x81\xff" * 50_000, b"\x80" * 1000, b"\x7f" * 3, b"\0", b""))
    if draw.random() < 0.4:
        file.set("Rows", 9000)
        file.set("Columns", 9000)
    return _reframed(file, lambda frame: frame[:64] + body)


def _item(value: bytes, length: int | None = None) -> bytes:
    return _ITEM + struct.pack("<I", len(value) if length is None else length) + value


def _reframed(file: RawFile, change) -> bool | None:
    frame = file.frame()
    changed = None if frame is None else change(frame)
    if changed is None:
        return False
    file.set_frame(changed)
    return None


def _jpeg_markers(frame: bytes) -> list[tuple[int, int]]:
    """(where, length) of each marker segment up to the first scan."""
    found, at = [], 2
    while frame.startswith(b"\xff\xd8") and at + 4 <= len(frame) and frame[at] == 0xFF:
        size = struct.unpack(">H", frame[at + 2 : at + 4])[0]
        found.append((at, size))
        if frame[at + 1] == 0xDA:
            break
        at += 2 + size
    return found


def _jpeg_marker(frame: bytes, marks) -> int | None:
    tables = (0xC4, 0xC8, 0xCC)
    return next(
        (
            at
            for at, _ in _jpeg_markers(frame)
            if frame[at + 1] in marks and frame[at + 1] not in tables
        ),
        None,
    )
