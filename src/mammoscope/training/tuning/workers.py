"""Trials in processes of their own: one that dies takes no other with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeVar

import torch

from mammoscope.errors import MammoscopeError, OutputError, RunError
from mammoscope.processes import begin_worker, without_interrupts
from mammoscope.training.tuning.trial import Outcome, Task, run_trial

__all__ = ["run_all"]

_Key = TypeVar("_Key")
_PATIENCE_S = 10.0


@dataclass
class _Worker:
    """A process and our end of its pipe."""

    process: SpawnProcess
    connection: Connection


def run_all(
    trials: Iterable[tuple[_Key, Task]],
    workers: int,
    told: Callable[[_Key, int, float], bool],
    ended: Callable[[_Key, Outcome], None],
) -> None:
    """Run trials, as many at once as there are workers; one worker is this process itself.

    Args:
        trials: What to run; the next is asked for when there is room.
        workers: Processes.
        told: Called with a trial's key, an epoch and its objective; says whether to stop it.
        ended: Called when a trial has ended.

    Raises:
        OutputError: If a trial cannot write.
        RunError: If something went wrong that is no fault of a trial.
    """
    if workers == 1:
        for key, task in trials:
            ended(key, run_trial(task, partial(told, key)))
        return
    waiting = iter(trials)
    busy: dict[int, tuple[_Worker, _Key]] = {}
    with _ended_afterwards() as every:
        while True:
            while len(busy) < workers and (given := next(waiting, None)) is not None:
                worker = _idle(every, busy, workers)
                with suppress(BrokenPipeError):
                    # Of a worker that died meanwhile the pipe's end tells.
                    worker.connection.send(given[1])
                busy[id(worker)] = (worker, given[0])
            if not busy:
                return
            ready = wait([worker.connection for worker, _ in busy.values()])
            for worker, key in list(busy.values()):
                if worker.connection not in ready:
                    continue
                outcome = _heard(worker, key, told)
                if outcome is not None:
                    del busy[id(worker)]
                    ended(key, outcome)


def _heard(worker: _Worker, key: _Key, told: Callable[[_Key, int, float], bool]) -> Outcome | None:
    """Take one message of a worker; returns how its trial ended, if it has."""
    try:
        message = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(_PATIENCE_S)
        return Outcome(
            "failed",
            reason=f"its process ended with status {worker.process.exitcode} (often: too little "
            "memory)",
        )
    if isinstance(message, MammoscopeError):
        raise message
    if isinstance(message, Outcome):
        return message
    epoch, value = message
    answer = told(key, epoch, value)
    with suppress(BrokenPipeError):
        # Of a worker that died meanwhile the pipe's end tells.
        worker.connection.send(answer)
    return None


@contextmanager
def _ended_afterwards() -> Iterator[list[_Worker]]:
    """Give a list of workers, and end all that are in it however the block ends."""
    every: list[_Worker] = []
    try:
        yield every
    finally:
        for worker in every:
            worker.process.kill()
            worker.process.join(_PATIENCE_S)
            worker.connection.close()


def _idle(every: list[_Worker], busy: dict[int, tuple[_Worker, _Key]], workers: int) -> _Worker:
    """Return a worker without a trial, or a new one; a dead one's place is taken."""
    for worker in every:
        if id(worker) not in busy and worker.process.is_alive():
            return worker
    every.append(_start(workers))
    return every[-1]


def _start(workers: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    threads = max(1, torch.get_num_threads() // workers)
    # No daemon, which may not have processes of its own to read images; it ends with this one.
    process = context.Process(target=_serve, args=(theirs, threads))
    with without_interrupts():
        process.start()
    # Theirs alone, so that its end is the end of the pipe.
    theirs.close()
    return _Worker(process, ours)


def _serve(connection: Connection, threads: int) -> None:
    """Run trials until the pipe is closed."""
    begin_worker()
    torch.set_num_threads(threads)

    def told(epoch: int, value: float) -> bool:
        connection.send((epoch, value))
        return bool(connection.recv())

    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            connection.send(run_trial(task, told))
        except OutputError as error:
            connection.send(error)
        except BaseException as error:
            # As where there is one worker, it ends the study; the traceback stays in this process.
            connection.send(RunError(f"a trial ended with {type(error).__name__}: {error}"))
            raise
