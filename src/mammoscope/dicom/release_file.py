"""One file of a release: read, looked at, cleaned and written as a part, in any process."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import BytesLengthException
from pydicom.uid import UID

from mammoscope.dicom.burned_in import (
    BurnedIn,
    Inspector,
    blank_outside,
    says_text_is_there,
    sign_of_text,
)
from mammoscope.dicom.deidentify import Deidentifier, Identity
from mammoscope.dicom.eligibility import ACCEPTED_SOP_CLASSES
from mammoscope.dicom.embedded_text import blank_embedded_text
from mammoscope.dicom.file import DicomFile, read_dicom
from mammoscope.dicom.header import tag_name
from mammoscope.dicom.pixels import decode
from mammoscope.dicom.presentation import present
from mammoscope.dicom.pseudonyms import PseudonymKey
from mammoscope.errors import DicomError, IneligibleImageError, NotAMammogramError, Reason

__all__ = ["Job", "Outcome", "deidentify_file"]

_MODALITIES = ("MG", "CR", "DX", "OT")
# What a mammography unit or archive makes: images for processing and secondary captures too.
_SOP_CLASSES = frozenset(ACCEPTED_SOP_CLASSES) | {
    "1.2.840.10008.5.1.4.1.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.7",
}
# What pydicom raises when it reads or writes a value that breaks its representation.
_BROKEN = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
    NotImplementedError, UnicodeError, EOFError, RecursionError, AssertionError, struct.error,
    BytesLengthException,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """What every file needs; sent to each worker."""

    source: Path
    parts: Path
    key: PseudonymKey
    inspect: Inspector
    burned_in: BurnedIn
    patient_characteristics: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: an identity and a part, or a reason and a sentence."""

    relative: str
    identity: Identity | None = None
    part: Path | None = None
    cleaned: bool = False
    reason: str = ""
    message: str = ""


def deidentify_file(job: Job, relative: str, number: int) -> Outcome:
    """De-identify one file into a part, or say why not. A disk that is full raises OSError."""
    try:
        # Public files break small rules; what matters raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = _read(job.source / relative)
            cleaned = _check_pixels(file, job)
            if not cleaned:
                blank_embedded_text(file)
            worker = Deidentifier(job.key, patient_characteristics=job.patient_characteristics)
            identity = worker.apply(file, cleaned=cleaned)
            part = job.parts / f"{number}.dcm"
            file.dataset.save_as(part, enforce_file_format=True)
    except (DicomError, IneligibleImageError) as error:
        reason = error.reason or Reason.UNREADABLE_FILE
        return Outcome(relative, reason=reason.value, message=str(error))
    except _BROKEN as error:
        # The text of such an error may quote the value, which may be a name.
        message = f"{relative} holds a value that breaks its type ({type(error).__name__})"
        return Outcome(relative, reason=Reason.INVALID_VALUE.value, message=message)
    return Outcome(relative, identity, part, cleaned)


def _read(path: Path) -> DicomFile:
    """Read a file; what the source's disk says of it is the file's fault, not the output's."""
    try:
        return read_dicom(path)
    except OSError as error:
        message = f"{path.name} cannot be opened: {error.strerror or error}"
        raise DicomError(message, Reason.UNREADABLE_FILE) from error


def _check_pixels(file: DicomFile, job: Job) -> bool:
    """Refuse or clean burned-in text; says whether the pixels were cleaned."""
    header = file.header
    if header.modality is not None and header.modality not in _MODALITIES:
        raise NotAMammogramError(
            f"{tag_name('Modality')} is {header.modality}; {', '.join(_MODALITIES)} are accepted"
        )
    if header.sop_class_uid is not None and header.sop_class_uid not in _SOP_CLASSES:
        raise NotAMammogramError(
            f"{tag_name('SOPClassUID')} is {UID(header.sop_class_uid).name}; accepted: X-ray and "
            "secondary capture images of one frame"
        )
    decoded = decode(file)
    inspection = job.inspect(present(file, decoded))
    sign = sign_of_text(file, inspection)
    if job.burned_in is BurnedIn.CLEAN_ALL or (sign and job.burned_in is BurnedIn.CLEAN):
        if says_text_is_there(file) and not inspection.text_boxes:
            raise IneligibleImageError(
                Reason.BURNED_IN_TEXT,
                f"{sign}, and none is found outside the breast: it may lie over it, where it "
                "cannot be blanked",
            )
        blank_outside(file, decoded, inspection.breast)
        return True
    if sign is not None:
        raise IneligibleImageError(
            Reason.BURNED_IN_TEXT,
            f"{sign}; pass --burned-in clean to blank all outside the breast",
        )
    return False
