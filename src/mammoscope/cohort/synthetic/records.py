"""What a screening programme's table says of a woman, drawn at the real joint rates.

Cancer goes with age, density and machine: their odds ratios are fitted so that each of the
three tables of ``rates`` holds. A prevalence rescales all odds alike, so that the shape over
age stays. What the aggregates leave open is assumed, and said where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mammoscope.cohort.synthetic import rates
from mammoscope.types import Density, Floats, Laterality, View

__all__ = [
    "REAL_PREVALENCE",
    "TABLE_COLUMNS",
    "BreastRecord",
    "Record",
    "cancer_odds",
    "draw_record",
    "table_rows",
]

#: Share of patients with cancer of the real table.
REAL_PREVALENCE = rates.CANCER_PATIENTS / rates.PATIENTS

#: The RSNA table's columns.
TABLE_COLUMNS = (
    "site_id", "patient_id", "image_id", "laterality", "view", "age", "cancer", "biopsy",
    "invasive", "BIRADS", "implant", "density", "machine_id", "difficult_negative_case",
)  # fmt: skip

_SITE_OF = {machine: site for site, counts in rates.IMAGES_BY_MACHINE.items() for machine in counts}
_MACHINES = tuple(sorted(_SITE_OF))
_IMAGES_BY_SITE = {site: sum(counts.values()) for site, counts in rates.IMAGES_BY_MACHINE.items()}
# A view that has a further image already is rarely given a third, and of the others an MLO is
# more often repeated than a CC: fitted to ``BREASTS_IMAGES_OF_A_VIEW`` and ``VIEWS``.
_THIRD_IMAGE = 0.08
_FURTHER_MLO = 1.62

# The table's difficult negatives are nearly as many as its images of BI-RADS 0 without cancer,
# and the values of site 2 are a tenth of its images, as recalls are. Assumed from that: a
# BI-RADS 0 without cancer is a difficult negative, site 2 notes no other value, and only
# difficult negatives are biopsied without being cancer.
_KNOWN_BIRADS = {s: (1 - rates.BIRADS_BLANK[s]) * n for s, n in _IMAGES_BY_SITE.items()}
_CANCER_IMAGES = {1: rates.BIRADS_ZERO_GIVEN_CANCER * rates.CANCER_IMAGES}
_CANCER_IMAGES[2] = rates.CANCER_IMAGES - _CANCER_IMAGES[1]
_HEALTHY_IMAGES = {s: n - _CANCER_IMAGES[s] for s, n in _IMAGES_BY_SITE.items()}
_ZERO_HEALTHY = rates.BIRADS_SHARES["0"] * sum(_KNOWN_BIRADS.values()) - _CANCER_IMAGES[1]
_ZERO_BY_SITE = {1: _ZERO_HEALTHY - _KNOWN_BIRADS[2], 2: _KNOWN_BIRADS[2]}
_DIFFICULT = rates.DIFFICULT_GIVEN_NO_CANCER * sum(_HEALTHY_IMAGES.values())
_BLANK_GIVEN_DIFFICULT = 1 - _ZERO_HEALTHY / _DIFFICULT
_DIFFICULT_BY_SITE = {
    s: n * _DIFFICULT / _ZERO_HEALTHY / _HEALTHY_IMAGES[s] for s, n in _ZERO_BY_SITE.items()
}
_BIOPSY_GIVEN_DIFFICULT = (rates.BIOPSY * rates.IMAGES - rates.CANCER_IMAGES) / _DIFFICULT
_EASY_IMAGES = _HEALTHY_IMAGES[1] * (1 - _DIFFICULT_BY_SITE[1])
_BLANK_GIVEN_EASY = 1 - (_KNOWN_BIRADS[1] - _CANCER_IMAGES[1] - _ZERO_BY_SITE[1]) / _EASY_IMAGES
_TWO_GIVEN_KNOWN_EASY = rates.BIRADS_SHARES["2"] / (1 - rates.BIRADS_SHARES["0"])


@dataclass(frozen=True, slots=True)
class BreastRecord:
    """One breast in the table's words.

    Attributes:
        laterality: Which.
        views: One for each of its images.
        cancer: Proven by biopsy.
        biopsy: Whether it was biopsied.
        invasive: Whether its cancer is.
        birads: 0, 1 or 2, or unknown.
        difficult_negative_case: A negative that was hard to read.
    """

    laterality: Laterality
    views: tuple[View, ...]
    cancer: bool
    biopsy: bool
    invasive: bool
    birads: str | None
    difficult_negative_case: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One woman with one exam, in the table's words.

    Attributes:
        site_id: Where she was seen.
        machine_id: On which machine.
        age: In years.
        age_known: Whether the table says it.
        density: Of her breasts.
        density_known: Whether the table says it.
        implant: Whether she has any.
        breasts: Left and right.
    """

    site_id: int
    machine_id: int
    age: int
    age_known: bool
    density: Density
    density_known: bool
    implant: bool
    breasts: tuple[BreastRecord, BreastRecord]

    @property
    def cancer(self) -> bool:
        """Whether any breast has cancer."""
        return any(breast.cancer for breast in self.breasts)


