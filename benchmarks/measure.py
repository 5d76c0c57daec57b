"""Timing two ways of one task in turn, and the table and JSON that every benchmark leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

__all__ = ["Spread", "in_turn", "leave", "machine", "peak_memory_mb"]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a sample."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise a sample."""
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


def in_turn(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Time each way once per round, so that what slows the machine slows all of them.

    Returns:
        Milliseconds of each way, a value per round; one round before them is not counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if turn:
                taken[name].append(1000 * (time.perf_counter() - begun))
    return taken


def peak_memory_mb(task: Callable[..., object], *words: object) -> float:
    """Return the peak resident memory of a fresh process that does a task, in MB."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_do_and_report, args=(queue, task, words))
    worker.start()
    peak = float(queue.get())
    worker.join()
    return peak


def _do_and_report(
    queue: multiprocessing.Queue[float], task: Callable[..., object], words: tuple[object, ...]
) -> None:
    task(*words)
    # Not getrusage: its peak goes on from that of the process that started this one.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    queue.put(int(peak[1]) / 1024 if peak else float("nan"))


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def leave(name: str, title: str, rows: list[dict[str, Any]], out: Path) -> None:
    """Print the rows as a table and write them as JSON."""
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=140).print(table)
    path = out / f"{name}.json"
    plain = [
        {key: vars(value) if isinstance(value, Spread) else value for key, value in row.items()}
        for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "rows": plain}, indent=2) + "\n")
    Console().print(f"written: {path}")
