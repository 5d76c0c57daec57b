"""Intervals of a report against a loop of scikit-learn over the same replicates.

    python benchmarks/evaluate.py

SYNTHETIC scores of 50,000 images of 12,000 patients, 2 % of them positive. Ours measures all
that a report does without and at a threshold, with 2,000 patient-clustered replicates. The
loop draws patients, repeats their images and calls scikit-learn for AUROC, partial AUROC,
average precision and the best F1, and plain sums for pF1; 20 replicates of it are timed and
counted a hundredfold. Both values are compared before anything is timed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn import metrics as reference

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import draw, intervals, samples
from mammoscope.evaluation.measures import measures_at, measures_of_ranks
from mammoscope.evaluation.tables import Scored
from measure import Spread, in_turn, leave

THRESHOLD = 0.2
LOOPED = 20


def synthetic_scores(images: int, patients: int, seed: int) -> Scored:
    """Draw scores whose images of a patient resemble each other."""
    rng = np.random.default_rng(seed)
    patient = np.concatenate([np.arange(patients), rng.integers(0, patients, images - patients)])
    sick = rng.random(patients) < 0.04
    label = sick[patient] & (rng.random(images) < 0.5)
    logit = rng.normal(1.5 * label - 3, 0.8) + rng.normal(0, 0.6, patients)[patient]
    return Scored(1 / (1 + np.exp(-logit)), label, patient)


def looped(data: Scored, replicates: int, seed: int) -> list[tuple[float, ...]]:
    """Measure each replicate by itself."""
    rows = np.split(
        np.argsort(data.patient, kind="stable"), np.cumsum(np.bincount(data.patient))[:-1]
    )
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(replicates):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        score, label = data.score[drawn], data.label[drawn]
        precision, sensitivity, _ = reference.precision_recall_curve(label, score)
        f1 = 2 * precision * sensitivity / np.maximum(precision + sensitivity, 1e-12)
        found.append(
            (
                reference.roc_auc_score(label, score),
                reference.roc_auc_score(label, score, max_fpr=0.2),
                reference.average_precision_score(label, score),
                f1.max(),
                2 * score[label].sum() / (score.sum() + label.sum()),
            )
        )
    return found


def main() -> None:
    """Compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--patients", type=int, default=12_000)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    words = parser.parse_args()
    data = synthetic_scores(words.images, words.patients, seed=0)
    named = {**measures_of_ranks(EvaluationConfig()), **measures_at(THRESHOLD)}

    ours = samples(data, named, draw(words.patients, 3, seed=0))
    same = ("auroc", "partial_auroc_standardised", "average_precision", "best_f1", "pf1")
    both = np.stack([ours[name] for name in same], axis=1), np.array(looped(data, 3, seed=0))
    difference = float(np.abs(both[0] - both[1]).max())

    taken = in_turn(
        {
            "ours": lambda: intervals(
                data, named, replicates=words.replicates, confidence=0.95, seed=0
            ),
            "loop": lambda: looped(data, LOOPED, seed=0),
        },
        words.repeats,
    )
    loop_s = [value / 1000 * words.replicates / LOOPED for value in taken["loop"]]
    ours_s = [value / 1000 for value in taken["ours"]]
    ratio = [b / a for a, b in zip(ours_s, loop_s, strict=True)]
    rows = [
        {"way": "ours", "measures": len(named), "s": Spread.of(ours_s), "loop / ours": ""},
        {
            "way": f"scikit-learn, {LOOPED} replicates extrapolated",
            "measures": len(same),
            "s": Spread.of(loop_s),
            "loop / ours": Spread.of(ratio),
        },
    ]
    size = f"{words.images:,} images of {words.patients:,} patients"
    title = f"{words.replicates:,} replicates of {size}, SYNTHETIC scores"
    leave("evaluate", f"{title}; largest difference of a value {difference:.1g}", rows, words.out)


if __name__ == "__main__":
    main()