def draw_record(
    rng: np.random.Generator,
    *,
    prevalence: float = REAL_PREVALENCE,
    cancer: bool | None = None,
) -> Record:
    """Draw one woman.

    Args:
        rng: Source of randomness.
        prevalence: Share of women with cancer in her population.
        cancer: Whether she has it, where that is settled.
    """
    sick = bool(rng.random() < prevalence)
    sick = sick if cancer is None else cancer
    healthy_cells, sick_cells = _cumulative_cells(prevalence)
    cell = int(np.searchsorted(sick_cells if sick else healthy_cells, rng.random(), side="right"))
    band, density, machine = np.unravel_index(cell, _population().shape)
    machine_id = _MACHINES[int(machine)]
    site = _SITE_OF[machine_id]
    low, high = rates.AGE_BANDS[int(band)]
    images, shares = _images_per_patient()[site]
    views = _draw_views(rng, int(rng.choice(images, p=shares)))
    both = sick and rng.random() < rates.BOTH_BREASTS_GIVEN_CANCER
    side = Laterality.L if rng.random() < rates.LEFT_GIVEN_CANCER else Laterality.R
    left, right = (
        _draw_breast(rng, site, one, views[one], cancer=sick and (both or one is side))
        for one in (Laterality.L, Laterality.R)
    )
    return Record(
        site_id=site,
        machine_id=machine_id,
        age=int(rng.integers(low, high)),
        age_known=bool(rng.random() >= rates.MISSING_AGE[site]),
        density=list(Density)[int(density)],
        density_known=bool(rng.random() >= rates.MISSING_DENSITY[site]),
        implant=bool(rng.random() < rates.IMPLANT_BY_SITE[site]),
        breasts=(left, right),
    )


def table_rows(record: Record, patient_id: int) -> list[dict[str, Any]]:
    """Return her rows of the table, one for each image; what is unknown is empty."""
    rows: list[dict[str, Any]] = []
    for breast in record.breasts:
        for view in breast.views:
            values = (
                record.site_id,
                patient_id,
                patient_id * 100 + len(rows),
                str(breast.laterality),
                str(view),
                record.age if record.age_known else "",
                int(breast.cancer),
                int(breast.biopsy),
                int(breast.invasive),
                breast.birads or "",
                int(record.implant),
                str(record.density) if record.density_known else "",
                record.machine_id,
                breast.difficult_negative_case,
            )
            rows.append(dict(zip(TABLE_COLUMNS, values, strict=True)))
    return rows


@lru_cache(maxsize=1)
def cancer_odds() -> Floats:
    """Fit the odds of cancer by (age band, density, machine) to the three tables of rates.

    Iterative proportional fitting of odds = age x density x machine. The rate of a machine is
    of its images, and is brought to patients by its site's total, which follows from the
    table by density. A machine without any cancer has odds 0.

    Returns:
        (bands, 4, machines) odds at the real prevalence.
    """
    share = _population()
    first = np.array([_SITE_OF[machine] == 1 for machine in _MACHINES])
    by_age = np.array(rates.CANCER_BY_AGE) * share.sum(axis=(1, 2))
    density_rates = np.array([rate for rate, _ in rates.CANCER_BY_DENSITY.values()])
    by_density = density_rates * share[:, :, first].sum(axis=(0, 2))
    of_machine = np.array([rates.CANCER_BY_MACHINE[m] for m in _MACHINES])
    by_machine = of_machine * share.sum(axis=(0, 1))
    by_machine[first] *= by_density.sum() / by_machine[first].sum()
    by_machine[~first] *= (by_age.sum() - by_density.sum()) / by_machine[~first].sum()
    odds = np.broadcast_to(of_machine, share.shape).copy()

    def expected() -> Floats:
        return np.asarray(share * odds / (1 + odds))

    for _ in range(60):
        odds *= (by_age / expected().sum(axis=(1, 2)))[:, None, None]
        odds *= (by_density / expected()[:, :, first].sum(axis=(0, 2)))[None, :, None]
        now = expected().sum(axis=(0, 1))
        odds *= np.divide(by_machine, now, out=np.zeros_like(now), where=now > 0)
    return odds


