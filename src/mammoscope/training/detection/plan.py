"""How detectors are learnt: what is checked before work, and what a training is made of."""

from __future__ import annotations

from typing import Any

import polars as pl
import torch
from torch import nn
from torch.utils.data import Dataset

from mammoscope.cohort.regions import Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, PreprocessConfig
from mammoscope.errors import CohortError, ConfigError
from mammoscope.models.detectors import build_detector
from mammoscope.training.detection.data import LesionImages, WholeImages, collate
from mammoscope.training.detection.task import DetectionTask
from mammoscope.training.loading import Loader
from mammoscope.training.sampling import EpochSampler
from mammoscope.training.tasks import (
    CLASSIFIERS_ONLY,
    Made,
    Parts,
    TaskPlan,
    refuse_settings,
    split_parts,
)

__all__ = ["PLAN", "input_size", "kinds_of"]


def kinds_of(config: Config) -> tuple[str, ...]:
    """Return the kinds of lesion that a configuration tells apart; none where all are one.

    Raises:
        ConfigError: If they are to be told apart and are not named.
    """
    if not config.detect.tell_kinds:
        return ()
    if len(config.lesions.kinds) < 2:
        raise ConfigError(
            "detect.tell_kinds=true needs the kinds that are told apart, two at least: such as "
            "lesions.kinds=[mass, calcification]"
        )
    return config.lesions.kinds


def input_size(config: Config, preprocess: PreprocessConfig) -> tuple[int, int]:
    """Return the (H, W) of what a detector sees: a tile, or the whole prepared image."""
    side = config.detect.tiles.size_px
    return (side, side) if side else (preprocess.height, preprocess.width)


def _check(store: PreparedStore, rows: pl.DataFrame, fold: int, config: Config) -> Parts:
    """Return train, val and test rows, checked for what training needs."""
    refuse_settings(config, *CLASSIFIERS_ONLY, "model.weights", "train.frozen_epochs")
    kinds_of(config)
    parts = split_parts(rows, fold)
    regions = regions_of(store.cohort, store, config.lesions)
    for name, part in (("training", parts["train"]), ("validation", parts["val"])):
        known = _known(part, regions)
        if not any(regions.of(image_id) for image_id in known):
            raise CohortError(
                f"none of the {part.height} {name} images of fold {fold} has a lesion to be "
                "found: use other folds, or name more of lesions.kinds"
            )
    EpochSampler(_labels(_known(parts["train"], regions), regions, config), config.train)
    return parts


def _make(store: PreparedStore, parts: Parts, config: Config, *, fresh: bool) -> Made:
    """Make detector, batches, and the sentences about lesions that a user should read."""
    regions = regions_of(store.cohort, store, config.lesions)
    network, notes = _network(config, store.config, fresh=fresh)
    names = {name: _known(parts[name], regions) for name in ("train", "val")}
    left_out = sum(parts[name].height - len(names[name]) for name in names)
    if left_out:
        notes.append(
            f"{left_out} images left out of training and validation: they have a lesion whose "
            "place is not known"
        )
    kinds, settings = kinds_of(config), config.train
    shown: Dataset[Any] = LesionImages(
        store,
        names["train"],
        regions,
        kinds,
        max_value=store.config.max_value,
        tiles=config.detect.tiles,
        augment=config.augment,
        seed=settings.seed,
    )
    sampler = EpochSampler(_labels(names["train"], regions, config), settings)
    train = Loader(shown, settings, sampler, collate=collate)
    whole: Dataset[Any] = WholeImages(store, names["val"], regions, kinds, config.detect.tiles)
    # The tiles of one image are a batch already.
    size = 1 if config.detect.tiles.size_px else None
    lesions = sum(len(regions.of(image_id)) for image_id in names["train"])
    return Made(
        DetectionTask(network, config),
        (train, Loader(whole, settings, collate=collate, batch_size=size)),
        (*regions.notes, *notes),
        {"lesions": {"train": lesions, "faults": regions.counts, "dropped": regions.dropped}},
    )


def _rebuild(config: Config, preprocess: PreprocessConfig) -> nn.Module:
    network: nn.Module = _network(config, preprocess, fresh=False)[0]
    return network


def _network(config: Config, preprocess: PreprocessConfig, *, fresh: bool) -> tuple[Any, list[str]]:
    """Build the detector, with the weights to start from only where it starts."""
    detect = config.detect
    if not fresh:
        detect = detect.model_copy(update={"pretrained": False, "weights": None})
    network, notes = build_detector(
        detect,
        kinds=max(1, len(kinds_of(config))),
        size=input_size(config, preprocess),
        max_value=preprocess.max_value,
    )
    # Convolutions on a CPU are quicker in this order of memory.
    return network.to(memory_format=torch.channels_last), [*notes]  # type: ignore[call-overload]


def _known(rows: pl.DataFrame, regions: Regions) -> list[str]:
    """Return the images whose lesions' places are all known."""
    return [name for name in rows["image_id"] if name not in regions.uncertain]


def _labels(names: list[str], regions: Regions, config: Config) -> list[float]:
    """Say of each item of an epoch whether its image has a lesion, for the sampler."""
    each = config.detect.tiles.per_image if config.detect.tiles.size_px else 1
    return [float(bool(regions.of(name))) for name in names for _ in range(each)]


#: How detectors are learnt.
PLAN = TaskPlan(_check, _make, _rebuild)
