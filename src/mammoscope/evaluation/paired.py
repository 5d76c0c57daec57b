"""Two scores of the same images: differences with intervals that keep patients together."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import draw, honest, interval_of, samples, values
from mammoscope.evaluation.delong import compare_areas
from mammoscope.evaluation.measures import measures_of_ranks
from mammoscope.evaluation.tables import Scored
from mammoscope.statistics import normal_two_sided
from mammoscope.types import Bools, Floats, Ints

__all__ = ["Pair", "area_difference", "share_difference"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two scores of the same images or breasts.

    Attributes:
        first: (N,) float64.
        second: (N,) float64.
        label: (N,) bool.
        patient: (N,) int64 from 0.
    """

    first: Floats
    second: Floats
    label: Bools
    patient: Ints


def area_difference(
    pair: Pair, config: EvaluationConfig
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return both AUROCs with intervals, and the second less the first.

    Returns:
        AUROC of the first and of the second, by the patient-clustered bootstrap; and the
        difference: ``value``, ``delong`` (low, high, standard_error, p) with the clustered
        covariance, ``bootstrap`` (low, high), where both scores see the same draws.
    """
    measure = {"auroc": measures_of_ranks(config)["auroc"]}
    draws = draw(int(pair.patient.max()) + 1, config.bootstrap, config.seed)
    found, drawn = [], []
    for score in (pair.first, pair.second):
        data = Scored(score, pair.label, pair.patient)
        sample = samples(data, measure, draws)["auroc"]
        value = values(data, measure)["auroc"]
        found.append(honest(interval_of(value, sample, config.confidence)).as_dict())
        drawn.append(sample)
    test = compare_areas(pair.first, pair.second, pair.label, pair.patient, config.confidence)
    resampled = interval_of(test.value, drawn[1] - drawn[0], config.confidence)
    difference = {
        "value": test.value,
        "delong": {
            "low": test.low,
            "high": test.high,
            "standard_error": test.standard_error,
            "p": test.p,
        },
        "bootstrap": {"low": resampled.low, "high": resampled.high},
    }
    return found[0], found[1], difference


def share_difference(
    first: Bools, second: Bools, patient: Ints, confidence: float
) -> dict[str, Any]:
    """Compare how often two readings of the same images are right.

    With x_i the images of patient i that the second alone has right less those that the first
    alone has, m_i her images and d = Σx / Σm: the interval is d ± z · sqrt(J / (J - 1) Σ
    (x_i - m_i d)²) / Σm, and the statistic of no difference Σx² / (J / (J - 1) Σ x_i²), which
    is McNemar's where a patient has one image.

    Args:
        first: (N,) whether the first is right.
        second: (N,) whether the second is.
        patient: (N,).
        confidence: Level of the interval.

    Returns:
        ``value`` (second less first), ``low`` and ``high`` (null where no patient differs from
        another, which would claim certainty), ``p`` (null where fewer than two patients),
        ``only_first`` and ``only_second`` counts, ``n`` and ``patients``.

    Sources: McNemar, Psychometrika 12, 1947; Obuchowski, Stat. Med. 17, 1998 (clusters).
    """
    gain = second.astype(np.float64) - first.astype(np.float64)
    _, owner = np.unique(patient, return_inverse=True)
    x, m = np.bincount(owner, gain), np.bincount(owner)
    value = float(gain.mean())
    record: dict[str, Any] = {
        "value": value,
        "low": None,
        "high": None,
        "p": None,
        "only_first": int((first & ~second).sum()),
        "only_second": int((second & ~first).sum()),
        "n": int(gain.size),
        "patients": int(m.size),
    }
    if m.size < 2:
        return record
    correction = m.size / (m.size - 1)
    error = float(np.sqrt(correction * np.sum((x - m * value) ** 2)) / m.sum())
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    null = float(correction * np.sum(x**2))
    p = normal_two_sided(float(x.sum()) / np.sqrt(null)) if null > 0 else 1.0
    record["p"] = p
    return record | ({"low": value - half, "high": value + half} if half else {})
