"""How well lesions are found in one figure, to compare epochs or settings by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.lesions.froc import FalseMarks, Targets, sensitivities
from mammoscope.evaluation.lesions.matching import Candidates, Lesions, Outcome, match
from mammoscope.types import Floats

__all__ = ["sensitivity_of"]


def sensitivity_of(
    found: Sequence[tuple[Floats, Floats]], there: Sequence[Floats], config: EvaluationConfig
) -> tuple[float, float]:
    """Return the mean sensitivity over the rates of the FROC curve, and that at the rate asked.

    Each image is taken for a patient of its own, which matters to intervals alone.

    Args:
        found: Of each image, boxes (C, 4) and scores (C,) of its candidates.
        there: Of each image, boxes (L, 4) of its lesions, on the same grid.
        config: Rates, and what counts as found.

    Returns:
        Both, NaN where there is no lesion.
    """
    candidates = Candidates(
        np.repeat(np.arange(len(found)), [len(score) for _, score in found]),
        np.concatenate([box for box, _ in found]),
        np.concatenate([score for _, score in found]),
    )
    image = np.repeat(np.arange(len(there)), [len(boxes) for boxes in there])
    lesions = Lesions(image, np.concatenate(there), np.ones(image.size, np.bool_))
    matched = match(candidates, lesions, config)
    false = matched.outcome == Outcome.FALSE
    marks = FalseMarks(
        candidates.score[false], candidates.image[false], np.ones(len(found), np.int64)
    )
    rates = [*config.froc_false_positives, config.candidate_false_positives]
    once = np.ones((1, len(found)), np.int64)
    (reached,) = sensitivities(marks, {"all": Targets(matched.score, image)}, rates, once)["all"]
    return float(reached[:-1].mean()), float(reached[-1])
