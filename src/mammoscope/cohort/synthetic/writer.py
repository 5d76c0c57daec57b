"""Write synthetic exams to disk: a cohort in either profile, or one exam as a study folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mammoscope import __version__
from mammoscope.artefacts import write_json
from mammoscope.cohort.synthetic.acquisition import Profile, expose, write_dicom
from mammoscope.cohort.synthetic.layouts import image_path, write_csv, write_table
from mammoscope.cohort.synthetic.lesions import add_lesion
from mammoscope.cohort.synthetic.phantom import Projection, project
from mammoscope.cohort.synthetic.population import Breast, Patient, draw_patient, drawn_view
from mammoscope.cohort.synthetic.records import table_rows
from mammoscope.processes import process_pool
from mammoscope.types import Box, Laterality, View

__all__ = ["SyntheticSummary", "write_cohort", "write_exam"]

_FINDINGS = (
    "patient_id", "image_id", "kind", "malignant", "x_min", "y_min", "x_max", "y_max",
)  # fmt: skip

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
        profile: Headers stripped as the RSNA challenge's are, or clinical.
        workers: Processes; the files do not depend on their number.
        progress: Called with (done, total) patients.
    """
    out = Path(out)
    settings = {"prevalence": prevalence, "scale": scale, "conspicuity": conspicuity}
    table: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    sick = 0
    # Before any image: even of a run that is cut short, nothing may pass for real.
    facts = {"kind": "synthetic", "synthetic": True, "package_version": __version__, "seed": seed}
    write_json(
        out / "synthetic.json", {**facts, "patients": patients, "profile": profile, **settings}
    )
    make = partial(_make_patient, out, seed, profile, settings)
    with _mapper(workers) as mapped:
        for done, (has_cancer, rows, truths) in enumerate(mapped(make, range(patients)), start=1):
            sick += has_cancer
            table += rows
            findings += truths
            if progress is not None:
                progress(done, patients)
    write_table(out, profile, table, findings)
    write_csv(out / "synthetic_findings.csv", _FINDINGS, findings)
    return SyntheticSummary(patients, sick, len(table))


def write_exam(
    out: Path, *, seed: int, cancer: bool, scale: float = 0.25, conspicuity: float = 1.0
) -> list[Path]:
    """Write one exam of four views with clinical headers, as a PACS would hand it over.

    Args:
        out: The folder.
        seed: Same seed, same bytes.
        cancer: Whether one breast has cancer.
        scale: Size of the images as a share of the detector's.
        conspicuity: Factor on the contrast of malignant lesions.

    Returns:
        The files.
    """
    rng = np.random.default_rng([seed, 7])
    patient = draw_patient(rng, cancer=cancer, conspicuity=conspicuity)
    paths: list[Path] = []
    for breast in patient.breasts:
        for view in (View.CC, View.MLO):
            path = Path(out) / f"{breast.laterality}_{view}.dcm"
            image_id = len(paths) + 1
            facts = _facts(patient, breast, view, f"SYN{seed}", image_id, f"exam-{seed}")
            _write_image(path, patient, breast, view, facts, rng, scale, "clinical")
            paths.append(path)
    return paths


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[_Made]]]:
    """Give ``map``, over processes where there is more than one worker."""
    if workers <= 1:
        yield map
        return
    with process_pool(workers) as pool:
        yield pool.map


def _make_patient(
    out: Path, seed: int, profile: Profile, settings: dict[str, float], number: int
) -> _Made:
    """Draw and write one patient; everything follows from seed and number."""
    rng = np.random.default_rng([seed, number])
    patient = draw_patient(
        rng, prevalence=settings["prevalence"], conspicuity=settings["conspicuity"]
    )
    patient_id = 10_000 + number
    rows = table_rows(patient.record, patient_id)
    shown = [(breast, view) for breast in patient.breasts for view in breast.record.views]
    findings: list[dict[str, Any]] = []
    for row, (breast, view) in zip(rows, shown, strict=True):
        image_id = row["image_id"]
        facts = _facts(patient, breast, view, str(patient_id), image_id, str(seed))
        path = out / image_path(profile, patient_id, image_id)
        boxes = _write_image(path, patient, breast, view, facts, rng, settings["scale"], profile)
        findings += [
            {
                "patient_id": patient_id,
                "image_id": image_id,
                "kind": lesion.kind,
                "malignant": int(lesion.malignant),
                **{n: round(getattr(box, n), 1) for n in ("x_min", "y_min", "x_max", "y_max")},
            }
            for lesion, box in zip(breast.lesions, boxes, strict=True)
        ]
    return patient.cancer, rows, findings


def _write_image(
    path: Path,
    patient: Patient,
    breast: Breast,
    view: View,
    facts: dict[str, Any],
    rng: np.random.Generator,
    scale: float,
    profile: Profile,
) -> list[Box]:
    """Write one image; returns the box of each lesion in its pixels."""
    machine = patient.machine
    height, width = (round(side * scale) for side in machine.size)
    spacing = machine.field_mm / height
    drawn = drawn_view(view)
    projection = project(breast.anatomy, drawn, (height, width), spacing)
    boxes: list[Box] = []
    for lesion in breast.lesions:
        pixels, box = add_lesion(projection, breast.anatomy, lesion, int(drawn is View.MLO))
        projection = Projection(pixels, projection.inside, projection.nipple_mm, spacing)
        if breast.laterality is Laterality.R:
            box = Box(width - box.x_max, box.y_min, width - box.x_min, box.y_max)
        boxes.append(box)
    stored = expose(projection.pixels, machine, breast.laterality, view, rng)
    write_dicom(path, stored, machine, {**facts, "spacing_mm": spacing}, profile)
    return boxes


def _facts(
    patient: Patient, breast: Breast, view: View, patient_id: str, image_id: int, uid_seed: str
) -> dict[str, Any]:
    return {
        "patient_id": patient_id,
        "image_id": image_id,
        "laterality": breast.laterality,
        "view": view,
        # Of the body: a complete header knows what the table may miss.
        "age": patient.record.age,
        "implant": patient.record.implant,
        "uid_seed": uid_seed,
    }
