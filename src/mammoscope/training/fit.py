"""Train one network on one fold: check everything, then fit, then write down what was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mammoscope.artefacts import claim_output, write_json
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, PreprocessConfig, validated
from mammoscope.errors import CohortError, RunError
from mammoscope.inference.runtime import check_engine
from mammoscope.log import get_logger
from mammoscope.processes import is_first_process
from mammoscope.training.callbacks import BestWeights, EpochBar, History
from mammoscope.training.learning import Measure
from mammoscope.training.loading import Loader
from mammoscope.training.loop import (
    build_trainer,
    last_checkpoint,
    run_trainer,
    with_precision,
)
from mammoscope.training.origin import (
    check_origin,
    learnt_before,
    origin_metadata,
    with_weights_of_fold,
)
from mammoscope.training.run_folder import (
    RECORD,
    WEIGHTS,
    FitResult,
    check_run,
    describe_run,
    read_run,
    result_of,
)
from mammoscope.training.task import Network
from mammoscope.training.tasks import Made, Parts, plan_of

__all__ = [
    "check_folds",
    "check_input",
    "check_start",
    "fit",
    "load_classifier",
    "load_network",
]

_log = get_logger(__name__)


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
        ConfigError: If the label, fold or backbone is unknown, weights have learnt from images that
            are held out, or the network cannot be trained as configured, here or at all.
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
    made = _made(store, parts, config, fresh=checkpoint is None)
    facts |= made.facts
    if earlier and checkpoint:
        facts |= {key: earlier.get(key, []) for key in ("notes", "learnt_before")}
    history = History(run / "history.csv", made.task.columns(), progress)
    best = BestWeights(run / WEIGHTS, measure := made.task.measure, origin_metadata(facts))
    bars = [EpochBar(measure)] if bar and first else []
    trainer = build_trainer(run, config.train, history, measure, [best, *bars])
    _check_share(made.loaders[0], config, trainer.world_size)
    facts["devices"] = {"count": trainer.world_size, "kind": trainer.strategy.root_device.type}
    if first:
        _begin(run, facts, resume=resume, overwrite=overwrite)
    run_trainer(trainer, made.task, made.loaders, resume=checkpoint)
    facts |= _outcome(history, best, measure)
    if first:
        write_json(run / RECORD, facts)
    return result_of(facts)


def _made(store: PreparedStore, parts: Parts, config: Config, *, fresh: bool) -> Made:
    """Make what a training needs; weights to start from are checked for where they are from.

    What goes on does not look at them: they may be gone, and its record says all of this.
    """
    fold = int(parts["val"]["fold"][0])
    notes: list[str] = []
    before: list[dict[str, Any]] = []
    if fresh:
        config = with_weights_of_fold(config, store, fold)
        notes, before = check_origin(config, store, fold), learnt_before(config)
    made = plan_of(config.task).make(store, parts, config, fresh=fresh)
    notes = [*notes, *made.notes]
    return replace(made, facts={**made.facts, "notes": notes, "learnt_before": before})


def _begin(run: Path, facts: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Say what a user should read, and write down that the run has begun."""
    for note in facts["notes"]:
        _log.warning(note)
    if not resume:
        claim_output(run, overwrite=overwrite, marker=RECORD)
    write_json(run / RECORD, facts)


def check_input(cohort: Path, config: Config, fold: int) -> tuple[PreparedStore, Parts]:
    """Check what training needs of a cohort; returns its images, and its rows by part.

    Raises:
        CohortError: If an image is not prepared, or a part lacks a class.
        ConfigError: If the label, fold or backbone is unknown, or what is trained cannot be
            evaluated here by its engine.
    """
    check_engine(config.export)
    store = PreparedStore(cohort)
    return store, plan_of(config.task).check(store, store.rows(), fold, config)


