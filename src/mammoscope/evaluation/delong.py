"""Variance of AUROCs without resampling, and the paired test of two, patients kept together.

The AUROC is a mean over pairs, so its variance follows from each image's own share in it: the
*placement* of a positive is the share of negatives below it, of a negative the share of
positives above it (ties half).

Sources: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988 (structural components);
Sun and Xu, IEEE Signal Process. Lett. 21, 2014 (placements from mid-ranks, in n log n);
Obuchowski, Biometrics 53, 1997 (clusters that hold several images, of one class or of both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mammoscope.statistics import normal_two_sided
from mammoscope.types import Bools, Floats, Ints

__all__ = ["Areas", "Difference", "areas", "compare_areas"]


@dataclass(frozen=True, slots=True)
class Areas:
    """AUROCs of K scores on the same images.

    Attributes:
        value: (K,).
        covariance: (K, K) of their estimates; NaN where a class is in one patient only.
    """

    value: Floats
    covariance: Floats


@dataclass(frozen=True, slots=True)
class Difference:
    """Second less first of two correlated AUROCs, by the normal distribution.

    Attributes:
        value: The difference.
        low: Lower end of its interval.
        high: Upper end.
        standard_error: Of the difference.
        p: Two-sided chance of one as large, were both areas equal.

    All but the value are ``None`` where the data give no variance.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    p: float | None


def areas(
    scores: Sequence[Floats], label: Bools, patient: NDArray[np.integer] | None = None
) -> Areas:
    """Return AUROCs and the covariance of their estimates.

    Args:
        scores: K scores of the same images, (N,) each.
        label: (N,), with both classes.
        patient: (N,) whose image it is. Without it every image is a patient, and the
            covariance is DeLong's own.

    With clusters i of m_i positives and n_i negatives, M and N in all, V10 and V01 the
    placements summed within a cluster and I10, I01, I the clusters with positives, with
    negatives and all: S10 = I10 / ((I10 - 1) M) Σ (V10_i - m_i θ)(V10_i - m_i θ)ᵀ, S01 alike,
    S11 = I / (I - 1) Σ (V10_i - m_i θ)(V01_i - n_i θ)ᵀ, and the covariance is
    S10 / M + S01 / N + (S11 + S11ᵀ) / (M N).
    """
    # (K, M) and (K, N): rows are scores.
    pairs = [_placements(np.asarray(score, np.float64), label) for score in scores]
    of_positives = np.stack([positive for positive, _ in pairs])
    of_negatives = np.stack([negative for _, negative in pairs])
    value = of_positives.mean(axis=1)
    whose = np.arange(label.size) if patient is None else np.unique(patient, return_inverse=True)[1]
    clusters = int(whose.max()) + 1
    # What each cluster adds to the estimate beyond its due, (K, clusters).
    positive = _summed(of_positives - value[:, None], whose[label], clusters)
    negative = _summed(of_negatives - value[:, None], whose[~label], clusters)
    m, n = of_positives.shape[1], of_negatives.shape[1]
    with_positives, with_negatives = np.unique(whose[label]).size, np.unique(whose[~label]).size
    s10 = _correction(with_positives) / m * (positive @ positive.T)
    s01 = _correction(with_negatives) / n * (negative @ negative.T)
    s11 = _correction(clusters) * (positive @ negative.T)
    return Areas(value, s10 / m + s01 / n + (s11 + s11.T) / (m * n))


def compare_areas(
    first: Floats,
    second: Floats,
    label: Bools,
    patient: NDArray[np.integer] | None = None,
    confidence: float = 0.95,
) -> Difference:
    """Test whether two scores of the same images have the same AUROC.

    Args:
        first: (N,).
        second: (N,).
        label: (N,), with both classes.
        patient: (N,) whose image it is; every image its own by default.
        confidence: Level of the interval.
    """
    found = areas([first, second], label, patient)
    value = float(found.value[1] - found.value[0])
    contrast = np.array([-1.0, 1.0])
    variance = float(contrast @ found.covariance @ contrast)
    # Scores that rank alike leave only the last digits of a variance.
    if not variance > 1e-18:
        same = value == 0 and not np.isnan(variance)
        return Difference(value, *((0.0, 0.0, 0.0, 1.0) if same else (None,) * 4))
    error = float(np.sqrt(variance))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Difference(value, value - half, value + half, error, normal_two_sided(value / error))


def _placements(score: Floats, label: Bools) -> tuple[Floats, Floats]:
    """Return the share of negatives below each positive, and of positives above each negative.

    A mid-rank among all less that within the own class counts the others below it.
    """
    among_all = _mid_ranks(score)
    m, n = int(label.sum()), int((~label).sum())
    below = (among_all[label] - _mid_ranks(score[label])) / n
    above = 1 - (among_all[~label] - _mid_ranks(score[~label])) / m
    return below, above


def _mid_ranks(values: Floats) -> Floats:
    """Return ranks from 1, the mean rank among equals."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = np.cumsum(count)[inverse] - (count[inverse] - 1) / 2
    return ranks


def _summed(values: Floats, cluster: Ints, clusters: int) -> Floats:
    """Sum (K, images) within clusters, (K, clusters)."""
    return np.stack([np.bincount(cluster, row, minlength=clusters) for row in values])


def _correction(clusters: int) -> float:
    return clusters / (clusters - 1) if clusters > 1 else np.nan
