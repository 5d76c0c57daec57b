"""Verb that trains a recipe rung by rung: ablate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(ablate)


def ablate(
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of the ladder.", show_default=False)],
    ladder: Annotated[Path, typer.Option(help="YAML file of the ladder.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of all rungs, or of one arm: cnn:train.lr=3e-4."),
    ] = None,
    arms: Annotated[
        list[str] | None, typer.Option("--arm", help="One arm of it; may be repeated.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Fold that validates; 0 by default.")
    ] = None,
    folds: Annotated[
        Literal["all"] | None,
        typer.Option(help="Train every fold of each rung in turn, and measure their mean."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that prepare images.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a ladder.")] = False,
) -> None:
    """Train a recipe rung by rung, each with more of it switched on, and print what each is worth.

    A rerun goes on with what is left. Published figures stand in square brackets.

    Example: `mammoscope ablate cohort ladder --ladder configs/ladders/umich.yaml --arm cnn`
    """
    from mammoscope.ablation import climb, ladder_tables
    from mammoscope.cli.console import console, errors, print_rows, stage
    from mammoscope.config import load_ladder

    if fold is not None and folds is not None:
        raise typer.BadParameter(
            "--fold trains one, --folds all trains every one: give one of them"
        )
    loaded = load_ladder(ladder)
    with stage("ablate", bar=False) as current:
        record = climb(
            cohort,
            out,
            loaded,
            settings or [],
            arms=arms or [],
            fold=None if folds else fold or 0,
            workers=workers,
            overwrite=overwrite,
            told=lambda text: errors.print(text, style="bold"),
        )
        current.note = f"{len(record['rungs'])} runs in {out}"
    kind = "SYNTHETIC " if record["synthetic"] else ""
    for title, rows in ladder_tables(record):
        print_rows(rows, f"{record['title']} · {kind}{record['level']}s · {title}")
    if any(rung["published"] for rung in record["rungs"]):
        console.print(f"In square brackets: {record['source']}", soft_wrap=True, markup=False)
    console.print(f"Ladder: {out / 'ladder.json'}", soft_wrap=True)
