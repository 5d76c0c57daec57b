"""What a person sees: progress bars and a line per stage, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

__all__ = ["Stage", "console", "errors", "print_rows", "stage"]

# Paths, names and messages may hold square brackets; markup is for our own words, line by line.
#: Results go to standard output, progress to standard error.
console = Console(highlight=False, markup=False)
errors = Console(stderr=True, highlight=False, markup=False)


class _Speed(TextColumn):
    """Items per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Any:
        text = f"{task.speed:.1f}/s" if task.speed else ""
        return super().render(task).append(text)


@dataclass
class Stage:
    """One stage under way.

    Attributes:
        advance: Call with (done, total) to move the bar.
        note: What the closing line says was made.
    """

    advance: Callable[[int, int], None]
    note: str = ""


@contextmanager
def stage(title: str, *, bar: bool = True) -> Iterator[Stage]:
    """Show a bar while a stage runs and one line when it is done.

    Args:
        title: Name of the stage.
        bar: Off where the stage draws its own.
    """
    begun = time.perf_counter()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Speed(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not bar or not errors.is_terminal,
    )
    with progress:
        task = progress.add_task(title, total=None)
        current = Stage(lambda done, total: progress.update(task, completed=done, total=total))
        yield current
    taken_s = time.perf_counter() - begun
    errors.print(
        f"[green]✓[/] [bold]{title:<9}[/] {escape(current.note)} [dim]({taken_s:.1f} s)[/]",
        soft_wrap=True,
        markup=True,
    )


def print_rows(rows: list[list[str]], title: str) -> None:
    """Print rows as a table, the first as its header."""
    table = Table(title=title, title_justify="left")
    header, *body = rows
    for index, name in enumerate(header):
        # What does not fit goes on in the next line; a number is never cut.
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in body:
        table.add_row(*row)
    console.print(table)
