"""How far scores rise where two views agree: what finds most validation lesions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mammoscope.config import EvaluationConfig, MatchingConfig, ViewMatching
from mammoscope.evaluation.lesions.one_figure import sensitivity_of
from mammoscope.inference.matching import ViewCandidates, matched
from mammoscope.types import Floats

__all__ = ["ChosenMatching", "choose_matching"]

_RISES = (0.5, 1.0, 2.0, 4.0, 8.0)
_TOLERANCES = (0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class ChosenMatching:
    """How views are matched, and what that comes to on validation lesions.

    Attributes:
        matching: Every number settled.
        sensitivity: Mean sensitivity of the FROC curve with it.
        alone: The same of each view by itself.
        lesions: How many.
    """

    matching: ViewMatching
    sensitivity: float
    alone: float
    lesions: int

    @property
    def sentence(self) -> str:
        """What was chosen, for the run's notes."""
        if not self.matching.rise:
            return (
                f"matching of views moves no score: none of what was tried on {self.lesions} "
                f"validation lesions raised their mean sensitivity of {self.alone:.3f}"
            )
        return (
            f"matching of views was chosen on {self.lesions} validation lesions: scores rise by "
            f"up to {self.matching.rise:g} logits, tolerance in depth "
            f"{self.matching.depth_tolerance:g}; mean sensitivity {self.sensitivity:.3f} there, "
            f"{self.alone:.3f} without"
        )


def choose_matching(
    breasts: Sequence[Sequence[ViewCandidates]],
    lesions: Mapping[str, Floats],
    config: MatchingConfig,
    evaluation: EvaluationConfig,
) -> ChosenMatching:
    """Settle what the configuration leaves to validation images.

    Of settings that do equally well the first is taken, and none at all before any: on real films,
    whose views agree less than the synthetic ones do, matching may help nothing.

    Args:
        breasts: Validation images by breast, with their candidates.
        lesions: Boxes (L, 4) on the grid by image; images that are not named are left out.
        config: What may be chosen, and what is told.
        evaluation: Rates of false positives, and what counts as found.
    """
    there = [lesions[view.image_id] for breast in breasts for view in breast if _in(view, lesions)]
    count = sum(len(boxes) for boxes in there)

    def reached(tried: ViewMatching) -> float:
        found = [
            (view.boxes.box, score)
            for breast in breasts
            for view, (score, _) in zip(breast, matched(breast, tried), strict=True)
            if _in(view, lesions)
        ]
        return sensitivity_of(found, there, evaluation)[0]

    tried = list(_tried(config))
    alone = ViewMatching.model_validate({**tried[0].model_dump(), "rise": 0.0})
    if not count:
        settled = alone if config.rise == "validation" else tried[0]
        return ChosenMatching(settled, float("nan"), float("nan"), 0)
    base = reached(alone)
    told = [(reached(one), one) for one in tried]
    best, chosen = max(told, key=lambda pair: pair[0])
    if config.rise == "validation" and best <= base:
        return ChosenMatching(alone, base, base, count)
    return ChosenMatching(chosen, best, base, count)


def _in(view: ViewCandidates, lesions: Mapping[str, Floats]) -> bool:
    return view.image_id in lesions


def _tried(config: MatchingConfig) -> Iterator[ViewMatching]:
    """Return every setting that the configuration allows, the gentlest first."""
    rises = _RISES if config.rise == "validation" else (config.rise,)
    usual = float(np.median(_TOLERANCES))
    tolerances = (
        sorted(_TOLERANCES, key=lambda tolerance: abs(tolerance - usual))
        if config.depth_tolerance == "validation"
        else (config.depth_tolerance,)
    )
    for rise, tolerance in product(rises, tolerances):
        settled = {"rise": rise, "depth_tolerance": tolerance}
        yield ViewMatching.model_validate({**config.model_dump(), **settled})
