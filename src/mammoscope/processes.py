"""Worker processes that end with the process that started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import TypeVar

from mammoscope.errors import MammoscopeError

__all__ = [
    "begin_worker",
    "is_first_process",
    "keep_memory",
    "mapped",
    "process_pool",
    "without_interrupts",
]

_Task = TypeVar("_Task")
_Made = TypeVar("_Made")

# mallopt(3): how many pieces of memory may be mapped by themselves, and from what free end on
# memory is given back.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


# What torchrun, Lightning and SLURM tell each of several training processes.
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Say whether this is the first of the processes that train one network together.

    Lightning starts the same command once for each device; only the first is to write files.
    """
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes; what has not begun is dropped when the block is left.

    Spawned, not forked: a fork copies the locks of threads that it does not copy.
    """
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=begin_worker
    )
    try:
        with without_interrupts(), suppress(BrokenProcessPool):
            # All are started here: what a process is deaf to from the start it never hears.
            for _ in range(workers):
                pool.submit(_nothing)
        yield pool
    finally:
        # A second Ctrl-C in the middle of this would leave workers that nobody tells to end.
        with without_interrupts():
            pool.shutdown(wait=True, cancel_futures=True)


def mapped(
    function: Callable[[_Task], _Made], tasks: Sequence[_Task], workers: int, chunk: int = 1
) -> Iterator[_Made]:
    """Map over processes where there is more than one worker; results in the tasks' order.

    Args:
        function: Of one task; a name of its module, so that a process finds it.
        tasks: What to do.
        workers: Processes.
        chunk: Tasks that a worker is handed at once, so that handing over costs little.

    Raises:
        MammoscopeError: If a worker is ended from outside.
    """
    if workers <= 1 or len(tasks) < 2 * chunk:
        for task in tasks:
            yield function(task)
        return
    try:
        with process_pool(workers) as pool:
            yield from pool.map(function, tasks, chunksize=chunk)
    except BrokenProcessPool as error:
        raise MammoscopeError(
            "a worker process was ended from outside (often: too little memory); run it again "
            "with fewer --workers"
        ) from error


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back, also from processes that are started meanwhile.

    A terminal sends it to the workers too, which would print a traceback each and leave tasks that
    nobody finishes; it is the parent's to end them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held: list[int] = []
    handler = None
    if threading.current_thread() is threading.main_thread():
        # The mask is this thread's and its children's; another thread takes the signal, and Python
        # would raise it here.
        handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if held and callable(handler):
            handler(held[0], None)


def _nothing() -> None:
    """What a worker does first."""


def begin_worker() -> None:
    """Make a process a worker: deaf to Ctrl-C, and gone with the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_memory()
    _end_with_parent()


def keep_memory() -> None:
    """Keep freed memory for the next image or training step, where the C library is glibc.

    It gives every large array back to the system and asks for it again, which then fills it with
    zeros page by page: a tenth of the time of preparing an image, a fifth where two threads read an
    exam's, a third of the page faults of training a small network on a CPU, and what one process
    takes of it slows the others.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _NEVER)


def _end_with_parent() -> None:
    """End this process when its parent does, however that ends.

    A worker waits for work on a pipe that it holds open itself, and so would for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
