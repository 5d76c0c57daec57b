"""Verbs of a run: train, evaluate, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from mammoscope.evaluation import Report

__all__ = ["print_rows", "register"]

RunArgument = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(compare)


def train(
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.", show_default=False)],
    run: RunArgument,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as train.lr=3e-4.")
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold that validates.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run.")] = False,
) -> None:
    """Train a classifier, export its graph, and predict validation and test images with it.

    Example: `mammoscope train cohort run --set train.epochs=20 --set model.backbone=resnet18`
    """
    from mammoscope.artefacts import check_output
    from mammoscope.cli.console import stage
    from mammoscope.config import load_config

    resolved = load_config(config, settings or [])
    # Checked before torch is loaded, which takes seconds.
    if not resume:
        check_output(run, overwrite=overwrite, marker="run.json")

    from mammoscope.export import finish_run
    from mammoscope.training import fit

    with stage("train", bar=False) as current:
        made = fit(cohort, run, resolved, fold, resume=resume, overwrite=overwrite)
        current.note = made.summary
    with stage("score") as current:
        images = finish_run(run, cohort, progress=current.advance)
        current.note = f"{images} validation and test images scored with the exported graph"


def evaluate(
    run: RunArgument,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as evaluation.bootstrap=0.")
    ] = None,
    cohort: Annotated[
        Path | None, typer.Option(help="The run's cohort, if it was moved since training.")
    ] = None,
) -> None:
    """Measure a run from its predictions: report.json, index.html and figures.

    Example: `mammoscope evaluate run`
    """
    from mammoscope.cli.console import console, stage
    from mammoscope.evaluation import evaluate_run, run_evaluation_config

    config = run_evaluation_config(run, settings or [])
    with stage("evaluate", bar=False) as current:
        report = evaluate_run(run, config, overwrite=overwrite, cohort=cohort)
        current.note = f"report in {report.path}"
    _print_report(report)
    console.print(f"Report: {report.path}")


def compare(
    first: RunArgument,
    second: Annotated[Path, typer.Argument(help="Another run folder.", show_default=False)],
    level: Annotated[
        Literal["image", "breast", "exam"], typer.Option(help="What is scored.")
    ] = "image",
    json_path: Annotated[
        Path | None, typer.Option("--json", help="File to write the comparison to.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as evaluation.seed=1.")
    ] = None,
) -> None:
    """Compare two evaluated runs on the test split that they share: difference, interval, p.

    Example: `mammoscope compare run-a run-b --level breast`
    """
    from mammoscope.artefacts import write_json
    from mammoscope.cli.console import console
    from mammoscope.config import load_config
    from mammoscope.errors import ConfigError
    from mammoscope.evaluation import compare_runs, comparison_rows

    given = load_config(None, settings or [])
    if given.model_fields_set - {"evaluation"}:
        raise ConfigError("compare takes settings of section evaluation only")
    made = compare_runs(first, second, level, given.evaluation)
    if json_path is not None:
        write_json(json_path, made)
    kind = "SYNTHETIC " if made["synthetic"] else ""
    counts = f"{made['n']} {level}s of {made['patients']} patients, {made['positives']} positive"
    console.print(f"first   {first}\nsecond  {second}", soft_wrap=True)
    print_rows(comparison_rows(made), f"{kind}test split: {counts}")
    for text in (*made["notes"], made["sentence"]):
        console.print(text, soft_wrap=True)
    if json_path is not None:
        console.print(f"Comparison: {json_path}", soft_wrap=True)


def _print_report(report: Report) -> None:
    """Print the table of results; it says *synthetic* where the images are."""
    from mammoscope.evaluation import summary_rows

    kind = "SYNTHETIC images" if report.report["synthetic"] else "images"
    whose = "Held-out" if report.report["measured_on"] == "test" else "Validation (not held-out)"
    print_rows(summary_rows(report), f"{whose} patients, {kind}")


def print_rows(rows: list[list[str]], title: str) -> None:
    """Print rows as a table, the first as its header."""
    from rich.table import Table

    from mammoscope.cli.console import console

    table = Table(title=title, title_justify="left")
    header, *body = rows
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in body:
        table.add_row(*row)
    console.print(table)
