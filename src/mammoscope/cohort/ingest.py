"""Source folder to cohort folder: every image looked at, every refusal written down."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.artefacts import check_output, new_folder, sha256_file, write_json
from mammoscope.cohort.manifest import (
    FORMAT_VERSION,
    LABEL_COLUMNS,
    MANIFEST_SCHEMA,
    Reject,
    write_manifest,
    write_rejects,
)
from mammoscope.cohort.sources import ListedImage, find_source
from mammoscope.cohort.sources.listing import safe_id
from mammoscope.config import EligibilityConfig, IngestConfig
from mammoscope.dicom import read_dicom
from mammoscope.dicom.eligibility import admit
from mammoscope.dicom.header import ImageHeader, is_dicom
from mammoscope.errors import CohortError, DicomError, IneligibleImageError, Reason
from mammoscope.preprocessing.reading import PICTURE_SUFFIXES, read_picture, without_suffix
from mammoscope.types import Density

__all__ = ["IngestSummary", "ingest"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """Counts of one ingest."""

    source: str
    images: int
    patients: int
    positives: int
    rejects: dict[str, int]
    synthetic: bool


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
        config: Which images are accepted; screening's rules by default.
        overwrite: Replace a cohort that is there.
        workers: Threads that read headers.
        progress: Called with (done, total).

    Raises:
        CohortError: If the source is not readable as a whole, or yields no image at all.
        OutputError: If the cohort folder exists or cannot be written.
    """
    src, cohort = Path(src).resolve(), Path(cohort)
    adapter = find_source(src, source)
    listing = adapter.list_images(src)
    check_output(cohort, overwrite=overwrite, marker="cohort.json")
    config = config or IngestConfig()
    rows, refused = _inspect_all(src, listing.images, config.eligibility, workers, progress)
    rejects = [*listing.rejects, *refused]
    rows = [{**row, "source": adapter.name} for row in rows]
    counts = _count(rejects)
    patients = len({row["patient_id"] for row in rows})
    positives = sum(row["cancer"] == 1 for row in rows)
    with new_folder(cohort, overwrite=overwrite, marker="cohort.json") as fresh:
        write_rejects(fresh, rejects)
        manifest = write_manifest(fresh, rows)
        write_json(
            fresh / "cohort.json",
            {
                "format_version": FORMAT_VERSION,
                "kind": "cohort",
                "package_version": __version__,
                "synthetic": listing.synthetic,
                "source": adapter.name,
                "source_root": str(src),
                "images": len(rows),
                "patients": patients,
                "positives": positives,
                "rejects": counts,
                "eligibility": config.eligibility.model_dump(mode="json"),
                "hashes": {"manifest.parquet": sha256_file(manifest)},
            },
        )
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise CohortError(
            f"no image of {src} was accepted; {cohort}/rejects.csv says why: {reasons}"
        )
    return IngestSummary(
        adapter.name, len(rows), patients, positives, counts, synthetic=listing.synthetic
    )


def _inspect_all(
    root: Path,
    images: list[ListedImage],
    eligibility: EligibilityConfig,
    workers: int,
    progress: Progress | None,
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Look into every file; of images that are there twice the first is accepted."""
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    seen: dict[tuple[str, str], str] = {}
    named = any(image.words.get("patient_id") for image in images)
    with ThreadPoolExecutor(workers) as pool:
        inspect = partial(_inspect, root, eligibility, named_patients=named)
        inspected = pool.map(inspect, images)
        for done, outcome in enumerate(inspected, start=1):
            unique = _first_of_its_kind(outcome, seen)
            if isinstance(unique, Reject):
                rejects.append(unique)
            else:
                rows.append(unique)
            if progress is not None:
                progress(done, len(images))
    return rows, rejects


def _inspect(
    root: Path, eligibility: EligibilityConfig, image: ListedImage, *, named_patients: bool
) -> dict[str, Any] | Reject:
    """Look into one file and merge its header with the table's words."""
    relative = (
        image.path.relative_to(root).as_posix()
        if image.path.is_relative_to(root)
        else str(image.path)
    )
    image_id = safe_id(image.words.get("image_id") or without_suffix(image.path).name)
    try:
        facts, header = _read_facts(image.path)
        words = image.words
        labels = _labels(words, header)
        admission = admit(
            header,
            eligibility,
            laterality=words.get("laterality"),
            view=words.get("view"),
            implant=None if labels["implant"] is None else bool(labels["implant"]),
            size=(facts["rows"], facts["columns"]),
        )
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
            **labels,
            **facts,
            "notes": "; ".join(admission.warnings) or None,
        }
        return row
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
    return {
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
    accepted = {
        "": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1,
        "false": 0, "true": 1, "no": 0, "yes": 1, "nan": None,
    }  # fmt: skip
    if word.lower() not in accepted:
        raise DicomError(f"{name} is {word!r}; 0, 1 or nothing are accepted", Reason.INVALID_VALUE)
    return accepted[word.lower()]


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


def _first_of_its_kind(
    row: dict[str, Any] | Reject, seen: dict[tuple[str, str], str]
) -> dict[str, Any] | Reject:
    """Accept the first image of a SOP instance, pixel hash or image_id; refuse the next."""
    if isinstance(row, Reject):
        return row
    keys = [
        (what, str(row[column]))
        for what, column in (
            ("SOP Instance UID", "sop_instance_uid"),
            ("pixel data", "pixel_sha256"),
            ("image_id", "image_id"),
        )
        if row[column] is not None
    ]
    for key in keys:
        if key in seen:
            message = f"{row['path']} has the same {key[0]} as {seen[key]}"
            return Reject("ingest", row["path"], row["image_id"], Reason.DUPLICATE, message)
    seen.update(dict.fromkeys(keys, row["path"]))
    return row


def _count(rejects: list[Reject]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reject in rejects:
        counts[reject.reason] = counts.get(reject.reason, 0) + 1
    return dict(sorted(counts.items()))
