"""AUROC variances against brute force, data of the 1988 paper, and repeated drawing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mammoscope.evaluation.delong import areas, compare_areas

# Albumin, total protein, Krebs-Goplerud score, outcome of 43 of the 49 patients whom DeLong,
# DeLong and Clarke-Pearson compare in Biometrics 44, 1988 (six lack a value), as tabled in the
# SAS/STAT User's Guide, LOGISTIC procedure, "Comparing Receiver Operating Characteristic Curves".
# The scores tie often.
TABLE = """
3.0 5.8 10 0   3.2 6.3 5 1   3.9 6.8 3 1   2.8 4.8 6 0   3.2 5.8 3 1   0.9 4.0 5 0
2.5 5.7 8 0   1.6 5.6 5 1   3.8 5.7 5 1   3.7 6.7 6 1   3.2 5.4 4 1   3.8 6.6 6 1
4.1 6.6 5 1   3.6 5.7 5 1   4.3 7.0 4 1   3.6 6.7 4 0   2.3 4.4 6 1   4.2 7.6 4 0
4.0 6.6 6 0   3.5 5.8 6 1   3.8 6.8 7 1   3.0 4.7 8 0   4.5 7.4 5 1   3.7 7.4 5 1
3.1 6.6 6 1   4.1 8.2 6 1   4.3 7.0 5 1   4.3 6.5 4 1   3.2 5.1 5 1   2.6 4.7 6 1
3.3 6.8 6 0   1.7 4.0 7 0   3.7 6.1 5 1   3.3 6.3 7 1   4.2 7.7 6 1   3.5 6.2 5 1
2.9 5.7 9 0   2.1 4.8 7 1   2.8 6.2 8 0   4.0 7.0 7 1   3.3 5.7 6 1   3.7 6.9 5 1
3.6 6.6 5 1
"""
OVARIAN = np.array([float(word) for word in TABLE.split()]).reshape(-1, 4)


def kernel(score, label):
    """Every positive against every negative, (M, N): 1 above, 1/2 tied, 0 below."""
    positive, negative = score[label][:, None], score[~label][None]
    return (positive > negative) + 0.5 * (positive == negative)


def brute_force(scores, label, patient):
    """Obuchowski's formulas cluster by cluster, in loops, from all pairs."""
    pairs = [kernel(score, label) for score in scores]
    theta = [pair.mean() for pair in pairs]
    m, n = pairs[0].shape
    clusters = sorted(set(patient.tolist()))
    with_m = [c for c in clusters if (patient[label] == c).any()]
    with_n = [c for c in clusters if (patient[~label] == c).any()]

    def of_positives(k, c):
        rows = patient[label] == c
        return pairs[k].mean(axis=1)[rows].sum() - rows.sum() * theta[k]

    def of_negatives(k, c):
        rows = patient[~label] == c
        return pairs[k].mean(axis=0)[rows].sum() - rows.sum() * theta[k]

    i10, i01, i = len(with_m), len(with_n), len(clusters)
    covariance = np.zeros((len(scores), len(scores)))
    for r in range(len(scores)):
        for s in range(len(scores)):
            s10 = sum(of_positives(r, c) * of_positives(s, c) for c in with_m)
            s01 = sum(of_negatives(r, c) * of_negatives(s, c) for c in with_n)
            s11 = sum(of_positives(r, c) * of_negatives(s, c) for c in clusters)
            s11 += sum(of_positives(s, c) * of_negatives(r, c) for c in clusters)
            covariance[r, s] = (
                s10 * i10 / (i10 - 1) / m**2
                + s01 * i01 / (i01 - 1) / n**2
                + s11 * i / (i - 1) / (m * n)
            )
    return np.array(theta), covariance


@st.composite
def clustered(draw):
    """Two scores that tie, on images of patients who hold one class or both."""
    patients = draw(st.integers(3, 9))
    n = draw(st.integers(8, 40))
    values = st.sampled_from(np.linspace(0, 1, 7).tolist())
    scores = [np.array(draw(st.lists(values, min_size=n, max_size=n))) for _ in range(2)]
    label = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    patient = np.array(draw(st.lists(st.integers(0, patients - 1), min_size=n, max_size=n)))
    # Two patients of each class at least.
    label[:4], patient[:4] = (True, True, False, False), (0, 1, 1, 2)
    return scores, label, patient


@given(clustered())
def test_areas_and_covariances_equal_brute_force_over_all_pairs(data):
    scores, label, patient = data
    found = areas(scores, label, patient)
    theta, covariance = brute_force(scores, label, patient)
    assert found.value == pytest.approx(theta)
    assert found.value == pytest.approx([roc_auc_score(label, score) for score in scores])
    assert found.covariance == pytest.approx(covariance, abs=1e-12)


