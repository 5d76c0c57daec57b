"""Segmentation: its rows, network and batches."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import torch

from mammoscope.cohort.regions import Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, PreprocessConfig, SegmentConfig
from mammoscope.errors import CohortError
from mammoscope.models import Segmenter, build_segmenter, check_segmenter
from mammoscope.training.loading import Loader
from mammoscope.training.sampling import EpochSampler
from mammoscope.training.segmentation.dataset import Item, LesionImages, LesionPatches, Patch
from mammoscope.training.segmentation.task import SegmentationTask
from mammoscope.training.tasks import (
    CLASSIFIERS_ONLY,
    Made,
    Parts,
    TaskPlan,
    refuse_settings,
    split_parts,
)

__all__ = ["PLAN", "input_size"]


def input_size(segment: SegmentConfig, preprocess: PreprocessConfig) -> tuple[int, int]:
    """Return (H, W) of what a network looks at when it is used: a window or a whole image."""
    if segment.in_windows:
        return segment.patch_px, segment.patch_px
    return preprocess.height, preprocess.width


def _check(store: PreparedStore, rows: pl.DataFrame, fold: int, config: Config) -> Parts:
    """Return train, val and test rows, checked for what training needs.

    Images with a lesion of which nobody says where it is are neither trained nor validated on.
    """
    check_segmenter(config.segment)
    refuse_settings(config, *CLASSIFIERS_ONLY, "model.weights")
    regions = regions_of(store.cohort, store, config.lesions)
    parts = split_parts(rows, fold)
    for name, title in (("train", "training"), ("val", "validation")):
        parts[name] = parts[name].filter(~pl.col("image_id").is_in([*regions.uncertain]))
        if not _with_lesions(parts[name], regions):
            raise CohortError(
                f"none of the {parts[name].height} {title} images of fold {fold} has a lesion "
                "whose place is known: there is nothing to outline"
            )
    patches = _patches(parts["train"], regions, config.segment)
    _sampler(parts["train"], patches, regions, config)
    return parts


def _make(store: PreparedStore, parts: Parts, config: Config, *, fresh: bool) -> Made:
    network, notes = _network(config, store.config, fresh=fresh)
    regions = regions_of(store.cohort, store, config.lesions)
    margin = config.evaluation.patch_margin
    notes += [*regions.notes]
    every = split_parts(store.rows(), int(parts["val"]["fold"][0]))
    left_out = sum(every[name].height - parts[name].height for name in ("train", "val"))
    if left_out:
        notes.append(
            f"{left_out} images left out of training and validation: they have a lesion whose "
            "place is not known"
        )
    loaders = (
        _train_loader(store, parts["train"], regions, config),
        _val_loader(store, parts["val"], regions, config),
    )
    return Made(
        SegmentationTask(network, config.train, config.segment, margin),
        loaders,
        notes=tuple(notes),
        facts={
            "lesions": {"used": len(regions), "faults": regions.counts, "dropped": regions.dropped}
        },
    )


def _rebuild(config: Config, preprocess: PreprocessConfig) -> Segmenter:
    return _network(config, preprocess, fresh=False)[0]


def _network(
    config: Config, preprocess: PreprocessConfig, *, fresh: bool
) -> tuple[Segmenter, list[str]]:
    """Build the network, with the weights to start from only where it starts."""
    segment = config.segment
    if not fresh:
        segment = segment.model_copy(update={"pretrained": False, "weights": None})
    size = input_size(segment, preprocess)
    network, notes = build_segmenter(segment, max_value=preprocess.max_value, size=size)
    # Convolutions on a CPU are quicker in this order of memory.
    return network.to(memory_format=torch.channels_last), notes  # type: ignore[call-overload]


def _with_lesions(rows: pl.DataFrame, regions: Regions) -> list[str]:
    return [name for name in rows["image_id"] if regions.of(name)]


def _patches(rows: pl.DataFrame, regions: Regions, segment: SegmentConfig) -> list[Patch]:
    """Return patches of each lesion, as often as asked, and enough of each image's tissue."""
    names = rows["image_id"].to_list()
    around = [
        Patch(name, box)
        for name in names
        for box in regions.boxes(name)
        for _ in range(segment.lesion_repeats)
    ]
    # An epoch draws as many of them as the share asks for.
    each = math.ceil(len(around) * _tissue_per_lesion(segment) / max(1, len(names)))
    return around + [Patch(name, None) for name in names for _ in range(each)]


def _tissue_per_lesion(segment: SegmentConfig) -> float:
    """Return how many patches of tissue an epoch shows for each around a lesion."""
    return (1 - segment.lesion_share) / segment.lesion_share


def _sampler(
    rows: pl.DataFrame, patches: list[Patch], regions: Regions, config: Config
) -> EpochSampler:
    """Return the order of an epoch: of images as ``train`` says, of patches in their shares."""
    if config.segment.train_on == "whole":
        labels = [float(bool(regions.of(name))) for name in rows["image_id"]]
        return EpochSampler(labels, config.train)
    drawn = {
        "sampling": "undersample",
        "negatives_per_positive": _tissue_per_lesion(config.segment),
        "keep_negatives": None,
    }
    return EpochSampler(
        [float(patch.box is not None) for patch in patches],
        config.train.model_copy(update=drawn),
    )


def _train_loader(
    store: PreparedStore, rows: pl.DataFrame, regions: Regions, config: Config
) -> Loader:
    segment, settings = config.segment, config.train
    changes: dict[str, Any] = {
        "max_value": store.config.max_value,
        "augment": config.augment,
        "seed": settings.seed,
    }
    patches = _patches(rows, regions, segment)
    images: torch.utils.data.Dataset[Item]
    if segment.train_on == "whole":
        images = LesionImages(store, rows["image_id"].to_list(), regions, **changes)
    else:
        images = LesionPatches(store, patches, regions, side_px=segment.patch_px, **changes)
    return Loader(images, settings, _sampler(rows, patches, regions, config))


def _val_loader(
    store: PreparedStore, rows: pl.DataFrame, regions: Regions, config: Config
) -> Loader:
    """Return all images, or a patch around each lesion and as many of tissue, always the same."""
    segment = config.segment
    plain: dict[str, Any] = {"max_value": store.config.max_value, "seed": config.train.seed}
    images: torch.utils.data.Dataset[Item]
    if segment.train_on == "whole":
        images = LesionImages(store, rows["image_id"].to_list(), regions, **plain)
    else:
        once = segment.model_copy(update={"lesion_repeats": 1, "lesion_share": 0.5})
        every = _patches(rows, regions, once)
        around = [patch for patch in every if patch.box is not None]
        tissue = [patch for patch in every if patch.box is None]
        step = max(1, len(tissue) // len(around))
        patches = around + tissue[::step][: len(around)]
        images = LesionPatches(store, patches, regions, side_px=segment.patch_px, **plain)
    return Loader(images, config.train)


#: How segmenters are learnt.
PLAN = TaskPlan(_check, _make, _rebuild)
