"""What a segmenter's candidates score by: what finds most validation lesions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from mammoscope.cohort.regions import Regions
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import CandidateScore, EvaluationConfig
from mammoscope.evaluation.lesions.one_figure import sensitivity_of
from mammoscope.inference import Candidate, Segmenter, candidates_of
from mammoscope.inference.fusion import sides_of
from mammoscope.types import Floats

__all__ = ["ChosenScore", "choose_candidate_score"]

_WORDS: dict[CandidateScore, str] = {
    "highest": "their highest pixel",
    "whole": "the whole of them",
}


@dataclass(frozen=True, slots=True)
class ChosenScore:
    """What candidates score by, and what each way comes to.

    Attributes:
        value: Which.
        sensitivity: Mean sensitivity of the FROC curve by each.
        lesions: How many.
    """

    value: CandidateScore
    sensitivity: dict[CandidateScore, float]
    lesions: int

    @property
    def sentence(self) -> str:
        """What it was chosen on, for the run's notes."""
        others = ", ".join(
            f"{reached:.3f} by {_WORDS[how]}"
            for how, reached in self.sensitivity.items()
            if how != self.value
        )
        return (
            f"candidates score by {_WORDS[self.value]}: mean sensitivity "
            f"{self.sensitivity[self.value]:.3f} on {self.lesions} validation lesions, {others}"
        )


def choose_candidate_score(
    image_ids: Iterable[str],
    store: PreparedStore,
    regions: Regions,
    segmenter: Segmenter,
    evaluation: EvaluationConfig,
) -> ChosenScore | None:
    """Choose what ranks candidates best; of ways that do equally well the highest pixel.

    A network that is sure of itself takes the highest pixel of every part to its last digit, and
    parts are told apart by the rest of their pixels. One that is not is better judged by its
    highest: so it was on real films, where large doubtful parts have much of a little.

    Args:
        image_ids: Validation images; those with a lesion that nobody placed are left out.
        store: Their pixels.
        regions: Their lesions.
        segmenter: The exported graph, its thresholds settled.
        evaluation: Rates of false positives, and what counts as found.

    Returns:
        The choice, ``None`` where no image has a lesion.
    """
    ways: tuple[CandidateScore, ...] = get_args(CandidateScore)
    found: dict[CandidateScore, list[tuple[Floats, Floats]]] = {how: [] for how in ways}
    there: list[Floats] = []
    for name in image_ids:
        if name in regions.uncertain:
            continue
        there.append(sides_of(regions.boxes(name)))
        (outlined,) = segmenter([store.read(name)])
        for how, told in found.items():
            settings = replace(segmenter.settings, candidate_score=how)
            told.append(_boxes(candidates_of(outlined.logits, settings)))
    lesions = sum(len(boxes) for boxes in there)
    if not lesions:
        return None
    reached = {how: sensitivity_of(told, there, evaluation)[0] for how, told in found.items()}
    return ChosenScore(max(ways, key=lambda how: reached[how]), reached, lesions)


def _boxes(candidates: Iterable[Candidate]) -> tuple[Floats, Floats]:
    made = list(candidates)
    score = np.array([candidate.score for candidate in made], dtype=np.float64)
    return sides_of([candidate.box for candidate in made]), score
