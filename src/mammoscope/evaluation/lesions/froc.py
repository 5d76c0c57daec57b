"""FROC: sensitivity against false positives per image, with intervals over patients.

A threshold calls every candidate at or above it. The sensitivity at a rate of false positives is
the highest that a threshold reaches which keeps the rate: candidates of equal scores are called
together or not, and nothing is interpolated, so that every figure is of a threshold one could set.

Sources: Bunch et al., Proc. SPIE 127, 1977 (the curve); Setio et al., Med. Image Anal. 42, 2017
(the mean over several rates, there called the competition metric, of 0.125 to 8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Draws, Interval, honest, interval_of, widened_share
from mammoscope.types import Floats, Ints

__all__ = ["FalseMarks", "Targets", "curve", "cut_off", "ratio", "sensitivities", "told_at"]

# Replicates are weighted in blocks of about so many numbers, which a processor's cache holds.
_CELLS = 500_000
# A rate times a number of images may miss a whole count by the last digit.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class FalseMarks:
    """Candidates on no lesion, and the images over which they are counted.

    Attributes:
        score: (F,).
        patient: (F,) whose image each is on, from 0.
        images: (P,) how many images each patient has.
    """

    score: Floats
    patient: Ints
    images: Ints


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be found: lesions, or images, breasts and exams with one.

    Attributes:
        score: (U,) the highest at which it is found; -inf where it never is.
        patient: (U,) whose it is, from 0.
    """

    score: Floats
    patient: Ints


