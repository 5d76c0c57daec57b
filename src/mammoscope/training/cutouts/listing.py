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
from mammoscope.inference import Candidate, Outlined
from mammoscope.inference.fusion import sides_of
from mammoscope.types import Box

__all__ = ["Cutout", "annotated", "predicted", "tissue"]

# Places at which tissue without a lesion is looked for.
_TRIES = 50

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
    image_id: str, outlined: Outlined, regions: Regions, least_iou: float
) -> list[Cutout]:
    """Return a cut-out of each part of an image that a segmenter outlines.

    A part shows the lesion that it overlaps most; of several on one lesion the best is taken. A
    part on none is normal tissue, unless half of it lies in lesions or the image has one that
    nobody has placed.

    Args:
        image_id: The image's name.
        outlined: What the first stage says of it.
        regions: Lesions of all images.
        least_iou: Intersection over union from which a part is on a lesion.
    """
    made: list[Cutout] = []
    best: dict[str, tuple[float, Cutout]] = {}
    covered = regions.union(image_id)
    for part in outlined.parts:
        region, overlap = _nearest(part, image_id, regions)
        if region is None or overlap < least_iou:
            inside = covered[_place(part.box)][part.mask].mean() >= 0.5
            if not inside and image_id not in regions.uncertain:
                made.append(Cutout(image_id, None, part.box, "normal", "predicted"))
        elif region.malignant is not None:
            name = region.finding_id
            shown = Cutout(image_id, name, part.box, _class_of(region), "predicted")
            if overlap > best.get(name, (0.0, shown))[0]:
                best[name] = overlap, shown
    return made + [shown for _, shown in best.values()]


def tissue(
    image_ids: Iterable[str], regions: Regions, store: PreparedStore, margin: float, seed: int
) -> list[Cutout]:
    """Return a cut-out of each image at random, of a size that lesions have, that shows none.

    It depends on seed and image alone. An image with a lesion that nobody has placed has none, nor
    has one whose lesions leave no room.

    Args:
        image_ids: Of which images.
        regions: Lesions of all images.
        store: The images.
        margin: What is seen beside a box, as a share of its longer side: no lesion is in that.
        seed: Another one, other places.
    """
    sizes = regions.sizes()
    made = []
    for name in image_ids:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        places = np.argwhere(store.read(name) > 0)
        if name in regions.uncertain or not len(places):
            continue
        lesions = sides_of(regions.boxes(name))
        for _ in range(_TRIES):
            middle = places[rng.integers(len(places))][::-1]
            half = float(rng.choice(sizes)) / 2
            seen = half * (1 + 2 * margin)
            met = (lesions[:, :2] < middle + seen) & (lesions[:, 2:] > middle - seen)
            if not met.all(axis=1).any():
                box = Box(*(float(side) for side in (*(middle - half), *(middle + half))))
                made.append(Cutout(name, None, box, "normal", "tissue"))
                break
    return made


def _class_of(region: Region) -> CutoutClass:
    return "malignant" if region.malignant else "benign"


def _place(box: Box) -> tuple[slice, slice]:
    return slice(int(box.y_min), int(box.y_max)), slice(int(box.x_min), int(box.x_max))


def _nearest(part: Candidate, image_id: str, regions: Regions) -> tuple[Region | None, float]:
    """Return the lesion that a part overlaps most, by intersection over union."""
    whole = np.zeros(regions.size, dtype=np.bool_)
    whole[_place(part.box)] = part.mask
    found: tuple[Region | None, float] = (None, 0.0)
    for region in regions.of(image_id):
        mask = regions.mask(region)
        overlap = float((mask & whole).sum() / (mask | whole).sum())
        if overlap > found[1]:
            found = region, overlap
    return found
