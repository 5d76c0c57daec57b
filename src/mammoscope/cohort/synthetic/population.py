"""Who comes to screening: a record of the table, given a body, lesions and a machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mammoscope.cohort.synthetic.acquisition import MACHINES, Machine
from mammoscope.cohort.synthetic.anatomy import Anatomy, draw_anatomy
from mammoscope.cohort.synthetic.lesions import Lesion, draw_lesion
from mammoscope.cohort.synthetic.records import (
    REAL_PREVALENCE,
    BreastRecord,
    Record,
    draw_record,
)
from mammoscope.types import Laterality, View

__all__ = ["Breast", "Patient", "draw_patient", "drawn_view", "machine_of"]

# The machine whose images stand for those of a machine that is not modelled, by site.
_STAND_IN = {1: 49, 2: 29}
# Chance of a benign lesion in a breast: with cancer, noticed without it (a difficult negative
# or BI-RADS 2), and neither. Assumed; about 0.4 over all.
_BENIGN_LESION = {"cancer": 0.4, "noticed": 0.8, "neither": 0.3}


@dataclass(frozen=True, slots=True)
class Breast:
    """One breast of a patient."""

    record: BreastRecord
    anatomy: Anatomy
    lesions: tuple[Lesion, ...]

    @property
    def laterality(self) -> Laterality:
        """Which breast."""
        return self.record.laterality


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient with one exam."""

    record: Record
    machine: Machine
    breasts: tuple[Breast, ...]

    @property
    def cancer(self) -> bool:
        """Whether any breast has cancer."""
        return self.record.cancer


def draw_patient(
    rng: np.random.Generator,
    *,
    prevalence: float = REAL_PREVALENCE,
    cancer: bool | None = None,
    conspicuity: float = 1.0,
    difficulty: float = 1.0,
) -> Patient:
    """Draw one patient.

    Args:
        rng: Source of randomness.
        prevalence: Share of patients with cancer in her population.
        cancer: Whether one of her breasts has cancer, where that is settled.
        conspicuity: Factor on the contrast of malignant lesions.
        difficulty: Of telling outcomes apart (:func:`~.lesions.draw_lesion`).
    """
    record = draw_record(rng, prevalence=prevalence, cancer=cancer)
    shared = draw_anatomy(rng, record.density)
    breasts = []
    for breast in record.breasts:
        anatomy = replace(
            shared,
            depth_mm=shared.depth_mm * float(rng.normal(1, 0.03)),
            height_mm=shared.height_mm * float(rng.normal(1, 0.03)),
            texture_seed=int(rng.integers(2**31)),
        )
        noticed = breast.difficult or breast.birads == "2"
        kind = "cancer" if breast.cancer else "noticed" if noticed else "neither"
        lesions = []
        if rng.random() < _BENIGN_LESION[kind]:
            lesions.append(draw_lesion(rng, anatomy, malignant=False, difficulty=difficulty))
        if breast.cancer:
            lesions.append(
                draw_lesion(
                    rng, anatomy, malignant=True, conspicuity=conspicuity, difficulty=difficulty
                )
            )
        breasts.append(Breast(breast, anatomy, tuple(lesions)))
    return Patient(record, machine_of(record.site_id, record.machine_id), tuple(breasts))


def machine_of(site_id: int, machine_id: int) -> Machine:
    """Return the model of a machine, or that of its site under the machine's own number."""
    if machine_id in MACHINES:
        return MACHINES[machine_id]
    return replace(MACHINES[_STAND_IN[site_id]], machine_id=machine_id)


def drawn_view(view: View) -> View:
    """Return the view, CC or MLO, that stands for the picture of a rarer one.

    The rarer ones (ML, LM, LMO, AT) are all taken from the side and show the pectoral muscle.
    """
    return view if view in (View.CC, View.MLO) else View.MLO
