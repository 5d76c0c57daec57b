"""Mask files that come with a source: which of their pixels are marked."""

from __future__ import annotations

from pathlib import Path

from mammoscope.dicom import decode, read_dicom
from mammoscope.dicom.file import is_dicom
from mammoscope.errors import DicomError, Reason
from mammoscope.preprocessing.reading import read_picture
from mammoscope.types import Bools

__all__ = ["fits_image", "read_mask"]

# CBIS-DDSM's masks differ from their images by a few rows or columns.
_SLACK_PX = 10


def read_mask(path: Path) -> Bools:
    """Return the marked pixels of a mask file, (H, W) bool: those brighter than half its brightest.

    Raises:
        DicomError: If it cannot be decoded.
        OSError: If it cannot be opened.
    """
    if path.stat().st_size == 0:
        raise DicomError(f"{path.name} is empty", Reason.EMPTY_FILE)
    # Stored values: a mask has no window that could matter.
    pixels = decode(read_dicom(path)).stored if is_dicom(path) else read_picture(path)
    marked: Bools = pixels > pixels.max() / 2
    return marked


def fits_image(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Say whether a mask of (rows, columns) can be that of an image, pixel for pixel."""
    return all(abs(a - b) <= _SLACK_PX for a, b in zip(mask, image, strict=True))
