"""Write synthetic exams to disk: a cohort in either profile, or one exam as a study folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mammoscope import __version__
from mammoscope.artefacts import write_atomically, write_json
from mammoscope.cohort.synthetic.acquisition import Profile, write_dicom
from mammoscope.cohort.synthetic.detector import expose
from mammoscope.cohort.synthetic.exposure import choose_exposure
from mammoscope.cohort.synthetic.headers import ImageFacts
from mammoscope.cohort.synthetic.layouts import image_path, write_csv, write_table
from mammoscope.cohort.synthetic.lesion_shapes import Truth, add_lesion
from mammoscope.cohort.synthetic.lesions import Lesion
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.cohort.synthetic.population import Breast, Exposed, Patient, draw_patient
from mammoscope.cohort.synthetic.records import table_rows
from mammoscope.errors import ConfigError
from mammoscope.processes import mapped
from mammoscope.types import Laterality

__all__ = ["SyntheticSummary", "write_cohort", "write_exam"]

_FINDINGS = (
    "patient_id", "image_id", "kind", "malignant", "x_min", "y_min", "x_max", "y_max",
    "mask", "contrast", "conspicuity",
)  # fmt: skip
_MASKS, _MARKER = "synthetic_masks", "synthetic.json"
_MARK = {
    "format_version": 1,
    "kind": "synthetic",
    "synthetic": True,
    "package_version": __version__,
}
# Below, the smallest detector's images are the size of thumbnails, which ingest refuses.
_SCALES = (0.07, 1.0)


class _Identity(NamedTuple):
    """Under what names an image is written."""

    patient_id: str
    image_id: int
    uid_seed: str


# Whether she has cancer, her rows of the table, and the truth of her lesions.
_Made = tuple[bool, list[dict[str, Any]], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class SyntheticSummary:
    """What was written."""

    patients: int
    cancer_patients: int
    images: int


def write_cohort(
    out: Path,
    *,
    patients: int = 120,
    seed: int = 0,
    prevalence: float = 0.35,
    scale: float = 0.25,
    conspicuity: float = 1.0,
    difficulty: float = 0.2,
    profile: Profile = "rsna",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SyntheticSummary:
    """Write the exams, their table, ``synthetic_findings.csv`` and ``synthetic.json``.

    The layout is that of :mod:`mammoscope.cohort.synthetic.layouts`. A patient's files depend
    on the seed and her number alone, not on how many there are.

    Args:
        out: The folder.
        patients: How many.
        seed: Same seed, same bytes.
        prevalence: Share of patients with cancer; 0.041 is the real one. The odds of all
            women are rescaled alike.
        scale: Size of the images as a share of the detector's.
        conspicuity: Factor on the contrast of malignant lesions.
        difficulty: 1 for lesions as published, towards 0 for those that few pixels show.
        profile: Headers stripped as the RSNA challenge's are, or clinical.
        workers: Processes; the files do not depend on their number.
        progress: Called with (done, total) patients.

    Raises:
        ConfigError: If the scale is none.
    """
    _check_scale(scale)
    out = Path(out)
    settings = {
        "prevalence": prevalence,
        "scale": scale,
        "conspicuity": conspicuity,
        "difficulty": difficulty,
    }
    table: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    sick = 0
    # Before any image: even of a run that is cut short, nothing may pass for real.
    mark = {**_MARK, "seed": seed, "patients": patients, "profile": profile, **settings}
    write_json(out / _MARKER, {**mark, "complete": False})
    make = partial(_make_patient, out, seed, profile, settings)
    made = mapped(make, range(patients), workers)
    for done, (has_cancer, rows, truths) in enumerate(made, start=1):
        sick += has_cancer
        table += rows
        findings += truths
        if progress is not None:
            progress(done, patients)
    write_table(out, profile, table, findings)
    write_csv(out / "synthetic_findings.csv", _FINDINGS, findings)
    write_json(out / _MARKER, {**mark, "complete": True})
    return SyntheticSummary(patients, sick, len(table))


def write_exam(
    out: Path,
    *,
    seed: int,
    cancer: bool,
    scale: float = 0.25,
    conspicuity: float = 1.0,
    difficulty: float = 0.2,
) -> list[Path]:
    """Write one exam of four views with clinical headers, as a PACS would hand it over.

    Args:
        out: The folder.
        seed: Same seed, same bytes.
        cancer: Whether one breast has cancer.
        scale: Size of the images as a share of the detector's.
        conspicuity: Factor on the contrast of malignant lesions.
        difficulty: As of :func:`write_cohort`.

    Returns:
        The DICOM files; ``synthetic.json`` lies beside them.

    Raises:
        ConfigError: If the scale is none.
    """
    _check_scale(scale)
    write_json(Path(out) / _MARKER, {**_MARK, "seed": seed, "complete": True})
    rng = np.random.default_rng([seed, 7])
    patient = draw_patient(rng, cancer=cancer, conspicuity=conspicuity, difficulty=difficulty)
    paths: list[Path] = []
    for breast in patient.breasts:
        for image in breast.images()[:2]:
            path = Path(out) / f"{breast.laterality}_{image.view}.dcm"
            uid_seed = f"exam-{seed} {(cancer, scale, conspicuity, difficulty)}"
            identity = _Identity(f"SYN{seed}", len(paths) + 1, uid_seed)
            _write_image(path, patient, breast, image, identity, rng, scale, "clinical")
            paths.append(path)
    return paths


def _check_scale(scale: float) -> None:
    low, high = _SCALES
    if not low <= scale <= high:
        raise ConfigError(f"scale is {scale:g}; {low:g} to {high:g} are accepted")


def _make_patient(
    out: Path, seed: int, profile: Profile, settings: dict[str, float], number: int
) -> _Made:
    """Draw and write one patient; everything follows from seed and number."""
    rng = np.random.default_rng([seed, number])
    patient = draw_patient(
        rng,
        prevalence=settings["prevalence"],
        conspicuity=settings["conspicuity"],
        difficulty=settings["difficulty"],
    )
    patient_id = 10_000 + number
    rows = table_rows(patient.record, patient_id)
    shown = [(breast, image) for breast in patient.breasts for image in breast.images()]
    findings: list[dict[str, Any]] = []
    for row, (breast, image) in zip(rows, shown, strict=True):
        image_id = row["image_id"]
        identity = _Identity(str(patient_id), image_id, f"{seed} {sorted(settings.items())}")
        path = out / image_path(profile, patient_id, image_id)
        truths = _write_image(
            path, patient, breast, image, identity, rng, settings["scale"], profile
        )
        for at, (lesion, truth) in enumerate(zip(breast.lesions, truths, strict=True)):
            mask = f"{_MASKS}/{patient_id}/{image_id}_{at}.png"
            seen = _write_mask(out / mask, truth)
            names = {"patient_id": patient_id, "image_id": image_id}
            findings.append({**names, **_finding(lesion, truth), "mask": mask if seen else ""})
    return patient.cancer, rows, findings


def _write_image(
    path: Path,
    patient: Patient,
    breast: Breast,
    image: Exposed,
    identity: _Identity,
    rng: np.random.Generator,
    scale: float,
    profile: Profile,
) -> list[Truth]:
    """Write one image; returns the truth of each lesion, in its pixels."""
    machine, anatomy, side = patient.machine, image.anatomy, breast.laterality
    height, width = (round(length * scale) for length in machine.size)
    spacing = machine.field_mm / height
    projection = project(anatomy, image.view, (height, width), spacing, image.take)
    truths = [add_lesion(projection, anatomy, lesion, image.view) for lesion in breast.lesions]
    exposure = choose_exposure(machine, anatomy.thickness_mm + rng.normal(0, 2), rng)
    stored = expose(projection.pixels, machine, side, image.view, rng, exposure)
    facts = ImageFacts(
        patient_id=identity.patient_id,
        image_id=identity.image_id,
        uid_seed=identity.uid_seed,
        laterality=side,
        view=image.view,
        spacing_mm=spacing,
        exposure=exposure,
        # Of the body: a complete header knows what the table may miss.
        age=patient.record.age,
        implant=patient.record.implant,
        displaced=image.displaced,
    )
    write_dicom(path, stored, machine, facts, profile)
    return [truth.mirrored() if side is Laterality.R else truth for truth in truths]


def _finding(lesion: Lesion, truth: Truth) -> dict[str, Any]:
    """Return what the table of findings says of a lesion in a view."""
    sides = {n: round(getattr(truth.box, n), 1) for n in ("x_min", "y_min", "x_max", "y_max")}
    return {
        "kind": lesion.kind,
        "malignant": int(lesion.malignant),
        **sides,
        "contrast": round(lesion.contrast, 4),
        "conspicuity": round(truth.conspicuity, 4),
    }


def _write_mask(path: Path, truth: Truth) -> bool:
    """Write the mask of a lesion; ``False`` if the view shows nothing of it."""
    if not truth.patch.any():
        return False
    data = cv2.imencode(".png", truth.mask * np.uint8(255))[1].tobytes()
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)
    return True
