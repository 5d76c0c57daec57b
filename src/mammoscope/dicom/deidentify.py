"""One DICOM image without its identities: PS3.15 Basic Application Level Confidentiality Profile.

Applied with the options Retain Device Identity, Retain Longitudinal Temporal Information with
Modified Dates, and on request Retain Patient Characteristics and Clean Pixel Data. What happens
to which attribute is in :mod:`mammoscope.dicom.confidentiality`; folders are in
:mod:`mammoscope.dicom.release`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

from mammoscope import __version__
from mammoscope.dicom.confidentiality import Action, action_for, basic_action, profile_edition
from mammoscope.dicom.file import DicomFile
from mammoscope.dicom.header import tag_name
from mammoscope.dicom.pseudonyms import PseudonymKey
from mammoscope.dicom.temporal import shift
from mammoscope.errors import MissingTagError

__all__ = ["METHOD_CODES", "Deidentifier", "Identity"]

#: PS3.16 CID 7050 "De-identification Method": the codes that are written.
METHOD_CODES = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
}

_REMOVED = "REMOVED"
_DUMMIES: dict[str, Any] = {
    "AS": "000Y",
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "IS": "0",
    "TM": "000000",
    "UR": "https://removed.invalid",
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), _REMOVED),
    **dict.fromkeys(("OB", "OW", "UN"), b"\0\0"),
    **dict.fromkeys(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0),
    **dict.fromkeys(("OD", "OF", "OL", "OV"), bytes(8)),
}
# Older women are few, so their age names them: 45 CFR 164.514(b)(2)(i)(C) gathers all ages
# over 89 into one category.
_OLDEST_YEARS = 90
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_STANDARD_ROOT = "1.2.840.10008."


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose image it was and whose it is now.

    Attributes:
        patient_id: The new Patient ID.
        study_uid: The new Study Instance UID.
        sop_instance_uid: The new SOP Instance UID.
        day_shift: Days by which the dates moved.
        original: Patient ID, Study and SOP Instance UID as they were. Only for a crosswalk.
    """

    patient_id: str
    study_uid: str
    sop_instance_uid: str
    day_shift: int
    original: tuple[str, str, str]


