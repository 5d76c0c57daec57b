"""Header of one mammogram file: what the tags say, as one frozen record.

Attributes follow PS3.3 C.8.11 (digital X-ray and mammography modules). Files of
public data sets are often stripped, so every descriptive attribute may be ``None``.
"""

from __future__ import annotations

import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from mammoscope.dicom.elements import (
    BROKEN,
    items_of,
    number_of,
    numbers_of,
    quoted,
    tag_name,
    text_of,
    uid_of,
    value_of,
    whole_of,
)
from mammoscope.dicom.file import read_dataset
from mammoscope.errors import DicomError, MissingTagError, NotAMammogramError, Reason
from mammoscope.types import Laterality, View

__all__ = ["DicomFile", "ImageHeader", "is_dicom", "read_dicom", "tag_name"]

# PS3.16 CID 4014 "View for Mammography": SNOMED CT codes, then the older SRT codes.
_VIEW_CODES = {
    "399162004": View.CC,
    "R-10242": View.CC,
    "399368009": View.MLO,
    "R-10226": View.MLO,
    "399260004": View.ML,
    "R-10224": View.ML,
    "399352003": View.LM,
    "R-10228": View.LM,
    "399099002": View.LMO,
    "R-10230": View.LMO,
}

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image says; ``None`` where it says nothing.

    Attributes:
        sop_instance_uid: SOP Instance UID (0008,0018).
        sop_class_uid: SOP Class UID (0008,0016), else that of the file meta information.
        modality: Modality (0008,0060).
        presentation_intent: Presentation Intent Type (0008,0068).
        patient_id: Patient ID (0010,0020). Never printed or logged.
        study_uid: Study Instance UID (0020,000D).
        instance_number: Instance Number (0020,0013).
        laterality: Image Laterality (0020,0062), else Laterality (0020,0060).
        view: View Position (0018,5101), else View Code Sequence (0054,0220).
        rows: Height in pixels.
        columns: Width in pixels.
        samples_per_pixel: Samples per Pixel (0028,0002).
        frames: Number of Frames (0028,0008), 1 where absent.
        bits_allocated: Bits Allocated (0028,0100).
        bits_stored: Bits Stored (0028,0101).
        high_bit: High Bit (0028,0102), one less than Bits Stored where absent.
        overlay_in_pixels: An overlay lies in pixel bits above those stored (60xx,0102).
        signed: Pixel Representation (0028,0103) is 1.
        photometric_interpretation: Photometric Interpretation (0028,0004).
        transfer_syntax_uid: Transfer Syntax UID (0002,0010).
        transfer_syntax_name: Its name in the standard.
        rescale_slope: Rescale Slope (0028,1053), 1 where absent.
        rescale_intercept: Rescale Intercept (0028,1052), 0 where absent.
        windows: (center, width) of each window, from Window Center (0028,1050) and Window
            Width (0028,1051).
        voi_lut_function: VOI LUT Function (0028,1056), LINEAR where absent.
        presentation_lut_shape: Presentation LUT Shape (2050,0020).
        pixel_padding: Stored values, first and last, that Pixel Padding Value (0028,0120)
            and Pixel Padding Range Limit (0028,0121) set apart.
        pixel_spacing_mm: (row, column) spacing, from Pixel Spacing or Imager Pixel Spacing.
        age: Patient's Age (0010,1010) in years.
        implant: Breast Implant Present (0028,1300).
        manufacturer: Manufacturer (0008,0070).
    """

    sop_instance_uid: str | None
    sop_class_uid: str | None
    modality: str | None
    presentation_intent: str | None
    patient_id: str | None
    study_uid: str | None
    instance_number: str | None
    laterality: Laterality | None
    view: View | None
    rows: int
    columns: int
    samples_per_pixel: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    overlay_in_pixels: bool
    signed: bool
    photometric_interpretation: str
    transfer_syntax_uid: str
    transfer_syntax_name: str
    rescale_slope: float
    rescale_intercept: float
    windows: tuple[tuple[float, float], ...]
    voi_lut_function: str
    presentation_lut_shape: str | None
    pixel_padding: tuple[int, int] | None
    pixel_spacing_mm: tuple[float, float] | None
    age: float | None
    implant: bool | None
    manufacturer: str | None

    @property
    def pixel_aspect(self) -> float:
        """True width of a pixel over its height, 1 where the spacing is unknown."""
        if self.pixel_spacing_mm is None:
            return 1.0
        return self.pixel_spacing_mm[1] / self.pixel_spacing_mm[0]


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file that was read: its path, the dataset (pixel data undecoded) and the header."""

    path: Path
    dataset: FileDataset
    header: ImageHeader


