"""Classification of images, breasts or exams: its rows, network, losses and batches."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.cohort.findings import read_findings
from mammoscope.cohort.manifest import LABEL_COLUMNS
from mammoscope.cohort.regions import Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, PreprocessConfig
from mammoscope.errors import CohortError, ConfigError
from mammoscope.models import Classifier, build_classifier, build_multiview, check_backbone
from mammoscope.training.auxiliary import AuxiliaryHeads, Variable, encode, plan
from mammoscope.training.balance import (
    labels_of,
    one_class_held_out,
    positive_weight,
    prior,
    shown,
)
from mammoscope.training.dataset import ImageDataset, Reader
from mammoscope.training.loading import Loader
from mammoscope.training.multiview import MultiViewTask, PositiveWeights
from mammoscope.training.optimisation import (
    check_frozen_part,
    check_optimisation,
    recompute_activations,
)
from mammoscope.training.sampling import EpochSampler, idle_sampling
from mammoscope.training.task import ClassificationTask, Network
from mammoscope.training.tasks import Made, Parts, TaskPlan, split_parts
from mammoscope.training.units import UnitDataset, collate, group_units

__all__ = ["PLAN"]


def _check(store: PreparedStore, rows: pl.DataFrame, fold: int, config: Config) -> Parts:
    """Return train, val and test rows, checked for what training needs."""
    check_backbone(config.model.backbone)
    label, level = config.train.label, config.model.level
    if label not in LABEL_COLUMNS:
        raise ConfigError(f"train.label is {label!r}; accepted: {', '.join(LABEL_COLUMNS)}")
    parts = split_parts(rows, fold)
    for name, part in (("training", parts["train"]), ("validation", parts["val"])):
        classes = {int(value) for value in labels_of(part, config) if not math.isnan(value)}
        if classes != {0, 1}:
            raise CohortError(
                f"the {name} {level}s of fold {fold} hold {label} values {sorted(classes)}; "
                "both 0 and 1 are needed, and nothing else"
            )
    if level != "image":
        # Faults of held-out rows are found before training too.
        group_units(parts["test"], level, label)
    # Its batches can be drawn, and its lesions.
    EpochSampler(labels_of(parts["train"], config), config.train)
    _lesions(store, config)
    return parts


def _make(store: PreparedStore, parts: Parts, config: Config, *, fresh: bool) -> Made:
    """Make all that a training needs, and note in its record what auxiliary heads tell apart."""
    network, notes = _network(config, store.config, parts["train"], fresh=fresh)
    variables, left_out = plan(parts["train"], config.model.auxiliary)
    looker = network if isinstance(network, Classifier) else network.classifier
    if fresh:
        check_frozen_part(looker, config.model, config.train)
    caution = check_optimisation(looker, config.model, config.train, missed=notes)
    if config.train.gradient_checkpointing:
        recompute_activations(looker, config.model)
    heads = AuxiliaryHeads(looker.channels, variables) if variables else None
    lesions, faults = _lesions(store, config)
    return Made(
        _task(network, parts["train"], config, heads),
        _loaders(store, parts, config, variables, lesions),
        notes=(
            *notes,
            *left_out,
            *([caution] if caution else []),
            *faults,
            *idle_sampling(labels_of(parts["train"], config), config.train),
            *one_class_held_out(parts["test"], config.train.label),
        ),
        facts={"auxiliary": [variable.as_dict() for variable in variables]},
    )


def _rebuild(config: Config, preprocess: PreprocessConfig) -> Network:
    return _network(config, preprocess, None, fresh=False)[0]


def _task(
    network: Network, rows: pl.DataFrame, config: Config, heads: AuxiliaryHeads | None
) -> ClassificationTask:
    counts = shown(rows, config)
    weights = {level: positive_weight(count, config.train) for level, count in counts.items()}
    if isinstance(network, Classifier):
        return ClassificationTask(network, config.train, weights["image"], heads)
    return MultiViewTask(network, config.train, PositiveWeights(**weights), heads)


def _network(
    config: Config, preprocess: PreprocessConfig, rows: pl.DataFrame | None, *, fresh: bool
) -> tuple[Network, list[str]]:
    """Build the network, with the weights to start from only where it starts."""
    model = config.model
    if not fresh:
        model = model.model_copy(update={"pretrained": False, "weights": None})
    build = build_classifier if model.level == "image" else build_multiview
    network, notes = build(
        model,
        max_value=preprocess.max_value,
        size=(preprocess.height, preprocess.width),
        prior=0.5 if rows is None else prior(shown(rows, config)["image"], config.train),
    )
    # Convolutions on a CPU are quicker in this order of memory.
    return network.to(memory_format=torch.channels_last), notes  # type: ignore[call-overload]


def _lesions(store: PreparedStore, config: Config) -> tuple[Regions | None, tuple[str, ...]]:
    """Return where lesions are, if that is to be learnt, and what a user should read of it."""
    if not config.train.lesion_weight:
        return None, ()
    if not read_findings(store.cohort).height:
        return None, (
            "train.lesion_weight has no effect: the cohort names no lesions, so attention learns "
            "from labels alone",
        )
    regions = regions_of(store.cohort, store, config.lesions)
    return regions, regions.notes


def _loaders(
    store: PreparedStore,
    parts: Parts,
    config: Config,
    variables: list[Variable],
    lesions: Regions | None,
) -> tuple[Loader, Loader]:
    targets = encode(parts["train"], variables) if variables else None
    settings, max_value = config.train, store.config.max_value
    changed = Reader(
        store, lesions, max_value=max_value, augment=config.augment, seed=settings.seed
    )
    return (
        _loader(changed, parts["train"], config, targets, train=True),
        _loader(Reader(store, max_value=max_value), parts["val"], config, train=False),
    )


def _loader(
    reader: Reader,
    rows: pl.DataFrame,
    config: Config,
    targets: Tensor | None = None,
    *,
    train: bool,
) -> Loader:
    settings = config.train
    images = _dataset(reader, rows, config, targets, train=train)
    return Loader(
        images,
        settings,
        EpochSampler(labels_of(rows, config), settings) if train else None,
        collate=None if config.model.level == "image" else collate,
    )


def _dataset(
    reader: Reader,
    rows: pl.DataFrame,
    config: Config,
    targets: Tensor | None,
    *,
    train: bool,
) -> Dataset[Any]:
    settings, level = config.train, config.model.level
    names = rows["image_id"].to_list()
    if level == "image":
        return ImageDataset(reader, names, labels_of(rows, config), targets)
    by_name = None if targets is None else dict(zip(names, targets, strict=True))
    return UnitDataset(
        reader,
        group_units(rows, level, settings.label),
        by_name,
        most_views=settings.most_views,
        augment=config.augment if train else None,
        seed=settings.seed,
    )


#: How classifiers are learnt.
PLAN = TaskPlan(_check, _make, _rebuild)
