"""Stored values to presentation values: modality LUT, VOI LUT, photometric inversion last.

The order and the window functions are those of PS3.3 C.11.1 and C.11.2. As stored
values are integers of at most 16 bits, the whole chain is computed once for every
value that occurs, in float64, and looked up: exact and independent of the image's size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mammoscope.dicom.header import DicomFile, tag_name
from mammoscope.dicom.pixels import DecodedPixels
from mammoscope.errors import DicomError, Reason
from mammoscope.types import FloatImage

__all__ = ["apply_window", "present"]

_FloatTable = NDArray[np.float64]


def present(file: DicomFile, decoded: DecodedPixels) -> FloatImage:
    """Map stored values to presentation values, 0 black to 1 white.

    Args:
        file: The file, for its LUTs and windows.
        decoded: Its stored values.

    Returns:
        (H, W) float32 in [0, 1], tissue bright whatever the photometric interpretation.

    Raises:
        DicomError: If a LUT or window in the header is not valid, or the
            photometric interpretation is not a grey one.
    """
    header = file.header
    stored = decoded.stored
    low, high = int(stored.min()), int(stored.max())
    values = np.arange(low, high + 1, dtype=np.float64)
    values = _modality(values, file)
    table = _voi(values, file, decoded, low)
    if header.photometric_interpretation == "MONOCHROME1":
        table = 1.0 - table
    elif header.photometric_interpretation != "MONOCHROME2":
        raise DicomError(
            f"{tag_name('PhotometricInterpretation')} is {header.photometric_interpretation}; "
            "MONOCHROME1 and MONOCHROME2 are accepted",
            Reason.INVALID_VALUE,
        )
    lookup = table.astype(np.float32)
    indices = stored if low == 0 else stored.astype(np.int32) - low
    return np.take(lookup, indices)


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
        return _apply_lut(values, sequence[0], "ModalityLUTSequence")
    return np.asarray(values * file.header.rescale_slope + file.header.rescale_intercept)


def _voi(values: _FloatTable, file: DicomFile, decoded: DecodedPixels, low: int) -> _FloatTable:
    header = file.header
    sequence = file.dataset.get("VOILUTSequence")
    if sequence:
        output = _apply_lut(values, sequence[0], "VOILUTSequence")
        bits = int(sequence[0].LUTDescriptor[2])
        return np.asarray(np.clip(output / ((1 << bits) - 1), 0.0, 1.0))
    if header.window_center is not None and header.window_width is not None:
        return apply_window(
            values, header.window_center, header.window_width, header.voi_lut_function
        )
    return _stretch(values, _seen_values(decoded, header.pixel_padding_value) - low)


def _seen_values(decoded: DecodedPixels, padding: int | None) -> NDArray[Any]:
    """Return the extreme stored values of the image, padding excluded."""
    stored = decoded.stored
    if padding is not None:
        kept = stored[stored != padding]
        stored = kept if kept.size else stored
    return np.array([stored.min(), stored.max()], dtype=np.int64)


def _stretch(values: _FloatTable, ends: NDArray[Any]) -> _FloatTable:
    """Without a window, show the full range that occurs (PS3.3 C.11.2 leaves it open)."""
    first, last = values[ends[0]], values[ends[1]]
    black, white = min(first, last), max(first, last)
    if white == black:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - black) / (white - black), 0.0, 1.0))


def _apply_lut(values: _FloatTable, item: Dataset, keyword: str) -> _FloatTable:
    """Look values up in a LUT; inputs outside it take its first or last entry.

    Source: PS3.3 C.11.1.1 and C.11.2.1.1: descriptor (entries, first input value, bits);
    0 entries mean 65536.
    """
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or data is None or len(descriptor) != 3:
        raise DicomError(
            f"{tag_name(keyword)} lacks {tag_name('LUTDescriptor')} or {tag_name('LUTData')}",
            Reason.MISSING_TAG,
        )
    entries = int(descriptor[0]) or 65536
    bits = int(descriptor[2])
    raw = data if not isinstance(data, bytes) else np.frombuffer(data, _lut_type(data, entries))
    table = np.asarray(raw, dtype=np.float64)
    if table.size != entries or not 1 <= bits <= 16:
        raise DicomError(
            f"{tag_name(keyword)} holds {table.size} entries of {bits} bits where its descriptor "
            f"says {entries}",
            Reason.INVALID_VALUE,
        )
    first = int(descriptor[1])
    index = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    return np.asarray(table[index])


def _lut_type(data: bytes, entries: int) -> str:
    return "u1" if len(data) == entries else "<u2"
