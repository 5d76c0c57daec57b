"""Who comes to screening: age, site, density and outcome, at rates close to the RSNA table's.

The rates are aggregates of the RSNA Screening Mammography training table (54,706 images);
no record of it is here. Cancer is enriched, so that a small cohort can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammoscope.cohort.synthetic.acquisition import MACHINES, Machine
from mammoscope.cohort.synthetic.anatomy import Anatomy, draw_anatomy
from mammoscope.cohort.synthetic.lesions import Lesion, draw_lesion
from mammoscope.types import Density, Laterality, View

__all__ = ["Patient", "draw_patient"]

_AGE_BANDS = (*((low, low + 5) for low in range(35, 80, 5)), (80, 90))
# Patients by site and age band.
_AGE_COUNTS = {
    1: (96, 756, 827, 880, 802, 786, 752, 490, 240, 181),
    2: (0, 160, 333, 1188, 1280, 1335, 1120, 484, 143, 52),
}
# Shares of densities A to D by the same bands.
_DENSITY = (
    (0.021, 0.240, 0.552, 0.187),
    (0.062, 0.279, 0.558, 0.101),
    (0.064, 0.316, 0.530, 0.090),
    (0.076, 0.386, 0.472, 0.066),
    (0.088, 0.466, 0.412, 0.034),
    (0.130, 0.495, 0.352, 0.023),
    (0.131, 0.545, 0.303, 0.021),
    (0.141, 0.557, 0.289, 0.013),
    (0.121, 0.517, 0.325, 0.037),
    (0.088, 0.602, 0.293, 0.017),
)
_INVASIVE_GIVEN_CANCER = 0.7064
_DIFFICULT_GIVEN_NO_CANCER = 0.1439
_BENIGN_LESION_RATE = 0.4
_EXTRA_MLO_RATE = 0.1


@dataclass(frozen=True, slots=True)
class Breast:
    """One breast of a patient."""

    laterality: Laterality
    anatomy: Anatomy
    lesions: tuple[Lesion, ...]
    cancer: bool
    invasive: bool
    difficult: bool
    views: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient with one exam."""

    machine: Machine
    age: int
    density: Density
    breasts: tuple[Breast, ...]

    @property
    def cancer(self) -> bool:
        """Whether any breast has cancer."""
        return any(breast.cancer for breast in self.breasts)


def draw_patient(
    rng: np.random.Generator, *, cancer: bool, conspicuity: float = 1.0, difficulty: float = 1.0
) -> Patient:
    """Draw one patient.

    Args:
        rng: Source of randomness.
        cancer: Whether one of her breasts has cancer.
        conspicuity: Factor on the contrast of malignant lesions.
        difficulty: Of telling outcomes apart (:func:`~.lesions.draw_lesion`).
    """
    machine = MACHINES[int(rng.choice(list(MACHINES)))]
    counts = np.array(_AGE_COUNTS[machine.site_id], float)
    band = int(rng.choice(len(_AGE_BANDS), p=counts / counts.sum()))
    shares = np.array(_DENSITY[band])
    density = list(Density)[int(rng.choice(4, p=shares / shares.sum()))]
    sick_side = Laterality.L if rng.random() < 0.5 else Laterality.R
    shared = draw_anatomy(rng, density)
    breasts = []
    for side in Laterality:
        anatomy = Anatomy(
            depth_mm=shared.depth_mm * float(rng.normal(1, 0.03)),
            height_mm=shared.height_mm * float(rng.normal(1, 0.03)),
            density=density,
            texture_seed=int(rng.integers(2**31)),
        )
        sick = cancer and side is sick_side
        lesions = []
        if rng.random() < _BENIGN_LESION_RATE:
            lesions.append(draw_lesion(rng, anatomy, malignant=False, difficulty=difficulty))
        if sick:
            lesions.append(
                draw_lesion(
                    rng, anatomy, malignant=True, conspicuity=conspicuity, difficulty=difficulty
                )
            )
        extra = (View.MLO,) if rng.random() < _EXTRA_MLO_RATE else ()
        breasts.append(
            Breast(
                laterality=side,
                anatomy=anatomy,
                lesions=tuple(lesions),
                cancer=sick,
                invasive=sick and bool(rng.random() < _INVASIVE_GIVEN_CANCER),
                difficult=not sick and bool(rng.random() < _DIFFICULT_GIVEN_NO_CANCER),
                views=(View.CC, View.MLO, *extra),
            )
        )
    low, high = _AGE_BANDS[band]
    return Patient(machine, int(rng.integers(low, high)), density, tuple(breasts))
