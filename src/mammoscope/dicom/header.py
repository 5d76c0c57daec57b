"""Header of one mammogram file: what the tags say, as one frozen record.

Attributes follow PS3.3 C.8.11 (digital X-ray and mammography modules). Files of
public data sets are often stripped, so every descriptive attribute may be ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import FileDataset
from pydicom.uid import UID

from mammoscope.dicom.elements import (
    items,
    number,
    numbers,
    read_value,
    shown,
    tag_name,
    text,
    uid,
    whole,
    word,
    words,
)
from mammoscope.dicom.views import Projection, read_projection
from mammoscope.errors import DicomError, MissingTagError, Reason
from mammoscope.types import Laterality, View

__all__ = ["ImageHeader", "build_header", "count_of", "tag_name"]

# What people or devices put into words; read only where no code says it.
_TYPED = ("SeriesDescription", "PaddleDescription", "DerivationDescription")


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
        projection: Which breast and which view, from all elements that say so.
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
        patient_orientation: Patient Orientation (0020,0020): where rows run to, then columns.
        manufacturer: Manufacturer (0008,0070).
        model_name: Manufacturer's Model Name (0008,1090).
        image_type: Values of Image Type (0008,0008), empty ones included.
        body_part: Body Part Examined (0018,0015).
        regions: Codes of Anatomic Region Sequence (0008,2218).
        partial_view: Partial View (0028,1350), or what its code sequence implies.
        burned_in_annotation: Burned In Annotation (0028,0301).
        quality_control: Quality Control Image (0028,0300), or Subject (0010,0200).
        spatial_locations_preserved: Spatial Locations Preserved (0028,135A).
        magnification: Estimated Radiographic Magnification Factor (0018,1114).
        conversion_type: Conversion Type (0008,0064) of a secondary capture.
        descriptions: (keyword, text) of what people typed. Never printed or logged.
    """

    sop_instance_uid: str | None
    sop_class_uid: str | None
    modality: str | None
    presentation_intent: str | None
    patient_id: str | None
    study_uid: str | None
    instance_number: str | None
    projection: Projection
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
    patient_orientation: tuple[str, ...]
    manufacturer: str | None
    model_name: str | None
    image_type: tuple[str, ...]
    body_part: str | None
    regions: tuple[str, ...]
    partial_view: str | None
    burned_in_annotation: str | None
    quality_control: str | None
    spatial_locations_preserved: str | None
    magnification: float | None
    conversion_type: str | None
    descriptions: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def laterality(self) -> Laterality | None:
        """Which breast, where the header says one."""
        return self.projection.laterality

    @property
    def view(self) -> View | None:
        """Which projection, where the header says one of ours."""
        return self.projection.view

    @property
    def chest_wall(self) -> Laterality | None:
        """Side of the image on which Patient Orientation puts the chest wall.

        Rows that run to anterior (A) begin at the chest wall (PS3.3 C.7.6.1.1.1).
        """
        towards = self.patient_orientation[0][:1] if self.patient_orientation else ""
        return {"A": Laterality.L, "P": Laterality.R}.get(towards)

    @property
    def pixel_aspect(self) -> float:
        """True width of a pixel over its height, 1 where the spacing is unknown."""
        if self.pixel_spacing_mm is None:
            return 1.0
        return self.pixel_spacing_mm[1] / self.pixel_spacing_mm[0]


def build_header(path: Path, dataset: FileDataset) -> ImageHeader:
    """Build the header of a data set.

    Raises:
        MissingTagError: If a tag that describes the pixels is absent.
        DicomError: ``invalid_value`` if an element is not as the standard has it.
    """
    try:
        return _build(path, dataset)
    except ValueError as error:
        raise DicomError(f"{path.name}: {error}", Reason.INVALID_VALUE) from error


