"""Source folder to cohort folder: every image looked at, every refusal written down."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mammoscope.artefacts import check_output, new_folder
from mammoscope.cohort.faults import FINDING_REASONS, refusal
from mammoscope.cohort.findings import new_findings
from mammoscope.cohort.locate import Located, locate
from mammoscope.cohort.manifest import (
    LABEL_COLUMNS,
    MANIFEST_SCHEMA,
    Reject,
)
from mammoscope.cohort.sources import ListedImage, find_source
from mammoscope.cohort.sources.listing import safe_id
from mammoscope.cohort.sources.tables import yes_or_no
from mammoscope.cohort.tables import write_tables
from mammoscope.config import EligibilityConfig, IngestConfig
from mammoscope.dicom import read_dicom
from mammoscope.dicom.copies import Copies, keys_of
from mammoscope.dicom.eligibility import admit
from mammoscope.dicom.file import is_dicom
from mammoscope.dicom.header import ImageHeader
from mammoscope.errors import CohortError, DicomError, IneligibleImageError, Reason
from mammoscope.preprocessing.reading import PICTURE_SUFFIXES, read_picture, without_suffix
from mammoscope.types import Density

__all__ = ["IngestSummary", "ingest"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """Counts of one ingest; ``repaired`` counts findings by fault, ``rejects`` by reason."""

    source: str
    images: int
    patients: int
    positives: int
    findings: int
    repaired: dict[str, int]
    rejects: dict[str, int]
    synthetic: bool
    partly_synthetic: bool


def ingest(
    src: Path,
    cohort: Path,
    source: str = "auto",
    config: IngestConfig | None = None,
    *,
    overwrite: bool = False,
    workers: int = 2,
    progress: Progress | None = None,
) -> IngestSummary:
    """Make a cohort folder from a source folder. No image file is changed or copied.

    Args:
        src: The data set.
        cohort: The folder to fill.
        source: Name of the layout, or ``auto``.
        config: Which images are accepted, and what is done with findings that are wrong.
        overwrite: Replace a cohort that is there.
        workers: Threads that read headers.
        progress: Called with (done, total).

    Raises:
        CohortError: If the source cannot be read, yields no image, or has wrong findings to refuse.
        OutputError: If the cohort folder exists or cannot be written.
    """
    src, cohort = Path(src).resolve(), Path(cohort)
    adapter = find_source(src, source)
    listing = adapter.list_images(src)
    check_output(cohort, overwrite=overwrite, marker="cohort.json")
    config = config or IngestConfig()
    seen = _inspect_all(src, listing.images, config, workers, progress)
    rejects = [*listing.rejects, *seen.rejects, *_unseen_breasts(listing.images, seen.rows)]
    _check_findings(rejects, len(seen.findings), config)
    rows = [{**row, "source": adapter.name} for row in seen.rows]
    synthetic = listing.synthetic or seen.synthetic > 0
    partly = not listing.synthetic and 0 < seen.synthetic < len(rows)
    facts = {
        "synthetic": synthetic,
        "partly_synthetic": partly,
        "source": adapter.name,
        "source_roots": {adapter.name: str(src)},
        **config.model_dump(mode="json"),
    }
    with new_folder(cohort, overwrite=overwrite, marker="cohort.json") as fresh:
        counts = write_tables(fresh, rows, seen.findings, rejects, facts)
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.rejects.items())
        raise CohortError(
            f"no image of {src} was accepted; {cohort}/rejects.csv says why: {reasons}"
        )
    return IngestSummary(
        source=adapter.name,
        **asdict(counts),
        synthetic=synthetic,
        partly_synthetic=partly,
    )


def _check_findings(rejects: list[Reject], accepted: int, config: IngestConfig) -> None:
    """Refuse a source of which some findings are wrong, where that is asked for."""
    wrong = [reject for reject in rejects if reject.reason in FINDING_REASONS]
    if wrong and config.faults == "refuse":
        named = [(r.reason, f"{r.image_id or r.path}: {r.message}") for r in wrong]
        raise refusal(named, len(wrong), accepted + len(wrong), "--faults")


@dataclass
class _Inspected:
    """What looking into every file came to; ``synthetic`` counts rows whose header says so."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    synthetic: int = 0


