"""Breasts and exams put together from a cohort's images, and as tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.bundle import SIDES, Level, fact_values, projection_code, side_code
from mammoscope.config import AugmentConfig
from mammoscope.errors import CohortError
from mammoscope.models import Views
from mammoscope.training.dataset import Reader
from mammoscope.training.sampling import Place

__all__ = ["Sample", "Unit", "UnitBatch", "UnitDataset", "collate", "group_units"]

_UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True)
class Unit:
    """A breast or an exam. Labels are 0, 1 or NaN for unknown.

    Attributes:
        image_ids: Its images.
        projections: One for each, as graphs number them.
        sides: One for each, as graphs number them.
        image_labels: One for each.
        breast_labels: Of both sides; NaN for one without images.
        label: Of the unit.
        facts: Age, density, implant; NaN where unknown.
    """

    image_ids: tuple[str, ...]
    projections: tuple[int, ...]
    sides: tuple[int, ...]
    image_labels: tuple[float, ...]
    breast_labels: tuple[float, ...]
    label: float
    facts: tuple[float, ...]


class Sample(NamedTuple):
    """A unit as training shows it.

    Attributes:
        unit: What it is.
        images: (V, 1, H, W) float32.
        targets: (V, variables) of auxiliary heads.
        lesions: (V, H, W) uint8, where they are learnt, else (V, 0, 0).
    """

    unit: Unit
    images: Tensor
    targets: Tensor
    lesions: Tensor


class UnitBatch(NamedTuple):
    """Units of one batch, padded to the one with the most images.

    Attributes:
        given: What the model takes.
        image_label: (B, V), NaN where no image is.
        breast_label: (B, 2).
        label: (B,) of the units.
        targets: (B, V, variables) of auxiliary heads, NaN where unknown.
        lesions: (B, V, H, W) uint8, where they are learnt, else (B, V, 0, 0).
    """

    given: Views
    image_label: Tensor
    breast_label: Tensor
    label: Tensor
    targets: Tensor
    lesions: Tensor


def group_units(rows: pl.DataFrame, level: Level, label: str) -> list[Unit]:
    """Put breasts or exams together.

    Args:
        rows: Images with the manifest's columns.
        level: Breast or exam.
        label: Column that is learnt. A breast is positive if any image is, negative if all
            are, else unknown; an exam likewise from its breasts.

    Returns:
        Units in the order of their first image.

    Raises:
        CohortError: If an image has no exam_id or laterality, or a breast no image whose
            view is known; the first image is named.
    """
    for column in ("exam_id", "laterality"):
        gaps = rows.filter(pl.col(column).is_null())
        if gaps.height:
            raise CohortError(
                f"{gaps.height} of {rows.height} images have no {column}, {gaps['image_id'][0]} "
                f"first, so that no {level} can be put together: model.level=image does without"
            )
    _check_views(rows, level)
    keys = ["patient_id", "exam_id", *(["laterality"] if level == "breast" else [])]
    parts = rows.partition_by(keys, maintain_order=True)
    return [_unit(part, label) for part in parts]


def _check_views(rows: pl.DataFrame, level: Level) -> None:
    blind = rows.group_by("patient_id", "exam_id", "laterality", maintain_order=True).agg(
        pl.col("image_id").first(), seen=pl.col("view").is_not_null().any()
    )
    blind = blind.filter(~pl.col("seen"))
    if blind.height:
        raise CohortError(
            f"{blind.height} breasts have no image whose view is known, that of image "
            f"{blind['image_id'][0]} first: a model of level {level} needs one of each breast; "
            "give the views, or train with model.level=image"
        )


def _unit(part: pl.DataFrame, label: str) -> Unit:
    sides = [side_code(word) for word in part["laterality"]]
    labels = [_UNKNOWN if value is None else float(value) for value in part[label]]
    breasts = [
        _any([value for value, side in zip(labels, sides, strict=True) if side == place])
        for place in range(len(SIDES))
    ]
    there = [breasts[place] for place in sorted(set(sides))]
    known = {name: part[name].drop_nulls() for name in ("age", "density", "implant")}
    # What the images of one exam say differs rarely: the highest age, the first density, and an
    # implant in either breast, as in :func:`mammoscope.inference.exam.read_exam`.
    age = None if known["age"].is_empty() else max(known["age"].to_list())
    density = None if known["density"].is_empty() else known["density"][0]
    implant = None if known["implant"].is_empty() else float(max(known["implant"].to_list()))
    return Unit(
        image_ids=tuple(part["image_id"]),
        projections=tuple(projection_code(view) for view in part["view"]),
        sides=tuple(sides),
        image_labels=tuple(labels),
        breast_labels=tuple(breasts),
        label=_any(there),
        facts=fact_values(age, density, implant),
    )


def _any(labels: Sequence[float]) -> float:
    """One positive settles it; without one, every label must be known."""
    if 1.0 in labels:
        return 1.0
    return _UNKNOWN if not labels or any(math.isnan(v) for v in labels) else 0.0


class UnitDataset(Dataset[Sample]):
    """Units with their images.

    Args:
        reader: Reads the images.
        units: Which.
        targets: (variables,) of auxiliary heads by image_id, if there are any.
        most_views: Images of a unit that are shown at most in training.
        augment: What of a unit training shows; ``None`` shows everything.
        seed: Seed of that.
    """

    def __init__(
        self,
        reader: Reader,
        units: Sequence[Unit],
        targets: Mapping[str, Tensor] | None = None,
        *,
        most_views: int = 8,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        self._read = reader
        self._units = list(units)
        self._targets = targets or {}
        self._most_views = most_views
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._units)

    def __getitem__(self, at: int | tuple[int, ...]) -> Sample:
        """Return a unit, less what is not shown of it, with images and targets.

        Args:
            at: An index, or a :class:`Place` as the training sampler gives them.
        """
        place = Place(*at) if isinstance(at, tuple) else Place(at)
        unit = self._units[place.item]
        if self._augment is not None:
            rng = np.random.default_rng(place.randomness(self._seed))
            unit = _shown(unit, self._augment, self._most_views, rng)
        read = [self._read(name, place, number) for number, name in enumerate(unit.image_ids)]
        masks = [torch.zeros(0, 0, dtype=torch.uint8) if m is None else m for _, m in read]
        targets = [self._targets.get(name, torch.zeros(0)) for name in unit.image_ids]
        images = torch.stack([image for image, _ in read])
        return Sample(unit, images, torch.stack(targets), torch.stack(masks))


def _shown(unit: Unit, config: AugmentConfig, most: int, rng: np.random.Generator) -> Unit:
    """Draw which images and facts an epoch shows.

    Each breast keeps one, of a positive breast one that is labelled so, and with it its label.
    """
    order = rng.permutation(len(unit.image_ids)).tolist()
    dropped = rng.random(len(order)) < config.drop_view
    # The last to be written wins, so the one wanted most comes last.
    wanted = sorted(order, key=lambda place: unit.image_labels[place] == 1)
    firsts = list({unit.sides[place]: place for place in wanted}.values())
    others = [place for place in order if place not in firsts and not dropped[place]]
    # First one of each breast, then one of each further projection, then repeats.
    seen: Counter[tuple[int, int]] = Counter()
    rank = {}
    for place in [*firsts, *others]:
        kind = (unit.sides[place], unit.projections[place])
        rank[place] = 0 if place in firsts else seen[kind]
        seen[kind] += 1
    kept = sorted(sorted(rank, key=rank.__getitem__)[: max(most, len(firsts))])
    told = rng.random(len(unit.facts)) >= config.drop_fact
    return replace(
        unit,
        image_ids=tuple(unit.image_ids[place] for place in kept),
        projections=tuple(unit.projections[place] for place in kept),
        sides=tuple(unit.sides[place] for place in kept),
        image_labels=tuple(unit.image_labels[place] for place in kept),
        facts=tuple(v if t else _UNKNOWN for v, t in zip(unit.facts, told, strict=True)),
    )


def collate(samples: Sequence[Sample]) -> UnitBatch:
    """Pad units to the one with the most images."""
    units = [sample.unit for sample in samples]
    most = max(len(unit.image_ids) for unit in units)
    views = torch.zeros(len(units), most, *samples[0].images.shape[1:])
    targets = torch.full((len(units), most, samples[0].targets.shape[1]), _UNKNOWN)
    lesions = torch.zeros(len(units), most, *samples[0].lesions.shape[1:], dtype=torch.uint8)
    mask = torch.zeros(len(units), most, dtype=torch.bool)
    projection, side = (torch.zeros(len(units), most, dtype=torch.int64) for _ in range(2))
    image_label = torch.full((len(units), most), _UNKNOWN)
    for row, (unit, images, told, covered) in enumerate(samples):
        there = len(unit.image_ids)
        views[row, :there] = images
        targets[row, :there] = told
        lesions[row, :there] = covered
        mask[row, :there] = True
        projection[row, :there] = torch.tensor(unit.projections)
        side[row, :there] = torch.tensor(unit.sides)
        image_label[row, :there] = torch.tensor(unit.image_labels)
    return UnitBatch(
        given=Views(views, mask, projection, side, torch.tensor([u.facts for u in units])),
        image_label=image_label,
        breast_label=torch.tensor([unit.breast_labels for unit in units]),
        label=torch.tensor([unit.label for unit in units]),
        targets=targets,
        lesions=lesions,
    )
