"""What happens to each attribute: PS3.15 Annex E, Table E.1-1, with the options we apply.

The table lies beside this module as data, with its edition and sources. What the table
does not name is decided by its value representation, on the safe side, as note 4 and 5 of
section E.1.1 and note 3 of section E.3.5 suggest: temporal values are shifted, UIDs mapped,
free text is emptied and bytes are removed, unless a list says that they describe the image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag

__all__ = [
    "Action",
    "ProfileRow",
    "action_for",
    "basic_action",
    "profile_edition",
    "profile_rows",
]

_TEMPORAL_VRS = frozenset({"DA", "DT", "TM"})
_TEXT_VRS = frozenset({"AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_NUMERIC_VRS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})

# Text of the image modules of PS3.3 (MG, DX, CR, SC: general, equipment, detector, grid, LUT
# and code sequence macros) whose words come from a machine or a code system, not from typing.
_MACHINE_TEXT = frozenset({
    "AcquisitionDeviceProcessingCode", "CodeMeaning", "CodeValue", "CodingSchemeDesignator",
    "CodingSchemeName", "CodingSchemeRegistry", "CodingSchemeVersion", "CollimatorGridName",
    "DetectorDescription", "DetectorManufacturerModelName", "DetectorManufacturerName",
    "DetectorMode", "DeviceID", "DigitalImageFormatAcquired", "ExposureControlModeDescription",
    "FilterType", "GridAbsorbingMaterial", "GridID", "GridSpacingMaterial", "LUTExplanation",
    "LongCodeValue", "Manufacturer", "ManufacturerModelName", "MappingResourceName",
    "ModalityLUTType", "PhosphorType", "PixelSpacingCalibrationDescription", "PlateType",
    "RescaleType", "SecondaryCaptureDeviceManufacturer",
    "SecondaryCaptureDeviceManufacturerModelName", "SecondaryCaptureDeviceSoftwareVersions",
    "SoftwareVersions", "URNCodeValue", "VideoImageFormatAcquired",
    "WindowCenterWidthExplanation",
})  # fmt: skip
# UIDs that name a kind of thing, not a thing (PS3.15 section E.3.9, note 4).
_STRUCTURAL_UIDS = frozenset({
    "CodingSchemeUID", "ContextGroupExtensionCreatorUID", "ContextUID", "MappingResourceUID",
    "OriginalSpecializedSOPClassUID", "ReferencedSOPClassUID", "RelatedGeneralSOPClassUID",
    "SOPClassUID",
})  # fmt: skip
# Of the attributes for which the table has alternatives, those of type 1, 1C, 2 or 2C in the
# MG, DX, CR or SC image IODs (PS3.3 annexes A.2, A.8, A.26 and A.27); the rest are of type 3.
_TYPE_1_OR_2 = frozenset({
    "AcquisitionContextSequence", "ContentDate", "ContentTime", "PatientID",
    "PatientSexNeutered", "ReferencedPerformedProcedureStepSequence",
})  # fmt: skip
_IMAGE_BYTES = frozenset({"LUTData", "PixelData"})


class Action(StrEnum):
    """What to do with an attribute, in the words of Table E.1-1a."""

    REMOVE = "X"
    EMPTY = "Z"
    DUMMY = "D"
    MAP_UID = "U"
    KEEP = "K"  # a sequence is kept by applying the profile to each of its items
    SHIFT = "C"  # of a date or time


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """One row of Table E.1-1.

    Attributes:
        tag: ``gggg,eeee`` in upper case; ``x`` stands for any digit.
        name: The attribute's name in the standard.
        basic: Action of the Basic Profile, alternatives parted by ``/``.
        device: Action of the Retain Device Identity Option, or nothing.
        patient: Action of the Retain Patient Characteristics Option, or nothing.
        dates: Action of the Retain Longitudinal Temporal Information with Modified Dates Option.
    """

    tag: str
    name: str
    basic: str
    device: str
    patient: str
    dates: str


@cache
def _table() -> dict[str, Any]:
    text = (files("mammoscope.dicom") / "confidentiality.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return values


@cache
def profile_rows() -> dict[str, ProfileRow]:
    """Return the table's rows by tag."""
    return {row[0]: ProfileRow(*row) for row in _table()["attributes"]}


