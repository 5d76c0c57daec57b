"""A ladder: one recipe trained several times, each rung with more of it switched on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mammoscope.config.learning import Config
from mammoscope.config.loading import Frozen, override, read_yaml, validated
from mammoscope.errors import ConfigError

__all__ = ["LadderConfig", "Rung", "load_ladder", "rung_settings"]

_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]


class Rung(Frozen):
    """One step of a ladder."""

    name: _Name = Field(description="Also of its run folders.")
    says: str = Field(default="", description="What is new, for people.")
    recipe: Path | None = Field(
        default=None,
        description="Settings to start anew from, beside the ladder's file; the rungs before no "
        "longer count.",
    )
    prepare: dict[str, Any] = Field(
        default={}, description="Preprocessing settings, on top of those of the rungs before."
    )
    settings: dict[str, Any] = Field(
        default={}, description="Sections of settings, on top of those of the rungs before."
    )
    published: dict[str, float] = Field(
        default={}, description="What others measured: evaluation_f1, test_f1 and so on."
    )


class LadderConfig(Frozen):
    """What ``ablate`` obeys."""

    title: str = Field(description="Heads the table.")
    source: str = Field(default="", description="Where published figures are from.")
    recipe: Path = Field(description="Settings that all rungs start from, beside this file.")
    level: Literal["image", "breast", "exam"] = Field(
        default="image", description="What is measured."
    )
    arms: dict[_Name, dict[str, Any]] = Field(
        default={"all": {}},
        min_length=1,
        description="Settings of each column of runs; prepare among them is of its images, beneath "
        "that of the rungs.",
    )
    rungs: tuple[Rung, ...] = Field(min_length=1, description="From the bottom to the top.")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [rung.name for rung in self.rungs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rungs share the name {', '.join(twice)}")
        return self

    @field_validator("arms")
    @classmethod
    def _prepared_by_keys(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, arm in arms.items():
            if not isinstance(arm.get("prepare", {}), dict):
                raise ValueError(  # noqa: TRY004 - pydantic reports no other
                    f"prepare of {name} is no mapping of preprocessing settings"
                )
        return arms


def load_ladder(path: Path) -> LadderConfig:
    """Read a ladder's file; its recipes' paths become ones from here.

    Raises:
        ConfigError: If it cannot be read, or a key or value is not accepted.
    """
    ladder = validated(LadderConfig, read_yaml(path), str(path))
    beside = Path(path).parent
    rungs = tuple(
        rung.model_copy(update={"recipe": rung.recipe and beside / rung.recipe})
        for rung in ladder.rungs
    )
    return ladder.model_copy(update={"recipe": beside / ladder.recipe, "rungs": rungs})


def rung_settings(
    ladder: LadderConfig, arm: str, place: int, overrides: Iterable[str] = ()
) -> tuple[Config, dict[str, Any]]:
    """Resolve what a rung trains: the recipe, the arm, the rungs up to it, then overrides.

    Args:
        ladder: From :func:`load_ladder`.
        arm: One of its arms.
        place: Of the rung, from 0.
        overrides: Items such as ``train.epochs=3``; with ``arm:`` before it, of one arm only.

    Returns:
        The configuration, and the preprocessing settings that differ from the cohort's.

    Raises:
        ConfigError: If a key or value is not accepted; the rung is named.
    """
    rung = ladder.rungs[place]
    own = {key: value for key, value in ladder.arms[arm].items() if key != "prepare"}
    beneath: dict[str, Any] = ladder.arms[arm].get("prepare", {})
    values, prepare = read_yaml(ladder.recipe), dict(beneath)
    _merge(values, own)
    for below in ladder.rungs[: place + 1]:
        if below.recipe is not None:
            values, prepare = read_yaml(below.recipe), dict(beneath)
            _merge(values, own)
        _merge(values, below.settings)
        prepare |= below.prepare
    for item in overrides:
        of, separator, setting = item.partition(":")
        if not separator or "=" in of:
            override(values, item)
        elif of not in ladder.arms:
            raise ConfigError(
                f"--set {item!r}: {of} is not one of the arms {', '.join(ladder.arms)}"
            )
        elif of == arm:
            override(values, setting)
    return validated(Config, values, f"rung {rung.name} of {arm}"), prepare


def _merge(values: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = copy.deepcopy(value)
