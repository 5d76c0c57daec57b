"""JPEG frames by libjpeg-turbo, refused where their data end before their image does.

libjpeg fills what is missing and tells a log that nobody is given. So the frame is decoded with
bits of our own between its data and its end mark: of a sound frame no pixel depends on them. Which
bits a decoder has read is seen in one line more than the image has (lossless, one scan), or by
decoding twice, with other bits the second time.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from mammoscope.dicom.codestream import JPEG_END, START_OF_SCAN, jpeg_marks
from mammoscope.errors import PixelDecodeError

__all__ = ["decode_jpeg", "decode_twice"]

# Frames of blocks in one scan: baseline, and extended of 8 or 12 bits (table B.1).
_OF_BLOCKS = (0xC0, 0xC1)
_LOSSLESS_FRAME, _HUFFMAN_TABLES, _RESTART_INTERVAL = 0xC3, 0xC4, 0xDD
# Marks may be preceded by bytes that fill (B.1.1.2).
_RESTARTS = re.compile(rb"\xff+[\xd0-\xd7]")
# Of pi, so of no pattern that an image has; neither it nor its complement holds a mark.
_BITS = bytes.fromhex("243f6a8885a308d313198a2e03707344a4093822299f31d0082e") * 4
_OTHER_BITS = bytes(byte ^ 0xFF for byte in _BITS)
# Samples of the additional line that must be those of our bits, and are looked at most.
_FEWEST, _MOST = 8, 32
_MOST_ROWS = 0xFFFF - 16


def decode_jpeg(frame: bytes, notes: list[str]) -> NDArray[Any]:
    """Decode a JPEG frame, baseline to lossless, of any precision.

    Args:
        frame: The frame with its end mark.
        notes: Takes a sentence if the frame holds more than its image.

    Returns:
        (H, W) or (H, W, C) samples.

    Raises:
        PixelDecodeError: If the data end before the image does, or go on after it with more than
            zeros: codes within it are damaged, and what follows them stands in the wrong place.
        imagecodecs.Jpeg8Error: If libjpeg-turbo cannot decode the frame.
    """
    scan = _read_scan(frame)
    ends: bool | None = None
    if scan is None or scan.components != 1 or scan.rows > _MOST_ROWS:
        values = decode_twice(frame, imagecodecs.jpeg8_decode)
    elif scan.mark in _OF_BLOCKS:
        values, ends = _decode_blocks(frame, scan)
    else:
        values, ends = _decode_lossless(frame, scan)
    if scan is not None and ends is False:
        _refuse_excess(frame, scan)
        notes.append("the codestream goes on with zeros where its image ends")
    return values


def decode_twice(frame: bytes, codec: Callable[[bytes], NDArray[Any]]) -> NDArray[Any]:
    """Decode with two sets of bits after the data; pixels differ where a decoder reads them.

    Raises:
        PixelDecodeError: If the data end before the image does.
    """
    scan = _read_scan(frame) or _Scan()
    first, second = (codec(_ended_with(frame, scan, bits)) for bits in (_BITS, _OTHER_BITS))
    _refuse_difference(first, second)
    return first


def _decode_blocks(frame: bytes, scan: _Scan) -> tuple[NDArray[Any], bool | None]:
    """Decode 8 x 8 blocks twice, and one below them: of it, all bits are ours (A.2.3)."""
    below = -(-scan.rows // 8) * 8
    first, second = (
        imagecodecs.jpeg8_decode(_ended_with(frame, scan, bits, below + 8))
        for bits in (_BITS, _OTHER_BITS)
    )
    _refuse_difference(first[: scan.rows], second[: scan.rows])
    if scan.restarts:
        # Below the last mark that a decoder waits for, nothing is read at all.
        return first[: scan.rows], None
    return first[: scan.rows], not np.array_equal(first[below:, :8], second[below:, :8])


def _decode_lossless(frame: bytes, scan: _Scan) -> tuple[NDArray[Any], bool | None]:
    """Decode once, if the line below the image shows that its bits are all ours."""
    if scan.traceable:
        values: NDArray[Any] = imagecodecs.jpeg8_decode(
            _ended_with(frame, scan, _BITS, scan.rows + 1)
        )
        ends = _follows_the_data(values, scan, frame)
        if ends:
            return values[:-1], True
    else:
        ends = None
    return decode_twice(frame, imagecodecs.jpeg8_decode), ends


def _refuse_excess(frame: bytes, scan: _Scan) -> None:
    """Refuse data that go on below the image, unless all that goes on is zeros."""
    end = _end_of_data(frame)
    bare = frame[scan.data : end].rstrip(b"\0")
    decode = _decode_blocks if scan.mark in _OF_BLOCKS else _decode_lossless
    try:
        ends = decode(frame[: scan.data] + bare + JPEG_END, scan)[1]
    except PixelDecodeError:
        # Some of the zeros are codes of the image, which ends among them.
        return
    if len(bare) == end - scan.data or not ends:
        raise PixelDecodeError(
            "the JPEG codestream goes on where its image ends: some of its codes are damaged, and "
            "what follows them stands in the wrong place"
        )


def _refuse_difference(first: NDArray[Any], second: NDArray[Any]) -> None:
    if not np.array_equal(first, second):
        line = int(np.argmax((first != second).ravel())) // first[0].size
        raise PixelDecodeError(
            f"the JPEG codestream's data end before its image: from line {line + 1} of "
            f"{first.shape[0]} on, pixels would be invented"
        )


def _ended_with(frame: bytes, scan: _Scan, bits: bytes, rows: int | None = None) -> bytes:
    """Put bits before every mark that ends entropy-coded data: restarts, and the end.

    Args:
        frame: The frame, which is large, so that it is copied once.
        scan: Where its data begin.
        bits: What to put.
        rows: Another height for the frame.
    """
    head = bytearray(frame[: scan.data])
    if rows is not None:
        struct.pack_into(">H", head, scan.frame_header + 5, rows)
    data: bytes | memoryview = memoryview(frame)[scan.data : _end_of_data(frame)]
    if scan.restarts:
        data = _RESTARTS.sub(lambda mark: bits + mark[0], data)
    return b"".join((head, data, bits, JPEG_END))


def _end_of_data(frame: bytes) -> int:
    end = frame.rindex(JPEG_END)
    while frame[end - 1] == 0xFF:
        end -= 1
    return end


@dataclass(slots=True)
class _Scan:
    """What a frame says of itself before its data (ISO/IEC 10918-1, B.2)."""

    mark: int = 0
    frame_header: int = 0
    rows: int = 0
    columns: int = 0
    restarts: bool = False
    tables: dict[int, dict[tuple[int, int], int]] = field(default_factory=dict)
    table: int = 0
    predictor: int = 0
    shift: int = 0
    components: int = 0
    data: int = 0

    @property
    def traceable(self) -> bool:
        """One line more shows what a decoder of the lossless frame read last."""
        return (
            self.mark == _LOSSLESS_FRAME
            and not self.restarts
            and not self.shift
            and self.table in self.tables
            and self.predictor in range(1, 8)
            and self.columns >= _MOST
        )


def _read_scan(frame: bytes) -> _Scan | None:
    """Read all segments before the first entropy-coded data."""
    scan = _Scan()
    for mark, at in jpeg_marks(frame):
        end = at + 2 + int.from_bytes(frame[at + 2 : at + 4])
        segment = frame[at + 4 : end]
        if mark in (*_OF_BLOCKS, _LOSSLESS_FRAME) and len(segment) >= 6:
            scan.mark, scan.frame_header = mark, at
            _, scan.rows, scan.columns = struct.unpack_from(">BHH", segment)
        elif mark == _HUFFMAN_TABLES:
            scan.tables |= _read_tables(segment)
        elif mark == _RESTART_INTERVAL:
            scan.restarts = any(segment)
        elif mark == START_OF_SCAN and len(segment) >= 6:
            scan.components, scan.table = segment[0], segment[2] >> 4
            scan.predictor, scan.shift = segment[-3], segment[-1] & 15
            scan.data = end
            return scan
    return None


def _read_tables(segment: bytes) -> dict[int, dict[tuple[int, int], int]]:
    """Return categories by length and code, of the tables of one segment (B.2.4.2, annex C)."""
    tables = {}
    while len(segment) >= 17:
        lengths, symbols = segment[1:17], iter(segment[17 : 17 + sum(segment[1:17])])
        codes, code = {}, 0
        for length, count in enumerate(lengths, start=1):
            for symbol in islice(symbols, count):
                codes[length, code] = symbol
                code += 1
            code <<= 1
        tables[segment[0]] = codes
        segment = segment[17 + sum(lengths) :]
    return tables


def _follows_the_data(values: NDArray[Any], scan: _Scan, frame: bytes) -> bool | None:
    """Tell whether the additional line begins with our bits, after at most 7 that fill a byte.

    ``None`` if it cannot be told: a table of few codes gives most bits no meaning.
    """
    end = _end_of_data(frame)
    tail = frame[end - 2 : end]
    last = 0xFF if tail == b"\xff\0" else tail[-1]
    ours = "".join(f"{byte:08b}" for byte in _BITS)
    above, line = (row[:_MOST].tolist() for row in values[-2:])
    told = False
    for filling in range(8):
        bits = f"{last:08b}"[8 - filling :] + ours
        differences = list(islice(_differences(bits, scan.tables[scan.table]), _MOST))
        if len(differences) < _FEWEST:
            continue
        told = True
        due = _restored(differences, above, scan.predictor)
        if [value & (1 << 8 * values.itemsize) - 1 for value in due] == line[: len(due)]:
            return True
    return False if told else None


def _restored(differences: list[int], above: list[int], predictor: int) -> list[int]:
    """Return the first samples of a line below the first, modulo 2**16 (H.1.2.1, table H.1)."""
    line: list[int] = []
    for at, difference in enumerate(differences):
        up = above[at]
        left, corner = (line[at - 1], above[at - 1]) if at else (up, up)
        prediction = (
            left,
            up,
            corner,
            left + up - corner,
            left + ((up - corner) >> 1),
            up + ((left - corner) >> 1),
            (left + up) >> 1,
        )[predictor - 1 if at else 1]
        line.append(prediction + difference & 0xFFFF)
    return line


def _differences(bits: str, codes: dict[tuple[int, int], int]) -> Iterator[int]:
    """Decode differences up to the end of the bits, or to a code that means nothing (H.1.2.2)."""
    at = 0
    while True:
        for length in range(1, 17):
            category = codes.get((length, int(bits[at : at + length] or "0", 2)))
            if category is not None:
                break
        else:
            return
        at += length
        more = bits[at : at + category] if category < 16 else ""
        at += len(more)
        if at > len(bits) - 16:
            return
        if category == 16:
            yield 1 << 15
        elif category == 0:
            yield 0
        else:
            value = int(more, 2)
            yield value if more[0] == "1" else value - (1 << category) + 1
