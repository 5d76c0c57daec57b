"""May this image be scored? A sentence and a reason code where it may not."""

from __future__ import annotations

from typing import TypeVar

from pydicom.uid import UID

from mammoscope.dicom.header import ImageHeader, tag_name
from mammoscope.errors import DicomError, MissingTagError, NotAMammogramError, Reason
from mammoscope.types import Laterality, View

__all__ = ["ACCEPTED_SOP_CLASSES", "check_eligibility", "resolve_laterality_and_view"]

#: SOP classes that carry a 2D mammogram for presentation. Public data sets store theirs
#: as Digital X-Ray or Secondary Capture, so those pass and the modality decides.
ACCEPTED_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1.2": "Digital Mammography X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}

_ACCEPTED_MODALITIES = ("MG", "CR", "DX", "OT")
_SPELLINGS = {"LEFT": "L", "RIGHT": "R"}

Word = TypeVar("Word", Laterality, View)


def check_eligibility(header: ImageHeader) -> None:
    """Refuse what is not a 2D mammogram for presentation.

    A missing SOP class or modality is accepted: public data sets strip them.

    Raises:
        NotAMammogramError: Naming the tag, the value found and what is accepted.
    """
    if header.modality is not None and header.modality not in _ACCEPTED_MODALITIES:
        raise NotAMammogramError(
            f"{tag_name('Modality')} is {header.modality}; "
            f"{', '.join(_ACCEPTED_MODALITIES)} are accepted"
        )
    if header.sop_class_uid is not None and header.sop_class_uid not in ACCEPTED_SOP_CLASSES:
        raise NotAMammogramError(
            f"{tag_name('SOPClassUID')} is {UID(header.sop_class_uid).name}; accepted: "
            + ", ".join(ACCEPTED_SOP_CLASSES.values())
        )
    if header.presentation_intent not in (None, "FOR PRESENTATION"):
        raise NotAMammogramError(
            f"{tag_name('PresentationIntentType')} is {header.presentation_intent}; "
            "FOR PRESENTATION is accepted"
        )
    if header.photometric_interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise NotAMammogramError(
            f"{tag_name('PhotometricInterpretation')} is {header.photometric_interpretation}; "
            "MONOCHROME1 and MONOCHROME2 are accepted"
        )


def resolve_laterality_and_view(
    header: ImageHeader | None, laterality: str | None, view: str | None
) -> tuple[Laterality, View, tuple[str, ...]]:
    """Combine a table's words with the header's; the table is believed.

    Args:
        header: The header, or ``None`` for a plain picture.
        laterality: The table's word, if it has one.
        view: The table's word, if it has one.

    Returns:
        Laterality, view, and a sentence for each contradiction.

    Raises:
        MissingTagError: If neither says it; names tag and keyword.
        DicomError: If the table's word is not one of the standard's.
    """
    notes: list[str] = []
    side = _one(laterality, Laterality, header.laterality if header else None, notes)
    if side is None:
        raise MissingTagError(
            f"laterality is in neither the table nor {tag_name('ImageLaterality')}"
        )
    projection = _one(view, View, header.view if header else None, notes)
    if projection is None:
        raise MissingTagError(f"view is in neither the table nor {tag_name('ViewPosition')}")
    return side, projection, tuple(notes)


def _one(
    word: str | None, kind: type[Word], from_header: Word | None, notes: list[str]
) -> Word | None:
    if word is None or not word.strip():
        return from_header
    name = kind.__name__.lower()
    try:
        value = kind(_SPELLINGS.get(word.strip().upper(), word.strip().upper()))
    except ValueError as error:
        accepted = ", ".join(kind.__members__)
        message = f"{name} is {word!r} in the table; accepted: {accepted}"
        raise DicomError(message, Reason.INVALID_VALUE) from error
    if from_header is not None and value is not from_header:
        notes.append(f"the table says {name} {value}, the header {from_header}: table believed")
    return value
