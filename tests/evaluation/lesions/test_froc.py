import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import draw
from mammoscope.evaluation.lesions.froc import (
    FalseMarks,
    Targets,
    curve,
    cut_off,
    ratio,
    sensitivities,
    told_at,
)

NEVER = -np.inf


def marks(scores, patients=None, images=(2,)):
    scores = np.array(scores, float)
    owner = np.zeros(scores.size, int) if patients is None else np.array(patients, int)
    return FalseMarks(scores, owner, np.array(images))


def targets(scores, patients=None):
    scores = np.array(scores, float)
    return Targets(scores, np.zeros(scores.size, int) if patients is None else np.array(patients))


def at(false, found, rates):
    whole = np.ones((1, false.images.size), int)
    return sensitivities(false, {"all": found}, rates, whole)["all"][0].tolist()


def test_the_worked_example_of_monai_and_camelyon():
    # Project-MONAI/MONAI, tests/test_compute_froc.py, cases 4 and 5, after the evaluation of
    # CAMELYON16: two images, four lesions found at 1, 1, 0.8 and 0.8, false positives at 0.8 and
    # 0.6; sensitivity 0.75 at 0.25 per image, on a line between thresholds, and 0.95833 over
    # 0.25 to 8.
    false, found = marks([0.8, 0.6]), targets([1, 1, 0.8, 0.8])
    thresholds, rate, sensitivity = curve(false, found)
    assert thresholds.tolist() == [1, 0.8, 0.6]
    assert rate.tolist() == [0, 0.5, 1]
    assert sensitivity.tolist() == [0.5, 1, 1]
    between = np.interp([0.25, 0.5, 1, 2, 4, 8], rate, sensitivity)
    assert between[0] == pytest.approx(0.75)
    assert between.mean() == pytest.approx(0.95833333)
    # No threshold gives a quarter per image: at most that many are called above 0.8.
    assert at(false, found, [0.25, 0.5, 1, 2, 4, 8]) == [0.5, 1, 1, 1, 1, 1]


def test_by_hand():
    # Four images, so that a quarter per image is one false positive.
    false = marks([0.9, 0.5, 0.3, 0.2, 0.1], images=(4,))
    found = targets([0.95, 0.6, 0.5, 0.25, NEVER])
    # Above 0.5: two; above 0.3, with two false positives: three; the last is never found.
    assert at(false, found, [0.1, 0.25, 0.5, 0.75, 1, 2]) == [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]


def test_equal_scores_are_called_together():
    false = marks([0.5, 0.5, 0.5], images=(4,))
    assert at(false, targets([0.5, 0.9]), [0.25, 0.5, 0.75]) == [0.5, 0.5, 1.0]


def test_nothing_to_find_or_no_image_is_undefined():
    assert np.isnan(at(marks([0.5]), targets([]), [1])).all()
    assert np.isnan(at(marks([], images=(0,)), targets([0.5]), [1])).all()
    assert at(marks([]), targets([0.5, NEVER]), [0.25]) == [0.5]
    assert curve(marks([0.5]), targets([]))[0].size == 0


@st.composite
def cases(draw):
    patients = draw(st.integers(1, 5))
    one = st.tuples(st.integers(0, 6), st.integers(0, patients - 1))
    false = draw(st.lists(one, max_size=15))
    found = draw(st.lists(one, min_size=1, max_size=10))
    images = draw(st.lists(st.integers(1, 4), min_size=patients, max_size=patients))
    return (
        marks([s / 6 for s, _ in false], [p for _, p in false], images),
        targets([s / 6 if s else NEVER for s, _ in found], [p for _, p in found]),
    )


@settings(deadline=None, max_examples=80)
@given(cases(), st.floats(0.05, 4))
def test_it_is_the_best_of_all_thresholds_that_keep_the_rate(case, rate):
    false, found = case
    images = false.images.sum()
    best = max(
        (
            np.mean(found.score >= t)
            for t in [*np.unique(found.score[np.isfinite(found.score)]), 2.0]
            if (false.score >= t).sum() <= rate * images + 1e-9
        ),
    )
    assert at(false, found, [rate])[0] == pytest.approx(best)


@settings(deadline=None, max_examples=40)
@given(cases())
def test_more_false_positives_never_find_less_and_the_curve_ends_where_all_are_called(case):
    values = at(*case, [0.1, 0.5, 1, 2, 1000])
    assert values == sorted(values)
    assert values[-1] == pytest.approx(np.isfinite(case[1].score).mean())


