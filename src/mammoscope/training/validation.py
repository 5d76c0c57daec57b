"""Measures of a validation fold, epoch by epoch: what training watches and tuning maximises."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mammoscope.evaluation.metrics import auroc, average_precision, best_f1, pf1

__all__ = ["VALIDATION_MEASURES", "validation_measures"]

#: Names as in ``history.csv``, after ``val_``.
VALIDATION_MEASURES = ("auroc", "average_precision", "pf1", "f1")


def validation_measures(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure a whole validation fold.

    Args:
        logits: (N,) before the sigmoid.
        labels: (N,) of 0, 1 or NaN for unknown, which is left out.

    Returns:
        A value for each of :data:`VALIDATION_MEASURES`; f1 is that of the best threshold of
        these data, so it describes the ranking.
    """
    known = ~np.isnan(labels.numpy())
    logit = logits.numpy().astype(np.float64)[known]
    label = labels.numpy()[known] == 1
    # The ranks of logits: scores round to 0 and 1 where a network is sure.
    found = {
        "auroc": auroc(logit, label),
        "average_precision": average_precision(logit, label),
        "pf1": pf1(1 / (1 + np.exp(-logit)), label),
        "f1": best_f1(logit, label),
    }
    return {name: float("nan") if value is None else value for name, value in found.items()}
