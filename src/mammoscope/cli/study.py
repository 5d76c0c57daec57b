"""Verbs of many trainings: tune, track."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# What the option offers; the module holds nothing heavy.
TRACKING_URI = "sqlite:///mlflow.db"

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(tune)
    track = typer.Typer(help="What was written down with `mammoscope train --track`.")
    track.command("ui")(track_ui)
    app.add_typer(track, name="track", no_args_is_help=True)


def tune(
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.", show_default=False)],
    study: Annotated[Path, typer.Argument(help="Study folder.", show_default=False)],
    config: Annotated[Path, typer.Option(help="YAML file of the space.", show_default=False)],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all; 20, or the whole of a grid.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials at once.")] = 1,
    fold: Annotated[int, typer.Option(min=0, help="Fold that validates.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped study.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a study.")] = False,
) -> None:
    """Search settings on a validation fold; the best are a file that train takes.

    Example: `mammoscope tune cohort study --config space.yaml --trials 30 --workers 2`
    """
    from mammoscope.artefacts import check_output
    from mammoscope.cli.console import console, stage
    from mammoscope.config import TuneConfig, load_settings

    settings = load_settings(TuneConfig, config)
    # Checked before torch is loaded, which takes seconds.
    if not resume:
        check_output(study, overwrite=overwrite, marker="study.json")

    from mammoscope.training.tuning import tune as search

    with stage("tune") as current:
        made = search(
            cohort,
            study,
            settings,
            trials=trials,
            workers=workers,
            fold=fold,
            resume=resume,
            overwrite=overwrite,
            progress=current.advance,
        )
        counts = made.report["counts"]
        current.note = (
            f"{counts['complete']} trials complete, {counts['pruned']} stopped early, "
            f"{counts['fail']} failed"
        )
    best = made.report["best"]
    if best is not None:
        kind = "SYNTHETIC " if made.report["synthetic"] else ""
        console.print(
            f"Best: trial {best['number']}, validation {settings.objective} {best['value']:.3f} "
            f"on {kind}images, {', '.join(f'{k}={v}' for k, v in best['settings'].items())}\n"
            f"Train it: mammoscope train {cohort} RUN --config {study / 'best.yaml'}",
            soft_wrap=True,
        )
    console.print(f"Study: {made.path}", soft_wrap=True)


def track_ui(
    uri: Annotated[str, typer.Option(help="SQLite file that was tracked to.")] = TRACKING_URI,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Show tracked runs with MLflow's own pages, on this machine alone, until Ctrl-C.

    Example: `mammoscope track ui --uri sqlite:///mlflow.db`
    """
    import subprocess

    from mammoscope.cli.console import errors
    from mammoscope.errors import RunError
    from mammoscope.tracking import ui_command

    command = ui_command(uri, port)
    errors.print(f"MLflow on http://127.0.0.1:{port}/ in a few seconds; Ctrl-C ends it.")
    # A fixed program with values that were checked, and no shell.
    ended = subprocess.run(command, check=False)  # noqa: S603
    if ended.returncode:
        raise RunError(f"MLflow's page ended with status {ended.returncode}; it says why above")
