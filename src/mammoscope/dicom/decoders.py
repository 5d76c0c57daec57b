"""Decoders of encapsulated frames: for each transfer syntax the fastest that is right, first.

A chain is tried in order; what fails is noted, and the result names the decoder that served.
Every decoder of every chain is tested against the same reference pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from mammoscope.dicom.codestream import read_codestream
from mammoscope.dicom.dcmtk import decode_by_dcmtk
from mammoscope.dicom.header import ImageHeader
from mammoscope.dicom.isolated import decode_apart
from mammoscope.dicom.jpeg import decode_jpeg, decode_twice
from mammoscope.dicom.jpeg2000 import decode_jpeg_2000

__all__ = ["DECODERS", "Decoder"]

#: Frame and header to (H, W) samples, halved as often as the third argument says, which is never
#: but where the decoder ``reduces``. The last takes sentences on what a reader must know.
Decode = Callable[[bytes, ImageHeader, int, list[str]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Decoder:
    """One way to decode one frame.

    Attributes:
        name: The library and its codec.
        decode: The function; raises an error of the library's own on a frame that it
            cannot read.
        reduces: It can decode at a fraction of the resolution, for a fraction of the time.
    """

    name: str
    decode: Decode
    reduces: bool = False


def _plain(codec: Callable[[bytes], NDArray[Any]]) -> Decode:
    def decode(frame: bytes, *_: object) -> NDArray[Any]:
        return codec(frame)

    return decode


def _jpeg8(frame: bytes, _: ImageHeader, __: int, notes: list[str]) -> NDArray[Any]:
    return decode_jpeg(frame, notes)


def _jpeg2k(frame: bytes, _: ImageHeader, reduction: int, __: list[str]) -> NDArray[Any]:
    return decode_jpeg_2000(frame, reduction)


def _run_length(frame: bytes, header: ImageHeader, *_: object) -> NDArray[Any]:
    kind = "u1" if header.bits_allocated == 8 else "<u2"
    values = imagecodecs.dicomrle_decode(frame, np.dtype(kind))
    samples = np.frombuffer(values, kind)
    return samples[: header.rows * header.columns].reshape(header.rows, header.columns)


def _jpegsof3(frame: bytes, header: ImageHeader, *_: object) -> NDArray[Any]:
    """Decode over black and over white: what it cannot decode it leaves as it was."""
    stream = read_codestream(frame)
    if stream is None or stream.components != 1:
        raise ValueError("the codestream is not of one component")
    kind = np.uint8 if stream.precision <= 8 else np.uint16
    black = np.zeros((header.rows, header.columns), kind)
    white = np.full_like(black, np.iinfo(kind).max)
    for canvas in (black, white):
        imagecodecs.jpegsof3_decode(frame, out=canvas)
    if not np.array_equal(black, white):
        raise ValueError("a part of the image is not there")
    return black


def _pillow(frame: bytes, _: ImageHeader, reduction: int, __: list[str]) -> NDArray[Any]:
    """Decode JPEG 2000, of which OpenJPEG in Pillow leaves finer resolutions out."""
    stream = read_codestream(frame)
    if stream is None or stream.signed or stream.components != 1 or stream.precision > 16:
        raise ValueError("Pillow decodes one component of at most 16 unsigned bits")
    with Image.open(io.BytesIO(frame), formats=("JPEG2000",)) as image:
        # Pillow reads this attribute when it loads; it then rounds the sides to the nearest
        # where the codec rounds them up, so they are made whole multiples first.
        image.reduce = reduction  # type: ignore[method-assign, assignment]
        image._size = _whole_multiples(image.size, 1 << reduction)  # noqa: SLF001
        image.load()
        values = np.asarray(image)
    # Samples of 9 to 15 bits come shifted up to fill 16.
    return values >> (16 - stream.precision) if 8 < stream.precision < 16 else values


def _whole_multiples(size: tuple[int, int], step: int) -> tuple[int, int]:
    return -(-size[0] // step) * step, -(-size[1] // step) * step


def _by_pydicom(frame: bytes, header: ImageHeader, *_: object) -> NDArray[Any]:
    """Decode by pydicom's own RLE decoder, which wants the frame encapsulated again."""
    options = _described(header)
    uid = UID(header.transfer_syntax_uid)
    return get_decoder(uid).as_array(
        encapsulate([frame]),
        raw=True,
        decoding_plugin="pydicom",
        **options | {"transfer_syntax_uid": uid},
    )[0]


def _by_gdcm(frame: bytes, header: ImageHeader, *_: object) -> NDArray[Any]:
    described = _described(header)
    if header.transfer_syntax_uid not in _LIBJPEG:
        return decode_apart("gdcm", frame, described)
    return decode_twice(frame, lambda ended: decode_apart("gdcm", ended, described))


def _by_dcmtk(frame: bytes, header: ImageHeader, *_: object) -> NDArray[Any]:
    return decode_twice(frame, lambda ended: decode_by_dcmtk(ended, header))


def _described(header: ImageHeader) -> dict[str, Any]:
    """Return what pydicom's plug-ins are told of a frame."""
    return {
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "bits_allocated": header.bits_allocated,
        "bits_stored": header.bits_stored,
        "pixel_representation": int(header.signed),
        "photometric_interpretation": header.photometric_interpretation,
        "pixel_keyword": "PixelData",
    }


# What is decoded by one libjpeg or another.
_LIBJPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)

_GDCM = Decoder("gdcm", _by_gdcm)
_DCMTK = Decoder("dcmtk dcmdjpeg", _by_dcmtk)
_JPEG = (Decoder("imagecodecs jpeg8", _jpeg8), _GDCM, _DCMTK)
_JPEG_LOSSLESS = (
    Decoder("imagecodecs jpeg8", _jpeg8),
    Decoder("imagecodecs jpegsof3", _jpegsof3),
    _GDCM,
    _DCMTK,
)
_JPEG_LS = (Decoder("imagecodecs jpegls", _plain(imagecodecs.jpegls_decode)), _GDCM)
_JPEG_2000 = (
    Decoder("imagecodecs jpeg2k", _jpeg2k, reduces=True),
    Decoder("pillow jpeg2000", _pillow, reduces=True),
    _GDCM,
)
# OpenJPEG again, and not the faster OpenJPH: imagecodecs 2026.3 ends without a word at the first
# line that OpenJPH cannot decode, and OpenJPH wraps round what its filter takes below 0 when it
# halves an image.
_HTJ2K = (
    Decoder("imagecodecs jpeg2k", _jpeg2k, reduces=True),
    Decoder("pillow jpeg2000", _pillow, reduces=True),
)

#: The chain of each encapsulated transfer syntax (PS3.5, section 10 and A.4).
DECODERS: dict[str, tuple[Decoder, ...]] = {
    RLELossless: (
        Decoder("imagecodecs dicomrle", _run_length),
        Decoder("pydicom rle", _by_pydicom),
    ),
    JPEGBaseline8Bit: _JPEG,
    JPEGExtended12Bit: _JPEG,
    JPEGLossless: _JPEG_LOSSLESS,
    JPEGLosslessSV1: _JPEG_LOSSLESS,
    JPEGLSLossless: _JPEG_LS,
    JPEGLSNearLossless: _JPEG_LS,
    JPEG2000Lossless: _JPEG_2000,
    JPEG2000: _JPEG_2000,
    HTJ2KLossless: _HTJ2K,
    HTJ2KLosslessRPCL: _HTJ2K,
    HTJ2K: _HTJ2K,
}
