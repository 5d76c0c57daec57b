"""Stored values to presentation values: modality LUT, VOI LUT, photometric inversion last.

The order and the window functions are those of PS3.3 C.11.1 and C.11.2. As stored
values are integers of at most 16 bits, the whole chain is computed once for every
value that can occur, in float64, and looked up: exact and independent of the image's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian

from mammoscope.config import PreprocessConfig
from mammoscope.dicom.file import DicomFile
from mammoscope.dicom.header import tag_name
from mammoscope.dicom.pixels import DecodedPixels
from mammoscope.dicom.presented import Presented
from mammoscope.errors import DicomError, Reason
from mammoscope.types import FloatImage

__all__ = ["Presentation", "apply_table", "apply_window", "present", "presentation"]

_FloatTable = NDArray[np.float64]
# Padding that is brighter than this would smear into the image where neighbours are mixed.
_DARK = 0.1


@dataclass(frozen=True, slots=True)
class Presentation:
    """The whole chain from stored to presentation values, as one table.

    Attributes:
        table: (256,) or (65536,) float32 in [0, 1], indexed by the stored bits.
        mixes: Neighbouring stored values may be averaged before the table is applied: no
            padding of another grey lies beside the image, and the table does not follow
            from the range of values.
        warnings: What a reader must know.
    """

    table: NDArray[np.float32]
    mixes: bool
    warnings: tuple[str, ...] = ()


def present(
    file: DicomFile, decoded: DecodedPixels, config: PreprocessConfig | None = None
) -> FloatImage:
    """Map stored values to presentation values, 0 black to 1 white.

    Args:
        file: The file, for its LUTs and windows.
        decoded: Its stored values.
        config: Which steps to take; all by default.

    Returns:
        (H, W) float32 in [0, 1], tissue bright whatever the photometric interpretation.

    Raises:
        DicomError: If a LUT or window in the header is not valid, or the
            photometric interpretation is not a grey one.
    """
    return apply_table(presentation(file, decoded, config).table, decoded).full


def presentation(
    file: DicomFile, decoded: DecodedPixels, config: PreprocessConfig | None = None
) -> Presentation:
    """Compute the table that maps stored to presentation values.

    Args:
        file: The file, for its LUTs and windows.
        decoded: Its stored values, of which the type counts, and the range where the header
            names no window.
        config: Which steps to take; all by default.

    Raises:
        DicomError: As :func:`present`.
    """
    config = config or PreprocessConfig()
    header = file.header
    notes: list[str] = []
    kind = decoded.stored.dtype
    bits = np.arange(1 << 8 * kind.itemsize, dtype=f"u{kind.itemsize}")
    stored = bits.view(kind)
    values = stored.astype(np.float64)
    if config.rescale:
        values = _modality(values, file)
    table, by_range = _voi(values, file, decoded, config, notes)
    inverse = _is_inverse(file, notes)
    if inverse and config.photometric:
        table = 1.0 - table
    # The range of a halved image is narrower than that of the full one.
    mixes = not by_range
    if header.pixel_padding is not None:
        # Padding is no part of the image: it is shown as background (PS3.3 C.7.5.1.1.2).
        padding = (stored >= header.pixel_padding[0]) & (stored <= header.pixel_padding[1])
        # An image that is left a negative has a white background.
        ground = 1.0 if inverse and not config.photometric else 0.0
        mixes &= not padding.any() or float(np.abs(table[padding] - ground).max()) < _DARK
        table[padding] = ground
    return Presentation(table.astype(np.float32), mixes, tuple(notes))


def apply_table(table: NDArray[np.float32], decoded: DecodedPixels) -> Presented:
    """Look stored values up in the table of :func:`presentation`."""
    stored = decoded.stored
    return Presented(stored.view(f"u{stored.dtype.itemsize}"), table)


def _is_inverse(file: DicomFile, notes: list[str]) -> bool:
    """Say whether low values are white; photometric interpretation is believed."""
    found = file.header.photometric_interpretation
    if found not in ("MONOCHROME1", "MONOCHROME2"):
        raise DicomError(
            f"{tag_name('PhotometricInterpretation')} is {found}; "
            "MONOCHROME1 and MONOCHROME2 are accepted",
            Reason.INVALID_VALUE,
        )
    shape = file.header.presentation_lut_shape
    due = "INVERSE" if found == "MONOCHROME1" else "IDENTITY"
    if shape is not None and shape != due:
        notes.append(
            f"{tag_name('PresentationLUTShape')} is {shape} with "
            f"{tag_name('PhotometricInterpretation')} {found}, which asks for {due}: "
            "the latter is believed"
        )
    return found == "MONOCHROME1"


def apply_window(
    values: _FloatTable, center: float, width: float, function: str = "LINEAR"
) -> _FloatTable:
    """Apply a VOI window and return values in [0, 1].

    Args:
        values: Modality values of any shape.
        center: Window Center (0028,1050).
        width: Window Width (0028,1051): at least 1 for LINEAR, else above 0.
        function: VOI LUT Function (0028,1056): LINEAR, LINEAR_EXACT or SIGMOID.

    Raises:
        DicomError: If the width or the function is not one the standard allows.

    Source: PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    minimum = 1.0 if function == "LINEAR" else np.nextafter(0.0, 1.0)
    if not width >= minimum:
        bound = "at least 1" if function == "LINEAR" else "above 0"
        raise DicomError(
            f"{tag_name('WindowWidth')} is {width}; {function} needs {bound}", Reason.INVALID_VALUE
        )
    if function == "SIGMOID":
        # 1 / (1 + exp(-4 (x - c) / w)), in a form that cannot overflow.
        return np.asarray(0.5 + 0.5 * np.tanh(2.0 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    if function == "LINEAR":
        # A width of 1 is a step: values up to center - 0.5 are black, all above are white.
        if width == 1.0:
            return (values > center - 0.5).astype(np.float64)
        return np.clip((values - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)
    raise DicomError(
        f"{tag_name('VOILUTFunction')} is {function}; accepted: LINEAR, LINEAR_EXACT, SIGMOID",
        Reason.INVALID_VALUE,
    )


def _modality(values: _FloatTable, file: DicomFile) -> _FloatTable:
    sequence = file.dataset.get("ModalityLUTSequence")
    if sequence:
        return _apply_lut(
            values, sequence[0], "ModalityLUTSequence", big_endian=_is_big_endian(file)
        )
    return np.asarray(values * file.header.rescale_slope + file.header.rescale_intercept)


def _voi(
    values: _FloatTable,
    file: DicomFile,
    decoded: DecodedPixels,
    config: PreprocessConfig,
    notes: list[str],
) -> tuple[_FloatTable, bool]:
    """Return the table, and whether it follows from the range of values that occur."""
    header = file.header
    sequence = file.dataset.get("VOILUTSequence")
    if sequence and config.voi in ("auto", "lut"):
        item = sequence[_chosen(len(sequence), config.voi_index, "VOILUTSequence", notes)]
        output = _apply_lut(values, item, "VOILUTSequence", big_endian=_is_big_endian(file))
        return np.asarray(np.clip(output / ((1 << _lut_bits(item)) - 1), 0.0, 1.0)), False
    if header.windows and config.voi in ("auto", "window"):
        index = _chosen(len(header.windows), config.voi_index, "WindowCenter", notes)
        return apply_window(values, *header.windows[index], header.voi_lut_function), False
    if config.voi in ("lut", "window"):
        keyword = "VOILUTSequence" if config.voi == "lut" else "WindowCenter"
        notes.append(f"{tag_name(keyword)} is absent: the whole range of values is shown")
    return _stretch(values, _ends(decoded, header.pixel_padding)), True


def _chosen(count: int, index: int, keyword: str, notes: list[str]) -> int:
    if index < count:
        return index
    notes.append(f"{tag_name(keyword)} has {count} values, number {index} was asked for: last used")
    return count - 1


def _ends(decoded: DecodedPixels, padding: tuple[int, int] | None) -> NDArray[Any]:
    """Return the table's indices of the extreme stored values, padding excluded."""
    stored = decoded.stored
    if padding is not None:
        kept = stored[(stored < padding[0]) | (stored > padding[1])]
        stored = kept if kept.size else stored
    ends = np.array([stored.min(), stored.max()], dtype=stored.dtype)
    return ends.view(f"u{stored.dtype.itemsize}")


def _stretch(values: _FloatTable, ends: NDArray[Any]) -> _FloatTable:
    """Without a window, show the full range that occurs (PS3.3 C.11.2 leaves it open)."""
    first, last = values[ends[0]], values[ends[1]]
    black, white = min(first, last), max(first, last)
    if white == black:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - black) / (white - black), 0.0, 1.0))


