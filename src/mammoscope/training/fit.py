"""Train one classifier on one fold: check everything, then fit, then write down what was done."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.artefacts import claim_output, write_json
from mammoscope.cohort.manifest import LABEL_COLUMNS
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, PreprocessConfig, validated
from mammoscope.errors import CohortError, ConfigError, RunError
from mammoscope.log import get_logger
from mammoscope.models import Classifier, build_classifier, build_multiview, check_backbone
from mammoscope.processes import is_first_process
from mammoscope.training.auxiliary import AuxiliaryHeads, Variable, encode, plan
from mammoscope.training.balance import labels_of, positive_weight, prior, shown
from mammoscope.training.callbacks import BestWeights, EpochBar, History
from mammoscope.training.dataset import ImageDataset
from mammoscope.training.loading import Loader
from mammoscope.training.loop import (
    build_trainer,
    last_checkpoint,
    run_trainer,
    with_precision,
)
from mammoscope.training.multiview import MultiViewTask, PositiveWeights
from mammoscope.training.optimisation import check_optimisation, recompute_activations
from mammoscope.training.run_folder import (
    RECORD,
    FitResult,
    check_run,
    describe_run,
    read_run,
    result_of,
)
from mammoscope.training.sampling import EpochSampler
from mammoscope.training.task import ClassificationTask, Network
from mammoscope.training.units import UnitDataset, collate, group_units

__all__ = ["check_folds", "check_input", "fit", "load_classifier"]

_log = get_logger(__name__)

_WEIGHTS = "weights.safetensors"


def fit(
    cohort: Path,
    run: Path,
    config: Config,
    fold: int = 0,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[dict[str, float]], None] | None = None,
    bar: bool = True,
) -> FitResult:
    """Train on all folds but one and validate on that one.

    Args:
        cohort: A cohort folder, prepared and split.
        run: The run folder; empty, or a stopped run with ``resume``.
        config: Everything else.
        fold: The fold that validates.
        overwrite: Replace a run that is there, once all input has been checked.
        resume: Go on from the last whole epoch. A resumed run equals an uninterrupted one.
        progress: Called after each epoch with its row of ``history.csv``.
        bar: Show it.

    Raises:
        CohortError: If an image is not prepared, or a part lacks a class.
        ConfigError: If the label, fold or backbone is unknown, or the network cannot be trained as
            configured, on this machine or at all.
        OutputError: If the run folder is not empty, or cannot be written.
        RunError: If the resumed run differs, the loss is not finite, or weights do not fit.
        KeyboardInterrupt: If it was stopped from the keyboard; ``resume`` goes on from there.
    """
    cohort, run = Path(cohort), Path(run)
    config = with_precision(config)
    store, parts = check_input(cohort, config, fold)
    counts = {name: rows.height for name, rows in parts.items()}
    facts = describe_run(cohort, config, store.config, fold, counts)
    first = not config.train.is_shared or is_first_process()
    # What is there when a further process starts is the first one's.
    earlier = check_run(run, facts, resume=resume, overwrite=overwrite or not first)
    if earlier is not None and earlier["status"] in ("trained", "finished"):
        return result_of(earlier)
    checkpoint = last_checkpoint(run) if resume and last_checkpoint(run).is_file() else None
    lightning.seed_everything(config.train.seed, workers=True, verbose=False)
    task, notes, loaders = _made(store, parts, config, facts, fresh=checkpoint is None)
    if earlier is not None and checkpoint is not None:
        notes = earlier.get("notes", [])
    history, best = History(run / "history.csv", progress), BestWeights(run / _WEIGHTS)
    bars = [EpochBar()] if bar and first else []
    trainer = build_trainer(run, config.train, history, [best, *bars])
    _check_share(loaders[0], config, trainer.world_size)
    facts["notes"] = notes
    facts["devices"] = {"count": trainer.world_size, "kind": trainer.strategy.root_device.type}
    if first:
        _begin(run, facts, resume=resume, overwrite=overwrite)
    run_trainer(trainer, task, loaders, resume=checkpoint)
    facts |= _outcome(history, best)
    if first:
        write_json(run / RECORD, facts)
    return result_of(facts)


def _begin(run: Path, facts: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Say what a user should read, and write down that the run has begun."""
    for note in facts["notes"]:
        _log.warning(note)
    if not resume:
        claim_output(run, overwrite=overwrite, marker=RECORD)
    write_json(run / RECORD, facts)


