"""Whether a frozen threshold holds what it promised, and how far it rests on few patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import intervals
from mammoscope.evaluation.operating_points import aim, over_calling_all
from mammoscope.evaluation.tables import Scored
from mammoscope.pages import written_score
from mammoscope.statistics import holm_adjusted, normal_two_sided

__all__ = ["broken_promises", "calling_all_warnings", "few_warnings", "fitted_warnings"]

#: Fewest positives on which a threshold is chosen without a word about it.
_FEW_POSITIVES = 30
#: Optimism of the measure that chose the threshold, from which on it is told.
_OPTIMISM = 0.05
_WORDS = {
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "recall_rate": "recall rate",
}
#: What the test is to keep besides the target's own measure.
_KEPT = ("sensitivity", "specificity")

Estimate = dict[str, float | None]


def few_warnings(positives: int, level: str) -> list[str]:
    """Say so where all thresholds of a level rest on few positives."""
    if positives >= _FEW_POSITIVES:
        return []
    return [f"By {level}, thresholds were chosen on {positives} positive {level}s only."]


def calling_all_warnings(
    point: dict[str, Any], data: Scored, level: str, config: EvaluationConfig
) -> list[str]:
    """Say so where a threshold calls everyone, or calling everyone would be as good.

    The F1 of calling everyone is 2 q / (1 + q) at a share q of positives: where the best F1 is not
    above that on nearly all replicates, it says nothing for the model, however high it is.

    Args:
        point: As chosen on validation.
        data: Validation scores of the level.
        level: Image, breast or exam.
        config: Replicates, confidence and seed.
    """
    name = f"{point['name']} by {level}"
    if point["recall_rate"]["value"] == 1:
        return [
            f"{name}: the threshold, {written_score(point['threshold'], 4)}, calls every "
            f"validation {level}, which needs no model: take another target."
        ]
    if aim(point["target"]) != "f1":
        return []
    gain = intervals(
        data,
        {"gain": over_calling_all(float(point["threshold"]))},
        replicates=config.bootstrap,
        confidence=config.confidence,
        seed=config.seed,
    )["gain"]
    if gain.value is None or (gain.value if gain.low is None else gain.low) > 0:
        return []
    own = float(point["f1"]["value"])
    return [
        f"{name}: the F1 of this threshold, which calls {point['recall_rate']['value']:.0%}, is "
        f"{own:.3f}, that of calling every validation {level} {own - gain.value:.3f}: the "
        "difference is not more than chance explains. Take another target, such as "
        "specificity=0.9."
    ]


def fitted_warnings(point: dict[str, Any], level: str) -> list[str]:
    """Say so where a threshold calls nobody, or flatters itself on those who chose it.

    Args:
        point: As chosen on validation.
        level: Image, breast or exam.
    """
    name, said = f"{point['name']} by {level}", []
    own, choice = aim(point["target"]), point["choice"]
    if point["sensitivity"]["value"] == 0:
        said.append(
            f"{name}: the threshold, {written_score(point['threshold'], 4)}, calls none of the "
            "validation positives: take another target."
        )
    if (
        own is not None
        and choice["optimism"] is not None
        and _gain(own, choice["optimism"]) >= _OPTIMISM
    ):
        moved = f"{written_score(choice['low'], 3)} to {written_score(choice['high'], 3)}"
        said.append(
            f"{name}: the threshold fits its validation patients. Drawn anew they choose from "
            f"{moved}, and the {_WORDS[own]} of a choice looks {abs(choice['optimism']):.3f} "
            "better on the patients who made it than on all."
        )
    return said


def broken_promises(points: Sequence[tuple[dict[str, Any], dict[str, Estimate], str]]) -> list[str]:
    """Say which thresholds do worse on test than on validation, by more than chance explains.

    Many are compared at once, so p-values are adjusted for their number by Holm's method.

    Args:
        points: Each as chosen on validation, with the same measures on test, and its level.
    """
    found = []
    for point, measured, level in points:
        own = aim(point["target"])
        for measure in dict.fromkeys((*([own] if own else []), *_KEPT)):
            change = _change(measure, point, measured)
            if change is not None:
                told = (
                    f"{point['name']} by {level}: {_WORDS[measure]} is "
                    f"{measured[measure]['value']:.3f} on test and was "
                    f"{point[measure]['value']:.3f} on validation; the difference, "
                    f"{change.value:+.3f} ({point['confidence']:.0%} interval {change.low:+.3f} "
                    f"to {change.high:+.3f}), is more than chance explains"
                )
                found.append((change.p, 1 - point["confidence"], told))
    if not found:
        return []
    counted = f", {len(found)} such comparisons adjusted for" if len(found) > 1 else ""
    adjusted = holm_adjusted([p for p, _, _ in found])
    return [
        f"{told}{counted}."
        for p, (_, level, told) in zip(adjusted, found, strict=True)
        if p < level
    ]


def _gain(measure: str, value: float) -> float:
    """Count what is better as positive: of a recall rate, what is lower."""
    return -value if measure == "recall_rate" else value


class _Change(NamedTuple):
    """Test less validation, with its interval; ``p`` is 1 where it is not for the worse."""

    value: float
    low: float
    high: float
    p: float


def _change(measure: str, point: dict[str, Any], measured: dict[str, Estimate]) -> _Change | None:
    """Compare a measure on test with what was promised; ``None`` where either has no interval.

    The interval comes from those of both parts: with estimates a and b and their ends, the lower
    end of b - a is b - a - sqrt((b - b_low)² + (a_high - a)²) (Newcombe, Stat. Med. 17, 1998).
    The p-value takes the distance to the end on the side of 0 for as many standard errors as
    the confidence says.
    """
    parts = (point[measure], measured[measure])
    ends = [estimate[key] for estimate in parts for key in ("value", "low", "high")]
    if any(end is None for end in ends):
        return None
    a, a_low, a_high, b, b_low, b_high = (float(end) for end in ends if end is not None)
    below, above = math.hypot(b - b_low, a_high - a), math.hypot(b_high - b, a - a_low)
    worse = _gain(measure, b - a) < 0
    half = above if b < a else below
    errors = NormalDist().inv_cdf((1 + point["confidence"]) / 2)
    p = normal_two_sided((b - a) / half * errors) if worse and half else 1.0
    return _Change(b - a, b - a - below, b - a + above, p)