def check_start(
    cohort: Path, config: Config, fold: int, preprocess: PreprocessConfig | None = None
) -> None:
    """Check all that a training would find out when it begins, weights to start from included.

    The network is built and forgotten: it takes seconds, where a fault that is found later costs
    what was trained or replaced before it.

    Args:
        cohort: A cohort folder, prepared and split.
        config: What is to be trained.
        fold: The fold that validates.
        preprocess: How the images will be prepared, if otherwise than they are.

    Raises:
        CohortError: If an image is not prepared, or a part lacks a class.
        ConfigError: If the label, fold or backbone is unknown, or the network cannot be trained
            as configured on images of that size.
        RunError: If weights do not fit.
    """
    store, parts = check_input(cohort, config, fold)
    if preprocess is not None:
        store.config = preprocess
    _made(store, parts, config, fresh=True)


def check_folds(
    cohort: Path, config: Config, preprocess: PreprocessConfig | None = None, *, fresh: bool = True
) -> tuple[list[int], dict[str, Any]]:
    """Check everything that training each fold of a cohort in turn needs.

    Args:
        cohort: A cohort folder.
        config: What is to be trained.
        preprocess: How the images will be prepared, if otherwise than they are.
        fresh: Whether it begins; what goes on has had its network built.

    Returns:
        The folds, and the record of the run that holds them all.

    Raises:
        CohortError: If an image is not prepared, or folds lack a class; every fault is listed.
        ConfigError: If the label or backbone is unknown, the network cannot be trained as
            configured, or weights to start from have learnt from images that validate.
        RunError: If weights to start from do not fit.
    """
    config = with_precision(config)
    store, plan = PreparedStore(cohort), plan_of(config.task)
    rows = store.rows()
    trained = rows.filter(pl.col("split") == "train")
    folds = sorted(set(trained["fold"].drop_nulls()))
    if len(folds) < 2:
        raise CohortError(f"{cohort} has the folds {folds}; at least two are needed")
    faults = []
    for fold in folds:
        try:
            parts = plan.check(store, rows, fold, config)
        except CohortError as error:
            faults.append(str(error))
    if faults:
        raise CohortError("; ".join(faults))
    if preprocess is not None:
        store.config = preprocess
    if fresh:
        for fold in folds:
            check_origin(with_weights_of_fold(config, store, fold), store, fold)
        _made(store, parts, config, fresh=True)
    # What is there for training only has no fold and never validates.
    validated_on = trained["fold"].drop_nulls().len()
    counts = {"train": trained.height, "val": validated_on, "test": parts["test"].height}
    facts = describe_run(cohort, config, store.config, None, counts)
    return folds, facts | {"folds": folds}


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


def _outcome(history: History, best: BestWeights, measure: Measure) -> dict[str, Any]:
    """Return what the record says of a training that came to its end.

    Raises:
        RunError: If no epoch could be measured.
    """
    if best.value is None:
        raise RunError(f"the validation {measure.title} is undefined in every epoch")
    return {
        "status": "trained",
        "epochs": len(history.rows),
        "best": {"epoch": best.epoch, measure.name: best.value},
        "measure": {"name": measure.name, "title": measure.title},
        "timings_s": {"train": round(history.seconds, 1)},
        "waiting": round(history.waiting, 4),
    }


def load_classifier(run: Path) -> tuple[Network, Config, PreprocessConfig]:
    """Rebuild the network of a classifier's run; see :func:`load_network`.

    Raises:
        RunError: If the run is of another task, too.
    """
    network, config, preprocess = load_network(run)
    if config.task != "classify":
        raise RunError(f"{run} is of task {config.task}: a classifier's is needed")
    return network, config, preprocess  # type: ignore[return-value]


def load_network(run: Path) -> tuple[nn.Module, Config, PreprocessConfig]:
    """Rebuild a run's network with its best weights, in evaluation mode.

    Raises:
        RunError: If the run is not trained, or its weights do not fit.
    """
    facts = read_run(run)
    config = validated(Config, facts.get("config"), f"{run}/{RECORD}")
    preprocess = validated(PreprocessConfig, facts.get("preprocess"), f"{run}/{RECORD}")
    network = plan_of(config.task).rebuild(config, preprocess)
    path = Path(run) / WEIGHTS
    if not path.is_file():
        raise RunError(f"{path} is missing: the run has not finished an epoch")
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:
        raise RunError(f"{path} does not fit the configured network: {error}") from error
    return network.eval(), config, preprocess
