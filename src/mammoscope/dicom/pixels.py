"""Pixel data to a (H, W) array of stored values, through the fastest decoder that is right.

imagecodecs reads what it can; where it fails or has no codec, pydicom tries every
plug-in that is installed (GDCM comes with mammoscope). The result names the decoder.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from mammoscope.dicom.codestream import ends_early, frame_size
from mammoscope.dicom.header import DicomFile, ImageHeader, tag_name
from mammoscope.errors import PixelDecodeError
from mammoscope.log import get_logger

__all__ = ["CODECS", "DecodedPixels", "decode"]

_log = get_logger(__name__)

# Four times the largest detector's; more would fill the memory from a file of a few bytes.
_MOST_PIXELS = 100_000_000

#: imagecodecs' decoder for each encapsulated transfer syntax it serves.
CODECS: dict[str, Callable[[bytes], NDArray[Any]]] = {
    JPEG2000Lossless: imagecodecs.jpeg2k_decode,
    JPEG2000: imagecodecs.jpeg2k_decode,
    JPEGLossless: imagecodecs.jpeg_decode,
    JPEGLosslessSV1: imagecodecs.jpeg_decode,
    JPEGBaseline8Bit: imagecodecs.jpeg_decode,
    JPEGExtended12Bit: imagecodecs.jpeg_decode,
    JPEGLSLossless: imagecodecs.jpegls_decode,
    JPEGLSNearLossless: imagecodecs.jpegls_decode,
}


@dataclass(frozen=True, slots=True)
class DecodedPixels:
    """Stored pixel values (before the modality LUT) and how they were read.

    Attributes:
        stored: (H, W) integers, signed where Pixel Representation is 1.
        decoder: ``"imagecodecs"``, ``"native"`` or ``"pydicom"``.
        warnings: What a reader must know, such as a fallback that served.
    """

    stored: NDArray[np.integer[Any]]
    decoder: str
    warnings: tuple[str, ...] = ()


def decode(file: DicomFile) -> DecodedPixels:
    """Decode the single frame of a mammogram.

    Raises:
        PixelDecodeError: If no decoder reads it, or it contradicts the header; the
            message names the transfer syntax.
    """
    header = file.header
    if header.samples_per_pixel != 1:
        raise PixelDecodeError(
            f"{tag_name('SamplesPerPixel')} is {header.samples_per_pixel}; a mammogram has 1"
        )
    if header.frames != 1:
        raise PixelDecodeError(
            f"{tag_name('NumberOfFrames')} is {header.frames}; a 2D mammogram has 1"
        )
    if header.bits_allocated not in (8, 16) or not 1 <= header.bits_stored <= header.bits_allocated:
        raise PixelDecodeError(
            f"{tag_name('BitsAllocated')} {header.bits_allocated} with {tag_name('BitsStored')} "
            f"{header.bits_stored} is not accepted; 8 or 16 allocated, at most as many stored"
        )
    if header.rows * header.columns > _MOST_PIXELS:
        raise PixelDecodeError(
            f"{tag_name('Rows')} {header.rows} x {tag_name('Columns')} {header.columns} are more "
            f"pixels than the {_MOST_PIXELS} that are accepted"
        )
    notes: list[str] = []
    stored, decoder = _decode_frame(file, notes)
    if stored.shape != (header.rows, header.columns):
        raise PixelDecodeError(
            f"the pixel data decode to {stored.shape} where {tag_name('Rows')} and "
            f"{tag_name('Columns')} say {(header.rows, header.columns)}"
        )
    stored = _as_stored(stored, header.bits_stored, signed=header.signed)
    _check_range(stored, header.bits_stored, signed=header.signed)
    return DecodedPixels(stored, decoder, tuple(notes))


def _decode_frame(file: DicomFile, notes: list[str]) -> tuple[NDArray[Any], str]:
    header = file.header
    uid = header.transfer_syntax_uid
    if uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        kind = "<u2" if header.bits_allocated == 16 else "u1"
        count = header.rows * header.columns
        native = np.frombuffer(file.dataset.PixelData, dtype=kind, count=count)
        return native.reshape(header.rows, header.columns), "native"
    codec = CODECS.get(uid)
    if codec is not None:
        try:
            frame = get_frame(file.dataset.PixelData, 0, number_of_frames=1)
            _check_codestream(header, frame)
            return codec(frame), "imagecodecs"
        # Codecs raise their own classes, which share no base narrower than these.
        except (RuntimeError, ValueError, TypeError, OSError, EOFError, struct.error) as error:
            notes.append(f"imagecodecs could not decode {header.transfer_syntax_name}: {error}")
            _log.warning("%s: imagecodecs failed, trying pydicom's plug-ins", file.path.name)
    return _decode_with_pydicom(file), "pydicom"


def _check_codestream(header: ImageHeader, frame: bytes) -> None:
    """Refuse a frame that is cut, or of another size than the header says.

    No fallback follows: other decoders would fill in what is missing as well.
    """
    name = header.transfer_syntax_name
    if ends_early(frame):
        raise PixelDecodeError(f"the pixel data of transfer syntax {name} end before their end")
    size = frame_size(frame)
    if size is not None and size != (header.rows, header.columns):
        raise PixelDecodeError(
            f"the pixel data of transfer syntax {name} are of {size} where {tag_name('Rows')} and "
            f"{tag_name('Columns')} say {(header.rows, header.columns)}"
        )


def _decode_with_pydicom(file: DicomFile) -> NDArray[Any]:
    header = file.header
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pixel_array(file.dataset, raw=True)
    # Plug-ins are third-party code: pydicom wraps them in RuntimeError, but not all.
    except (
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        IndexError,
        EOFError,
        struct.error,
    ) as error:
        raise PixelDecodeError(
            f"no decoder reads the pixel data of transfer syntax {header.transfer_syntax_name} "
            f"({header.transfer_syntax_uid}): {error}"
        ) from error


def _as_stored(values: NDArray[Any], bits_stored: int, *, signed: bool) -> NDArray[Any]:
    """Return stored values in their own type; codecs return signed samples as unsigned."""
    if not signed or values.dtype.kind == "i":
        return values
    shift = values.dtype.itemsize * 8 - bits_stored
    extended = (values << shift).view(np.dtype(f"i{values.dtype.itemsize}"))
    return extended >> shift


def _check_range(stored: NDArray[Any], bits_stored: int, *, signed: bool) -> None:
    low, high = (
        (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1)
        if signed
        else (
            0,
            (1 << bits_stored) - 1,
        )
    )
    found_low, found_high = int(stored.min()), int(stored.max())
    if found_low < low or found_high > high:
        raise PixelDecodeError(
            f"pixel values run from {found_low} to {found_high}, outside the {low} to {high} "
            f"of {tag_name('BitsStored')} {bits_stored}"
        )