def check_input(
    cohort: Path, config: Config, fold: int
) -> tuple[PreparedStore, dict[str, pl.DataFrame]]:
    """Check what training needs of a cohort; returns its images, and its rows by part.

    Raises:
        CohortError: If an image is not prepared, or a part lacks a class.
        ConfigError: If the label, fold or backbone is unknown.
    """
    check_backbone(config.model.backbone)
    store = PreparedStore(cohort)
    return store, _parts(store.rows(), fold, config)


def check_folds(cohort: Path, config: Config) -> tuple[list[int], dict[str, Any]]:
    """Check everything that training each fold of a cohort in turn needs.

    Returns:
        The folds, and the record of the run that holds them all.

    Raises:
        CohortError: If an image is not prepared, or folds lack a class; every fault is listed.
        ConfigError: If the label or backbone is unknown.
    """
    config = with_precision(config)
    check_backbone(config.model.backbone)
    store = PreparedStore(cohort)
    rows = store.rows()
    folds = sorted(set(rows.filter(pl.col("split") == "train")["fold"]))
    if len(folds) < 2:
        raise CohortError(f"{cohort} has the folds {folds}; at least two are needed")
    faults = []
    for fold in folds:
        try:
            parts = _parts(rows, fold, config)
            EpochSampler(labels_of(parts["train"], config), config.train)
        except CohortError as error:
            faults.append(str(error))
    if faults:
        raise CohortError("; ".join(faults))
    trained = sum(parts[name].height for name in ("train", "val"))
    counts = {"train": trained, "val": trained, "test": parts["test"].height}
    facts = describe_run(cohort, config, store.config, None, counts)
    return folds, facts | {"folds": folds}


def _made(
    store: PreparedStore,
    parts: dict[str, pl.DataFrame],
    config: Config,
    facts: dict[str, Any],
    *,
    fresh: bool,
) -> tuple[ClassificationTask, list[str], tuple[Loader, Loader]]:
    """Make all that a training needs, and note in its record what auxiliary heads tell apart."""
    network, notes = _classifier(config, store.config, parts["train"], fresh=fresh)
    variables, left_out = plan(parts["train"], config.model.auxiliary)
    facts["auxiliary"] = [variable.as_dict() for variable in variables]
    looker = network if isinstance(network, Classifier) else network.classifier
    caution = check_optimisation(looker, config.model, config.train, missed=notes)
    if config.train.gradient_checkpointing:
        recompute_activations(looker, config.model)
    heads = AuxiliaryHeads(looker.channels, variables) if variables else None
    task = _task(network, parts["train"], config, heads)
    notes = [*notes, *left_out, *([caution] if caution else [])]
    return task, notes, _loaders(store, parts, config, variables)


def _check_share(loader: Loader, config: Config, processes: int) -> None:
    """Check that each of several processes has a batch to train on.

    Raises:
        CohortError: If not.
    """
    drawn, size = len(loader.sampler), config.train.batch_size  # type: ignore[arg-type]
    if processes > 1 and drawn < size * processes:
        raise CohortError(
            f"an epoch shows {drawn} {config.model.level}s, fewer than a batch of {size} for each "
            f"of {processes} processes: use a smaller train.batch_size, or fewer train.devices"
        )


def _outcome(history: History, best: BestWeights) -> dict[str, Any]:
    """Return what the record says of a training that came to its end."""
    return {
        "status": "trained",
        "epochs": len(history.rows),
        "best": {"epoch": best.epoch, "auroc": best.auroc},
        "timings_s": {"train": round(history.seconds, 1)},
        "waiting": round(history.waiting, 4),
    }


