from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from typer.testing import CliRunner

from mammoscope import sanity
from mammoscope.cli import app
from mammoscope.cohort.manifest import read_manifest, read_rejects
from mammoscope.cohort.regions import regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import LesionsConfig, Task
from mammoscope.errors import ConfigError, RunError


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return sanity.make_cohort(tmp_path_factory.mktemp("sanity"))


def test_its_pictures_go_the_way_of_mammograms_and_none_is_refused(cohort):
    manifest, store = read_manifest(cohort), PreparedStore(cohort)
    assert manifest.height == manifest["patient_id"].n_unique() == 72
    assert manifest["biopsy"].sum() == 36
    assert manifest["cancer"].sum() == 18
    assert read_rejects(cohort) == []
    regions = regions_of(cohort, store, LesionsConfig())
    assert len(regions) == 36
    assert not regions.faults
    assert not regions.uncertain
    for name, sick, cancer in manifest.select("image_id", "biopsy", "cancer").iter_rows():
        bright = store.read(name) > 200
        assert bright.any() == sick
        if sick:
            # The disc is where the findings say.
            covered = regions.union(name)
            assert (bright & covered).sum() > 0.95 * bright.sum()
            assert (bright & covered).sum() > (0.7 if cancer else 0.5) * covered.sum()
            # The holes are what is told apart.
            assert [region.malignant for region in regions.of(name)] == [bool(cancer)]


@pytest.fixture
def told(monkeypatch):
    """Have every lesson end with the same value, and ask the command line for them."""

    def ask(value, *words):
        def taken(task, cohort, run):
            assert (cohort / "splits.parquet").is_file()
            run.mkdir()
            return [sanity.Outcome(task, "Dice", value, 0.8, 1.0)]

        monkeypatch.setattr(sanity, "take", taken)
        return CliRunner().invoke(app, ["sanity", *words])

    return ask


def test_code_that_does_not_learn_is_to_blame(told):
    made = told(0.31, "--task", "segment")
    assert made.exit_code == 1
    assert isinstance(made.exception, RunError)
    assert str(made.exception) == (
        "segment: Dice 0.310 on bright discs, at least 0.8 is reached by any code that works: the "
        "code or its installation is to blame, not your data"
    )


def test_code_that_learns_puts_the_blame_on_the_data(told, tmp_path):
    folder = tmp_path / "kept"
    made = told(0.95, "--out", str(folder))
    assert made.exit_code == 0, made.output
    assert {path.name for path in folder.iterdir()} >= {"pictures", "cohort", *sanity.LESSONS}
    again = told(0.95, "--out", str(folder))
    assert again.exit_code == 1
    assert "exists already" in str(again.exception)


def test_a_lesson_says_what_its_value_is_for():
    lesson = sanity.LESSONS["anomaly"]
    psnr = sanity.Outcome("anomaly", "PSNR in dB", 21.5, lesson.least, 1.0, lesson.what)
    assert "how closely it rebuilds pictures without a disc" in psnr.sentence
    assert "(higher is closer), at least 18 asked" in psnr.sentence
    assert "on bright discs" not in psnr.sentence
    asked = lesson.exercise
    found = sanity.Outcome("anomaly", asked.measure, 1.0, asked.least, 1.0, asked.what)
    assert "1.000 for calling pictures with a disc, of which it has seen none" in found.sentence


def test_a_value_that_is_no_number_is_no_pass(told):
    assert told(float("nan")).exit_code == 1


def test_a_task_without_a_lesson_is_refused():
    with pytest.raises(ConfigError, match="--task paint has no lesson; accepted: classify, detect"):
        sanity.check_tasks(["paint"])
    assert sanity.check_tasks([]) == list(sanity.LESSONS)


def test_every_task_has_a_lesson():
    assert set(sanity.LESSONS) == set(get_args(Task))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where lessons leave their runs: the second of two stages goes on from the first."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("task", sanity.LESSONS)
def test_the_code_solves_every_lesson(cohort, runs, task):
    outcomes = sanity.take(task, cohort, runs / task)
    for outcome in outcomes:
        assert outcome.passed, outcome.sentence
        assert "data or settings" in outcome.sentence
    assert (len(outcomes) == 2) == (sanity.LESSONS[task].exercise is not None)


@pytest.mark.parametrize("task", sanity.LESSONS)
def test_a_network_that_does_not_learn_solves_none(cohort, tmp_path, monkeypatch, task):
    own = sanity.LESSONS[task]
    for name in {task, "segment"}:
        lesson = sanity.LESSONS[name]
        settings = (*lesson.settings, "train.epochs=1", "train.lr=1e-12")
        monkeypatch.setitem(sanity.LESSONS, name, replace(lesson, settings=settings))
    first = sanity.take(task, cohort, tmp_path / task)[0]
    assert not first.passed
    assert first.least == own.least
    assert "code or its installation is to blame" in first.sentence
