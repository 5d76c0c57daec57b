"""Columns that predict the label: strong ones are found, chance is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from fixtures.lint import in_table, where
from mammoscope.cohort.lint.findings import Severity, Skipped
from mammoscope.cohort.lint.predictors import column_predicts_label, out_of_fold_auroc


def draw(patients: int, rng: np.random.Generator):
    """Four images per patient: patient numbers, and labels of a third of the patients."""
    who = np.repeat(np.arange(patients), 4)
    return who, (rng.random(patients) < 0.33)[who]


def test_chance_is_one_half_on_average_and_its_interval_holds_it():
    rng = np.random.default_rng(0)
    values, missed = [], 0
    for seed in range(20):
        patients, positive = draw(60, rng)
        codes = rng.integers(0, 6, 60)[patients]
        measured = out_of_fold_auroc(codes, positive, patients, seed)
        values.append(measured.value)
        missed += not measured.low <= 0.5 <= measured.high
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)
    assert missed <= 3


def test_a_constant_is_exactly_one_half():
    patients, positive = draw(60, np.random.default_rng(1))
    measured = out_of_fold_auroc(np.zeros(240, np.int64), positive, patients, 0)
    assert (measured.value, measured.low, measured.high) == (0.5, 0.5, 0.5)


def test_a_perfect_column_is_one_and_order_of_its_categories_does_not_matter():
    patients, positive = draw(60, np.random.default_rng(2))
    for codes in (positive.astype(np.int64), 1 - positive.astype(np.int64)):
        assert out_of_fold_auroc(codes, positive, patients, 0).value == 1


def test_a_name_of_every_patient_does_not_predict():
    patients, positive = draw(60, np.random.default_rng(3))
    assert out_of_fold_auroc(patients, positive, patients, 0).value == 0.5


def test_what_is_missing_and_what_lies_in_the_middle_is_seen():
    missing = where(pl.col("cancer") == 1, "density", None)
    subjects = {f.subject for f in column_predicts_label(in_table(density=missing))}
    assert subjects == {"density", "density is missing"}
    # Neither the highest nor the lowest: a rank alone would say 0.5.
    middle = pl.when(pl.col("cancer") == 1).then(pl.lit(100_000)).otherwise("file_bytes")
    turned = pl.when(pl.col("view") == "CC").then(-1).otherwise(1) * 50_000 + middle
    bytes_ = pl.when(pl.col("cancer") == 1).then(middle).otherwise(turned)
    (finding,) = column_predicts_label(in_table(file_bytes=bytes_))
    assert finding.subject == "file bytes per pixel"
    assert finding.severity is Severity.ERROR


def test_what_differs_between_women_is_information():
    (finding,) = column_predicts_label(in_table(age=where(pl.col("cancer") == 1, "age", 75.0)))
    assert (finding.subject, finding.severity) == ("age", Severity.INFO)


def test_numbers_given_class_by_class_are_found():
    sick = pl.col("cancer").max().over("patient_id") == 1
    number = pl.col("patient_id").str.slice(1).cast(pl.Int64)
    renamed = pl.format("Case{}", number + pl.when(sick).then(100).otherwise(0))
    (finding,) = column_predicts_label(in_table(patient_id=renamed))
    assert finding.subject == "number in patient_id"


def test_classes_that_lie_in_folders_are_found():
    folder = pl.when(pl.col("cancer") == 1).then(pl.lit("Cancer")).otherwise(pl.lit("Normal"))
    path = pl.format("all/{}/{}.png", folder, pl.col("image_id"))
    (finding,) = column_predicts_label(in_table(path=path))
    assert (finding.subject, finding.severity) == ("second folder", Severity.ERROR)


def test_too_few_patients_are_not_judged():
    few = column_predicts_label(in_table(cancer=where(pl.col("patient_id") > "p20", "cancer", 0)))
    assert isinstance(few, Skipped)
    assert "10 of each are needed" in few.reason


def test_the_order_of_rows_does_not_matter():
    evidence = in_table(site_id=where(pl.col("cancer") == 1, "site_id", "9"))
    first = column_predicts_label(evidence)
    shuffled = evidence.manifest.sample(fraction=1, shuffle=True, seed=1)
    evidence = dataclasses.replace(evidence, manifest=shuffled)
    assert column_predicts_label(evidence) == first
    assert len(first) == 1
