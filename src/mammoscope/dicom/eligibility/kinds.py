"""Rules on what kind of image it is: how it was made, of what, and by whom."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pydicom
from pydicom.uid import UID

from mammoscope.config import EligibilityConfig
from mammoscope.dicom.eligibility.rule import Candidate, candidate_rule, rule, sentence, typed
from mammoscope.dicom.header import ImageHeader
from mammoscope.errors import Reason

#: SOP classes that carry a 2D mammogram. Public data sets store theirs as Digital X-Ray or
#: Computed Radiography, so those pass and the modality decides.
ACCEPTED_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1.2": "Digital Mammography X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
}
_FOR_PROCESSING = {"1.2.840.10008.5.1.4.1.1.1.2.1", "1.2.840.10008.5.1.4.1.1.1.1.1"}
_TOMOSYNTHESIS = {
    "1.2.840.10008.5.1.4.1.1.13.1.3",  # Breast Tomosynthesis
    "1.2.840.10008.5.1.4.1.1.13.1.4",  # Breast Projection X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.13.1.5",  # the same, for processing
}
_SECONDARY_CAPTURE = {
    "1.2.840.10008.5.1.4.1.1.7",
    *(f"1.2.840.10008.5.1.4.1.1.7.{kind}" for kind in range(1, 5)),
}
_JUDGED_BY_THEIR_OWN_RULE = _FOR_PROCESSING | _TOMOSYNTHESIS | _SECONDARY_CAPTURE
_MODALITIES = ("MG", "CR", "DX", "OT")
_GREY = ("MONOCHROME1", "MONOCHROME2")

# PS3.3 C.8.11.7.1.4 and C.8.21.6.1.1: Image Type from its third value on.
_TOMO_TYPES = {"TOMO", "TOMO_PROJ", "TOMOSYNTHESIS"}
_GENERATED = {"GENERATED_2D"}
_CONTRAST_TYPES = {"ADDITION", "SUBTRACTION", "HIGH_ENERGY"}
_BIOPSY_TYPES = {
    "STEREO_SCOUT", "STEREO_MINUS", "STEREO_PLUS", "TOMO_SCOUT",
    "PREFIRE", "PREFIRE_MINUS", "PREFIRE_PLUS", "POSTFIRE", "POSTFIRE_MINUS", "POSTFIRE_PLUS",
    "POSTBIOPSY", "POSTBIOPSY_MINUS", "POSTBIOPSY_PLUS",
    "POSTMARKER", "POSTMARKER_MINUS", "POSTMARKER_PLUS",
}  # fmt: skip

# PS3.16 CID 4013 and its older code; of the phantom CID 4009's.
_BREAST_REGIONS = {"76752008", "T-04000"}
_PHANTOM_REGIONS = {"706342009"}
# The standard's word, then what sites write in other languages.
_BREAST_WORDS = ("BREAST", "MAMM", "MAMA", "BRUST", "SEIN", "SENO", "BORST")


@rule(
    Reason.NOT_A_MAMMOGRAM,
    "PS3.3 C.8.11.3, C.8.11.6; PS3.4 B.5",
    "Modality",
    "SOPClassUID",
    "PhotometricInterpretation",
    "SamplesPerPixel",
)
def not_a_mammogram(header: ImageHeader) -> str | None:
    """Another modality or SOP class, or an image in colour."""
    if header.modality is not None and header.modality not in _MODALITIES:
        return sentence("Modality", header.modality, ", ".join(_MODALITIES))
    known = ACCEPTED_SOP_CLASSES.keys() | _JUDGED_BY_THEIR_OWN_RULE
    if header.sop_class_uid is not None and header.sop_class_uid not in known:
        return _sop_class(header, ", ".join(ACCEPTED_SOP_CLASSES.values()))
    if header.photometric_interpretation not in _GREY:
        there = header.photometric_interpretation
        return sentence("PhotometricInterpretation", there, ", ".join(_GREY))
    if header.samples_per_pixel != 1:
        return sentence("SamplesPerPixel", header.samples_per_pixel, "1")
    return None


@rule(Reason.TOMOSYNTHESIS, "PS3.3 C.8.21.6.1.1, C.8.11.7.1.4", "SOPClassUID", "ImageType")
def tomosynthesis(header: ImageHeader) -> str | None:
    """A slice or projection of a tomosynthesis; a 2D image made of it has its own rule."""
    if _GENERATED & set(header.image_type[2:]):
        return None
    if header.sop_class_uid in _TOMOSYNTHESIS:
        return _sop_class(header, "2D mammograms")
    return _image_type(header, _TOMO_TYPES, "a third value that is empty")


@rule(Reason.SYNTHETIC_2D, "PS3.3 C.8.11.7.1.4", "ImageType", "SeriesDescription")
def synthetic_2d(header: ImageHeader) -> str | None:
    """A 2D image computed from a tomosynthesis."""
    found = _image_type(header, _GENERATED, "an acquired image")
    if found or len(header.image_type) > 3:
        return found
    # Software older than the defined term says it in words only: Hologic, GE, Fujifilm,
    # Siemens.
    names = r"\bC-?View\b|\bV-?Preview\b|\bS-?View\b|\bInsight ?2D\b|\bIntelligent ?2D\b|\bI2D\b"
    return typed(header, names, "a synthetic 2D image", ["SeriesDescription"])


@rule(Reason.MULTIFRAME, "PS3.3 C.7.6.6", "NumberOfFrames")
def multiframe(header: ImageHeader) -> str | None:
    """More than one frame: nothing that can be scored as one image."""
    if header.frames == 1:
        return None
    return sentence("NumberOfFrames", header.frames, "1, as a 2D mammogram has")


@rule(Reason.FOR_PROCESSING, "PS3.3 C.8.11.1.1", "PresentationIntentType", "SOPClassUID")
def for_processing(header: ImageHeader) -> str | None:
    """Raw detector values, which no reader is shown."""
    if header.presentation_intent not in (None, "FOR PRESENTATION"):
        return sentence("PresentationIntentType", header.presentation_intent, "FOR PRESENTATION")
    if header.sop_class_uid in _FOR_PROCESSING:
        return _sop_class(header, "those for presentation")
    return None


@rule(
    Reason.QUALITY_CONTROL,
    "PS3.3 C.7.6.1, C.7.1.1; PS3.16 CID 4009",
    "QualityControlImage",
    "QualityControlSubject",
    "AnatomicRegionSequence",
    "BodyPartExamined",
    "SeriesDescription",
)
def quality_control(header: ImageHeader) -> str | None:
    """A phantom or test exposure."""
    # BOTH is a patient's image with an object of known density in it.
    if header.quality_control == "YES":
        return sentence("QualityControlImage", "YES", "NO, BOTH")
    if _PHANTOM_REGIONS & set(header.regions):
        return sentence("AnatomicRegionSequence", "phantom", "breast")
    if header.body_part == "PHANTOM":
        return sentence("BodyPartExamined", header.body_part, "BREAST")
    if header.quality_control is not None:
        return None
    words = r"\bphantom\b|\bflat ?-?field\b|\bQC\b|\bquality control\b"
    return typed(header, words, "a test exposure", ["SeriesDescription"])


@rule(Reason.SPECIMEN, "PS3.16 CID 4014", "ViewCodeSequence", "SeriesDescription")
def specimen(header: ImageHeader) -> str | None:
    """Tissue on a tray."""
    if header.projection.view_word == "SPECIMEN":
        return sentence("ViewCodeSequence", "tissue specimen from breast", "a view of the breast")
    if header.projection.coded:
        return None
    return typed(header, r"\bspecimens?\b", "a specimen", ["SeriesDescription"])


@rule(
    Reason.NOT_A_BREAST,
    "PS3.3 C.8.11.7; PS3.16 CID 4013",
    "BodyPartExamined",
    "AnatomicRegionSequence",
)
def not_a_breast(header: ImageHeader) -> str | None:
    """A body part or region that is named and no breast."""
    regions = set(header.regions) - _PHANTOM_REGIONS
    if regions and not regions & _BREAST_REGIONS:
        return sentence("AnatomicRegionSequence", min(regions), "76752008 (SCT), T-04000 (SRT)")
    part = header.body_part
    if part in (None, "PHANTOM") or any(word in str(part) for word in _BREAST_WORDS):
        return None
    return sentence("BodyPartExamined", part, "BREAST")


@rule(Reason.BIOPSY, "PS3.3 C.8.11.7.1.4, C.8.21.6.1.1", "ImageType")
def biopsy(header: ImageHeader) -> str | None:
    """An image that guides a needle."""
    return _image_type(header, _BIOPSY_TYPES, "images that guide no needle")


@rule(Reason.CONTRAST_ENHANCED, "PS3.3 C.8.11.7.1.4", "ImageType")
def contrast_enhanced(header: ImageHeader) -> str | None:
    """An image with contrast agent; one of low energy looks as if without."""
    flavours = set(header.image_type[2:])
    if "LOW_ENERGY" in flavours and not flavours & _CONTRAST_TYPES:
        return None
    refused = {*_CONTRAST_TYPES, "PRE_CONTRAST", "POST_CONTRAST"}
    return _image_type(header, refused, "images without contrast, or of LOW_ENERGY")


@rule(
    Reason.MARKED_UP,
    "PS3.3 C.8.6.1",
    "ConversionType",
    "SeriesDescription",
    "DerivationDescription",
)
def marked_up(header: ImageHeader) -> str | None:
    """A drawing, an annotated copy or a capture of a screen."""
    if header.conversion_type == "DRW":
        return sentence("ConversionType", "DRW (a drawing)", "an image without drawings")
    words = (
        r"\bannotat(?:ed|ions?)\b|\bmark(?:ed)?[ -]?up\b|\bscreen[ -]?(?:save|shot|capture)\b"
        r"|\bCAD\b"
    )
    keywords = ["SeriesDescription", "DerivationDescription"]
    return typed(header, words, "marks in the image", keywords)


@rule(Reason.BURNED_IN_ANNOTATION, "PS3.3 C.7.6.1", "BurnedInAnnotation")
def burned_in_annotation(header: ImageHeader) -> str | None:
    """Text in the pixels by which the patient could be known."""
    if header.burned_in_annotation != "YES":
        return None
    return sentence("BurnedInAnnotation", "YES", "NO")


@rule(Reason.SECONDARY_CAPTURE, "PS3.3 A.8, C.7.6.1.1.2", "SOPClassUID", "ImageType")
def secondary_capture(header: ImageHeader) -> str | None:
    """Pixels that passed through another machine, as digitised films did."""
    accepted = "images as they were acquired, or listed in a table with laterality and view"
    if header.sop_class_uid in _SECONDARY_CAPTURE:
        return _sop_class(header, accepted)
    if header.image_type[1:2] == ("SECONDARY",):
        return sentence("ImageType", "SECONDARY", accepted)
    return None


@rule(Reason.WARPED, "PS3.3 C.12.4", "SpatialLocationsPreserved")
def warped(header: ImageHeader) -> str | None:
    """A derived image in which places have moved: sizes and boxes are not to be trusted."""
    if header.spatial_locations_preserved != "NO":
        return None
    return sentence("SpatialLocationsPreserved", "NO", "YES, REORIENTED_ONLY")


@candidate_rule(Reason.UNKNOWN_VENDOR, "PS3.3 C.7.5.1", "Manufacturer", "ManufacturerModelName")
def unknown_vendor(candidate: Candidate, config: EligibilityConfig) -> str | None:
    """A manufacturer that is named and not known; a header without one is not."""
    header = candidate.header
    maker = header.manufacturer if header else None
    if header is None or maker is None:
        return None
    name = re.sub(r"[^A-Z0-9]+", " ", maker.upper()).strip()
    if any(f" {vendor.upper()} " in f" {name} " for vendor in config.vendors):
        return None
    named = f"{maker}, model {header.model_name}" if header.model_name else maker
    return sentence("Manufacturer", named, "those listed under eligibility.vendors")


def _image_type(header: ImageHeader, refused: Iterable[str], accepted: str) -> str | None:
    """Say which of these words stands in Image Type from its third value on."""
    there = sorted(set(header.image_type[2:]) & set(refused))
    return sentence("ImageType", there[0], accepted) if there else None


def _sop_class(header: ImageHeader, accepted: str) -> str:
    # A UID that breaks its syntax is shown as it is; pydicom would warn of it.
    uid = UID(header.sop_class_uid or "", validation_mode=pydicom.config.IGNORE)
    return sentence("SOPClassUID", uid.name, accepted)
