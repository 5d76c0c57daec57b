"""Who comes to screening: a record of the table, given a body, lesions and a machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mammoscope.cohort.synthetic.anatomy import (
    Anatomy,
    draw_anatomy,
    of_other_side,
    placed_again,
    pulled_forward,
)
from mammoscope.cohort.synthetic.lesions import Lesion, draw_lesion
from mammoscope.cohort.synthetic.machines import MACHINES, Machine
from mammoscope.cohort.synthetic.records import (
    REAL_PREVALENCE,
    BreastRecord,
    Record,
    draw_record,
)
from mammoscope.cohort.synthetic.surgery import draw_clips, draw_implant
from mammoscope.types import Laterality, View

__all__ = ["Breast", "Exposed", "Patient", "draw_patient", "machine_of"]

# The machine whose images stand for those of a machine that is not modelled, by site.
_STAND_IN = {1: 49, 2: 29}
# Chance of a benign lesion in a breast: with cancer, noticed without it (a difficult negative
# or BI-RADS 2), and neither. Assumed; about 0.4 over all.
_BENIGN_LESION = {"cancer": 0.4, "noticed": 0.8, "neither": 0.3}


@dataclass(frozen=True, slots=True)
class Exposed:
    """One image of a breast.

    Attributes:
        view: Which.
        take: How many of this view there are before it.
        displaced: Whether an implant is pushed back.
        anatomy: The breast as it lies.
    """

    view: View
    take: int
    displaced: bool
    anatomy: Anatomy


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

    def images(self) -> list[Exposed]:
        """List its images in the order of its record.

        Of a breast with an implant every second one of a view is taken with it pushed back.
        """
        views = self.record.views
        shown = []
        for number, view in enumerate(views):
            take = views[:number].count(view)
            displaced = self.anatomy.implant is not None and take % 2 == 1
            anatomy = placed_again(self.anatomy, take)
            if displaced:
                anatomy = pulled_forward(anatomy)
            shown.append(Exposed(view, take, displaced, anatomy))
        return shown


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
    implant = draw_implant(rng)
    if record.implant:
        shared = replace(shared, implant=implant)
    breasts = []
    for breast in record.breasts:
        anatomy = of_other_side(shared, rng)
        anatomy = replace(anatomy, clips=draw_clips(rng, anatomy.depth_mm))
        noticed = breast.difficult_negative_case or breast.birads == "2"
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
