import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from mammoscope.evaluation import metrics
from mammoscope.evaluation.weighted import Ranking, Weighted


@st.composite
def scored_labels(draw):
    n = draw(st.integers(4, 60))
    # Few distinct values, so that ties are common.
    score = draw(arrays.arrays(np.float64, n, elements=st.sampled_from(np.linspace(0, 1, 9))))
    label = draw(arrays.arrays(np.bool_, n))
    label[0], label[1] = True, False
    weight = draw(arrays.arrays(np.float64, n, elements=st.integers(0, 3).map(float)))
    weight[:2] = 1.0
    return score, label, weight


@given(scored_labels())
def test_auroc_and_average_precision_equal_scikit_learns(data):
    score, label, weight = data
    expected = reference.roc_auc_score(label, score, sample_weight=weight)
    assert metrics.auroc(score, label, weight) == pytest.approx(expected)
    expected = reference.average_precision_score(label, score, sample_weight=weight)
    assert metrics.average_precision(score, label, weight) == pytest.approx(expected)


@given(scored_labels(), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]))
def test_counts_at_a_threshold_equal_scikit_learns(data, threshold):
    score, label, _ = data
    found = metrics.confusion(score, label, threshold)
    tn, fp, fn, tp = reference.confusion_matrix(
        label, score >= threshold, labels=[False, True]
    ).ravel()
    assert (found.tp, found.fp, found.tn, found.fn) == (tp, fp, tn, fn)
    called = score >= threshold
    assert found.f1 == pytest.approx(reference.f1_score(label, called))
    assert found.accuracy == pytest.approx(reference.accuracy_score(label, called))
    assert found.sensitivity == pytest.approx(reference.recall_score(label, called))


def test_pf1_worked_by_hand():
    """Scores 0.9 and 0.2 for two cancers, 0.3 and 0.1 for two healthy.

    pTP = 1.1, pFP = 0.4: pPrecision = 1.1 / 1.5, pSensitivity = 1.1 / 2;
    pF1 = 2 * 0.7333 * 0.55 / 1.2833 = 0.62857.
    """
    score = np.array([0.9, 0.2, 0.3, 0.1])
    label = np.array([True, True, False, False])
    assert metrics.pf1(score, label) == pytest.approx(0.628571, abs=1e-6)


def test_pf1_of_hard_scores_is_f1():
    label = np.array([1, 1, 0, 0, 1], bool)
    called = np.array([1, 0, 1, 0, 1], float)
    assert metrics.pf1(called, label) == pytest.approx(reference.f1_score(label, called))


def test_what_is_undefined_is_none_and_never_zero():
    score, healthy = np.array([0.1, 0.2]), np.array([False, False])
    assert metrics.auroc(score, healthy) is None
    assert metrics.average_precision(score, healthy) is None
    assert metrics.partial_auroc(score, healthy, 0.8) is None
    assert metrics.sensitivity_at(score, healthy, 0.8) is None
    assert metrics.sensitivity_at(score, ~healthy, 0.8) is None
    assert metrics.best_f1(score, healthy) is None
    counts = metrics.confusion(score, healthy, 0.9)
    assert counts.sensitivity is None
    assert counts.precision is None
    assert counts.specificity == 1.0


def thresholds_of(score):
    return [*np.unique(score), 2.0]


@given(scored_labels(), st.sampled_from([0.8, 0.5, 0.25, 0.0]))
def test_the_standardised_partial_area_equals_scikit_learns(data, low):
    score, label, weight = data
    area = metrics.partial_auroc(score, label, low, 1.0, weight)
    found = area if low == 0 else metrics.mcclish(np.array([area]), low, 1.0)[0]
    # The whole area is McClish's own scale: scikit-learn then returns it as it is.
    expected = reference.roc_auc_score(label, score, sample_weight=weight, max_fpr=1 - low)
    assert found == pytest.approx(expected)


@given(scored_labels(), st.tuples(st.floats(0, 0.6), st.floats(0.65, 1)))
def test_a_partial_area_is_what_lies_under_the_curve_between_its_ends(data, ends):
    score, label, weight = data
    low, high = ends
    x, y = metrics.roc_curve(score, label, weight)
    # Corners of the curve are kept, and a step of it counts from its right end.
    inner = np.flatnonzero((x > 1 - high) & (x < 1 - low))
    first = np.interp(1 - high, x, y) if 1 - high not in x else y[x == 1 - high].max()
    last = np.interp(1 - low, x, y) if 1 - low not in x else y[x == 1 - low].min()
    points = np.concatenate([[1 - high], x[inner], [1 - low]])
    expected = np.trapezoid(np.concatenate([[first], y[inner], [last]]), points)
    assert metrics.partial_auroc(score, label, low, high, weight) == pytest.approx(expected)


def test_a_partial_area_worked_by_hand():
    """Ten negatives; one of three positives lies below the highest negative, one below five.

    Between specificity 1 and 0.8 the curve is at 1/3 up to 0.1 and at 2/3 from there:
    0.1 / 3 + 0.1 * 2 / 3 = 0.1. Chance is 0.02, perfect 0.2: (1 + 0.08 / 0.18) / 2 = 0.72222.
    """
    negative = np.arange(10) / 20
    score = np.concatenate([negative, [0.9, 0.42, 0.22]])
    label = np.arange(13) >= 10
    area = metrics.partial_auroc(score, label, 0.8)
    assert area == pytest.approx(0.1)
    assert metrics.mcclish(np.array([area]), 0.8, 1.0)[0] == pytest.approx(0.722222, abs=1e-6)


@given(scored_labels(), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_sensitivity_at_a_specificity_is_the_best_of_all_thresholds(data, target):
    score, label, _ = data
    counts = [metrics.confusion(score, label, t) for t in thresholds_of(score)]
    best = max(c.sensitivity for c in counts if c.specificity >= target - 1e-9)
    assert metrics.sensitivity_at(score, label, target) == pytest.approx(best)


def test_nine_of_ten_negatives_are_a_specificity_of_nine_tenths():
    score, label = np.arange(11) / 20, np.arange(11) == 9
    assert metrics.sensitivity_at(score, label, 0.9) == 1.0
    assert metrics.sensitivity_at(score, label, 0.91) == 0.0


@given(scored_labels())
def test_the_best_f1_is_the_best_of_all_thresholds(data):
    score, label, _ = data
    best = max(reference.f1_score(label, score >= t, zero_division=0) for t in thresholds_of(score))
    assert metrics.best_f1(score, label) == pytest.approx(best)


def test_rates_per_thousand_worked_by_hand():
    """Of 500 screened 4 have cancer; 3 of them and 22 others are called: 6 and 50 per 1,000."""
    label = np.arange(500) < 4
    score = np.where((np.arange(500) < 3) | (np.arange(500) >= 478), 0.9, 0.1)
    calls = Weighted(Ranking(score, label), np.ones((1, 500))).calls(0.5)
    assert calls.detections_per_1000[0] == pytest.approx(6)
    assert calls.recalls_per_1000[0] == pytest.approx(50)
    assert calls.precision[0] == pytest.approx(3 / 25)
