"""One trial: a run that trains and validates, reports every epoch, and may be stopped early."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mammoscope.artefacts import read_json, write_json
from mammoscope.config import Config
from mammoscope.errors import MammoscopeError, OutputError, RunError
from mammoscope.training.fit import fit
from mammoscope.training.run_folder import RECORD

__all__ = ["Outcome", "Task", "Told", "run_trial"]

#: Takes epoch and objective; the answer says whether the trial is to stop.
Told = Callable[[int, float], bool]


@dataclass(frozen=True, slots=True)
class Task:
    """What a trial is to do: everything that a process of its own needs."""

    cohort: Path
    run: Path
    config: Config
    fold: int
    objective: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: One of complete, pruned, failed.
        value: The objective of the epoch whose weights are kept; ``None`` unless complete.
        reason: Why it failed.
    """

    state: str
    value: float | None = None
    reason: str = ""


class _PrunedError(Exception):
    """Ends a training that is not worth going on with."""


def run_trial(task: Task, told: Told) -> Outcome:
    """Train one configuration; go on where an earlier part of it was stopped.

    A fault of the configuration ends the trial. A fault of the machine, such as a full disk,
    ends the study, as every other trial would meet it too.

    Raises:
        OutputError: If the trial's folder cannot be written.
    """

    def progress(row: dict[str, float]) -> None:
        if told(int(row["epoch"]), row[f"val_{task.objective}"]):
            raise _PrunedError

    begun = (task.run / RECORD).is_file()
    try:
        made = fit(
            task.cohort,
            task.run,
            task.config,
            task.fold,
            resume=begun,
            progress=progress,
            bar=False,
        )
    except _PrunedError:
        facts = read_json(task.run / RECORD, RunError)
        write_json(task.run / RECORD, {**facts, "status": "pruned"})
        _forget(task.run)
        return Outcome("pruned")
    except OutputError:
        raise
    # Torch has no class of its own for what a graph cannot do; RuntimeError is what it says.
    except (MammoscopeError, RuntimeError, MemoryError) as error:
        _forget(task.run)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Outcome("failed", reason=lines[0])
    value = _kept(task.run, made.best_epoch, task.objective)
    _forget(task.run)
    return Outcome("complete", value)


def _kept(run: Path, epoch: int, objective: str) -> float:
    """Return the objective of the epoch whose weights were kept."""
    with (run / "history.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if int(row["epoch"]) == epoch:
                return float(row[f"val_{objective}"])
    raise RunError(f"{run / 'history.csv'} has no row of epoch {epoch}")


def _forget(run: Path) -> None:
    """Remove what only an unfinished training needs; many trials fill a disk."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
