import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.config import EvaluationConfig
from mammoscope.errors import ConfigError
from mammoscope.evaluation.calibration import (
    IDENTITY,
    Calibration,
    calibration_of,
    fit_calibration,
    prevalence_of,
)
from mammoscope.evaluation.metrics import auroc

METHODS = ["temperature", "platt", "isotonic"]


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def drawn(n=20_000, slope=0.5, intercept=-1.0, seed=0):
    """Logits, and labels drawn from sigmoid(slope * logit + intercept)."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.5, 2, n)
    return logit, rng.random(n) < sigmoid(slope * logit + intercept)


def fitting(logit, label, method="platt", prevalence=None, patient=None):
    patient = np.arange(label.size) if patient is None else patient
    config = EvaluationConfig(calibration=method)
    return fit_calibration(logit, label, patient, config, prevalence)


def fitted(logit, label, method="platt", prevalence=None):
    return fitting(logit, label, method, prevalence)[0]


def test_platt_finds_the_slope_and_intercept_that_the_labels_were_drawn_with():
    made = fitted(*drawn())
    assert made.slope == pytest.approx(0.5, abs=0.03)
    assert made.intercept == pytest.approx(-1.0, abs=0.05)


def test_temperature_finds_the_temperature_and_leaves_a_half_where_it_is():
    made = fitted(*drawn(intercept=0.0), "temperature")
    assert made.slope == pytest.approx(0.5, abs=0.03)
    assert made(np.zeros(1))[0] == 0.5


@pytest.mark.parametrize("method", METHODS)
def test_calibrated_scores_meet_the_share_of_positives(method):
    logit, label = drawn(intercept=0.0)
    score = fitted(logit, label, method)(logit)
    for low in np.arange(0.2, 0.8, 0.1):
        held = (score >= low) & (score < low + 0.1)
        assert label[held].mean() == pytest.approx(score[held].mean(), abs=0.04)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20)
@given(seed=st.integers(0, 500))
def test_no_calibration_turns_two_images_around(method, seed):
    logit, label = drawn(400, slope=1.0, seed=seed)
    made = fitted(logit, label, method, prevalence=0.01)
    ranked = np.sort(logit)
    assert (np.diff(made(ranked)) >= 0).all()
    assert ((made(ranked) > 0) & (made(ranked) < 1)).all()
    if method != "isotonic":
        assert auroc(made(logit), label) == pytest.approx(auroc(logit, label))


def test_isotonic_scores_tie_and_platts_do_not():
    logit, label = drawn(500)
    assert np.unique(fitted(logit, label, "isotonic")(logit)).size < 100
    assert np.unique(fitted(logit, label, "platt")(logit)).size == 500


def test_classes_that_do_not_overlap_have_a_finite_slope_and_no_certain_score():
    logit = np.concatenate([np.linspace(-3, -1, 100), np.linspace(1, 3, 100)])
    for method in METHODS:
        made = fitted(logit, logit > 0, method)
        score = made(logit)
        # One more image of each class on the other side: 1 / 102 and 101 / 102.
        assert 0.0001 < score.min() < 0.01
        assert 0.99 < score.max() < 0.9999


def test_another_prevalence_is_bayes_rule():
    """Drawn at 34 %, corrected to 0.5 %, and met by data drawn at 0.5 %."""
    rng = np.random.default_rng(3)

    def population(n, share):
        label = rng.random(n) < share
        return rng.normal(np.where(label, 1.0, -1.0), 1.0), label

    logit, label = population(20_000, 0.34)
    made = fitted(logit, label, "platt", prevalence=0.005)
    odds = 0.005 * 0.66 / (0.34 * 0.995)
    assert made.odds_ratio == pytest.approx(odds, rel=0.05)
    seen, sick = population(100_000, 0.005)
    assert made(seen).mean() == pytest.approx(sick.mean(), rel=0.15)
    plain = fitted(logit, label)
    chance = plain(seen)
    assert made(seen) == pytest.approx(odds * chance / (odds * chance + 1 - chance), rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_rank_the_wrong_way_stay_and_are_told(method):
    logit, label = drawn(400, slope=2.0, intercept=0.0)
    made, notes = fitting(-logit, label, method)
    assert made == IDENTITY
    assert "do not score above" in notes[0]


def test_too_few_images_of_a_class_are_not_calibrated_on():
    made, notes = fitting(np.arange(30.0), np.arange(30) >= 26, prevalence=0.01)
    assert made == IDENTITY
    assert "nor corrected to another prevalence: 4 patients with a positive and 26" in notes[0]
    # Forty positive images of four women are four witnesses.
    many = np.arange(300.0)
    made, notes = fitting(many, many >= 260, patient=np.arange(300) // 10)
    assert made == IDENTITY
    assert "4 patients with a positive" in notes[0]


def test_isotonic_regression_on_few_patients_gives_way_to_platts_method():
    logit, label = drawn(200)
    assert label.sum() < 100
    made, notes = fitting(logit, label, "isotonic")
    assert made == fitted(logit, label, "platt")
    assert "Platt's method instead of isotonic" in notes[0]
    assert "at least 100 of each" in notes[0]
    assert fitting(*drawn(500), "isotonic")[1] == []


def test_breasts_and_exams_are_rarer_by_the_factor_of_images():
    assert prevalence_of(0.5, 0.5, 0.1) == pytest.approx(0.1)
    # Odds of images fall from 1 / 4 to 1 / 99, those of exams from 1 / 1 to 4 / 99.
    assert prevalence_of(0.5, 0.2, 0.01) == pytest.approx((4 / 99) / (1 + 4 / 99))
    assert prevalence_of(0.5, 0.2, None) is prevalence_of(1.0, 0.2, 0.01) is None


def test_each_level_is_told_what_calibrated_its_scores():
    image, breast = (Calibration("platt", s, fitted_prevalence=0.1, images=9) for s in (2.0, 3.0))
    record = {**image.as_dict(), "joined": {"breast": breast.as_dict()}}
    assert calibration_of(record, "image") == (image, "image")
    assert calibration_of(record, "breast") == calibration_of(record, "exam") == (breast, "breast")
    assert calibration_of(image.as_dict(), "exam") == (image, "image")
    assert calibration_of({}, "breast") == (IDENTITY, "image")
    assert "fitted on 9 breasts" in breast.sentence("breast")


def test_a_calibration_survives_its_record():
    made = fitted(*drawn(500), "isotonic", prevalence=0.02)
    told = json.loads(json.dumps({**made.as_dict(), "asked": "isotonic"}))
    assert Calibration.from_dict(told) == made
    assert "2.00%" in made.sentence()


@pytest.mark.parametrize("method", ["none", "temperature"])
def test_a_prevalence_needs_scores_that_are_chances(method):
    """A temperature has no intercept: after a weighted loss scores stay as high as it left them."""
    from mammoscope.config import load_config

    with pytest.raises(ConfigError, match="set calibration to platt or isotonic"):
        load_config(None, [f"evaluation.calibration={method}", "evaluation.prevalence=0.01"])