def is_dicom(path: Path) -> bool:
    """Say whether a file carries the DICOM preamble (PS3.10, section 7.1)."""
    with Path(path).open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_dicom(path: Path) -> DicomFile:
    """Read a DICOM file without decoding its pixel data.

    Raises:
        DicomError: If it is empty, not DICOM, truncated or unreadable; ``reason`` says which.
        NotAMammogramError: If it holds no image.
        MissingTagError: If a tag that describes the pixels is absent.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise DicomError(f"{path.name} is empty", Reason.EMPTY_FILE)
    try:
        # Python's list of warning filters is one for all threads.
        with _ONE_AT_A_TIME, _unlogged(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = read_dataset(path)
            # pydicom reports an unexpected end as a warning and drops the element.
            if any("end of" in str(w.message).lower() for w in caught):
                raise EOFError
            if "PixelData" not in dataset:
                raise _without_pixels(path, dataset)
            _check_pixel_length(path, dataset)
            header = _header_of(path, dataset)
            _read_tables(path, dataset)
            return DicomFile(path, dataset, header)
    except InvalidDicomError as error:
        message = f"{path.name} is not a DICOM file: no 'DICM' after a 128-byte preamble"
        raise DicomError(message, Reason.NOT_AN_IMAGE) from error
    except (EOFError, struct.error) as error:
        raise DicomError(f"{path.name} ends before its data do", Reason.TRUNCATED_FILE) from error
    except RecursionError as error:
        message = f"{path.name} cannot be read as DICOM: sequences lie in sequences without end"
        raise DicomError(message) from error
    # pydicom raises as the bytes happen to lie. Its words may quote values of any element, the
    # patient's among them.
    except BROKEN as error:
        message = f"{path.name} cannot be read as DICOM: an element is not as it should be"
        raise DicomError(message) from error


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep pydicom's records, which quote values, out of logs: the patient's are among them."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _without_pixels(path: Path, dataset: FileDataset) -> DicomError:
    if "Rows" in dataset and "Columns" in dataset:
        message = f"{path.name} describes an image but holds no {tag_name('PixelData')}"
        return DicomError(message, Reason.TRUNCATED_FILE)
    name = UID(uid_of(dataset, "SOPClassUID") or "").name or "unknown SOP class"
    return NotAMammogramError(f"{path.name} holds no image (SOP class: {name})")


def _check_pixel_length(path: Path, dataset: FileDataset) -> None:
    """Refuse native pixel data shorter than the header says; a codec checks its own."""
    syntax = uid_of(dataset.file_meta, "TransferSyntaxUID")
    if syntax is None:
        raise MissingTagError(f"{path.name} lacks {tag_name('TransferSyntaxUID')}")
    if not isinstance(value_of(dataset, "PixelData"), bytes):
        kind = dataset["PixelData"].VR
        message = f"{path.name}: {tag_name('PixelData')} is of VR {kind}; OB and OW are accepted"
        raise DicomError(message, Reason.INVALID_VALUE)
    if UID(syntax).is_encapsulated:
        return
    needed = (
        _count(path, dataset, "Rows")
        * _count(path, dataset, "Columns")
        * (whole_of(dataset, "SamplesPerPixel", 1) or 1)
        * _count(path, dataset, "BitsAllocated")
        // 8
    )
    found = len(dataset.PixelData)
    if found < needed:
        message = f"{path.name}: {tag_name('PixelData')} holds {found} bytes where {needed} are due"
        raise DicomError(message, Reason.TRUNCATED_FILE)


def _header_of(path: Path, dataset: FileDataset) -> ImageHeader:
    try:
        return _build_header(path, dataset)
    except ValueError as error:
        raise DicomError(f"{path.name}: {error}", Reason.INVALID_VALUE) from error


def _build_header(path: Path, dataset: FileDataset) -> ImageHeader:
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    spacing = numbers_of(dataset, "PixelSpacing") or numbers_of(dataset, "ImagerPixelSpacing")
    bits_allocated = _count(path, dataset, "BitsAllocated")
    bits_stored = whole_of(dataset, "BitsStored", bits_allocated)
    return ImageHeader(
        sop_instance_uid=text_of(dataset, "SOPInstanceUID"),
        sop_class_uid=uid_of(dataset, "SOPClassUID")
        or uid_of(dataset.file_meta, "MediaStorageSOPClassUID"),
        modality=text_of(dataset, "Modality"),
        presentation_intent=text_of(dataset, "PresentationIntentType"),
        patient_id=text_of(dataset, "PatientID"),
        study_uid=text_of(dataset, "StudyInstanceUID"),
        instance_number=text_of(dataset, "InstanceNumber"),
        laterality=_laterality(dataset),
        view=_view(dataset),
        rows=_count(path, dataset, "Rows"),
        columns=_count(path, dataset, "Columns"),
        samples_per_pixel=whole_of(dataset, "SamplesPerPixel", 1) or 1,
        frames=whole_of(dataset, "NumberOfFrames", 1) or 1,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=whole_of(dataset, "HighBit", bits_stored - 1),
        overlay_in_pixels=_overlay_in_pixels(dataset),
        signed=whole_of(dataset, "PixelRepresentation", 0) == 1,
        photometric_interpretation=_photometric(path, dataset),
        transfer_syntax_uid=str(syntax),
        transfer_syntax_name=syntax.name,
        rescale_slope=number_of(dataset, "RescaleSlope", 1.0),
        rescale_intercept=number_of(dataset, "RescaleIntercept", 0.0),
        windows=_windows(dataset),
        voi_lut_function=(text_of(dataset, "VOILUTFunction") or "LINEAR").upper(),
        presentation_lut_shape=text_of(dataset, "PresentationLUTShape"),
        pixel_padding=_padding(dataset),
        pixel_spacing_mm=_spacing(spacing),
        age=_age_years(dataset),
        implant={"YES": True, "NO": False}.get(text_of(dataset, "BreastImplantPresent") or ""),
        manufacturer=text_of(dataset, "Manufacturer"),
    )


def _needed(path: Path, dataset: FileDataset, keyword: str) -> Any:
    value = value_of(dataset, keyword)
    if value is None or value == "":
        raise MissingTagError(f"{path.name} lacks {tag_name(keyword)}, which describes its pixels")
    return value


def _count(path: Path, dataset: FileDataset, keyword: str) -> int:
    _needed(path, dataset, keyword)
    return whole_of(dataset, keyword, 0)


def _read_tables(path: Path, dataset: FileDataset) -> None:
    """Have pydicom read the look-up tables now, where all that it raises is caught."""
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        try:
            for item in items_of(dataset, keyword):
                for name in ("LUTDescriptor", "LUTData"):
                    item.get(name)
        except BROKEN as error:
            message = f"{path.name}: {tag_name(keyword)} cannot be read"
            raise DicomError(message, Reason.INVALID_VALUE) from error


def _photometric(path: Path, dataset: FileDataset) -> str:
    value = _needed(path, dataset, "PhotometricInterpretation")
    if not isinstance(value, str) or not value.isprintable():
        name = tag_name("PhotometricInterpretation")
        message = f"{path.name}: {name} is {quoted(value)}; one word is accepted"
        raise DicomError(message, Reason.INVALID_VALUE)
    return value


def _windows(dataset: FileDataset) -> tuple[tuple[float, float], ...]:
    centers, widths = numbers_of(dataset, "WindowCenter"), numbers_of(dataset, "WindowWidth")
    if len(centers) != len(widths):
        raise ValueError(
            f"{tag_name('WindowCenter')} has {len(centers)} values and {tag_name('WindowWidth')} "
            f"{len(widths)}; a window needs both"
        )
    return tuple(zip(centers, widths, strict=True))


def _padding(dataset: FileDataset) -> tuple[int, int] | None:
    """Return the first and last stored value that pad the image (PS3.3 C.7.5.1.1.2)."""
    if value_of(dataset, "PixelPaddingValue") in (None, ""):
        return None
    first = whole_of(dataset, "PixelPaddingValue", 0)
    ends = (first, whole_of(dataset, "PixelPaddingRangeLimit", first))
    return min(ends), max(ends)


def _overlay_in_pixels(dataset: FileDataset) -> bool:
    """Say whether an overlay plane lies in the pixel data (retired, PS3.3-2004 C.9.2)."""
    for group in range(0x6000, 0x6020, 2):
        bits = dataset[group, 0x0100].value if (group, 0x0100) in dataset else None
        if bits and not isinstance(bits, int):
            name = f"({group:04X},0100) OverlayBitsAllocated"
            message = f"{name} is {quoted(bits)}, not a whole number"
            raise DicomError(message, Reason.INVALID_VALUE)
        if bits and bits > 1:
            return True
    return False


def _spacing(values: tuple[float, ...]) -> tuple[float, float] | None:
    if not values:
        return None
    if len(values) != 2:
        raise ValueError(f"{tag_name('PixelSpacing')} has {len(values)} values; 2 are accepted")
    row, column = values
    if not (row > 0 and column > 0):
        raise ValueError(f"{tag_name('PixelSpacing')} is {row}, {column}; both must be above 0")
    return row, column


def _laterality(dataset: FileDataset) -> Laterality | None:
    for keyword in ("ImageLaterality", "Laterality"):
        text = (text_of(dataset, keyword) or "").upper()
        if text in Laterality.__members__:
            return Laterality(text)
    return None


def _view(dataset: FileDataset) -> View | None:
    text = (text_of(dataset, "ViewPosition") or "").upper()
    if text in View.__members__:
        return View(text)
    for item in items_of(dataset, "ViewCodeSequence"):
        code = _VIEW_CODES.get(str(item.get("CodeValue", "")))
        if code is not None:
            return code
    return None


def _age_years(dataset: FileDataset) -> float | None:
    """Read an age string such as ``063Y`` (PS3.5, value representation AS)."""
    text = text_of(dataset, "PatientAge")
    # int() refuses, in words of its own, thousands of digits and digits of other scripts.
    if text is None or len(text) > 8 or not text[:-1].isdecimal():
        return None
    years = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}.get(text[-1].upper())
    return None if years is None else int(text[:-1]) * years
