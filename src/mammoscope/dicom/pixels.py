"""Pixel data to a (H, W) array of stored values, with every contradiction named.

Native pixel data are read as they lie; encapsulated ones by the first decoder of their
transfer syntax that succeeds (``decoders.py``). What header and codestream say of each
other is compared: where they cannot both be right the image is refused, where one can
be believed a warning says which.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.uid import UID, ExplicitVRBigEndian, RLELossless

from mammoscope.dicom.codestream import Codestream, read_codestream, run_length_segments
from mammoscope.dicom.decoders import DECODERS, Decoder
from mammoscope.dicom.file import DicomFile
from mammoscope.dicom.header import ImageHeader, tag_name
from mammoscope.errors import PixelDecodeError, Reason
from mammoscope.log import get_logger

__all__ = ["MOST_PIXELS", "DecodedPixels", "EncodedPixels", "decode", "encoded_pixels"]

_log = get_logger(__name__)

#: Three times the largest detector's; more would fill the memory from a file of a few bytes.
MOST_PIXELS = 85_000_000
# What costs a decoder of JPEG 2000 memory and time before it has decoded anything.
_MOST_TILES, _MOST_PACKETS, _MOST_BLOCKS = 4096, 2_000_000, 2_000_000
# Letters of a library's own words that a message quotes.
_MOST_QUOTED = 160
# Codecs raise their own classes, which share no base narrower than these.
_CODEC_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    OSError,
    EOFError,
    MemoryError,
    SyntaxError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class EncodedPixels:
    """Pixel data that were checked against their header and not decoded yet.

    Attributes:
        file: The file.
        frame: The frame's bytes; ``None`` for native pixel data.
        stream: What the codestream says of itself, if it is of a kind that does.
        warnings: What a reader must know.
    """

    file: DicomFile
    frame: bytes | None
    stream: Codestream | None
    warnings: tuple[str, ...] = ()

    @property
    def reductions(self) -> int:
        """How many times the image can be halved while it is decoded."""
        decoders = DECODERS.get(self.file.header.transfer_syntax_uid, ())
        if self.stream is None or self.stream.signed or not any(d.reduces for d in decoders):
            return 0
        return self.stream.reductions


@dataclass(frozen=True, slots=True)
class DecodedPixels:
    """Stored pixel values (before the modality LUT) and how they were read.

    Attributes:
        stored: (H, W) integers, signed where Pixel Representation is 1. Halved
            ``reduction`` times, sides rounded up.
        decoder: Which decoder served: ``"native"`` or a library and its codec.
        reduction: How often the image was halved while it was decoded. A sample of the
            halved image is centred on pixel ``k * 2 ** reduction`` of the original.
        warnings: What a reader must know, such as a fallback that served.
    """

    stored: NDArray[np.integer[Any]]
    decoder: str
    reduction: int = 0
    warnings: tuple[str, ...] = ()


def encoded_pixels(file: DicomFile) -> EncodedPixels:
    """Check the pixel data of a mammogram against its header, and decode nothing.

    Raises:
        PixelDecodeError: If they contradict each other, or the transfer syntax is not one
            that is decoded; the message names tag, value and what is accepted.
    """
    header = file.header
    _check_description(header)
    syntax = UID(header.transfer_syntax_uid)
    if not syntax.is_encapsulated:
        return EncodedPixels(file, None, None, _native_length(file))
    if syntax not in DECODERS:
        raise PixelDecodeError(
            f"transfer syntax {header.transfer_syntax_name} ({syntax}) is not accepted; accepted "
            f"beside the native ones: {', '.join(UID(uid).name for uid in DECODERS)}"
        )
    try:
        frame = get_frame(file.dataset.PixelData, 0, number_of_frames=1)
    except (*_CODEC_ERRORS, StopIteration) as error:
        raise PixelDecodeError(
            f"the pixel data of transfer syntax {header.transfer_syntax_name} are not "
            f"encapsulated as they should be: {_quoted(error)}"
        ) from error
    stream = read_codestream(frame)
    return EncodedPixels(file, frame, stream, _check_codestream(header, frame, stream))


def decode(source: DicomFile | EncodedPixels, reduction: int = 0) -> DecodedPixels:
    """Decode the single frame of a mammogram.

    Args:
        source: A file, or its pixel data as :func:`encoded_pixels` returned them.
        reduction: How often to halve the image while decoding, at most
            ``EncodedPixels.reductions`` times.

    Raises:
        PixelDecodeError: If no decoder reads it, or it contradicts the header; the
            message names the transfer syntax.
    """
    encoded = source if isinstance(source, EncodedPixels) else encoded_pixels(source)
    header = encoded.file.header
    if not 0 <= reduction <= encoded.reductions:
        raise ValueError(f"reduction is {reduction}; 0 to {encoded.reductions} are possible")
    notes = list(encoded.warnings)
    if encoded.frame is None:
        stored, decoder = _native(encoded.file, notes), "native"
    else:
        stored, decoder = _decode_frame(header, encoded.frame, reduction, notes)
        precision = encoded.stream.precision if encoded.stream else header.bits_stored
        stored = _as_declared(stored, header, min(precision, header.bits_stored), notes)
    due = tuple(-(-side // (1 << reduction)) for side in (header.rows, header.columns))
    if stored.shape != due:
        raise PixelDecodeError(
            f"the pixel data decode to {stored.shape} where {tag_name('Rows')} and "
            f"{tag_name('Columns')} say {due}"
        )
    return DecodedPixels(
        _within_range(stored, header, halved=bool(reduction)), decoder, reduction, tuple(notes)
    )


def _check_description(header: ImageHeader) -> None:
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
    if not header.bits_stored - 1 <= header.high_bit < header.bits_allocated:
        raise PixelDecodeError(
            f"{tag_name('HighBit')} is {header.high_bit}; with {tag_name('BitsStored')} "
            f"{header.bits_stored} of {header.bits_allocated} allocated, "
            f"{header.bits_stored - 1} to {header.bits_allocated - 1} are possible"
        )
    if not header.rows * header.columns:
        raise PixelDecodeError(
            f"{tag_name('Rows')} {header.rows} x {tag_name('Columns')} {header.columns} is no image"
        )
    if header.rows * header.columns > MOST_PIXELS:
        raise PixelDecodeError(
            f"{tag_name('Rows')} {header.rows} x {tag_name('Columns')} {header.columns} are more "
            f"pixels than the {MOST_PIXELS} that are accepted",
            Reason.TOO_LARGE,
        )


def _native_length(file: DicomFile) -> tuple[str, ...]:
    """Note bytes beyond the image; that none are missing was checked when it was read."""
    header = file.header
    due = header.rows * header.columns * (header.bits_allocated // 8)
    found = len(file.dataset.PixelData)
    if found < due:
        raise PixelDecodeError(f"{tag_name('PixelData')} holds {found} bytes where {due} are due")
    if found > due + due % 2:
        return (f"{tag_name('PixelData')} holds {found} bytes where {due} are due: rest ignored",)
    return ()


def _check_codestream(
    header: ImageHeader, frame: bytes, stream: Codestream | None
) -> tuple[str, ...]:
    """Refuse a frame that is cut or of another kind than the header says.

    No fallback follows: other decoders would fill in what is missing as well.
    """
    what = f"the pixel data of transfer syntax {header.transfer_syntax_name}"
    if header.transfer_syntax_uid == RLELossless:
        due = header.bits_allocated // 8
        if run_length_segments(frame) != due:
            raise PixelDecodeError(
                f"{what} have no header of {due} segments, one for each byte of "
                f"{tag_name('BitsAllocated')} {header.bits_allocated}"
            )
        return ()
    if stream is None:
        raise PixelDecodeError(
            f"{what} are not a JPEG, JPEG-LS or JPEG 2000 codestream with a sound header"
        )
    if not stream.complete:
        raise PixelDecodeError(f"{what} end before their end")
    if (stream.rows, stream.columns) != (header.rows, header.columns):
        raise PixelDecodeError(
            f"{what} are of {(stream.rows, stream.columns)} where {tag_name('Rows')} and "
            f"{tag_name('Columns')} say {(header.rows, header.columns)}"
        )
    if stream.components != header.samples_per_pixel:
        raise PixelDecodeError(
            f"{what} have {stream.components} components where {tag_name('SamplesPerPixel')} "
            f"says {header.samples_per_pixel}"
        )
    for found, most, name in (
        (stream.tiles, _MOST_TILES, "tiles"),
        (stream.packets, _MOST_PACKETS, "packets"),
        (stream.blocks, _MOST_BLOCKS, "code blocks"),
    ):
        if found > most:
            raise PixelDecodeError(
                f"{what} are cut into {found} {name}; {most} are accepted", Reason.TOO_LARGE
            )
    if stream.precision > header.bits_allocated:
        raise PixelDecodeError(
            f"{what} are of {stream.precision} bits where {tag_name('BitsAllocated')} "
            f"says {header.bits_allocated}"
        )
    # More bits than are stored are common, as DCMTK writes 16: whether values fit is checked
    # when they are decoded.
    if stream.precision < header.bits_stored:
        return (
            f"{what} are of {stream.precision} bits where {tag_name('BitsStored')} says "
            f"{header.bits_stored}: values are read as the codestream holds them",
        )
    return ()


def _native(file: DicomFile, notes: list[str]) -> NDArray[Any]:
    header = file.header
    kind = "u1"
    if header.bits_allocated == 16:
        kind = ">u2" if header.transfer_syntax_uid == ExplicitVRBigEndian else "<u2"
    data = file.dataset.PixelData
    count = header.rows * header.columns
    swapped = header.transfer_syntax_uid == ExplicitVRBigEndian and header.bits_allocated == 8
    if swapped and file.dataset["PixelData"].VR == "OW":
        # Bytes of OW lie swapped in pairs (PS3.5, 8.1.2); those of OB do not.
        even = count + count % 2
        data = np.frombuffer(data[:even].ljust(even, b"\0"), ">u2").astype("<u2").tobytes()
    values = np.frombuffer(data, dtype=kind, count=count).reshape(header.rows, header.columns)
    if kind == ">u2":
        values = values.astype("<u2")
    shift = header.high_bit + 1 - header.bits_stored
    if shift:
        notes.append(
            f"{tag_name('HighBit')} is {header.high_bit} with {tag_name('BitsStored')} "
            f"{header.bits_stored}: values are shifted down by {shift} bits"
        )
        values = values >> shift
    if header.overlay_in_pixels:
        notes.append("bits beside those stored hold an overlay and are left out")
    if shift or header.overlay_in_pixels:
        values = values & np.array((1 << header.bits_stored) - 1, values.dtype)
    return _sign_extended(values, header.bits_stored) if header.signed else values


def _decode_frame(
    header: ImageHeader, frame: bytes, reduction: int, notes: list[str]
) -> tuple[NDArray[Any], str]:
    chain: tuple[Decoder, ...] = DECODERS[header.transfer_syntax_uid]
    failures = []
    for decoder in chain:
        if reduction and not decoder.reduces:
            continue
        try:
            values = decoder.decode(frame, header, reduction, notes)
        except _CODEC_ERRORS as error:
            failures.append(f"{decoder.name}: {_quoted(error)}")
            _log.warning("%s failed on %s", decoder.name, header.transfer_syntax_name)
        else:
            notes += [f"a decoder failed, {decoder.name} served ({text})" for text in failures]
            return values, decoder.name
    raise PixelDecodeError(
        f"no decoder reads the pixel data of transfer syntax {header.transfer_syntax_name} "
        f"({header.transfer_syntax_uid}): {'; '.join(failures)}"
    )


def _quoted(error: BaseException) -> str:
    """Return a library's own words for a message: short, and nothing that cannot be read."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return text if len(text) <= _MOST_QUOTED else f"{text[:_MOST_QUOTED]} ..."


