"""How many of each class an epoch shows, and what follows: weights of the loss, where to begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import polars as pl

from mammoscope.config import Config, TrainConfig
from mammoscope.training.sampling import draw_rates, drawn_counts
from mammoscope.training.units import Unit, group_units

__all__ = ["Shown", "labels_of", "one_class_held_out", "positive_weight", "prior", "shown"]


class Shown(NamedTuple):
    """Positives and negatives of an epoch, on average; unknown labels are neither."""

    positives: float
    negatives: float


def labels_of(rows: pl.DataFrame, config: Config) -> list[float]:
    """Return 0, 1 or NaN for what the model scores: images, breasts or exams."""
    label, level = config.train.label, config.model.level
    if level != "image":
        return [unit.label for unit in group_units(rows, level, label)]
    return rows[label].cast(pl.Float64).fill_null(float("nan")).to_list()


def one_class_held_out(rows: pl.DataFrame, label: str) -> list[str]:
    """Return a sentence that a user should read where a test split cannot be measured.

    Args:
        rows: The test images; none is no fault.
        label: Column that is learnt.
    """
    known = sorted(set(rows[label].drop_nulls()))
    if not rows.height or len(known) > 1:
        return []
    return [
        f"the {rows.height} test images hold {label} values {known} only, so that evaluate will "
        "refuse them: split again with both, or with --test 0"
    ]


def shown(rows: pl.DataFrame, config: Config) -> dict[str, Shown]:
    """Count what an epoch shows at each level that has a loss.

    What is drawn is what the model scores: a positive exam that is shown three times shows its
    negative breast three times too.

    Args:
        rows: The training images.
        config: What is learnt, and how it is drawn.

    Returns:
        Of the images; for a breast or exam model also of the breasts, and of the exams or, for
        a breast model, the breasts in their place.
    """
    level, train = config.model.level, config.train
    if level == "image":
        return {"image": Shown(*drawn_counts(labels_of(rows, config), train))}
    units = group_units(rows, level, train.label)
    rates = draw_rates([unit.label for unit in units], train)

    def counted(inside: Callable[[Unit], Sequence[float]]) -> Shown:
        every = [(v, rate) for unit, rate in zip(units, rates, strict=True) for v in inside(unit)]
        return Shown(*(sum(rate for v, rate in every if v == label) for label in (1, 0)))

    return {
        "image": counted(lambda unit: unit.image_labels),
        "breast": counted(lambda unit: unit.breast_labels),
        "exam": counted(lambda unit: (unit.label,)),
    }


def positive_weight(counts: Shown, config: TrainConfig) -> float:
    """Return the weight of the positive term of a level's loss."""
    if config.positive_weight != "balanced":
        return config.positive_weight
    return counts.negatives / counts.positives


def prior(counts: Shown, config: TrainConfig) -> float:
    """Return the share at which an untrained output is to start: what costs the least by itself.

    A weight of the positive term counts each positive as often.
    """
    if config.positive_weight == "balanced":
        return 0.5
    weighted = config.positive_weight * counts.positives
    return weighted / (weighted + counts.negatives)
