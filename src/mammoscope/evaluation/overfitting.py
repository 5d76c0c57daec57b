"""Whether a frozen threshold holds what it promised, and how far it rests on few patients."""

from __future__ import annotations

import math
from typing import Any

from mammoscope.evaluation.operating_points import aim

__all__ = ["few_warnings", "threshold_warnings"]

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


def threshold_warnings(
    point: dict[str, Any], measured: dict[str, Estimate] | None, level: str
) -> list[str]:
    """Return sentences on what speaks against a frozen threshold; none where nothing does.

    Args:
        point: As chosen on validation.
        measured: The same measures on test; ``None`` where there is no test.
        level: Image or breast.
    """
    name, said = f"{point['name']} by {level}", []
    own, choice = aim(point["target"]), point["choice"]
    if (
        own is not None
        and choice["optimism"] is not None
        and _gain(own, choice["optimism"]) >= _OPTIMISM
    ):
        moved = f"{choice['low']:.3f} to {choice['high']:.3f}"
        said.append(
            f"{name}: the threshold fits its validation patients. Drawn anew they choose from "
            f"{moved}, and the {_WORDS[own]} of a choice looks {abs(choice['optimism']):.3f} "
            "better on the patients who made it than on all."
        )
    if measured is None:
        return said
    for measure in dict.fromkeys((*([own] if own else []), *_KEPT)):
        fallen = _fallen(measure, point[measure], measured[measure])
        if fallen is not None:
            said.append(
                f"{name}: {_WORDS[measure]} is {measured[measure]['value']:.3f} on test and was "
                f"{point[measure]['value']:.3f} on validation; the difference, {fallen[0]:+.3f} "
                f"({point['confidence']:.0%} interval {fallen[1]:+.3f} to {fallen[2]:+.3f}), is "
                "more than chance explains."
            )
    return said


def _gain(measure: str, value: float) -> float:
    """Count what is better as positive: of a recall rate, what is lower."""
    return -value if measure == "recall_rate" else value


def _fallen(measure: str, promised: Estimate, found: Estimate) -> tuple[float, float, float] | None:
    """Return test less validation with its interval, if that lies on the worse side of 0.

    The interval comes from those of both parts: with estimates a and b and their ends, the lower
    end of b - a is b - a - sqrt((b - b_low)² + (a_high - a)²) (Newcombe, Stat. Med. 17, 1998).
    """
    ends = [estimate[key] for estimate in (promised, found) for key in ("value", "low", "high")]
    if any(end is None for end in ends):
        return None
    a, a_low, a_high, b, b_low, b_high = (float(end) for end in ends if end is not None)
    low = b - a - math.hypot(b - b_low, a_high - a)
    high = b - a + math.hypot(b_high - b, a - a_low)
    worse = low > 0 if measure == "recall_rate" else high < 0
    return (b - a, low, high) if worse else None
