"""What one reading of the same images finds more than another, both on the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Draws, with_interval
from mammoscope.evaluation.lesions.found import Found
from mammoscope.evaluation.lesions.froc import sensitivities

__all__ = ["differences"]


def differences(
    first: Found, second: Found, draws: Draws, config: EvaluationConfig
) -> dict[str, Any]:
    """Return second less first, at every rate of false positives and in the mean.

    Args:
        first: Matched images.
        second: The same images with other candidates or other scores.
        draws: Replicates of their patients.
        config: Rates and confidence.

    Returns:
        By lesion, image, breast and exam: ``sensitivity_at_RATE`` and ``mean_sensitivity``, each
        with value, low and high.
    """
    rates = config.froc_false_positives
    once = np.ones((1, draws.shape[1]), np.int64)
    whole, drawn = (
        [sensitivities(found.marks, found.targets, rates, times) for found in (first, second)]
        for times in (once, draws)
    )
    made: dict[str, Any] = {}
    for unit in first.targets:
        value, sample = whole[1][unit] - whole[0][unit], drawn[1][unit] - drawn[0][unit]
        made[unit] = {
            **{
                f"sensitivity_at_{rate:g}": with_interval(
                    value[0, k], sample[:, k], config.confidence
                )
                for k, rate in enumerate(rates)
            },
            "mean_sensitivity": with_interval(
                value[0].mean(), sample.mean(axis=1), config.confidence
            ),
        }
    return made
