"""What ``tune`` obeys: which keys of a configuration are searched, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mammoscope.config.loading import Frozen, number_or_as_it_is

__all__ = ["Dimension", "Objective", "TuneConfig"]

#: Measures of the validation fold that may be maximised.
Objective = Literal["auroc", "average_precision", "pf1", "f1"]


class Dimension(Frozen):
    """The values that one key may take: a range, or a list."""

    low: float | None = Field(default=None, description="Lower end of a range.")
    high: float | None = Field(default=None, description="Upper end of a range.")
    log: bool = Field(default=False, description="Search the range's logarithm.")
    step: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Distance of the values of a range."
    )
    points: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="How many values of a range a grid takes."
    )
    values: tuple[Any, ...] | None = Field(default=None, description="A list of values.")

    @field_validator("values")
    @classmethod
    def _numbers(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if values is None else tuple(number_or_as_it_is(value) for value in values)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        ends = (self.low, self.high)
        if self.values is not None:
            if ends != (None, None) or self.log or self.step or self.points:
                raise ValueError(
                    "values stand alone: low, high, log, step and points are a range's"
                )
            if not self.values:
                raise ValueError("values is an empty list")
            if len({repr(value) for value in self.values}) < len(self.values):
                raise ValueError("values holds one value twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or values")
        if not self.low < self.high:
            raise ValueError(
                f"the range is empty: low {self.low:g} is not below high {self.high:g}"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"log asks for a low above 0, found {self.low:g}")
        if self.log and self.step:
            raise ValueError("log and step exclude each other")
        return self


class TuneConfig(Frozen):
    """A study: what is maximised, how it is searched, and where."""

    objective: Objective = Field(
        default="auroc",
        description="Measure of the validation fold that is maximised, of the epoch whose weights "
        "are kept; f1 is that of its best threshold.",
    )
    sampler: Literal["tpe", "random", "grid"] = Field(
        default="tpe", description="How the next trial is chosen; grid tries every combination."
    )
    pruner: Literal["median", "hyperband", "none"] = Field(
        default="median", description="Which trials are stopped early, by the epoch's objective."
    )
    startup_trials: Annotated[int, Field(ge=0)] = Field(
        default=5, description="Trials before tpe models and median prunes."
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        default=3, description="Epochs before which median stops no trial."
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="Of the search.")
    config: dict[str, dict[str, Any]] = Field(
        default={}, description="Settings that all trials share, in the sections of train."
    )
    space: dict[str, Dimension] = Field(
        min_length=1, description="Keys such as train.lr, each with its values."
    )