def load_classifier(run: Path) -> tuple[Network, Config, PreprocessConfig]:
    """Rebuild a run's network with its best weights, in evaluation mode.

    Raises:
        RunError: If the run is not trained, or its weights do not fit.
    """
    facts = read_run(run)
    config = validated(Config, facts.get("config"), f"{run}/{RECORD}")
    preprocess = validated(PreprocessConfig, facts.get("preprocess"), f"{run}/{RECORD}")
    classifier, _ = _classifier(config, preprocess, None, fresh=False)
    path = Path(run) / _WEIGHTS
    if not path.is_file():
        raise RunError(f"{path} is missing: the run has not finished an epoch")
    try:
        classifier.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the configured network: {error}") from error
    return classifier.eval(), config, preprocess


def _parts(rows: pl.DataFrame, fold: int, config: Config) -> dict[str, pl.DataFrame]:
    """Return train, val and test rows, checked for what training needs."""
    label, level = config.train.label, config.model.level
    if label not in LABEL_COLUMNS:
        raise ConfigError(f"train.label is {label!r}; accepted: {', '.join(LABEL_COLUMNS)}")
    trained = rows.filter(pl.col("split") == "train")
    folds = sorted(set(trained["fold"]))
    if fold not in folds:
        raise ConfigError(f"--fold {fold} is not one of the cohort's folds {folds}")
    parts = {
        "train": trained.filter(pl.col("fold") != fold),
        "val": trained.filter(pl.col("fold") == fold),
        "test": rows.filter(pl.col("split") == "test"),
    }
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
    return parts


def _task(
    network: Network, rows: pl.DataFrame, config: Config, heads: AuxiliaryHeads | None
) -> ClassificationTask:
    counts = shown(rows, config)
    weights = {level: positive_weight(count, config.train) for level, count in counts.items()}
    if isinstance(network, Classifier):
        return ClassificationTask(network, config.train, weights["image"], heads)
    return MultiViewTask(network, config.train, PositiveWeights(**weights), heads)


def _classifier(
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


def _loaders(
    store: PreparedStore,
    parts: dict[str, pl.DataFrame],
    config: Config,
    variables: list[Variable],
) -> tuple[Loader, Loader]:
    targets = encode(parts["train"], variables) if variables else None
    return (
        _loader(store, parts["train"], config, targets, train=True),
        _loader(store, parts["val"], config, train=False),
    )


def _loader(
    store: PreparedStore,
    rows: pl.DataFrame,
    config: Config,
    targets: Tensor | None = None,
    *,
    train: bool,
) -> Loader:
    settings = config.train
    images = _dataset(store, rows, config, targets, train=train)
    options: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "num_workers": settings.workers,
        "persistent_workers": settings.workers > 0,
        # Spawned, not forked: a fork copies the locks of threads that it does not copy.
        "multiprocessing_context": "spawn" if settings.workers else None,
        "collate_fn": None if config.model.level == "image" else collate,
    }
    if not train:
        return Loader(images, **options)
    # A last batch of one image would break batch normalisation; it is drawn again later.
    sampler = EpochSampler(labels_of(rows, config), settings)
    drop_last = len(sampler) > settings.batch_size
    return Loader(images, sampler=sampler, drop_last=drop_last, **options)


def _dataset(
    store: PreparedStore,
    rows: pl.DataFrame,
    config: Config,
    targets: Tensor | None,
    *,
    train: bool,
) -> Dataset[Any]:
    settings, level = config.train, config.model.level
    names = rows["image_id"].to_list()
    changes: dict[str, Any] = {
        "max_value": store.config.max_value,
        "augment": config.augment if train else None,
        "seed": settings.seed,
    }
    if level == "image":
        return ImageDataset(store, names, labels_of(rows, config), targets, **changes)
    by_name = None if targets is None else dict(zip(names, targets, strict=True))
    units = group_units(rows, level, settings.label)
    return UnitDataset(store, units, by_name, most_views=settings.most_views, **changes)
