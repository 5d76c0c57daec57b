"""The verb that looks for faults of a cohort, and the table of what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mammoscope.cli.cohort import CohortArgument

if TYPE_CHECKING:
    from mammoscope.cohort.lint import LintReport

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(lint)


def lint(
    cohort: CohortArgument,
    sample: Annotated[
        int, typer.Option(min=0, help="Originals read per machine; 0 reads all.")
    ] = 100,
    label: Annotated[str, typer.Option(help="Column that will be trained on.")] = "cancer",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="Report to write; default: COHORT/lint.json."),
    ] = None,
) -> None:
    """Look for leakage, label faults and image faults; exit status 1 if there is an error.

    Example: `mammoscope lint cohort --sample 100 --workers 8`
    """
    from mammoscope.cli.console import stage
    from mammoscope.cohort.lint import Severity
    from mammoscope.cohort.lint import lint as run

    with stage("lint") as current:
        made = run(
            cohort,
            sample=sample,
            seed=seed,
            label=label,
            workers=workers,
            json_path=json_path,
            progress=current.advance,
        )
        looked_at = made.looked_at
        current.note = (
            f"errors {made.count(Severity.ERROR)}, warnings {made.count(Severity.WARNING)}, "
            f"remarks {made.count(Severity.INFO)}; of {looked_at['images']} images "
            f"{looked_at['read']} originals read, {looked_at['hashed']} compared; {made.path}"
        )
    _print_findings(made)
    if made.count(Severity.ERROR):
        raise typer.Exit(1)


def _print_findings(made: LintReport) -> None:
    """Print a row per finding, then what could not be checked and what is clean."""
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    from mammoscope.cli.console import console

    colours = {"error": "bold red", "warning": "yellow", "info": "cyan"}
    table = Table(show_lines=True, expand=True)
    table.add_column("severity", no_wrap=True)
    table.add_column("finding", ratio=1)
    table.add_column("count", justify="right", no_wrap=True)
    for finding in made.findings:
        lines = [
            f"[bold]{finding.code}[/] {escape(finding.subject)}".rstrip(),
            escape(finding.what),
            f"→ {escape(finding.todo)}",
        ]
        if finding.examples:
            lines.append(f"[dim]{escape(', '.join(finding.examples))}[/]")
        colour = colours[finding.severity]
        count = f"{finding.count} of {finding.of}\n{finding.unit}"
        what = Text.from_markup("\n".join(lines))
        table.add_row(Text(finding.severity, style=colour), what, count)
    if made.findings:
        console.print(table)
    for name, reason in made.skipped.items():
        console.print(f"[yellow]skipped[/] {name}: {escape(reason)}", soft_wrap=True, markup=True)
    if made.clean:
        console.print(f"[green]clean[/] {', '.join(made.clean)}", soft_wrap=True, markup=True)
