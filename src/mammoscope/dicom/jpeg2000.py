"""JPEG 2000 by OpenJPEG: at a fraction of its size, and refused where its codes are damaged.

An arithmetic decoder reads any bytes as a code and never says that they make no sense. What tells
damage is where a code block's code ends: a decoder that has lost its way needs more or fewer
bytes for the coding passes that the packet header counts. OpenJPEG looks at that where the coding
style promises predictable termination (ISO/IEC 15444-1, D.4.2), and the bit of this promise changes
nothing else that it does; so the bit is set.

An image at a fraction of its size is decoded from the same packets, those of coarse resolutions
first, beneath a header that leaves the fine ones out.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from mammoscope.dicom.codestream import (
    JPEG_2000_CODING_STYLE,
    jpeg_2000_marks,
    jpeg_2000_start,
)
from mammoscope.errors import PixelDecodeError

__all__ = ["decode_jpeg_2000"]

# Fields of the coding style, from its mark on (A.6.1).
_SCOD, _LEVELS, _BLOCK_STYLE, _PRECINCTS = 4, 9, 12, 14
_OWN_PRECINCTS, _PREDICTABLE, _HIGH_THROUGHPUT = 0x01, 0x10, 0x40
# The sides of image and tile, from the start of the codestream on (A.5.1).
_SIDES = (8, 12, 24, 28)
# Bytes that are left of a whole code, or made up at its end. Encoders end codes in several ways:
# OpenJPEG, Grok, JasPer and FFmpeg 5 bytes off at most, and that only in lossy images.
_MOST_LEFT = 16
_BAD_END = re.compile(r"PTERM check failure: (\d+) (?:remaining|synthesized)")
_captured = threading.local()


def decode_jpeg_2000(frame: bytes, reduction: int) -> NDArray[Any]:
    """Decode a frame whose header was read and found sound.

    Args:
        frame: The codestream, or a JP2 file.
        reduction: How often to halve the image, at most ``Codestream.reductions`` times.

    Returns:
        (H, W) or (H, W, C) samples.

    Raises:
        PixelDecodeError: If code blocks end elsewhere than they should.
        ValueError: If it is of another kind.
        imagecodecs.Jpeg2kError: If OpenJPEG cannot decode the frame.
    """
    start = jpeg_2000_start(frame)
    if start is None:
        raise ValueError("the frame is no JPEG 2000 codestream")
    stream = bytearray(frame[start:])
    (style,) = (at for mark, at in jpeg_2000_marks(stream, 2) if mark == JPEG_2000_CODING_STYLE)
    if not stream[style + _BLOCK_STYLE] & _HIGH_THROUGHPUT:
        stream[style + _BLOCK_STYLE] |= _PREDICTABLE
    if reduction:
        _leave_out_fine(stream, style, reduction)
    with _bad_ends() as ends:
        # One thread: it is this thread's warnings that are taken.
        values = imagecodecs.jpeg2k_decode(bytes(stream), verbose=2, numthreads=1)
    damaged = [end for end in ends if end > _MOST_LEFT]
    if damaged:
        raise PixelDecodeError(
            f"the JPEG 2000 codestream has {len(damaged)} damaged code blocks: their codes end "
            f"up to {max(damaged)} bytes from where they should"
        )
    return values


def _leave_out_fine(stream: bytearray, style: int, reduction: int) -> None:
    """Change the header to that of the image halved so often; packets beyond are not read."""
    if stream[style + _SCOD] & _OWN_PRECINCTS:
        # One size for each resolution, the coarsest first.
        last = style + _PRECINCTS + stream[style + _LEVELS]
        del stream[last + 1 - reduction : last + 1]
        length = int.from_bytes(stream[style + 2 : style + 4])
        stream[style + 2 : style + 4] = (length - reduction).to_bytes(2)
    stream[style + _LEVELS] -= reduction
    for at in _SIDES:
        side = int.from_bytes(stream[at : at + 4])
        stream[at : at + 4] = (-(-side >> reduction)).to_bytes(4)


@contextmanager
def _bad_ends() -> Iterator[list[int]]:
    """Give the list that takes what OpenJPEG says of ends while this thread decodes."""
    ends: list[int] = []
    _captured.ends = ends
    try:
        yield ends
    finally:
        del _captured.ends


class _Listener(logging.Logger):
    """Takes OpenJPEG's warnings, which imagecodecs logs, out of the log of a thread of ours.

    A logger and not a filter or a handler of one: those hear nothing where the program that uses us
    has turned warnings off, and damaged images would pass.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802, as logging names it
        return hasattr(_captured, "ends") or super().isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        ends = getattr(_captured, "ends", None)
        if ends is None:
            super().handle(record)
            return
        found = _BAD_END.search(record.getMessage())
        if found:
            ends.append(int(found[1]))


# By its class, since imagecodecs and the program may hold the logger already.
logging.getLogger("imagecodecs").__class__ = _Listener
