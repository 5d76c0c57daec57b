"""Text burned into the pixels: when to refuse an image for it, and how to blank it.

Where the breast is, and what looks like text, is found by an inspector that the caller
hands in; the rules on what follows from it are here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from mammoscope.dicom.file import DicomFile
from mammoscope.dicom.header import tag_name
from mammoscope.dicom.pixels import DecodedPixels
from mammoscope.types import FloatImage

__all__ = [
    "BurnedIn",
    "Inspector",
    "PixelInspection",
    "blank_outside",
    "says_text_is_there",
    "sign_of_text",
]


class BurnedIn(StrEnum):
    """What to do about text in the pixels."""

    REFUSE = "refuse"
    CLEAN = "clean"
    CLEAN_ALL = "clean-all"


@dataclass(frozen=True, slots=True)
class PixelInspection:
    """What was seen in an image.

    Attributes:
        breast: (H, W) bool, the breast with a margin.
        text_boxes: (x_min, y_min, x_max, y_max), half-open, of text-like shapes outside the
            breast, in pixels of the image.
    """

    breast: NDArray[np.bool_]
    text_boxes: tuple[tuple[int, int, int, int], ...]


#: (H, W) float32 presentation values to what is seen in them.
Inspector: TypeAlias = Callable[[FloatImage], PixelInspection]


def says_text_is_there(file: DicomFile) -> bool:
    """Say whether Burned In Annotation (0028,0301) is YES."""
    return _stated(file) == "YES"


def _stated(file: DicomFile) -> str:
    return str(file.dataset.get("BurnedInAnnotation") or "").strip().upper()


def sign_of_text(file: DicomFile, inspection: PixelInspection) -> str | None:
    """Say why an image may carry burned-in text, or ``None`` where nothing says so."""
    if says_text_is_there(file):
        return f"{tag_name('BurnedInAnnotation')} is YES"
    if _stated(file) != "NO" and file.header.sop_class_uid == SecondaryCaptureImageStorage:
        return (
            f"{tag_name('SOPClassUID')} is Secondary Capture Image Storage and "
            f"{tag_name('BurnedInAnnotation')} does not say NO"
        )
    if inspection.text_boxes:
        count, first = len(inspection.text_boxes), inspection.text_boxes[0]
        return f"{count} text-like shapes outside the breast, the first in the box {first}"
    return None


def blank_outside(
    file: DicomFile, decoded: DecodedPixels, breast: NDArray[np.bool_]
) -> NDArray[np.integer[Any]]:
    """Blank all pixels outside the breast and put them into the file, uncompressed.

    Args:
        file: The file, whose pixel data and transfer syntax are replaced.
        decoded: Its stored values.
        breast: (H, W) bool of what stays.

    Returns:
        (H, W) the stored values that the file now holds; inside the breast they are as before.
    """
    stored = decoded.stored
    outside = stored[~breast]
    cleaned = stored.copy()
    if outside.size:
        # Most of what lies outside is air, whichever way the grey values run.
        cleaned[~breast] = int(np.median(outside))
    dataset = file.dataset
    sample = f"<{'i' if file.header.signed else 'u'}{file.header.bits_allocated // 8}"
    content = cleaned.astype(sample).tobytes()
    element = dataset["PixelData"]
    element.value = content + b"\0" * (len(content) % 2)
    element.VR = "OB" if file.header.bits_allocated == 8 else "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return cleaned