def sensitivities(
    marks: FalseMarks, groups: Mapping[str, Targets], rates: Sequence[float], draws: Draws | Ints
) -> dict[str, Floats]:
    """Return the sensitivity of each group at each rate, in every replicate.

    Args:
        marks: False positives, the same for all groups.
        groups: What is to be found, by name.
        rates: (K,) false positives per image.
        draws: (R, P) how often each patient counts.

    Returns:
        (R, K) for each group; NaN where a replicate has none of it or no image to count on.
    """
    order = np.argsort(-marks.score, kind="stable")
    owner, false = marks.patient[order], marks.score[order]
    # A false positive that is not allowed excludes every target at its score or below.
    ranked = {name: np.argsort(-group.score, kind="stable") for name, group in groups.items()}
    found = {
        name: np.append(
            np.searchsorted(-groups[name].score[rank], -false, side="left"),
            np.isfinite(groups[name].score).sum(),
        )
        for name, rank in ranked.items()
    }
    made = {name: np.full((draws.shape[0], len(rates)), np.nan) for name in groups}
    block = max(1, _CELLS // max(1, false.size))
    for start in range(0, draws.shape[0], block):
        weight = draws[start : start + block].astype(np.int32)
        images = weight @ marks.images
        allowed = np.floor(np.outer(images, rates) + _ROUNDING).astype(np.int32)
        first = _first_barred(weight, owner, allowed)
        for name, rank in ranked.items():
            sums = np.zeros((weight.shape[0], rank.size + 1))
            np.cumsum(weight[:, groups[name].patient[rank]], axis=1, out=sums[:, 1:])
            reached = np.take_along_axis(sums, found[name][first], axis=1)
            with np.errstate(invalid="ignore"):
                share = reached / sums[:, -1:]
            made[name][start : start + block] = np.where(images[:, None] > 0, share, np.nan)
    return made


def _first_barred(weight: NDArray[np.int32], owner: Ints, allowed: NDArray[np.int32]) -> Ints:
    """Return which false positive is the first that a rate does not allow, (R, K).

    Args:
        weight: (R, P).
        owner: (F,) patients of the false positives, the highest first.
        allowed: (R, K) how many may be called.
    """
    first = np.empty(allowed.shape, np.int64)
    for row, (times, most) in enumerate(zip(weight, allowed, strict=True)):
        # Those that may be called lie among the first few, nearly always.
        size = min(owner.size, 2 * int(most.max(initial=0)) + 1)
        called = np.cumsum(np.take(times, owner[:size]))
        if size < owner.size and called[-1] <= most.max():
            called = np.cumsum(np.take(times, owner))
        first[row] = np.searchsorted(called, most, side="right")
    return first


def told_at(
    marks: FalseMarks,
    groups: Mapping[str, Targets],
    draws: Draws,
    config: EvaluationConfig,
) -> dict[str, dict[str, Interval]]:
    """Return sensitivity at the configured rates and their mean, with intervals.

    Args:
        marks: False positives.
        groups: What is to be found, by name.
        draws: (R, P) replicates of patients.
        config: Rates and confidence.

    Returns:
        By group: ``sensitivity_at_RATE`` for each rate, and ``mean_sensitivity``.
    """
    rates = config.froc_false_positives
    whole = sensitivities(marks, groups, rates, np.ones((1, marks.images.size), np.int64))
    drawn = sensitivities(marks, groups, rates, draws)
    made: dict[str, dict[str, Interval]] = {}
    for name, group in groups.items():
        patients = np.unique(group.patient).size
        columns = {f"sensitivity_at_{rate:g}": [k] for k, rate in enumerate(rates)}
        columns["mean_sensitivity"] = list(range(len(rates)))
        made[name] = {}
        for measure, places in columns.items():
            value = float(whole[name][0, places].mean())
            sample = drawn[name][:, places].mean(axis=1)
            known = None if np.isnan(value) else value
            found = interval_of(known, sample, config.confidence)
            made[name][measure] = honest(widened_share(found, patients, config.confidence))
    return made


def curve(marks: FalseMarks, targets: Targets) -> tuple[Floats, Floats, Floats]:
    """Return the operating points of every threshold, the highest first.

    Returns:
        Thresholds, false positives per image and sensitivities, (K,) each; without anything to
        find or an image to count on, none.
    """
    images, count = int(marks.images.sum()), targets.score.size
    scores = np.concatenate([marks.score, targets.score[np.isfinite(targets.score)]])
    thresholds = np.unique(scores)[::-1] if images and count else np.empty(0)
    false, found = (
        np.searchsorted(np.sort(-score), -thresholds, side="right")
        for score in (marks.score, targets.score)
    )
    return thresholds, false / max(images, 1), found / max(count, 1)


def cut_off(marks: FalseMarks, scores: Floats, rate: float) -> float:
    """Return the lowest threshold that keeps a rate of false positives per image.

    It lies midway between the lowest score that is called and the next below it, so that it is
    not tied to the last digit of one candidate; at 0 where every candidate may be called.

    Args:
        marks: False positives of validation images.
        scores: (C,) of all their candidates.
        rate: False positives per image at most.
    """
    allowed = int(np.floor(rate * int(marks.images.sum()) + _ROUNDING))
    false = -np.sort(-marks.score)
    if false.size <= allowed:
        return 0.0
    barred = false[allowed]
    above = scores[scores > barred]
    if above.size:
        middle = float((above.min() + barred) / 2)
        # Neighbours among floats have no number between them.
        return middle if middle > barred else float(above.min())
    return float(np.nextafter(barred, np.inf))


def ratio(
    counted: Floats, of: Ints, draws: Draws, confidence: float, *, share: bool = False
) -> Interval:
    """Return a sum over a sum with its interval over patients.

    Args:
        counted: (P,) what was counted of each patient.
        of: (P,) over how many of hers.
        draws: (R, P).
        confidence: Of the interval.
        share: It is a share; one of 0 or 1 then has the exact interval.
    """
    total = float(of.sum())
    if not total:
        return Interval(None, None, None)
    weight = draws.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        sample = (weight @ counted) / (weight @ of)
    found = interval_of(float(counted.sum() / total), sample, confidence)
    return honest(widened_share(found, int((of > 0).sum()), confidence) if share else found)
