"""The tasks that can be learnt, by the name that ``task`` has in settings.

A task is a module with a :class:`TaskPlan` called ``PLAN``. It is imported when it is asked for:
libraries of detectors take seconds to load.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl
from torch import nn

from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, PreprocessConfig, Task
from mammoscope.errors import ConfigError
from mammoscope.training.learning import LearningTask
from mammoscope.training.loading import Loader

__all__ = [
    "CLASSIFIERS_ONLY",
    "TASKS",
    "Made",
    "Maker",
    "Parts",
    "TaskPlan",
    "plan_of",
    "refuse_settings",
    "split_parts",
]

#: The rows of train, val and test.
Parts = dict[str, pl.DataFrame]

#: Where the plan of each task is.
TASKS: dict[Task, str] = {
    "classify": "mammoscope.training.classification",
    "segment": "mammoscope.training.segmentation.plan",
    "segment-then-classify": "mammoscope.training.cutouts.plan",
    "detect": "mammoscope.training.detection",
    "anomaly": "mammoscope.training.anomaly",
}

#: Settings that classifiers of whole images, breasts or exams follow and no other task does.
CLASSIFIERS_ONLY = (
    "model.level",
    "model.auxiliary",
    "train.layer_decay",
    "train.frozen_part",
    "train.gradient_checkpointing",
    "train.lesion_weight",
)


@dataclass(frozen=True, slots=True)
class Made:
    """All that one training needs.

    Attributes:
        task: What is trained.
        loaders: Training and validation batches.
        notes: Sentences that a user should read.
        facts: What the run's record is to say beside what every run's does.
    """

    task: LearningTask
    loaders: tuple[Loader, Loader]
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


class Maker(Protocol):
    """Makes what a training needs."""

    def __call__(self, store: PreparedStore, parts: Parts, config: Config, *, fresh: bool) -> Made:
        """Make it.

        Args:
            store: The cohort's prepared images.
            parts: Checked rows.
            config: Everything else.
            fresh: Whether training begins, so that weights to start from are wanted; false where
                a checkpoint goes on.
        """
        ...


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """How one task is learnt.

    Attributes:
        check: From a store, its rows, the fold that validates and the configuration to the rows
            by part. Every fault of the input raises here, before work is begun.
        make: Makes network, task and batches.
        rebuild: From a configuration and its preprocessing to the network, without weights.
    """

    check: Callable[[PreparedStore, pl.DataFrame, int, Config], Parts]
    make: Maker
    rebuild: Callable[[Config, PreprocessConfig], nn.Module]


def plan_of(task: Task) -> TaskPlan:
    """Return the plan of a task."""
    found: TaskPlan = importlib.import_module(TASKS[task]).PLAN
    return found


def split_parts(rows: pl.DataFrame, fold: int) -> Parts:
    """Return train, val and test rows.

    Args:
        rows: A row per image with ``split`` and ``fold``; training rows without a fold are
            trained on whichever validates.
        fold: The fold that validates.

    Raises:
        ConfigError: If there is no such fold.
    """
    trained = rows.filter(pl.col("split") == "train")
    folds = sorted(set(trained["fold"].drop_nulls()))
    if fold not in folds:
        raise ConfigError(f"--fold {fold} is not one of the cohort's folds {folds}")
    return {
        "train": trained.filter(pl.col("fold").ne_missing(fold)),
        "val": trained.filter(pl.col("fold") == fold),
        "test": rows.filter(pl.col("split") == "test"),
    }


def refuse_settings(config: Config, *keys: str) -> None:
    """Refuse settings that a task cannot follow, before they are left undone in silence.

    Args:
        config: What is asked for.
        keys: Dotted names of what the task does not know.

    Raises:
        ConfigError: If one of them is not at its default.
    """
    for key in keys:
        section, _, name = key.partition(".")
        asked, default = (getattr(getattr(c, section), name) for c in (config, Config()))
        if asked != default:
            instead = "" if key != "model.weights" else f": {config.weights_key} is its own"
            raise ConfigError(
                f"{key}={asked}: task={config.task} cannot follow it{instead}; leave it at "
                f"{default}"
            )