def profile_edition() -> str:
    """Return the edition of the standard that the table is of."""
    return str(_table()["edition"])


@cache
def action_for(tag: BaseTag, vr: str, *, nested: bool, patient_characteristics: bool) -> Action:
    """Decide what happens to an attribute.

    Args:
        tag: Its tag; private tags are removed.
        vr: Its value representation.
        nested: It lies in an item of a sequence.
        patient_characteristics: The Retain Patient Characteristics Option is applied.
    """
    # Commands, file meta and directory elements do not belong into a data set; group lengths
    # and repeating groups (curves, overlays with their free-text labels) are retired or planes.
    if tag.is_private or tag.group < 0x0008 or tag.element == 0 or _is_plane(tag):
        return Action.REMOVE
    row = profile_rows().get(_key(tag))
    if row is not None:
        return _by_table(
            row, tag, vr, nested=nested, patient_characteristics=patient_characteristics
        )
    if not dictionary_has_tag(tag):
        return Action.REMOVE
    return _by_vr(tag, vr, nested=nested)


def _is_plane(tag: BaseTag) -> bool:
    """Say whether a tag is of the curves 50xx or the overlays 60xx."""
    return tag.group >> 8 in (0x50, 0x60)


def basic_action(tag: BaseTag, *, nested: bool) -> Action:
    """Decide by the Basic Profile alone; an attribute that is not in the table is removed.

    Where the table leaves the choice to the attribute's type in the IOD, what is of type 3 in
    all that we accept is removed; in items of sequences, where types vary, the last alternative
    is taken, which is valid for every type.

    Args:
        tag: Its tag.
        nested: It lies in an item of a sequence.
    """
    row = profile_rows().get(_key(tag))
    if row is None:
        return Action.REMOVE
    # "X/Z/U*": the sequence stays, with the UIDs in it mapped.
    if row.basic.endswith("U*"):
        return Action.KEEP
    first, _, rest = row.basic.partition("/")
    optional = not nested and keyword_for_tag(tag) not in _TYPE_1_OR_2
    return Action(first if not rest or optional else rest.rpartition("/")[2])


def _key(tag: BaseTag) -> str:
    return f"{tag.group:04X},{tag.element:04X}"


def _by_table(
    row: ProfileRow, tag: BaseTag, vr: str, *, nested: bool, patient_characteristics: bool
) -> Action:
    """Apply the options, which override the profile, then the profile.

    Where an option asks for cleaning of something else than a date or time we cannot clean,
    so the profile decides.
    """
    if row.dates == "C":
        return Action.SHIFT if vr in _TEMPORAL_VRS else basic_action(tag, nested=nested)
    # A value of unknown representation may be a sequence that cannot be looked into.
    if vr != "UN" and (row.device == "K" or (patient_characteristics and row.patient == "K")):
        return Action.KEEP
    return basic_action(tag, nested=nested)


def _by_vr(tag: BaseTag, vr: str, *, nested: bool) -> Action:
    keyword, declared = keyword_for_tag(tag), set(dictionary_VR(tag).split(" or "))
    if vr not in declared and not {vr, *declared} <= _NUMERIC_VRS:
        return Action.REMOVE  # text in the place of a number, a name in that of a code
    if vr in _TEMPORAL_VRS:
        return Action.SHIFT
    if vr == "UI":
        return Action.KEEP if keyword in _STRUCTURAL_UIDS else Action.MAP_UID
    if vr in _TEXT_VRS:
        # Emptied, not removed: some are of type 2, such as Position Reference Indicator.
        return Action.KEEP if keyword in _MACHINE_TEXT else Action.EMPTY
    if vr in _BINARY_VRS:
        top_only = keyword == "PixelData" and nested
        return Action.KEEP if keyword in _IMAGE_BYTES and not top_only else Action.REMOVE
    return Action.KEEP