def _as_declared(
    values: NDArray[Any], header: ImageHeader, bits: int, notes: list[str]
) -> NDArray[Any]:
    """Return values signed as Pixel Representation says; codecs go by the codestream."""
    if values.dtype.kind not in "iu" or values.ndim != 2:
        raise PixelDecodeError(f"the pixel data decode to {values.dtype} of shape {values.shape}")
    if header.signed and values.dtype.kind == "u":
        return _sign_extended(values, bits)
    if not header.signed and values.dtype.kind == "i":
        notes.append(
            f"the codestream is signed where {tag_name('PixelRepresentation')} says unsigned"
        )
        if int(values.min()) < 0:
            raise PixelDecodeError(
                f"the codestream holds {int(values.min())} where "
                f"{tag_name('PixelRepresentation')} says that values are unsigned"
            )
        return values.astype(f"u{values.dtype.itemsize}")
    return values


def _sign_extended(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return two's complement of so many bits as signed values.

    Raises:
        PixelDecodeError: If the bits above hold more than copies of the sign, or nothing.
    """
    signed = values.view(np.dtype(f"i{values.dtype.itemsize}"))
    low, high = int(signed.min()), int(signed.max())
    if low < -(1 << bits - 1) or high >= 1 << bits:
        raise PixelDecodeError(
            f"pixel values run from {low} to {high}, beyond the {bits} signed bits of "
            f"{tag_name('BitsStored')} or of the codestream"
        )
    shift = values.dtype.itemsize * 8 - bits
    extended = (values << shift).view(np.dtype(f"i{values.dtype.itemsize}"))
    return np.asarray(extended >> shift)


def _range(header: ImageHeader) -> tuple[int, int]:
    bits = header.bits_stored
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if header.signed else (0, (1 << bits) - 1)


def _within_range(stored: NDArray[Any], header: ImageHeader, *, halved: bool) -> NDArray[Any]:
    """Refuse values beyond those that Bits Stored allows.

    Halved images may overshoot a little, as their filter weighs some neighbours negatively.
    """
    low, high = _range(header)
    beyond = (high - low) // 8 if halved else 0
    found_low, found_high = int(stored.min()), int(stored.max())
    if low <= found_low and found_high <= high:
        return stored
    if found_low < low - beyond or found_high > high + beyond:
        raise PixelDecodeError(
            f"pixel values run from {found_low} to {found_high}, outside the {low} to {high} "
            f"of {tag_name('BitsStored')} {header.bits_stored}"
        )
    return np.asarray(np.clip(stored, low, high))