class Deidentifier:
    """Takes the identities out of data sets, always the same way for the same key.

    Args:
        key: From which new identities and date shifts follow.
        patient_characteristics: Apply the Retain Patient Characteristics Option: age, sex,
            size, weight and the like stay; an age over 89 becomes 90.
    """

    def __init__(self, key: PseudonymKey, *, patient_characteristics: bool = True) -> None:
        self._key = key
        self._patient_characteristics = patient_characteristics

    def codes(self, *, cleaned: bool) -> list[str]:
        """Return the code values of CID 7050 that describe what is done."""
        left_out = set()
        if not cleaned:
            left_out.add("113101")
        if not self._patient_characteristics:
            left_out.add("113108")
        return [code for code in METHOD_CODES if code not in left_out]

    def apply(self, file: DicomFile, *, cleaned: bool = False) -> Identity:
        """Take the identities out of a file's data set, file meta information and preamble.

        Args:
            file: The file; its data set is changed.
            cleaned: Its pixels were cleaned of burned-in text.

        Raises:
            MissingTagError: If it lacks Patient ID, SOP Instance UID or SOP Class UID.
        """
        dataset = file.dataset
        identity = self._identity(file)
        age = _age_at_study(dataset)
        self._clean(dataset, identity.day_shift, nested=False)
        dataset.SOPClassUID = file.header.sop_class_uid
        dataset.SOPInstanceUID = identity.sop_instance_uid
        dataset.StudyInstanceUID = identity.study_uid
        dataset.PatientID = identity.patient_id
        dataset.PatientName = f"{identity.patient_id}^De-identified"
        if self._patient_characteristics and age and not dataset.get("PatientAge"):
            # Suggested in PS3.15 section E.1.1 (3) in place of the date of birth.
            dataset.PatientAge = _limited(age)
        self._describe(dataset, cleaned=cleaned)
        _renew_file_meta(dataset)
        return identity

    def _identity(self, file: DicomFile) -> Identity:
        dataset, key = file.dataset, self._key
        patient = str(dataset.get("PatientID") or "").strip()
        if not patient:
            raise MissingTagError(
                f"{file.path.name} lacks {tag_name('PatientID')}; without it her images cannot "
                "get one new identity and one shift of dates"
            )
        meta = dataset.file_meta.get("MediaStorageSOPInstanceUID")
        instance = str(dataset.get("SOPInstanceUID") or meta or "").strip()
        if not instance:
            raise MissingTagError(f"{file.path.name} lacks {tag_name('SOPInstanceUID')}")
        if file.header.sop_class_uid is None:
            raise MissingTagError(f"{file.path.name} lacks {tag_name('SOPClassUID')}")
        study = str(dataset.get("StudyInstanceUID") or "").strip()
        return Identity(
            patient_id=key.patient_id(patient),
            study_uid=key.uid(study or f"study of {patient}"),
            sop_instance_uid=key.uid(instance),
            day_shift=key.day_shift(patient),
            original=(patient, study, instance),
        )

    def _clean(self, dataset: Dataset, days: int, *, nested: bool) -> None:
        """Apply the profile to a data set and to all items in it."""
        for tag in list(dataset.keys()):
            # Private elements are dropped unread: their encoding is nobody's business.
            if tag.is_private:
                del dataset[tag]
                continue
            element = dataset[tag]
            action = action_for(
                tag,
                element.VR,
                nested=nested,
                patient_characteristics=self._patient_characteristics,
            )
            self._perform(action, dataset, element, days, nested)

    def _perform(
        self, action: Action, dataset: Dataset, element: DataElement, days: int, nested: bool
    ) -> None:
        if action is Action.REMOVE:
            del dataset[element.tag]
        elif action is Action.EMPTY:
            element.value = Sequence() if element.VR == "SQ" else None
        elif action is Action.DUMMY:
            self._replace(element, days)
        elif action is Action.MAP_UID:
            _set_each(element, self._mapped)
        elif action is Action.SHIFT:
            self._shift(dataset, element, days, nested)
        elif element.VR == "SQ":
            for item in element.value:
                self._clean(item, days, nested=True)
        elif element.VR == "AS":
            element.value = _limited(str(element.value or ""))
        elif element.VR in ("DS", "IS") and not all(map(_is_number, _values(element))):
            # Number strings can be misused for words (PS3.15 section E.3.5, note 3).
            element.value = None

    def _mapped(self, uid: Any) -> str:
        """Map a UID, unless the standard itself defines it (a SOP class, a well-known one)."""
        text = str(uid).strip().strip("\0")
        return text if not text or text.startswith(_STANDARD_ROOT) else self._key.uid(text)

    def _replace(self, element: DataElement, days: int) -> None:
        """Replace a value, and all that lies in a sequence, by what says nothing."""
        if element.VR == "UI":
            _set_each(element, self._mapped)
        elif element.VR == "SQ":
            for item in element.value:
                self._clean(item, days, nested=True)
                for inner in item:
                    self._replace(inner, days)
        else:
            element.value = _DUMMIES[element.VR]

    def _shift(self, dataset: Dataset, element: DataElement, days: int, nested: bool) -> None:
        """Move a date or time; one that cannot be read goes the way of the Basic Profile."""
        moved = [shift(element.VR, str(value), days) for value in _values(element)]
        if all(value is not None for value in moved):
            element.value = moved[0] if len(moved) == 1 else moved or None
            return
        self._perform(basic_action(element.tag, nested=nested), dataset, element, days, nested)

    def _describe(self, dataset: Dataset, *, cleaned: bool) -> None:
        """Write what PS3.15 section E.1.1 (6), E.3.1 and E.3.6 require."""
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = [
            f"mammoscope {__version__}",
            f"PS3.15 Table E.1-1 {profile_edition()}",
            *(["Pixels outside the breast blanked"] if cleaned else []),
        ]
        items = []
        for value in self.codes(cleaned=cleaned):
            item = Dataset()
            item.CodeValue, item.CodeMeaning = value, METHOD_CODES[value]
            item.CodingSchemeDesignator = "DCM"
            items.append(item)
        dataset.DeidentificationMethodCodeSequence = items
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        if cleaned:
            dataset.BurnedInAnnotation = "NO"


def _is_number(value: Any) -> bool:
    return _NUMBER.fullmatch(str(value).strip()) is not None


def _values(element: DataElement) -> list[Any]:
    if element.value is None or element.value == "":
        return []
    return list(element.value) if isinstance(element.value, MultiValue) else [element.value]


def _set_each(element: DataElement, change: Callable[[Any], str]) -> None:
    changed = [change(value) for value in _values(element)]
    element.value = changed[0] if len(changed) == 1 else changed or None


def _age_at_study(dataset: FileDataset) -> str | None:
    """Return her age as an age string, from dates of birth and study, which will not stay."""
    days = []
    for keyword in ("PatientBirthDate", "StudyDate"):
        text = shift("DA", str(dataset.get(keyword) or ""), 0)
        if text is None:
            return None
        days.append(date(int(text[:4]), int(text[4:6]), int(text[6:])))
    born, seen = days
    years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    return f"{years:03d}Y" if 0 <= years <= 150 else None


def _limited(age: str) -> str | None:
    """Return an age string with nobody over 90, or ``None`` if it is none (PS3.5, VR AS)."""
    if not re.fullmatch(r"\d{3}[DWMY]", age):
        return None
    # Days, weeks and months of three digits end at 83 years.
    over = age.endswith("Y") and int(age[:3]) > _OLDEST_YEARS
    return f"{_OLDEST_YEARS:03d}Y" if over else age


def _renew_file_meta(dataset: FileDataset) -> None:
    """Replace file meta information and preamble, as PS3.15 section E.1.1 (7) requires."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    meta.ImplementationVersionName = f"MAMMOSCOPE_{__version__}"[:16]
    dataset.file_meta = meta
    dataset.preamble = f"De-identified by mammoscope {__version__}".encode().ljust(128, b"\0")