def _build(path: Path, dataset: FileDataset) -> ImageHeader:
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    bits_allocated = count_of(path, dataset, "BitsAllocated")
    bits_stored = whole(dataset, "BitsStored", bits_allocated)
    return ImageHeader(
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        sop_class_uid=uid(dataset, "SOPClassUID")
        or uid(dataset.file_meta, "MediaStorageSOPClassUID"),
        modality=word(dataset, "Modality"),
        presentation_intent=word(dataset, "PresentationIntentType"),
        patient_id=text(dataset, "PatientID"),
        study_uid=text(dataset, "StudyInstanceUID"),
        instance_number=text(dataset, "InstanceNumber"),
        projection=read_projection(dataset),
        rows=count_of(path, dataset, "Rows"),
        columns=count_of(path, dataset, "Columns"),
        samples_per_pixel=whole(dataset, "SamplesPerPixel", 1) or 1,
        frames=whole(dataset, "NumberOfFrames", 1) or 1,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=whole(dataset, "HighBit", bits_stored - 1),
        overlay_in_pixels=_overlay_in_pixels(dataset),
        signed=whole(dataset, "PixelRepresentation", 0) == 1,
        photometric_interpretation=_photometric(path, dataset),
        transfer_syntax_uid=str(syntax),
        transfer_syntax_name=syntax.name,
        rescale_slope=number(dataset, "RescaleSlope", 1.0),
        rescale_intercept=number(dataset, "RescaleIntercept", 0.0),
        windows=_windows(dataset),
        voi_lut_function=(text(dataset, "VOILUTFunction") or "LINEAR").upper(),
        presentation_lut_shape=word(dataset, "PresentationLUTShape"),
        pixel_padding=_padding(dataset),
        pixel_spacing_mm=_spacing(dataset),
        age=_age_years(dataset),
        implant={"YES": True, "NO": False}.get(word(dataset, "BreastImplantPresent") or ""),
        patient_orientation=words(dataset, "PatientOrientation"),
        manufacturer=text(dataset, "Manufacturer"),
        model_name=text(dataset, "ManufacturerModelName"),
        image_type=words(dataset, "ImageType"),
        body_part=word(dataset, "BodyPartExamined"),
        regions=tuple(
            code
            for item in items(dataset, "AnatomicRegionSequence")
            if (code := word(item, "CodeValue"))
        ),
        partial_view=word(dataset, "PartialView")
        or ("YES" if items(dataset, "PartialViewCodeSequence") else None),
        burned_in_annotation=word(dataset, "BurnedInAnnotation"),
        quality_control=word(dataset, "QualityControlImage")
        or word(dataset, "QualityControlSubject"),
        spatial_locations_preserved=word(dataset, "SpatialLocationsPreserved"),
        magnification=number(dataset, "EstimatedRadiographicMagnificationFactor", None),
        conversion_type=word(dataset, "ConversionType"),
        descriptions=tuple(
            (keyword, typed) for keyword in _TYPED if (typed := text(dataset, keyword))
        ),
    )


def _needed(path: Path, dataset: FileDataset, keyword: str) -> Any:
    value = read_value(dataset, keyword)
    if value is None or value == "":
        raise MissingTagError(f"{path.name} lacks {tag_name(keyword)}, which describes its pixels")
    return value


def count_of(path: Path, dataset: FileDataset, keyword: str) -> int:
    """Return a whole number that describes the pixels.

    Raises:
        MissingTagError: If it is absent.
    """
    _needed(path, dataset, keyword)
    return whole(dataset, keyword, 0)


def _photometric(path: Path, dataset: FileDataset) -> str:
    value = _needed(path, dataset, "PhotometricInterpretation")
    if not isinstance(value, str) or not value.isprintable():
        name = tag_name("PhotometricInterpretation")
        message = f"{path.name}: {name} is {shown(value)}; one word is accepted"
        raise DicomError(message, Reason.INVALID_VALUE)
    return value


def _windows(dataset: FileDataset) -> tuple[tuple[float, float], ...]:
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if len(centers) != len(widths):
        raise ValueError(
            f"{tag_name('WindowCenter')} has {len(centers)} values and {tag_name('WindowWidth')} "
            f"{len(widths)}; a window needs both"
        )
    return tuple(zip(centers, widths, strict=True))


def _padding(dataset: FileDataset) -> tuple[int, int] | None:
    """Return the first and last stored value that pad the image (PS3.3 C.7.5.1.1.2)."""
    if read_value(dataset, "PixelPaddingValue") in (None, ""):
        return None
    first = whole(dataset, "PixelPaddingValue", 0)
    last = whole(dataset, "PixelPaddingRangeLimit", first)
    bits = whole(dataset, "BitsAllocated", 16)
    signed = whole(dataset, "PixelRepresentation", 0) == 1
    # Written as US where pixels are signed, or the other way round, the bits are the same.
    ends = sorted(_with_sign(value, bits, signed=signed) for value in (first, last))
    return ends[0], ends[1]


def _with_sign(value: int, bits: int, *, signed: bool) -> int:
    unsigned = value % (1 << bits)
    return unsigned - (1 << bits) if signed and unsigned >> bits - 1 else unsigned


def _overlay_in_pixels(dataset: FileDataset) -> bool:
    """Say whether an overlay plane lies in the pixel data (retired, PS3.3-2004 C.9.2)."""
    for group in range(0x6000, 0x6020, 2):
        bits = dataset[group, 0x0100].value if (group, 0x0100) in dataset else None
        if bits and not isinstance(bits, int):
            name = f"({group:04X},0100) OverlayBitsAllocated"
            message = f"{name} is {shown(bits)}, not a whole number"
            raise DicomError(message, Reason.INVALID_VALUE)
        if bits and bits > 1:
            return True
    return False


def _spacing(dataset: FileDataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        found = numbers(dataset, keyword)
        if not found:
            continue
        if len(found) != 2 or not min(found) > 0 or not 0.05 <= found[1] / found[0] <= 20:
            raise ValueError(
                f"{tag_name(keyword)} is {found}; two numbers above 0 are accepted, neither more "
                "than 20 times the other"
            )
        return found[0], found[1]
    return None


def _age_years(dataset: FileDataset) -> float | None:
    """Read an age string such as ``063Y`` (PS3.5, value representation AS)."""
    age = text(dataset, "PatientAge")
    # int() refuses, in words of its own, thousands of digits and digits of other scripts.
    if age is None or len(age) > 8 or not age[:-1].isdecimal():
        return None
    years = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}.get(age[-1].upper())
    return None if years is None else int(age[:-1]) * years