def _inspect_all(
    root: Path,
    images: list[ListedImage],
    config: IngestConfig,
    workers: int,
    progress: Progress | None,
) -> _Inspected:
    """Look into every file; of images that are there twice the first is accepted."""
    seen = _Inspected()
    copies: Copies[dict[str, Any]] = Copies()
    names: dict[str, dict[str, Any]] = {}
    named = any(image.words.get("patient_id") for image in images)
    with ThreadPoolExecutor(workers) as pool:
        inspected = pool.map(partial(_inspect, root, config, named_patients=named), images)
        for done, (outcome, located, synthetic) in enumerate(inspected, start=1):
            if isinstance(outcome, Reject):
                seen.rejects.append(outcome)
            else:
                keys = keys_of(outcome["sop_instance_uid"], outcome["pixel_sha256"])
                first = copies.find(keys)
                if first is None and outcome["image_id"] in names:
                    first = "image_id", names[outcome["image_id"]]
                if first is None:
                    copies.remember(keys, outcome)
                    names[outcome["image_id"]] = outcome
                    seen.rows.append(outcome)
                    seen.findings += located.rows
                    seen.rejects += located.rejects
                    seen.synthetic += synthetic
                else:
                    what, kept = first
                    seen.rejects.append(_duplicate(outcome, what, kept))
                    if what != "image_id":
                        seen.findings += _moved(located, kept["image_id"], seen.findings)
                        seen.rejects += [
                            replace(reject, image_id=kept["image_id"]) for reject in located.rejects
                        ]
                        kept["notes"] = _joined(kept["notes"], *located.notes)
            if progress is not None:
                progress(done, len(images))
    return seen


def _inspect(
    root: Path, config: IngestConfig, image: ListedImage, *, named_patients: bool
) -> tuple[dict[str, Any] | Reject, Located, bool]:
    """Look into one file, and place its findings where it is accepted."""
    read = _read_row(root, config.eligibility, image, named_patients=named_patients)
    if isinstance(read, Reject):
        return read, Located(), False
    row, header = read
    size = row["rows"], row["columns"]
    located = locate(image.findings, root, row["image_id"], size, config.faults)
    row["notes"] = _joined(row["notes"], *located.notes)
    return row, located, header is not None and _says_synthetic(header)


def _says_synthetic(header: ImageHeader) -> bool:
    """Say whether a header is of our generator: its files may lie in any folder."""
    return "SYNTHETIC" in (header.manufacturer or "")


def _read_row(
    root: Path, rules: EligibilityConfig, image: ListedImage, *, named_patients: bool
) -> tuple[dict[str, Any], ImageHeader | None] | Reject:
    """Look into one file and merge its header, which is returned too, with the table's words."""
    relative = (
        image.path.relative_to(root).as_posix()
        if image.path.is_relative_to(root)
        else str(image.path)
    )
    image_id = safe_id(image.words.get("image_id") or without_suffix(image.path).name)
    try:
        facts, header = _read_facts(image.path)
        words = image.words
        implant = _binary("implant", words.get("implant", ""))
        admission = admit(
            header,
            rules,
            laterality=words.get("laterality"),
            view=words.get("view"),
            implant=None if implant is None else bool(implant),
            size=(facts["rows"], facts["columns"]),
        )
        if admission.laterality.value in image.breasts:
            words = words | image.breasts[admission.laterality.value].words
        patient = words.get("patient_id")
        if not patient and named_patients:
            raise DicomError(
                "the table names a patient_id for other images and none for this one; the header's "
                "might be another name for the same woman",
                Reason.MISSING_TAG,
            )
        patient = patient or (header.patient_id if header else None)
        if not patient:
            raise DicomError(
                "patient_id is in neither the table nor (0010,0020) PatientID; "
                "without it images cannot be kept in one split",
                Reason.MISSING_TAG,
            )
        exam = words.get("exam_id") or (header.study_uid if header else None) or patient
        row: dict[str, Any] = dict.fromkeys(MANIFEST_SCHEMA)
        row |= {
            "image_id": image_id,
            "patient_id": patient,
            "exam_id": exam,
            "path": relative,
            "laterality": admission.laterality.value,
            "view": admission.view.value,
            **_labels(words, header),
            **facts,
            "notes": _joined(*admission.warnings),
        }
        return row, header
    except (DicomError, IneligibleImageError) as error:
        reason = error.reason or Reason.UNREADABLE_FILE
        return Reject("ingest", relative, image_id, reason, str(error))
    except OSError as error:
        message = f"{relative} cannot be opened: {error.strerror or error}"
        return Reject("ingest", relative, image_id, Reason.UNREADABLE_FILE, message)


