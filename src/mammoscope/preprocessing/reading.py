"""Presentation pixels of any file that a cohort may hold: DICOM or a plain picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mammoscope.config import PreprocessConfig
from mammoscope.dicom import decode, encoded_pixels, read_dicom
from mammoscope.dicom.file import is_dicom
from mammoscope.dicom.pixels import MOST_PIXELS, EncodedPixels
from mammoscope.dicom.presentation import apply_table, presentation
from mammoscope.dicom.presented import Presented
from mammoscope.errors import DicomError, PixelDecodeError, Reason
from mammoscope.preprocessing.picture_size import decoded_bytes, is_white_at_zero, white_level
from mammoscope.types import FloatImage, Laterality

__all__ = [
    "PICTURE_SUFFIXES",
    "SourceImage",
    "SourcePixels",
    "read_picture",
    "read_pixels",
    "without_suffix",
]

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm"})
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})

# Of a picture decoded: as much as the largest image has at 16 bits in three colours.
_MOST_BYTES = 512 << 20
# Share of the range below which a picture's brightest pixel is remarkable.
_DIM = 0.125
# What OpenCV reads: https://docs.opencv.org/4.x/d4/da8/group__imgcodecs.html
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"P5", b"P2")


@dataclass(frozen=True, slots=True)
class SourcePixels:
    """Presentation pixels of one file.

    Attributes:
        image: (H, W), tissue bright; halved ``reduction`` times.
        decoder: Which decoder served.
        reduction: How often the image was halved while it was decoded.
        warnings: What a reader must know.
    """

    image: Presented
    decoder: str
    reduction: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def pixels(self) -> FloatImage:
        """(H, W) float32 in [0, 1]."""
        return self.image.full


class SourceImage:
    """A file whose pixels are decoded when asked for, at the resolution asked for.

    Args:
        path: A DICOM file or a picture.
        config: Which steps lead from stored to presentation values; all by default.

    Raises:
        DicomError: If it is not an image, or contradicts itself; ``reason`` says which.
    """

    def __init__(self, path: Path, config: PreprocessConfig | None = None) -> None:
        path = Path(path)
        if path.stat().st_size == 0:
            raise DicomError(f"{path.name} is empty", Reason.EMPTY_FILE)
        self._decode: Callable[[int], SourcePixels]
        self._last: SourcePixels | None = None
        if not is_dicom(path) and path.suffix.lower() in PICTURE_SUFFIXES:
            pixels = read_picture(path)
            picture = SourcePixels(Presented(pixels), "opencv", warnings=_darkness(pixels))
            self._decode = lambda _: picture
            #: (H, W) of the full image.
            self.shape = picture.image.shape
            #: How many times the image can be halved while it is decoded.
            self.reductions = 0
            #: Side of the image on which the header puts the chest wall, if it does.
            self.chest_wall: Laterality | None = None
        else:
            encoded = encoded_pixels(read_dicom(path))
            self._decode = partial(_decode, encoded, config or PreprocessConfig())
            self.shape = (encoded.file.header.rows, encoded.file.header.columns)
            self.reductions = encoded.reductions
            self.chest_wall = encoded.file.header.chest_wall

    def read(self, reduction: int = 0) -> SourcePixels:
        """Decode to presentation pixels; the last answer is kept and given again.

        Args:
            reduction: How often to halve the image, at most ``reductions`` times. The full
                image is decoded all the same where averaging neighbours would mix the image
                with padding of another grey.

        Raises:
            DicomError: If it cannot be decoded, or a LUT or window is not valid.
        """
        if self._last is None or self._last.reduction != reduction:
            self._last = self._decode(reduction)
        return self._last

    def shown(self) -> FloatImage:
        """Return the presentation pixels at full size, for a person to look at.

        Where the finest resolution cannot be decoded, the one that was read before is enlarged:
        an image that has a score has a picture.

        Raises:
            DicomError: If no resolution can be decoded.
        """
        last = self._last
        try:
            return self.read().pixels
        except PixelDecodeError:
            if last is None:
                raise
            height, width = self.shape
            enlarged = cv2.resize(last.pixels, (width, height), interpolation=cv2.INTER_LINEAR)
            return np.asarray(enlarged, dtype=np.float32)


def _decode(encoded: EncodedPixels, config: PreprocessConfig, reduction: int) -> SourcePixels:
    try:
        decoded = decode(encoded, reduction)
    except PixelDecodeError:
        if not reduction:
            raise
        # Whether the image is whole is for the full decode to say.
        return _decode(encoded, config, 0)
    chain = presentation(encoded.file, decoded, config)
    if reduction and not chain.mixes:
        return _decode(encoded, config, 0)
    return SourcePixels(
        apply_table(chain.table, decoded),
        decoded.decoder,
        reduction,
        (*decoded.warnings, *chain.warnings),
    )


def without_suffix(path: Path) -> Path:
    """Take an image's suffix off; the last part of a UID that serves as a name is none."""
    known = PICTURE_SUFFIXES | _DICOM_SUFFIXES
    return path.with_suffix("") if path.suffix.lower() in known else path


def read_pixels(path: Path, config: PreprocessConfig | None = None) -> SourcePixels:
    """Read a DICOM file or a picture to presentation pixels at full resolution.

    Args:
        path: The file.
        config: Which steps lead from stored to presentation values; all by default.

    Raises:
        DicomError: If it is not an image, or cannot be decoded; ``reason`` says which.
    """
    return SourceImage(path, config).read()


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
    size = decoded_bytes(data)
    if size is None:
        raise PixelDecodeError(f"{path.name} is damaged: its header does not say how large it is")
    if size[0] > MOST_PIXELS or size[1] > _MOST_BYTES:
        raise PixelDecodeError(
            f"{path.name} says it has {size[0]} pixels in {size[1]} bytes; {MOST_PIXELS} in "
            f"{_MOST_BYTES} are accepted",
            Reason.TOO_LARGE,
        )
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        picture = None
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
    white = white_level(data) or white
    if int(picture.max()) > white:
        raise PixelDecodeError(f"{path.name} holds {picture.max()} where its header says {white}")
    if picture.dtype == np.uint16 and is_white_at_zero(data):
        picture = white - picture
    return np.divide(picture, white, dtype=np.float32)


def _darkness(picture: FloatImage) -> tuple[str, ...]:
    """Note a picture that uses little of its range, as 12 bits written into 16 do."""
    brightest = float(picture.max())
    if not 0 < brightest < _DIM:
        return ()
    return (
        f"the brightest pixel is at {brightest:.1%} of the file's range: if it holds fewer bits "
        "than its type, prepare with normalise=breast",
    )
