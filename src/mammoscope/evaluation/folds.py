"""What each fold of a cross-validated run gave on the images that it had not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from mammoscope.evaluation.metrics import auroc, confusion
from mammoscope.evaluation.tables import scored

__all__ = ["OF_SINGLE_FOLDS", "fold_rows"]

#: What validation figures of a cross-validated run are of, and are not.
OF_SINGLE_FOLDS = (
    "Validation figures, thresholds and calibration are of single folds, each on images that it "
    "had not seen; the model is the mean of their logits, which scatters less. On it a high "
    "threshold calls fewer than it was chosen to, with lower sensitivity and higher specificity, "
    "and scores lie nearer to each other than the chances they stand for."
)


def fold_rows(
    validation: pl.DataFrame, threshold: float, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """Measure each fold's own part of the out-of-fold images.

    Folds whose logits lie elsewhere show here: at the one threshold of all they differ in
    sensitivity and specificity though their AUROC agrees.

    Args:
        validation: Out-of-fold predictions.
        threshold: The primary threshold at image level.
        facts: What ``run.json`` holds.

    Returns:
        A row per fold; none for a run of one fold. What is undefined is ``None``.
    """
    rows = []
    for member in facts.get("members", []):
        data = scored(validation.filter(pl.col("fold") == member["fold"]), "image")
        counts = confusion(data.score, data.label, threshold)
        rows.append(
            {
                "fold": member["fold"],
                "n": int(data.label.size),
                "positives": data.positives,
                "epochs": member["epochs"],
                "best_epoch": member["best"]["epoch"],
                "auroc": auroc(data.score, data.label),
                "mean_score": float(np.mean(data.score)) if data.score.size else None,
                "sensitivity": counts.sensitivity,
                "specificity": counts.specificity,
            }
        )
    return rows
