"""A drawn population beside the real rates: chi-square and largest deviation of each table.

No image is needed. Images and breasts of a woman go together, so that a chi-square that
counts them as independent is too large: it is divided by the mean design effect of its
cells (Rao and Scott, J. Am. Stat. Assoc. 76, 1981), with the woman as the cluster.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.cohort.synthetic import rates
from mammoscope.cohort.synthetic.records import (
    REAL_PREVALENCE,
    BreastRecord,
    Record,
    draw_record,
)
from mammoscope.statistics import chi_square_tail
from mammoscope.types import Density, Laterality

__all__ = ["TABLES", "TableComparison", "compare_population", "draw_population"]

# Smaller expected counts are taken together, as the chi-square distribution asks; counted
# as women, since the images of one are hardly more than one observation.
_LEAST_EXPECTED = 5.0

#: What one woman adds to a table: (stratum, category) of each of its units.
_Units = Callable[[Record], Iterator[tuple[Hashable, Hashable]]]
#: Expected share of each category, by stratum.
_Shares = Mapping[Hashable, Mapping[Hashable, float]]


@dataclass(frozen=True, slots=True)
class TableComparison:
    """One table of rates, real and drawn.

    Attributes:
        table: Its name.
        count: Units that were drawn: women, breasts or images.
        chi_square: Pearson's statistic over its design effect; infinite where something was
            drawn that the real table has nowhere.
        degrees: Its degrees of freedom; 0 where nothing is left to chance.
        p_value: Chance of a statistic as large if the rates hold.
        deviation: Largest difference between a drawn and a real share.
        cell: Stratum and category of that difference.
        drawn: Its drawn share.
        real: Its real share.
    """

    table: str
    count: int
    chi_square: float
    degrees: int
    p_value: float
    deviation: float
    cell: str
    drawn: float
    real: float


def draw_population(
    patients: int, *, seed: int = 0, prevalence: float = REAL_PREVALENCE
) -> list[Record]:
    """Draw what the tables of ``write_cohort`` would say, without drawing an image.

    Args:
        patients: How many.
        seed: As of ``write_cohort``: the same women for the same seed.
        prevalence: Share of women with cancer.
    """
    return [
        draw_record(np.random.default_rng([seed, n]), prevalence=prevalence)
        for n in range(patients)
    ]


def compare_population(
    records: Sequence[Record], tables: Iterable[str] | None = None
) -> list[TableComparison]:
    """Compare a population with tables of rates.

    Tables that speak of cancer agree at the real prevalence alone.

    Args:
        records: The women.
        tables: Names of :data:`TABLES`; without them, all.
    """
    return [_compare(name, records, *TABLES[name]) for name in tables or TABLES]


def _compare(
    name: str, records: Sequence[Record], units: _Units, shares: _Shares
) -> TableComparison:
    women: dict[Hashable, list[Counter[Hashable]]] = defaultdict(list)
    for record in records:
        mine: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
        for stratum, category in units(record):
            mine[stratum][category] += 1
        for stratum, hers in mine.items():
            women[stratum].append(hers)
    statistic, degrees, count = 0.0, 0, 0
    largest = (-1.0, "", 0.0, 0.0)
    for stratum, found in women.items():
        real = shares[stratum]
        categories = list(dict.fromkeys([*real, *(c for one in found for c in one)]))
        # A row per woman, a column per category.
        counts = np.array([[one[c] for c in categories] for one in found], float)
        expected = np.array([real.get(c, 0.0) for c in categories])
        expected /= expected.sum()
        drawn = counts.sum(axis=0) / counts.sum()
        count += int(counts.sum())
        worst = int(np.argmax(np.abs(drawn - expected)))
        cell = f"{stratum}: {categories[worst]}" if len(shares) > 1 else str(categories[worst])
        ours, theirs = float(drawn[worst]), float(expected[worst])
        largest = max(largest, (abs(ours - theirs), cell, ours, theirs))
        value, df = _chi_square(counts, expected)
        statistic, degrees = statistic + value, degrees + df
    p_value = chi_square_tail(statistic, degrees) if degrees else float(statistic == 0)
    return TableComparison(name, count, statistic, degrees, p_value, *largest)


def _chi_square(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[float, int]:
    """Return statistic and degrees of freedom of one stratum.

    Args:
        counts: (women, categories).
        expected: (categories,) shares that add up to 1.
    """
    if counts[:, expected == 0].any():
        return float("inf"), 1
    total = counts.sum()
    small = expected * len(counts) < _LEAST_EXPECTED
    if small.any():
        # The rest with the smallest of the others, if it is too small itself.
        if expected[small].sum() * len(counts) < _LEAST_EXPECTED and not small.all():
            small[np.argmin(np.where(small, np.inf, expected))] = True
        counts = np.column_stack([counts[:, ~small], counts[:, small].sum(axis=1)])
        expected = np.append(expected[~small], expected[small].sum())
    degrees = len(expected) - 1
    drawn = counts.sum(axis=0) / total
    if degrees == 0:
        return 0.0, 0
    statistic = float((total * (drawn - expected) ** 2 / expected).sum())
    residuals = counts - drawn * counts.sum(axis=1, keepdims=True)
    effects = (residuals**2).sum(axis=0) / (total * expected)
    return statistic / max(1.0, float(effects.sum()) / degrees), degrees


def _share(yes: float) -> dict[Hashable, float]:
    return {True: yes, False: 1 - yes}


def _normal(counts: Mapping[Any, float]) -> dict[Hashable, float]:
    total = sum(counts.values())
    return {key: value / total for key, value in counts.items()}


def _band(record: Record) -> str:
    return next(_name(low, high) for low, high in rates.AGE_BANDS if low <= record.age < high)


def _name(low: int, high: int) -> str:
    return f"{low}-{high - 1}"


def _per_image(
    of: Callable[[Record, BreastRecord], tuple[Hashable, Hashable] | None],
) -> _Units:
    """Count each image of a breast as what the breast is."""

    def units(record: Record) -> Iterator[tuple[Hashable, Hashable]]:
        for breast in record.breasts:
            found = of(record, breast)
            if found is not None:
                yield from [found] * len(breast.views)

    return units


def _ages(record: Record) -> Iterator[tuple[Hashable, Hashable]]:
    if record.age_known:
        yield record.site_id, _band(record)


def _densities(record: Record) -> Iterator[tuple[Hashable, Hashable]]:
    if record.density_known and record.age_known:
        yield _band(record), record.density


def _cancer_by_age(record: Record) -> Iterator[tuple[Hashable, Hashable]]:
    if record.age_known:
        yield _band(record), record.cancer


def _cancer_by_density(record: Record) -> Iterator[tuple[Hashable, Hashable]]:
    if record.density_known:
        yield record.density, record.cancer


def _images_of_a_view(record: Record) -> Iterator[tuple[Hashable, Hashable]]:
    for breast in record.breasts:
        for number in Counter(breast.views).values():
            yield "", number


_BANDS = [_name(low, high) for low, high in rates.AGE_BANDS]
_MACHINE_RATES: _Shares = {m: _share(rate) for m, rate in rates.CANCER_BY_MACHINE.items()}

#: What each table counts, and its real shares.
TABLES: dict[str, tuple[_Units, _Shares]] = {
    "site": (lambda r: iter([("", r.site_id)]), {"": _normal(rates.PATIENTS_BY_SITE)}),
    "age by site": (
        _ages,
        {
            site: _normal(dict(zip(_BANDS, n, strict=True)))
            for site, n in rates.PATIENTS_BY_AGE.items()
        },
    ),
    "density by age": (
        _densities,
        {
            band: _normal(dict(zip(Density, shares, strict=True)))
            for band, shares in zip(_BANDS, rates.DENSITY_BY_AGE, strict=True)
        },
    ),
    "cancer": (
        lambda r: iter([("", r.cancer)]),
        {"": _share(rates.CANCER_PATIENTS / rates.PATIENTS)},
    ),
    "cancer by age": (
        _cancer_by_age,
        {b: _share(rate) for b, rate in zip(_BANDS, rates.CANCER_BY_AGE, strict=True)},
    ),
    "cancer by density": (
        _cancer_by_density,
        {d: _share(rate) for d, (rate, _) in rates.CANCER_BY_DENSITY.items()},
    ),
    "cancer by machine": (_per_image(lambda r, b: (r.machine_id, b.cancer)), _MACHINE_RATES),
    "cancer in both breasts": (
        lambda r: iter([("", all(b.cancer for b in r.breasts))] if r.cancer else []),
        {"": _share(rates.BOTH_BREASTS_GIVEN_CANCER)},
    ),
    "side of cancer": (
        lambda r: (("", b.laterality) for b in r.breasts if b.cancer),
        {"": {Laterality.L: rates.LEFT_GIVEN_CANCER, Laterality.R: 1 - rates.LEFT_GIVEN_CANCER}},
    ),
    "machine by site": (
        _per_image(lambda r, _: (r.site_id, r.machine_id)),
        {site: _normal(n) for site, n in rates.IMAGES_BY_MACHINE.items()},
    ),
    "images per patient": (
        lambda r: iter([("", sum(len(b.views) for b in r.breasts))]),
        {"": _normal(rates.IMAGES_PER_PATIENT)},
    ),
    "images of a view": (
        _images_of_a_view,
        {"": _normal(rates.BREASTS_IMAGES_OF_A_VIEW)},
    ),
    "view": (
        lambda r: (("", view) for b in r.breasts for view in b.views),
        {"": _normal(rates.VIEWS)},
    ),
    "implant by site": (
        lambda r: iter([(r.site_id, r.implant)]),
        {site: _share(rate) for site, rate in rates.IMPLANT_BY_SITE.items()},
    ),
    "biopsy": (_per_image(lambda _, b: ("", b.biopsy)), {"": _share(rates.BIOPSY)}),
    "invasive of cancers": (
        _per_image(lambda _, b: ("", b.invasive) if b.cancer else None),
        {"": _share(rates.INVASIVE_GIVEN_CANCER)},
    ),
    "difficult of negatives": (
        _per_image(lambda _, b: None if b.cancer else ("", b.difficult_negative_case)),
        {"": _share(rates.DIFFICULT_GIVEN_NO_CANCER)},
    ),
    "BI-RADS": (
        _per_image(lambda _, b: None if b.birads is None else ("", b.birads)),
        {"": _normal(rates.BIRADS_SHARES)},
    ),
    "BI-RADS of cancers": (
        _per_image(lambda _, b: ("", b.birads) if b.cancer else None),
        {"": {"0": rates.BIRADS_ZERO_GIVEN_CANCER, None: 1 - rates.BIRADS_ZERO_GIVEN_CANCER}},
    ),
    "BI-RADS missing by site": (
        _per_image(lambda r, b: (r.site_id, b.birads is None)),
        {site: _share(blank) for site, blank in rates.BIRADS_BLANK.items()},
    ),
    "age missing by site": (
        _per_image(lambda r, _: (r.site_id, not r.age_known)),
        {site: _share(blank) for site, blank in rates.MISSING_AGE.items()},
    ),
    "density missing by site": (
        _per_image(lambda r, _: (r.site_id, not r.density_known)),
        {site: _share(blank) for site, blank in rates.MISSING_DENSITY.items()},
    ),
}
