"""From a space in words to a trial's configuration, checked before any time is spent."""

from __future__ import annotations

import copy
import difflib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
from pydantic import BaseModel

from mammoscope.config import Config, check_many, validated
from mammoscope.config.tuning import Dimension, TuneConfig
from mammoscope.errors import ConfigError
from mammoscope.models import check_backbone

__all__ = ["base_config", "check_space", "config_of", "grid", "networks", "suggest"]

# What changes the task, or is no part of training, cannot be searched.
_FIXED = {
    "task": "trials of different tasks cannot be compared",
    "train.label": "trials that learn different labels cannot be compared",
    "evaluation": "it changes no training",
    "tracking": "it changes no training",
    "train.devices": "trials train on one device each",
    "train.nodes": "trials train on one device each",
}
_MOST_POINTS = 10_000
_POINTS = 4


def base_config(tune: TuneConfig) -> Config:
    """Return the configuration that all trials share."""
    return validated(Config, tune.config, "config")


def check_space(tune: TuneConfig) -> None:
    """Check that every key exists and every end of its range is accepted.

    Raises:
        ConfigError: If not; the key is named, with the nearest one where it is unknown. Or if the
            settings that all trials share ask for what single runs alone can do.
    """
    check_many(base_config(tune), "tune")
    known = dict(_leaves(Config()))
    for key, dimension in tune.space.items():
        for fixed, reason in _FIXED.items():
            if key == fixed or key.startswith(f"{fixed}."):
                raise ConfigError(f"space: {key} cannot be searched: {reason}")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"space: unknown key {key}{hint}")
        for value in _ends(key, dimension):
            try:
                config_of(tune, {key: value})
                if key == "model.backbone":
                    check_backbone(value)
            except ConfigError as error:
                raise ConfigError(f"space: {key} may not be {value!r}: {error}") from error
    if tune.sampler == "grid":
        points = math.prod(len(_points(key, d)) for key, d in tune.space.items())
        if points > _MOST_POINTS:
            raise ConfigError(
                f"space: the grid has {points:,} combinations, more than {_MOST_POINTS:,}: use "
                "fewer values, or sampler tpe"
            )


def config_of(tune: TuneConfig, params: dict[str, Any]) -> Config:
    """Return a trial's configuration.

    Raises:
        ConfigError: If the values do not go together.
    """
    values = copy.deepcopy(tune.config)
    for key, value in params.items():
        *sections, name = key.split(".")
        target: dict[str, Any] = values
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    return validated(Config, values)


def networks(tune: TuneConfig) -> Iterator[Config]:
    """Yield what all trials share, then that with each searched value of the network's."""
    yield base_config(tune)
    for key, dimension in tune.space.items():
        if key.startswith("model."):
            for value in _ends(key, dimension):
                yield config_of(tune, {key: value})


def suggest(tune: TuneConfig, trial: optuna.Trial) -> dict[str, Any]:
    """Draw a value for every key; what the trial has drawn before stays."""
    drawn: dict[str, Any] = {}
    for key, dimension in tune.space.items():
        if dimension.values is not None:
            # By place: Optuna keeps plain values only, and true and 1 would be one choice.
            drawn[key] = dimension.values[
                trial.suggest_categorical(key, list(range(len(dimension.values))))
            ]
            continue
        low, high = _range(dimension)
        if _is_whole(key):
            step = int(dimension.step or 1)
            drawn[key] = trial.suggest_int(key, int(low), int(high), step=step, log=dimension.log)
        else:
            drawn[key] = trial.suggest_float(key, low, high, step=dimension.step, log=dimension.log)
    return drawn


def grid(tune: TuneConfig) -> Iterator[dict[str, Any]]:
    """Return every combination, in the form that a study is told to try."""
    every = [
        range(len(d.values)) if d.values is not None else _points(key, d)
        for key, d in tune.space.items()
    ]
    for combination in itertools.product(*every):
        yield dict(zip(tune.space, combination, strict=True))


def _points(key: str, dimension: Dimension) -> list[Any]:
    """Return the values that a grid takes of one key."""
    if dimension.values is not None:
        return list(dimension.values)
    low, high = _range(dimension)
    if dimension.points is None and (dimension.step or _is_whole(key)):
        step = dimension.step or 1.0
        count = math.floor((high - low) / step + 1e-9) + 1
        made = [low + step * number for number in range(count)]
    else:
        count = dimension.points or _POINTS
        spread = np.geomspace if dimension.log else np.linspace
        made = [float(value) for value in spread(low, high, count)]
        # The ends are those that were written, to the last digit.
        made[0], made[-1] = low, high
    if _is_whole(key):
        return sorted({round(value) for value in made})
    return made


def _is_whole(key: str) -> bool:
    """Say whether a key takes whole numbers, as its default is one."""
    default = dict(_leaves(Config()))[key]
    return isinstance(default, int) and not isinstance(default, bool)


def _ends(key: str, dimension: Dimension) -> list[Any]:
    if dimension.values is not None:
        return list(dimension.values)
    low, high = _range(dimension)
    return [int(low), int(high)] if _is_whole(key) else [low, high]


def _range(dimension: Dimension) -> tuple[float, float]:
    if dimension.low is None or dimension.high is None:
        raise ValueError("a list of values has no range")
    return dimension.low, dimension.high


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a configuration with its value."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
