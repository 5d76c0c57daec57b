"""The threshold of masks: where validation lesions are outlined best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mammoscope.cohort.regions import Regions
from mammoscope.cohort.store import PreparedStore
from mammoscope.evaluation.lesions.overlap import window
from mammoscope.inference import Segmenter
from mammoscope.types import Bools, FloatImage, Floats

__all__ = ["USUAL", "ChosenThreshold", "choose_threshold"]

#: The threshold where there is no lesion to choose one on; what others are compared with.
USUAL = 0.5
_TRIED = np.round(np.arange(0.05, 0.96, 0.05), 2)
# Dice in windows hardly sees what is wrongly marked elsewhere, which a higher threshold leaves out.
_AS_GOOD = 0.01


@dataclass(frozen=True, slots=True)
class ChosenThreshold:
    """A threshold, and what it and the usual one come to.

    Attributes:
        value: Score from which a pixel belongs to a mask.
        dice: Mean Dice of the lesions, each in a window around it.
        usual: The same at :data:`USUAL`.
        lesions: How many.
    """

    value: float
    dice: float
    usual: float
    lesions: int

    @property
    def sentence(self) -> str:
        """What it was chosen on, for the run's notes."""
        return (
            f"threshold {self.value:g} of masks was chosen on {self.lesions} validation lesions: "
            f"mean Dice {self.dice:.3f} there, {self.usual:.3f} at {USUAL:g}"
        )


def choose_threshold(
    image_ids: Iterable[str],
    store: PreparedStore,
    regions: Regions,
    segmenter: Segmenter,
    margin: float,
) -> ChosenThreshold | None:
    """Choose the highest threshold that comes near the best mean Dice by lesion.

    A network that is unsure of a lesion gives its pixels less than one half, and half of the
    highest Dice that can be had is the best threshold (Lipton et al., Optimal thresholding of
    classifiers to maximize F1 measure, 2014; of one lesion, Dice is F1 over pixels). Of those
    within 0.01 of the best Dice, the highest marks least beside lesions.

    Args:
        image_ids: Validation images.
        store: Their pixels.
        regions: Their lesions.
        segmenter: The exported graph.
        margin: Of the window around each lesion, as the report's.

    Returns:
        The threshold, ``None`` where no image has a lesion.
    """
    dice: list[Floats] = []
    for name in image_ids:
        lesions = regions.of(name)
        if not lesions:
            continue
        scores = segmenter([store.read(name)])[0].scores
        union = regions.union(name)
        for region, box in zip(lesions, regions.boxes(name), strict=True):
            truth = regions.mask(region)
            sides = (box.x_min, box.y_min, box.x_max, box.y_max)
            place = window(sides, margin, truth.shape)
            free = truth[place] | ~union[place]
            dice.append(_dice_by_threshold(scores[place], truth[place], free))
    if not dice:
        return None
    mean = np.mean(dice, axis=0)
    best = int(np.flatnonzero(mean >= mean.max() - _AS_GOOD)[-1])
    usual = float(mean[_TRIED.tolist().index(USUAL)])
    return ChosenThreshold(float(_TRIED[best]), float(mean[best]), usual, len(dice))


def _dice_by_threshold(scores: FloatImage, truth: Bools, free: Bools) -> Floats:
    """Return the Dice of a lesion at each threshold; pixels that are not free do not count."""
    masks = (scores >= _TRIED[:, None, None]) & free
    shared = (masks & truth).sum(axis=(1, 2))
    return np.asarray(2 * shared / (masks.sum(axis=(1, 2)) + truth.sum()), dtype=np.float64)
