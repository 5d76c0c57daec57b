"""An exam from its DICOM files: every file looked at, every refusal named."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mammoscope.config import EligibilityConfig
from mammoscope.dicom import DicomFile, read_dicom
from mammoscope.dicom.copies import Copies, keys_of
from mammoscope.dicom.eligibility import Admission, admit
from mammoscope.dicom.header import ImageHeader, tag_name
from mammoscope.errors import (
    ConfigError,
    DicomError,
    IncompleteExamError,
    IneligibleImageError,
    Reason,
)
from mammoscope.preprocessing.reading import without_suffix
from mammoscope.types import Density, Exam, MammogramImage, Refusal

__all__ = ["Said", "Words", "list_files", "read_exam", "read_words"]

# Files that lie beside images in an exported study and are no images.
_COMPANIONS = frozenset({"DICOMDIR", "LOCKFILE", "VERSION"})
_COMPANION_SUFFIXES = frozenset({".csv", ".json", ".txt", ".xml", ".htm", ".html", ".md"})


class Said(NamedTuple):
    """What a table says of an image; ``None`` where it says nothing."""

    laterality: str | None = None
    view: str | None = None
    age: float | None = None
    density: Density | None = None


Words = dict[str, Said]


def read_exam(
    path: Path | str | Sequence[Path],
    *,
    table: Path | str | Words | None = None,
    exam_id: str | None = None,
    eligibility: EligibilityConfig | None = None,
) -> Exam:
    """Read the images of one exam; pixels are not decoded yet.

    Args:
        path: A folder, one DICOM file, or several files.
        table: A CSV with image_id, laterality and view, for files whose headers lack them
            (those of the RSNA challenge do), or what :func:`read_words` made of it; image_id
            is the file's name without suffix. Its columns age and density, where it has them,
            are for models that use them.
        exam_id: Name of the exam; by default the folder's or first file's.
        eligibility: Which images may be scored; screening's rules by default. A bundle has
            its own: :meth:`Predictor.read` applies them.

    Raises:
        DicomError: If the files belong to more than one patient.
        IncompleteExamError: If there is no file at all.
        ConfigError: If the table cannot be read or contradicts itself.
    """
    files = list_files(path)
    words = read_words(Path(table)) if isinstance(table, Path | str) else table or {}
    eligibility = eligibility or EligibilityConfig()
    images: list[MammogramImage] = []
    refused: list[Refusal] = []
    warnings: list[str] = []
    patients: set[str] = set()
    studies: set[str] = set()
    told: list[tuple[ImageHeader, Said]] = []
    seen: Copies[str] = Copies()
    for file, name in zip(files, _names(files), strict=True):
        read = _read_file(file, name, words, eligibility, seen)
        if isinstance(read, Refusal):
            refused.append(read)
            continue
        header, admission = read
        told.append((header, _said(words, file)))
        patients.add(header.patient_id or "")
        studies.add(header.study_uid or "")
        warnings += [f"{name}: {warning}" for warning in admission.warnings]
        images.append(
            MammogramImage(name, file, admission.laterality, admission.view, header.pixel_aspect)
        )
    _check_one_patient(patients)
    if len(studies) > 1:
        warnings.append(f"the files belong to {len(studies)} studies; they are scored as one exam")
    place = Path(path) if isinstance(path, str | Path) else files[0].parent
    return Exam(
        place.resolve().name if exam_id is None else exam_id,
        tuple(images),
        tuple(refused),
        tuple(warnings),
        **_of_the_woman(told),
    )


def _of_the_woman(told: list[tuple[ImageHeader, Said]]) -> dict[str, Any]:
    """Return age, density and implant; what images differ in is settled as training does.

    The highest age, the first density, and an implant in either breast. Tables are believed
    over headers, which do not say the density.
    """
    ages = [header.age if said.age is None else said.age for header, said in told]
    densities = [said.density for _, said in told if said.density is not None]
    implants = [header.implant for header, _ in told if header.implant is not None]
    return {
        "age": max((age for age in ages if age is not None), default=None),
        "density": densities[0] if densities else None,
        "implant": any(implants) if implants else None,
    }


def _read_file(
    file: Path, name: str, words: Words, eligibility: EligibilityConfig, seen: Copies[str]
) -> tuple[ImageHeader, Admission] | Refusal:
    """Read a header and ask whether its image may be scored; or say why it is refused."""
    try:
        dicom = read_dicom(file)
        said = _said(words, file)
        admission = admit(dicom.header, eligibility, laterality=said.laterality, view=said.view)
        _refuse_duplicate(dicom, name, seen)
    except (DicomError, IneligibleImageError) as error:
        return Refusal(name, error.reason or Reason.UNREADABLE_FILE, str(error))
    except OSError as error:
        message = f"{name} cannot be opened: {error.strerror or error}"
        return Refusal(name, Reason.UNREADABLE_FILE, message)
    return dicom.header, admission


def _said(words: Words, file: Path) -> Said:
    return words.get(without_suffix(file).name, Said())


def _check_one_patient(patients: set[str]) -> None:
    if len(patients) > 1:
        raise DicomError(
            f"the files belong to {len(patients)} patients by {tag_name('PatientID')}; "
            "an exam is of one patient: give each exam its own folder",
            Reason.INVALID_VALUE,
        )


def list_files(path: Path | str | Sequence[Path]) -> list[Path]:
    """Return the files of an exam in a stable order, hidden and companion files left out.

    Raises:
        IncompleteExamError: If a path does not exist, or there is no file.
    """
    roots = [Path(path)] if isinstance(path, str | Path) else [Path(item) for item in path]
    files: list[Path] = []
    for root in roots:
        if not root.exists():
            raise IncompleteExamError(f"{root} does not exist")
        found = sorted(root.rglob("*")) if root.is_dir() else [root]
        files += [
            item for item in found if item.is_file() and (item == root or _is_candidate(item))
        ]
    if not files:
        raise IncompleteExamError(f"there are no files in {', '.join(str(root) for root in roots)}")
    return files


def _is_candidate(path: Path) -> bool:
    return not (
        path.name.startswith(".")
        or path.name in _COMPANIONS
        or path.suffix.lower() in _COMPANION_SUFFIXES
    )


def _names(files: list[Path]) -> list[str]:
    """Name each file: by itself, or with its folders where two files share a name."""
    if len({file.name for file in files}) == len(files):
        return [file.name for file in files]
    root = os.path.commonpath([file.parent for file in files])
    return [file.relative_to(root).as_posix() for file in files]


def _refuse_duplicate(file: DicomFile, name: str, seen: Copies[str]) -> None:
    """Refuse the second image of a SOP instance, or of the same pixel data under another."""
    digest = hashlib.sha256(file.dataset.PixelData).hexdigest()
    keys = keys_of(file.header.sop_instance_uid, digest)
    found = seen.find(keys)
    if found is not None:
        raise DicomError(f"{name} has the same {found[0]} as {found[1]}", Reason.DUPLICATE)
    seen.remember(keys, name)


def read_words(path: Path) -> Words:
    """Read laterality and view by image_id from a CSV, and age and density where it has them.

    Raises:
        ConfigError: If it cannot be read, lacks a column, contradicts itself, or has an age or
            density that is none.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = {"image_id", "laterality", "view"} - set(reader.fieldnames or ())
            if missing:
                raise ConfigError(f"{path} lacks the columns {', '.join(sorted(missing))}")
            words: Words = {}
            for row in reader:
                name = (row["image_id"] or "").strip()
                side, view = ((row[key] or "").strip() for key in ("laterality", "view"))
                said = Said(side, view, _age(row, path), _density(row, path))
                if words.setdefault(name, said) != said:
                    raise ConfigError(f"{path} names image_id {name} twice, with different words")
            return words
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {error}") from error


def _age(row: dict[str, str], path: Path) -> float | None:
    text = (row.get("age") or "").strip()
    try:
        age = float(text) if text else None
    except ValueError:
        age = math.nan
    if age is not None and not 0 <= age < math.inf:
        raise ConfigError(
            f"{path} says of image_id {row['image_id']} an age of {text!r}; accepted are years, or "
            "nothing where it is unknown"
        )
    return age


def _density(row: dict[str, str], path: Path) -> Density | None:
    text = (row.get("density") or "").strip()
    if text and text not in list(Density):
        raise ConfigError(
            f"{path} says of image_id {row['image_id']} a density of {text!r}; accepted are "
            f"{', '.join(Density)}, or nothing where it is unknown"
        )
    return Density(text) if text else None