@lru_cache(maxsize=1)
def _population() -> Floats:
    """Return the share of women by (age band, density, machine)."""
    density = np.array(rates.DENSITY_BY_AGE)
    density /= density.sum(axis=1, keepdims=True)
    columns = []
    for machine in _MACHINES:
        site = _SITE_OF[machine]
        ages = np.array(rates.PATIENTS_BY_AGE[site], float)
        on_it = rates.IMAGES_BY_MACHINE[site][machine] / _IMAGES_BY_SITE[site]
        of_all = rates.PATIENTS_BY_SITE[site] / rates.PATIENTS * on_it
        columns.append(of_all * (ages / ages.sum())[:, None] * density)
    return np.stack(columns, axis=2)


@lru_cache(maxsize=8)
def _cumulative_cells(prevalence: float) -> tuple[Floats, Floats]:
    """Return the cumulative shares of cells among women without and with cancer.

    One factor on all odds brings the population to its prevalence; it is found by halving.
    """
    share, odds = _population(), cancer_odds()
    low, high = -40.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        scaled = odds * np.exp(middle)
        if (share * scaled / (1 + scaled)).sum() < prevalence:
            low = middle
        else:
            high = middle
    scaled = odds * np.exp(high)
    healthy, sick = (share / (1 + scaled)).ravel(), (share * scaled / (1 + scaled)).ravel()
    return _cumulative(healthy), _cumulative(sick)


def _cumulative(weights: Floats) -> Floats:
    total = np.cumsum(weights)
    # A last value of exactly 1, which no draw of [0, 1) reaches.
    return np.asarray(total / total[-1])


@lru_cache(maxsize=1)
def _images_per_patient() -> dict[int, tuple[list[int], Floats]]:
    """Return each site's numbers of images of a patient, with their shares.

    The table of both is split so that each site has its mean: site 2 is the whole table
    tilted by exp(-t n) (assumed), site 1 what is left.
    """
    images = list(rates.IMAGES_PER_PATIENT)
    counts = np.array(list(rates.IMAGES_PER_PATIENT.values()), float)
    mean = _IMAGES_BY_SITE[2] / rates.PATIENTS_BY_SITE[2]
    low, high = 0.0, 20.0
    for _ in range(60):
        tilt = (low + high) / 2
        second = counts * np.exp(-tilt * (np.array(images) - images[0]))
        second /= second.sum()
        low, high = (tilt, high) if (second * images).sum() > mean else (low, tilt)
    first = counts - rates.PATIENTS_BY_SITE[2] * second
    return {1: (images, first / first.sum()), 2: (images, second)}


def _draw_views(rng: np.random.Generator, images: int) -> dict[Laterality, tuple[View, ...]]:
    """Give each breast CC and MLO, and lay out what images there are beyond these four."""
    further = sum(rates.VIEWS.values()) - 4 * rates.PATIENTS
    rare = [view for view in rates.VIEWS if view not in (View.CC, View.MLO)]
    counts = np.array([rates.VIEWS[view] for view in rare], float)
    places = [(side, view) for side in Laterality for view in (View.CC, View.MLO)]
    weights = np.array([1.0, _FURTHER_MLO] * 2)
    views = {side: [View.CC, View.MLO] for side in Laterality}
    for _ in range(images - 4):
        if rng.random() < counts.sum() / further:
            other = rare[int(rng.choice(len(rare), p=counts / counts.sum()))]
            views[Laterality.L if rng.random() < 0.5 else Laterality.R].append(other)
            continue
        place = int(rng.choice(len(places), p=weights / weights.sum()))
        weights[place] *= _THIRD_IMAGE
        side, view = places[place]
        views[side].append(view)
    return {side: tuple(found) for side, found in views.items()}


def _draw_breast(
    rng: np.random.Generator,
    site: int,
    laterality: Laterality,
    views: tuple[View, ...],
    *,
    cancer: bool,
) -> BreastRecord:
    """Draw how one breast was read and what came of it."""
    invasive, difficult, biopsied, blank, two = rng.random(5)
    hard = not cancer and bool(difficult < _DIFFICULT_BY_SITE[site])
    birads: str | None = None
    if cancer:
        # Site 1 notes a BI-RADS for each of its cancers, site 2 for none.
        birads = "0" if site == 1 else None
    elif hard:
        birads = None if blank < _BLANK_GIVEN_DIFFICULT else "0"
    elif site == 1 and blank >= _BLANK_GIVEN_EASY:
        birads = "2" if two < _TWO_GIVEN_KNOWN_EASY else "1"
    return BreastRecord(
        laterality=laterality,
        views=views,
        cancer=cancer,
        biopsy=cancer or (hard and bool(biopsied < _BIOPSY_GIVEN_DIFFICULT)),
        invasive=cancer and bool(invasive < rates.INVASIVE_GIVEN_CANCER),
        birads=birads,
        difficult_negative_case=hard,
    )