def _apply_lut(
    values: _FloatTable, item: Dataset, keyword: str, *, big_endian: bool
) -> _FloatTable:
    """Look values up in a LUT; inputs outside it take its first or last entry.

    Source: PS3.3 C.11.1.1 and C.11.2.1.1: descriptor (entries, first input value, bits);
    0 entries mean 65536.
    """
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or data is None:
        raise DicomError(
            f"{tag_name(keyword)} lacks {tag_name('LUTDescriptor')} or {tag_name('LUTData')}",
            Reason.MISSING_TAG,
        )
    numbers = isinstance(data, bytes | int) or _are_whole(data)
    if not numbers or not _are_whole(descriptor) or len(descriptor) != 3:
        raise DicomError(
            f"{tag_name(keyword)}: {tag_name('LUTDescriptor')} and {tag_name('LUTData')} are not "
            "three whole numbers and a list of them",
            Reason.INVALID_VALUE,
        )
    entries = int(descriptor[0]) or 65536
    bits = _lut_bits(item)
    raw = data
    if isinstance(data, bytes):
        raw = np.frombuffer(data, _lut_type(data, entries, big_endian=big_endian))
    table = np.asarray(raw, dtype=np.float64)
    if table.size != entries or not 1 <= bits <= 16:
        raise DicomError(
            f"{tag_name(keyword)} holds {table.size} entries of {bits} bits where its descriptor "
            f"says {entries}",
            Reason.INVALID_VALUE,
        )
    first = int(descriptor[1])
    if first > 32767 and float(values.min()) < 0:
        # The descriptor is signed where its input is, and not always written so.
        first -= 65536
    index = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    return np.asarray(table[index])


def _are_whole(values: Any) -> bool:
    return isinstance(values, MultiValue | list) and all(isinstance(value, int) for value in values)


def _is_big_endian(file: DicomFile) -> bool:
    return file.header.transfer_syntax_uid == ExplicitVRBigEndian


def _lut_bits(item: Dataset) -> int:
    return int(item.LUTDescriptor[2])


def _lut_type(data: bytes, entries: int, *, big_endian: bool) -> str:
    if len(data) == entries:
        return "u1"
    return ">u2" if big_endian else "<u2"