@settings(deadline=None, max_examples=30)
@given(cases())
def test_a_replicate_is_the_curve_of_the_patients_drawn(case):
    false, found = case
    draws = draw(false.images.size, 5, 3)
    drawn = sensitivities(false, {"all": found}, [0.5, 1], draws)["all"]
    for row, times in zip(drawn, draws, strict=True):
        again = at(
            FalseMarks(
                np.repeat(false.score, times[false.patient]),
                np.repeat(false.patient, times[false.patient]),
                false.images * times,
            ),
            Targets(
                np.repeat(found.score, times[found.patient]),
                np.repeat(found.patient, times[found.patient]),
            ),
            [0.5, 1],
        )
        np.testing.assert_allclose(row, again)


def test_one_patient_with_most_of_the_false_positives_may_not_be_drawn():
    # She has the 50 highest; without her the other's second one is the first that is too many.
    false = marks([*np.linspace(0.9, 0.8, 50), 0.5, 0.4], [0] * 50 + [1, 1], (1, 1))
    found = targets([0.45, 0.35], [1, 1])
    drawn = sensitivities(false, {"all": found}, [1.0], np.array([[1, 1], [0, 2]]))["all"]
    assert drawn[:, 0].tolist() == [0.0, 0.5]


@settings(deadline=None, max_examples=80)
@given(cases(), st.floats(0.05, 4))
def test_the_cut_off_keeps_its_rate_and_no_lower_candidate_would(case, rate):
    false, found = case
    scores = np.concatenate([false.score, found.score[np.isfinite(found.score)]])
    threshold = cut_off(false, scores, rate)
    images = false.images.sum()
    assert (false.score >= threshold).sum() <= rate * images + 1e-9
    below = scores[scores < threshold]
    if below.size:
        assert (false.score >= below.max()).sum() > rate * images
    # It finds what the curve promises at that rate.
    assert np.mean(found.score >= threshold) == pytest.approx(at(false, found, [rate])[0])


def test_the_cut_off_lies_between_candidates():
    false = marks([0.8, 0.4], images=(1,))
    assert cut_off(false, np.array([0.8, 0.7, 0.4]), 1) == pytest.approx(0.55)
    assert cut_off(false, np.array([0.8, 0.7, 0.4]), 2) == 0.0
    assert cut_off(false, np.array([0.8, 0.4]), 0.5) > 0.8


def test_intervals_draw_patients_and_one_patient_has_a_wide_one():
    config = EvaluationConfig(bootstrap=300)
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), 4)
    found = Targets(np.where(rng.random(120) < 0.7, rng.random(120), NEVER), owner)
    false = FalseMarks(rng.random(60), rng.integers(0, 30, 60), np.full(30, 4))
    made = told_at(false, {"lesion": found}, draw(30, 300, 0), config)["lesion"]
    for name in ("sensitivity_at_0.25", "sensitivity_at_2", "mean_sensitivity"):
        assert made[name].low < made[name].value < made[name].high
    everything = Targets(np.ones(3), np.zeros(3, int))
    alone = told_at(marks([]), {"lesion": everything}, draw(1, 300, 0), config)["lesion"]
    # One patient, all found: Clopper and Pearson of one of one.
    assert alone["mean_sensitivity"].value == 1
    assert alone["mean_sensitivity"].low == pytest.approx(0.025)


def test_a_ratio_of_sums():
    draws = draw(3, 500, 0)
    made = ratio(np.array([2.0, 0, 1]), np.array([4, 2, 2]), draws, 0.95)
    assert made.value == pytest.approx(3 / 8)
    assert made.low < made.value < made.high
    assert ratio(np.zeros(3), np.zeros(3, int), draws, 0.95).value is None
    none = ratio(np.zeros(3), np.array([4, 2, 2]), draws, 0.95, share=True)
    assert none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 3))


def test_what_every_replicate_repeats_has_no_interval():
    # Half of the lesions of the only patient: nobody can say how sure that is.
    assert ratio(np.array([1.0]), np.array([2]), draw(1, 50, 0), 0.95, share=True).low is None
    half = Targets(np.array([1.0, NEVER]), np.zeros(2, int))
    config = EvaluationConfig(bootstrap=50)
    made = told_at(marks([]), {"lesion": half}, draw(1, 50, 0), config)["lesion"]
    assert made["mean_sensitivity"].value == 0.5
    assert made["mean_sensitivity"].low is None
