"""A drawn population has the real rates, their gaps too, at any prevalence and in any company."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mammoscope.cohort.synthetic import rates
from mammoscope.cohort.synthetic.comparison import (
    TABLES,
    compare_population,
    draw_population,
)
from mammoscope.cohort.synthetic.machines import MACHINES
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.cohort.synthetic.population import draw_patient, machine_of
from mammoscope.cohort.synthetic.records import (
    REAL_PREVALENCE,
    TABLE_COLUMNS,
    cancer_odds,
    draw_record,
    table_rows,
)
from mammoscope.types import Laterality, View


@pytest.fixture(scope="module")
def population():
    return draw_population(12_000, seed=0)


def share(values):
    values = list(values)
    return sum(values) / len(values)


def test_every_table_is_within_sampling_error_of_the_real_one(population):
    compared = compare_population(population)
    assert [one.table for one in compared] == list(TABLES)
    assert {one.table: one.p_value for one in compared if not one.p_value > 0.001} == {}
    assert all(one.count > 0 for one in compared)


def shifted(breast, **changes):
    return dataclasses.replace(breast, **changes)


WRONG = {
    "site": lambda r: dataclasses.replace(r, site_id=1),
    "age by site": lambda r: dataclasses.replace(r, age=min(r.age + 1, 89)),
    "density by age": lambda r: dataclasses.replace(r, age=125 - max(r.age, 36)),
    "cancer by age": lambda r: dataclasses.replace(r, age=125 - max(r.age, 36)),
    "implant by site": lambda r: dataclasses.replace(r, implant=r.age > 79),
    "density missing by site": lambda r: dataclasses.replace(r, density_known=True),
    "BI-RADS missing by site": lambda r: dataclasses.replace(
        r, breasts=tuple(shifted(b, birads=b.birads or "1") for b in r.breasts)
    ),
    "images of a view": lambda r: dataclasses.replace(
        r, breasts=tuple(shifted(b, views=tuple(sorted({*b.views}))) for b in r.breasts)
    ),
    "side of cancer": lambda r: dataclasses.replace(
        r, breasts=tuple(shifted(b, laterality=Laterality.L) for b in r.breasts)
    ),
}


@pytest.mark.parametrize("table", WRONG)
def test_a_wrong_population_is_told_from_the_real_one(population, table):
    wrong = [WRONG[table](record) for record in population]
    (found,) = compare_population(wrong, [table])
    assert found.p_value < 1e-6
    assert found.deviation > 0.002


def test_images_of_one_woman_are_not_counted_as_independent():
    """Counted as independent, most right populations would be refused at 5 %."""
    refused = []
    for seed in range(30):
        (found,) = compare_population(draw_population(700, seed=seed), ["machine by site"])
        refused.append(found.p_value < 0.05)
    assert share(refused) < 0.2


def test_what_is_missing_follows_the_site(population):
    by_site = {site: [r for r in population if r.site_id == site] for site in (1, 2)}
    assert not any(r.density_known for r in by_site[2])
    assert 0.99 < share(r.density_known for r in by_site[1]) < 1
    assert all(r.age_known for r in by_site[2])
    assert 0.99 < share(r.age_known for r in by_site[1]) < 1
    for site, blank in rates.BIRADS_BLANK.items():
        found = [b.birads is None for r in by_site[site] for b in r.breasts for _ in b.views]
        assert share(found) == pytest.approx(blank, abs=0.015)
    # Site 1 gives each cancer BI-RADS 0, site 2 gives none of them any.
    birads = {
        site: {b.birads for r in records for b in r.breasts if b.cancer}
        for site, records in by_site.items()
    }
    assert birads == {1: {"0"}, 2: {None}}


def test_words_of_a_record_agree(population):
    for record in population:
        for breast in record.breasts:
            assert {View.CC, View.MLO} <= set(breast.views)
            assert breast.biopsy or not breast.cancer
            assert breast.cancer or not breast.invasive
            assert not (breast.cancer and breast.difficult_negative_case)
            assert breast.difficult_negative_case or breast.cancer or breast.birads != "0"


@pytest.mark.parametrize("prevalence", [0.0, 0.01, 0.35, 0.9, 1.0])
def test_prevalence_is_what_is_asked_for(prevalence):
    records = draw_population(2000, seed=3, prevalence=prevalence)
    found = share(r.cancer for r in records)
    error = np.sqrt(prevalence * (1 - prevalence) / len(records))
    assert abs(found - prevalence) <= 4 * error


def age_odds_ratio(records):
    """Odds of cancer from 70 on over those below 50."""
    odds = []
    for some in ([r for r in records if r.age >= 70], [r for r in records if r.age < 50]):
        sick = sum(r.cancer for r in some)
        odds.append(sick / (len(some) - sick))
    return odds[0] / odds[1]


def test_cancer_keeps_its_shape_over_age_at_any_prevalence():
    real = np.array(rates.CANCER_BY_AGE)
    women = np.array(rates.PATIENTS_BY_AGE[1]) + np.array(rates.PATIENTS_BY_AGE[2])
    old, young = ((real * women)[part].sum() / women[part].sum() for part in (np.s_[7:], np.s_[:3]))
    expected = old / (1 - old) / (young / (1 - young))
    for prevalence in (0.1, 0.35, 0.6):
        found = age_odds_ratio(draw_population(9000, seed=4, prevalence=prevalence))
        assert found == pytest.approx(expected, rel=0.25)


def test_fitted_odds_have_no_machine_with_cancer_where_there_was_none():
    odds = cancer_odds()
    assert np.isfinite(odds).all()
    machines = sorted(rates.CANCER_BY_MACHINE)
    for number, machine in enumerate(machines):
        assert (odds[:, :, number] > 0).all() == (rates.CANCER_BY_MACHINE[machine] > 0)


def test_a_woman_follows_from_seed_and_number_alone():
    few, many = draw_population(5, seed=8), draw_population(50, seed=8)
    assert many[:5] == few
    assert draw_population(5, seed=9) != few
    # The body comes after the record, and does not change it.
    rng = np.random.default_rng([8, 3])
    assert draw_patient(rng).record == few[3]


def test_cancer_can_be_settled_beforehand():
    for cancer in (True, False):
        records = [draw_record(np.random.default_rng(n), cancer=cancer) for n in range(50)]
        assert {r.cancer for r in records} == {cancer}


def test_rows_of_the_table_are_one_for_each_image(population):
    record = next(r for r in population if r.site_id == 2)
    rows = table_rows(record, 10_007)
    assert len(rows) == sum(len(b.views) for b in record.breasts)
    assert len({row["image_id"] for row in rows}) == len(rows)
    for row in rows:
        assert tuple(row) == TABLE_COLUMNS
        assert row["density"] == ""
        assert row["machine_id"] in rates.IMAGES_BY_MACHINE[2]


def test_an_unknown_age_is_empty_and_not_zero(population):
    record = next(r for r in population if not r.age_known)
    assert {row["age"] for row in table_rows(record, 1)} == {""}


def test_every_machine_of_the_table_has_a_model():
    for site, machines in rates.IMAGES_BY_MACHINE.items():
        for machine_id in machines:
            machine = machine_of(site, machine_id)
            assert (machine.machine_id, machine.site_id) == (machine_id, site)
            assert replace(machine, machine_id=0) in [
                replace(one, machine_id=0) for one in MACHINES.values() if one.site_id == site
            ]


def test_rare_views_occur(population):
    found = Counter(view for r in population for b in r.breasts for view in b.views)
    assert {View.AT, View.LM, View.ML} <= set(found)


def augmented(views):
    """A patient with implants, and these views of each breast."""
    rng = np.random.default_rng(0)
    patient = draw_patient(rng)
    while not patient.record.implant:
        patient = draw_patient(rng)
    breast = patient.breasts[0]
    return replace(breast, record=replace(breast.record, views=views))


def test_every_second_view_of_a_breast_with_an_implant_pushes_it_back():
    breast = augmented((View.CC, View.MLO, View.MLO, View.CC, View.CC))
    assert breast.anatomy.implant is not None
    images = breast.images()
    assert [image.displaced for image in images] == [False, False, True, True, False]
    assert [image.take for image in images] == [0, 0, 1, 1, 2]
    assert images[2].anatomy.implant.reach < 0.2 * breast.anatomy.implant.reach
    assert images[2].anatomy.depth_mm < breast.anatomy.depth_mm


def test_only_women_of_the_record_have_implants():
    rng = np.random.default_rng(1)
    for _ in range(300):
        patient = draw_patient(rng)
        for breast in patient.breasts:
            assert (breast.anatomy.implant is not None) == patient.record.implant


def test_a_repeated_view_is_another_picture_of_the_same_breast():
    breast = draw_patient(np.random.default_rng(3)).breasts[0]
    breast = replace(breast, record=replace(breast.record, views=(View.CC,) * 3))
    first, second, third = (
        project(image.anatomy, image.view, (300, 240), 0.9, image.take) for image in breast.images()
    )
    for again in (second, third):
        assert 2.0 < abs(first.nipple_mm[0] - again.nipple_mm[0]) < 12.0
        assert first.pixels.mean() == pytest.approx(again.pixels.mean(), rel=0.15)
    assert breast.images()[0].anatomy == breast.anatomy


def test_the_real_prevalence_is_that_of_the_tables():
    women = np.array(rates.PATIENTS_BY_AGE[1]) + np.array(rates.PATIENTS_BY_AGE[2])
    by_age = float((np.array(rates.CANCER_BY_AGE) * women).sum() / women.sum())
    assert pytest.approx(by_age, abs=2e-4) == REAL_PREVALENCE
