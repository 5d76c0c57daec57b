"""Verb that trains an easy task which must be solved: sanity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mammoscope.config import Task

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(sanity)


def sanity(
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", help="What to train; may be repeated. All by default."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to keep pictures and runs in.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Train on bright discs, which any code that works learns: is code or data to blame?

    Takes under three minutes, on files of its own. Exits with 1 where a task is not solved.

    Example: `mammoscope sanity --task segment`
    """
    import tempfile

    from mammoscope.artefacts import check_output, claim_output, write_json
    from mammoscope.sanity import check_tasks

    if out is not None:
        check_output(out, overwrite=overwrite, marker="sanity.json")
    wanted = check_tasks(tasks or [])
    if out is None:
        with tempfile.TemporaryDirectory(prefix="mammoscope-sanity-") as folder:
            _take_all(wanted, Path(folder))
        return
    claim_output(out, overwrite=overwrite, marker="sanity.json")
    write_json(out / "sanity.json", {"kind": "sanity", "synthetic": True})
    _take_all(wanted, out)


def _take_all(tasks: list[Task], folder: Path) -> None:
    """Train one task after the other, and say of each how it went."""
    from mammoscope.cli.console import stage
    from mammoscope.errors import RunError
    from mammoscope.sanity import make_cohort, take

    with stage("pictures", bar=False) as current:
        cohort = make_cohort(folder)
        current.note = "bright discs on grey ellipses, each a file"
    failed = []
    for task in tasks:
        with stage(task, bar=False) as current:
            outcomes = take(task, cohort, folder / task)
            current.note = "; ".join(outcome.sentence for outcome in outcomes)
        failed += [outcome.sentence for outcome in outcomes if not outcome.passed]
    if failed:
        raise RunError("; ".join(failed))