@given(clustered())
def test_without_clusters_the_covariance_is_delongs(data):
    scores, label, _ = data
    pairs = [kernel(score, label) for score in scores]
    expected = (
        np.cov([pair.mean(axis=1) for pair in pairs]) / label.sum()
        + np.cov([pair.mean(axis=0) for pair in pairs]) / (~label).sum()
    )
    assert areas(scores, label).covariance == pytest.approx(expected, abs=1e-12)


def test_the_data_of_the_1988_paper_give_the_published_figures():
    """Areas, standard errors and differences as the SAS/STAT User's Guide prints them (ROC
    association statistics, and ROC contrast estimation by row, of the same example).

    The paper's own figures are of all 49 patients.
    """
    label = OVARIAN[:, 3] == 1
    albumin, score, protein = OVARIAN[:, 0], -OVARIAN[:, 2], OVARIAN[:, 1]
    found = areas([albumin, score, protein], label)
    assert found.value.round(4).tolist() == [0.7366, 0.7258, 0.6478]
    assert np.sqrt(np.diag(found.covariance)).round(4).tolist() == [0.0927, 0.1028, 0.1000]
    published = {
        "albumin": (albumin, (0.0108, 0.0953, -0.1761, 0.1976, 0.9102)),
        "protein": (protein, (-0.0780, 0.1046, -0.2830, 0.1271, 0.4561)),
    }
    for other, figures in published.values():
        test = compare_areas(score, other, label)
        ours = (test.value, test.standard_error, test.low, test.high, test.p)
        assert tuple(round(value, 4) for value in ours) == figures
    contrast = np.array([[1, -1, 0], [0, -1, 1]])
    difference = contrast @ found.value
    statistic = difference @ np.linalg.solve(contrast @ found.covariance @ contrast.T, difference)
    assert round(float(statistic), 4) == 2.5340


def test_an_area_and_its_variance_worked_by_hand():
    """Positives 3, 5, 2 against negatives 1, 4, 2.

    Pairs won: 2 of 3 for 3, all for 5, 1.5 of 3 for 2; the area is 6.5 / 9. Placements of
    positives 2/3, 1, 1/2 have variance 7/108; of negatives 1, 1/3, 5/6 variance 13/108:
    (7 + 13) / 324 = 0.0617284.
    """
    score, label = np.array([3.0, 5, 2, 1, 4, 2]), np.array([1, 1, 1, 0, 0, 0], bool)
    found = areas([score], label)
    assert found.value[0] == pytest.approx(6.5 / 9)
    assert found.covariance[0, 0] == pytest.approx(20 / 324)


def test_copies_of_an_image_add_no_information():
    """Each patient's image thrice: naive variance shrinks to a third, the clustered stays."""
    rng = np.random.default_rng(0)
    label = rng.random(80) < 0.4
    score = rng.normal(label * 1.0, 1)
    once = areas([score], label, np.arange(80)).covariance[0, 0]
    thrice = areas([np.repeat(score, 3)], np.repeat(label, 3), np.repeat(np.arange(80), 3))
    assert thrice.covariance[0, 0] == pytest.approx(once)
    naive = areas([np.repeat(score, 3)], np.repeat(label, 3)).covariance[0, 0]
    assert naive == pytest.approx(once / 3, rel=0.05)


def test_the_clustered_interval_covers_as_often_as_it_says():
    """400 studies of patients with four images, two breasts, and no difference to find."""
    rng = np.random.default_rng(1)
    rejected, naive = 0, 0
    for _ in range(400):
        patient = np.repeat(np.arange(60), 4)
        label = np.repeat(rng.random(120) < 0.35, 2)
        own = rng.normal(0, 1, (2, 60))[:, patient]
        first, second = label * 1.2 + own + rng.normal(0, 0.3, (2, 240))
        rejected += compare_areas(first, second, label, patient).p < 0.05
        naive += compare_areas(first, second, label).p < 0.05
    # 5 % with a standard error of 1.1 %; images taken as women find "differences" twice as often.
    assert 0.02 < rejected / 400 < 0.09
    assert naive / 400 > 0.12


def test_scores_that_rank_alike_do_not_differ():
    label = np.array([1, 1, 0, 0, 1, 0], bool)
    score = np.array([0.9, 0.4, 0.5, 0.1, 0.7, 0.3])
    same = compare_areas(score, score**2, label)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_one_patient_of_a_class_gives_no_variance_and_no_p():
    label = np.array([1, 1, 0, 0, 0], bool)
    patient = np.array([0, 0, 1, 2, 3])
    found = compare_areas(np.arange(5.0), -np.arange(5.0), label, patient)
    assert found.value == 1.0
    assert (found.low, found.high, found.standard_error, found.p) == (None,) * 4
