import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from mammoscope.evaluation import metrics


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
    counts = metrics.confusion(score, healthy, 0.9)
    assert counts.sensitivity is None
    assert counts.precision is None
    assert counts.specificity == 1.0
