from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.reliability import bins_of, reliability
from mammoscope.evaluation.tables import Scored

CONFIG = EvaluationConfig(bootstrap=200)


def drawn(n=3000, images=2, slope=1.0, intercept=0.0, seed=0):
    """Scores whose true chance is sigmoid(slope * logit + intercept)."""
    rng = np.random.default_rng(seed)
    logit = np.repeat(rng.normal(-1, 1.5, n // images), images)
    label = rng.random(n) < 1 / (1 + np.exp(-(slope * logit + intercept)))
    return Scored(1 / (1 + np.exp(-logit)), label, np.arange(n) // images)


def test_scores_that_are_chances_have_slope_one_and_intercept_zero():
    found = reliability(drawn(), CONFIG)
    for name, right in (("slope", 1.0), ("intercept", 0.0)):
        assert found[name]["low"] < right < found[name]["high"], name
    assert found["ece"]["value"] < 0.03
    # Percentiles of replicates would leave out the truth, which is 0.
    assert found["ece"]["low"] == 0 < found["ece"]["value"] < found["ece"]["high"]


def test_the_slope_is_that_of_a_logistic_regression():
    data = drawn(slope=0.6, intercept=-0.7)
    logit = np.log(data.score / (1 - data.score))[:, None]
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(logit, data.label)
    found = reliability(data, CONFIG)
    assert found["slope"]["value"] == pytest.approx(expected.coef_[0, 0], abs=1e-3)
    assert found["slope"]["high"] < 1
    # With a slope of 1 the intercept brings the mean score to the share of positives.
    shifted = 1 / (1 + np.exp(-(logit[:, 0] + found["intercept"]["value"])))
    assert shifted.mean() == pytest.approx(data.label.mean())


def test_the_slopes_interval_covers_as_often_as_it_says():
    """200 studies of patients with four images that share their chance and their label."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(200):
        logit = np.repeat(rng.normal(0, 1.5, 80), 4)
        label = np.repeat(rng.random(80) < 1 / (1 + np.exp(-logit[::4])), 4)
        data = Scored(1 / (1 + np.exp(-logit)), label, np.arange(320) // 4)
        slope = reliability(data, EvaluationConfig(bootstrap=0))["slope"]
        covered += slope["low"] < 1 < slope["high"]
    # Images taken as witnesses of their own would cover two thirds.
    assert covered / 200 > 0.88


@pytest.mark.parametrize("slope", [1.0, 0.8, 0.1])
def test_the_calibration_errors_interval_covers_as_often_as_it_says(slope):
    """100 studies of 200 women with two images that share their score and their label."""
    score = np.repeat(np.linspace(0.05, 0.6, 10), 40)
    chance = 1 / (1 + np.exp(-slope * np.log(score / (1 - score))))
    # Each score is a bin, so that the truth is known.
    truth = np.abs(score - chance).mean()
    rng, found = np.random.default_rng(7), []
    for _ in range(100):
        label = np.repeat(rng.random(200) < chance[::2], 2)
        found.append(reliability(Scored(score, label, np.arange(400) // 2), CONFIG)["ece"])
    assert np.mean([one["low"] <= truth <= one["high"] for one in found]) > 0.9
    assert all(one["low"] < one["value"] < one["high"] for one in found)
    # Where scores are far off, it says so.
    assert np.mean([one["low"] > 0 for one in found]) > 0.9 or slope > 0.5


def test_a_prevalence_and_no_replicates_leave_the_error_what_it_is():
    data = drawn(slope=0.5, intercept=1.0)
    alone = reliability(data, EvaluationConfig(bootstrap=0))["ece"]
    assert (alone["low"], alone["high"]) == (None, None)
    assert alone["value"] == pytest.approx(reliability(data, CONFIG)["ece"]["value"])
    rarer = reliability(replace(data, prevalence=0.01), CONFIG)["ece"]
    assert rarer["low"] < rarer["value"] < rarer["high"]
    # Weighted as at that place of use, by hand.
    weight = np.where(data.label, 0.01 / data.label.mean(), 0.99 / (1 - data.label.mean()))
    bins = np.argsort(np.argsort(data.score, kind="stable")) * 10 // data.score.size
    missed = np.abs(np.bincount(bins, weight * (data.label - data.score))).sum() / weight.sum()
    assert rarer["value"] == pytest.approx(missed, abs=2e-3)


def test_the_brier_score_is_scikit_learns_and_its_parts_add_up():
    data = drawn(slope=0.6)
    found = reliability(data, CONFIG)
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(data.label, data.score))
    assert found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]
    # Exact where a bin holds one score only.
    tenths = Scored(np.repeat(np.arange(0.05, 1, 0.1), 300), data.label, data.patient)
    found = reliability(tenths, CONFIG)
    parts = found["parts"]
    whole = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
    assert whole == pytest.approx(found["brier"]["value"])


def test_the_calibration_error_worked_by_hand():
    """Ten bins of two: all scores 0.3, one of two positive in each: the error is 0.2."""
    data = Scored(np.full(20, 0.3), np.tile([True, False], 10), np.arange(20))
    assert reliability(data, CONFIG)["ece"]["value"] == pytest.approx(0.2)


def test_another_prevalence_measures_as_if_positives_were_that_rare():
    """Positives at 50 %, weighted to 20 %: as if every negative stood there four times."""
    data = drawn(2000, images=1, seed=4)
    half = np.concatenate([np.flatnonzero(data.label)[:400], np.flatnonzero(~data.label)[:400]])
    part = Scored(data.score[half], data.label[half], data.patient[half])
    rows = np.concatenate([half[:400], np.tile(half[400:], 4)])
    whole = Scored(data.score[rows], data.label[rows], data.patient[rows])
    found = reliability(replace(part, prevalence=0.2), EvaluationConfig(bootstrap=0))
    expected = reliability(whole, EvaluationConfig(bootstrap=0))
    for name in ("brier", "slope", "intercept"):
        assert found[name]["value"] == pytest.approx(expected[name]["value"]), name
    assert found["share"] == pytest.approx(0.2)
    assert found["mean_score"] == pytest.approx(expected["mean_score"])
    for row in found["bins"]:
        assert row["low"] < row["share"] < row["high"]


def test_classes_that_do_not_overlap_have_no_slope():
    score = np.linspace(0.1, 0.9, 40)
    found = reliability(Scored(score, score > 0.5, np.arange(40)), CONFIG)
    assert found["slope"] == {"value": None, "low": None, "high": None, "undefined": 0}
    assert found["intercept"]["value"] is not None


def test_bins_hold_every_image_once():
    rows = bins_of(drawn(1003, images=1), 0.95)
    assert sum(row["n"] for row in rows) == 1003
    assert len(rows) == 10
    assert [row["mean_score"] for row in rows] == sorted(row["mean_score"] for row in rows)


@pytest.mark.parametrize("factor", [1 / 2000, 1 / 30, 30, 2000])
def test_scores_far_too_low_or_high_have_the_intercept_that_mends_them(factor):
    """Odds are wrong by a factor: the intercept is its logarithm, however far off."""
    data = drawn()
    odds = data.score / (1 - data.score)
    right = reliability(data, CONFIG)["intercept"]["value"]
    off = replace(data, score=factor * odds / (1 + factor * odds))
    found = reliability(off, CONFIG)["intercept"]
    assert found["value"] == pytest.approx(right - np.log(factor), abs=1e-4)
    assert found["low"] < found["value"] < found["high"]


def test_scores_that_are_sure_and_half_wrong_have_an_intercept():
    """Half score 0.99999 and a fifth of these has cancer; none of the others, at 0.00001."""
    score = np.repeat([0.99999, 0.00001], 500)
    data = Scored(score, np.arange(1000) < 100, np.arange(1000))
    found = reliability(data, CONFIG)["intercept"]
    assert found["value"] == pytest.approx(-np.log(99999) + np.log(0.2 / 0.8), abs=1e-3)


def test_equal_scores_are_in_one_bin_whatever_the_order_of_rows():
    """A thousand images score 0.1 and a tenth of them has cancer: nothing is wrong."""
    label = np.arange(1000) < 100
    found = reliability(Scored(np.full(1000, 0.1), label, np.arange(1000)), CONFIG)
    assert found["ece"]["value"] == pytest.approx(0)
    assert [row["n"] for row in found["bins"]] == [1000]
    mixed = np.concatenate([np.zeros(500), np.linspace(0.01, 1, 500)])
    sizes = [row["n"] for row in bins_of(Scored(mixed, label, np.arange(1000)), 0.95)]
    assert sizes == [500, 100, 100, 100, 100, 100]


def test_a_bins_interval_counts_patients_at_the_confidence_asked_for():
    """40 images of one score, half of them positive, of 40 patients or of 10."""
    score, label = np.full(40, 0.4), np.arange(40) % 8 < 4

    def width(patient, confidence):
        (row,) = bins_of(Scored(score, label, patient), confidence)
        return row["high"] - row["low"]

    alone = width(np.arange(40), 0.95)
    assert alone == pytest.approx(0.2960, abs=1e-3)
    assert width(np.arange(40) // 4, 0.95) > 1.7 * alone
    assert width(np.arange(40), 0.5) < 0.5 * alone
