"""Presentation pixels of any file that a cohort may hold: DICOM or a plain picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mammoscope.dicom import decode, present, read_dicom
from mammoscope.dicom.header import is_dicom
from mammoscope.errors import DicomError, PixelDecodeError, Reason
from mammoscope.types import FloatImage

__all__ = ["PICTURE_SUFFIXES", "SourcePixels", "read_picture", "read_pixels", "without_suffix"]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm"})
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})

# What OpenCV reads: https://docs.opencv.org/4.x/d4/da8/group__imgcodecs.html
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"P5", b"P2")


@dataclass(frozen=True, slots=True)
class SourcePixels:
    """Presentation pixels of one file.

    Attributes:
        pixels: (H, W) float32 in [0, 1], tissue bright.
        decoder: Which decoder served.
        warnings: What a reader must know.
    """

    pixels: FloatImage
    decoder: str
    warnings: tuple[str, ...] = ()


def without_suffix(path: Path) -> Path:
    """Take an image's suffix off; the last part of a UID that serves as a name is none."""
    known = PICTURE_SUFFIXES | _DICOM_SUFFIXES
    return path.with_suffix("") if path.suffix.lower() in known else path


def read_pixels(path: Path) -> SourcePixels:
    """Read a DICOM file or a picture to presentation pixels.

    Raises:
        DicomError: If it is not an image, or cannot be decoded; ``reason`` says which.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise DicomError(f"{path.name} is empty", Reason.EMPTY_FILE)
    if not is_dicom(path) and path.suffix.lower() in PICTURE_SUFFIXES:
        return SourcePixels(read_picture(path), "opencv")
    file = read_dicom(path)
    decoded = decode(file)
    return SourcePixels(present(file, decoded), decoded.decoder, decoded.warnings)


def read_picture(path: Path) -> FloatImage:
    """Read a PNG, TIFF, PGM or JPEG of 8 or 16 bits to (H, W) float32 in [0, 1].

    Raises:
        DicomError: If it is not a picture.
        PixelDecodeError: If it is damaged, in colour, or of another sample type.
    """
    data = Path(path).read_bytes()
    if not data.startswith(_SIGNATURES):
        raise DicomError(f"{path.name} is not a PNG, TIFF, PGM or JPEG file", Reason.NOT_AN_IMAGE)
    if data.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in data[-1024:]:
        # OpenCV fills the missing part of a cut JPEG with grey, without a word.
        raise DicomError(f"{path.name} ends before its data do", Reason.TRUNCATED_FILE)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise PixelDecodeError(f"{path.name} is damaged: OpenCV cannot decode it")
    if picture.ndim == 3:
        colours = picture[..., :3]
        if not (colours == colours[..., :1]).all():
            raise PixelDecodeError(f"{path.name} is in colour; a mammogram is grey")
        picture = colours[..., 0]
    white = {"uint8": 255, "uint16": 65535}.get(str(picture.dtype))
    if white is None:
        raise PixelDecodeError(f"{path.name} holds {picture.dtype}; 8 or 16 bits are accepted")
    return np.divide(picture, white, dtype=np.float32)
