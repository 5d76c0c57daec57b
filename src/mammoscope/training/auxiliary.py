"""Further columns that a network learns to tell while it trains, so that its features are richer.

Their heads belong to the training task and not to the classifier: neither the kept weights nor
the exported graph has any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AuxiliaryHeads", "Variable", "encode", "plan"]

# Columns of quantities; all others are categories.
_QUANTITIES = ("age",)


@dataclass(frozen=True, slots=True)
class Variable:
    """One column as a target.

    Attributes:
        name: Of the column.
        categories: Its values among the training images, in order; none for a quantity.
        mean: Of a quantity among the training images.
        spread: Its standard deviation there.
        known: How many training images have a value.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    spread: float = 1.0
    known: int = 0

    @property
    def outputs(self) -> int:
        """How many numbers a head gives for it."""
        return len(self.categories) or 1

    def as_dict(self) -> dict[str, Any]:
        """Return a plain record of it."""
        return {**asdict(self), "categories": list(self.categories)}


def plan(rows: pl.DataFrame, names: Sequence[str]) -> tuple[list[Variable], list[str]]:
    """Settle what each column's head has to tell apart.

    Args:
        rows: The training images, with the columns.
        names: Which columns.

    Returns:
        A variable for each column that has two values or more, and a sentence for each other one.
    """
    variables, notes = [], []
    for name in names:
        known = rows[name].drop_nulls()
        distinct = known.unique().sort()
        if distinct.len() < 2:
            held = f"only {distinct[0]}" if distinct.len() else "no value at all"
            notes.append(f"auxiliary {name} left out: the training images hold {held}")
        elif name in _QUANTITIES:
            values = known.cast(pl.Float64)
            mean, spread = float(values.mean()), float(values.std())  # type: ignore[arg-type]
            variables.append(Variable(name, (), mean, spread, known.len()))
        else:
            categories = tuple(distinct.cast(pl.String))
            variables.append(Variable(name, categories, known=known.len()))
    return variables, notes


def encode(rows: pl.DataFrame, variables: Sequence[Variable]) -> Tensor:
    """Return targets (N, variables) float32: places of categories, standardised quantities.

    What is unknown, or a category that no training image has, is NaN.
    """
    columns = []
    for variable in variables:
        if variable.categories:
            places = {value: float(place) for place, value in enumerate(variable.categories)}
            column = [places.get(value) for value in rows[variable.name].cast(pl.String)]
        else:
            values = (rows[variable.name].cast(pl.Float64) - variable.mean) / variable.spread
            column = values.to_list()
        columns.append([float("nan") if value is None else value for value in column])
    return torch.tensor(columns, dtype=torch.float32).reshape(len(variables), rows.height).T


class AuxiliaryHeads(nn.Module):
    """A linear head for each variable on the mean of the feature map.

    Args:
        channels: Of the features.
        variables: What the heads tell.
    """

    def __init__(self, channels: int, variables: Sequence[Variable]) -> None:
        super().__init__()
        self.variables = tuple(variables)
        self.heads = nn.ModuleList(nn.Linear(channels, v.outputs) for v in self.variables)

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, C, h, w) to (B, outputs) for each variable."""
        pooled = features.mean(dim=(2, 3))
        return [head(pooled).float() for head in self.heads]

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Add up the variables' losses, each over the images whose value is known.

        Args:
            features: (B, C, h, w).
            targets: (B, variables), NaN where unknown.

        Returns:
            Cross-entropy of categories and half the squared error of standardised quantities; a
            variable that no image of the batch has adds 0, with a gradient of 0.
        """
        total = features.new_zeros((), dtype=torch.float32)
        for place, (variable, given) in enumerate(zip(self.variables, self(features), strict=True)):
            known = ~torch.isnan(targets[:, place])
            wanted = torch.where(known, targets[:, place], torch.zeros_like(targets[:, place]))
            if variable.categories:
                terms = functional.cross_entropy(given, wanted.long(), reduction="none")
            else:
                terms = 0.5 * (given[:, 0] - wanted) ** 2
            total = total + (terms * known).sum() / known.sum().clamp(min=1)
        return total