def _read_facts(path: Path) -> tuple[dict[str, Any], ImageHeader | None]:
    """Return what the file itself says, and its header if it is DICOM."""
    size = path.stat().st_size
    if size == 0:
        raise DicomError(f"{path.name} is empty", Reason.EMPTY_FILE)
    if path.suffix.lower() in PICTURE_SUFFIXES and not is_dicom(path):
        picture = read_picture(path)
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        height, width = picture.shape
        return {
            "pixel_sha256": digest,
            "rows": height,
            "columns": width,
            "photometric_interpretation": "MONOCHROME2",
            "file_bytes": size,
        }, None
    file = read_dicom(path)
    header = file.header
    spacing = header.pixel_spacing_mm or (None, None)
    return {
        "spacing_y_mm": spacing[0],
        "spacing_x_mm": spacing[1],
        "sop_instance_uid": header.sop_instance_uid,
        "pixel_sha256": hashlib.sha256(file.dataset.PixelData).hexdigest(),
        "rows": header.rows,
        "columns": header.columns,
        "photometric_interpretation": header.photometric_interpretation,
        "bits_stored": header.bits_stored,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "file_bytes": size,
    }, header


def _labels(words: dict[str, str], header: ImageHeader | None) -> dict[str, Any]:
    """Read the table's words into typed values; what is unknown stays null."""
    values: dict[str, Any] = {
        name: _binary(name, words.get(name, "")) for name in (*LABEL_COLUMNS, "implant")
    }
    if values["implant"] is None and header is not None and header.implant is not None:
        values["implant"] = int(header.implant)
    age = _number("age", words.get("age", ""))
    aspect = _number("pixel_aspect", words.get("pixel_aspect", ""))
    if aspect is not None and not 0.05 <= aspect <= 20:
        raise DicomError(f"pixel_aspect is {aspect}; 0.05 to 20 are accepted", Reason.INVALID_VALUE)
    density = words.get("density", "").upper()
    if density and density not in Density.__members__:
        raise DicomError(f"density is {density!r}; A, B, C, D are accepted", Reason.INVALID_VALUE)
    return values | {
        "age": age if age is not None else (header.age if header else None),
        "pixel_aspect": aspect if aspect is not None else (header.pixel_aspect if header else 1.0),
        "density": density or None,
        "birads": words.get("birads") or None,
        "site_id": words.get("site_id") or None,
        "machine_id": words.get("machine_id") or None,
        "split": words.get("split") or None,
        "mask": words.get("mask") or None,
    }


def _binary(name: str, word: str) -> int | None:
    try:
        return yes_or_no(word)
    except ValueError as error:
        message = f"{name} is {word!r}; 0, 1 or nothing are accepted"
        raise DicomError(message, Reason.INVALID_VALUE) from error


def _number(name: str, word: str) -> float | None:
    if not word or word.lower() == "nan":
        return None
    try:
        value = float(word)
    except ValueError as error:
        raise DicomError(f"{name} is {word!r}, not a number", Reason.INVALID_VALUE) from error
    if not math.isfinite(value):
        raise DicomError(f"{name} is {word!r}, not a finite number", Reason.INVALID_VALUE)
    return value


def _duplicate(row: dict[str, Any], what: str, first: dict[str, Any]) -> Reject:
    message = f"{row['path']} has the same {what} as {first['path']}"
    return Reject("ingest", row["path"], row["image_id"], Reason.DUPLICATE, message)


def _moved(located: Located, image_id: str, findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the findings of a second copy of an image to the first, but for those it has.

    CBIS-DDSM has films twice: once for their masses, once for their calcifications.
    """
    there = [row for row in findings if row["image_id"] == image_id]
    return [
        {**row, "image_id": image_id, "finding_id": f"{image_id}-{number}"}
        for number, row in enumerate(new_findings(there, located.rows), start=len(there) + 1)
    ]


def _joined(*notes: str | None) -> str | None:
    """Join sentences, each once."""
    return "; ".join(dict.fromkeys(note for note in notes if note)) or None


def _unseen_breasts(images: list[ListedImage], rows: list[dict[str, Any]]) -> list[Reject]:
    """List the table's rows of breasts that no accepted image shows."""
    seen = {(row["patient_id"], row["laterality"]) for row in rows}
    unseen: dict[tuple[str, str], Reject] = {}
    for image in images:
        patient = image.words.get("patient_id", "")
        for side, breast in image.breasts.items():
            if (patient, side) not in seen:
                message = (
                    f"row {breast.row} of {breast.table} is of a {side} breast that no accepted "
                    "image shows"
                )
                reject = Reject("ingest", breast.table, "", Reason.MISSING_FILE, message)
                unseen.setdefault((patient, side), reject)
    return list(unseen.values())
