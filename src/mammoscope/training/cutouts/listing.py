"""Which cut-outs there are: around true masks, around predicted ones, and of tissue."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mammoscope.cohort.regions import Region, Regions
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import CutoutClass
from mammoscope.evaluation.lesions.overlap import components
from mammoscope.inference import Segmenter
from mammoscope.types import Bools, Box

__all__ = ["Cutout", "annotated", "predicted", "tissue"]

Origin = Literal["annotated", "predicted", "tissue"]


@dataclass(frozen=True, slots=True)
class Cutout:
    """A part of an image that shows one thing.

    Attributes:
        image_id: Of which image.
        finding_id: Of which lesion; ``None`` where there is none.
        box: On the network's grid.
        shows: Its class.
        origin: How it came to be.
    """

    image_id: str
    finding_id: str | None
    box: Box
    shows: CutoutClass
    origin: Origin


def annotated(image_ids: Iterable[str], regions: Regions) -> list[Cutout]:
    """Return a cut-out of each lesion of which somebody says whether it is malignant."""
    return [
        Cutout(name, region.finding_id, box, _class_of(region), "annotated")
        for name in image_ids
        for region, box in zip(regions.of(name), regions.boxes(name), strict=True)
        if region.malignant is not None
    ]


def predicted(
    image_ids: Iterable[str],
    regions: Regions,
    store: PreparedStore,
    segmenter: Segmenter,
    least_iou: float,
) -> list[Cutout]:
    """Return a cut-out of each part that a segmenter outlines.

    A part shows the lesion that it overlaps most; of several on one lesion the best is taken. A
    part on none is normal tissue, unless the image has a lesion that nobody has placed.

    Args:
        image_ids: Which images.
        regions: Their lesions.
        store: The images.
        segmenter: The first stage.
        least_iou: Intersection over union from which a part is on a lesion.
    """
    made: list[Cutout] = []
    for name in image_ids:
        parts = components(segmenter([store.read(name)])[0].mask)
        best: dict[str, tuple[float, Cutout]] = {}
        for part in parts:
            region, overlap = _nearest(part, name, regions)
            if region is None or overlap < least_iou:
                if name not in regions.uncertain:
                    made.append(Cutout(name, None, _box(part), "normal", "predicted"))
            elif region.malignant is not None:
                shown = Cutout(name, region.finding_id, _box(part), _class_of(region), "predicted")
                if overlap > best.get(region.finding_id, (0.0, shown))[0]:
                    best[region.finding_id] = overlap, shown
        made += [shown for _, shown in best.values()]
    return made


def tissue(
    image_ids: Iterable[str], regions: Regions, store: PreparedStore, seed: int
) -> list[Cutout]:
    """Return a cut-out of each image without a lesion, at random, of a size that lesions have.

    It depends on seed and image alone.
    """
    sizes = regions.sizes()
    made = []
    for name in image_ids:
        if regions.of(name) or name in regions.uncertain:
            continue
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        places = np.argwhere(store.read(name) > 0)
        if not len(places):
            continue
        y, x = (float(value) for value in places[rng.integers(len(places))])
        half = float(rng.choice(sizes)) / 2
        made.append(Cutout(name, None, Box(x - half, y - half, x + half, y + half), "normal", "tissue"))
    return made


def _class_of(region: Region) -> CutoutClass:
    return "malignant" if region.malignant else "benign"


def _nearest(part: Bools, image_id: str, regions: Regions) -> tuple[Region | None, float]:
    """Return the lesion that a part overlaps most, by intersection over union."""
    found: tuple[Region | None, float] = (None, 0.0)
    for region in regions.of(image_id):
        mask = regions.mask(region)
        overlap = float((mask & part).sum() / (mask | part).sum())
        if overlap > found[1]:
            found = region, overlap
    return found


def _box(part: Bools) -> Box:
    ys, xs = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return Box(float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1))
