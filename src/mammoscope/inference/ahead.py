"""Images of an exam read side by side, ahead of what scores them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import zip_longest
from typing import TypeVar

__all__ = ["AheadReader"]

# The views of an exam are four, and each keeps a core busy.
_THREADS = min(4, os.cpu_count() or 1)

Item = TypeVar("Item")
Read = TypeVar("Read")


class AheadReader:
    """Reads in several threads, which live as long as it: memory that is kept is kept for a thread.

    Decoders let go of the interpreter's lock, and decode one image on one core.

    Args:
        threads: How many.
    """

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "mammoscope-reader")

    def __call__(
        self, read: Callable[[Item], Read], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Future[Read]]]:
        """Yield items in their order, each with what was read or what went wrong.

        No more of them are ahead of the one that was asked for than there are threads; those that
        nobody asks for any more are not begun.

        Args:
            read: Reads one, in any thread.
            items: What to read.
        """
        waiting = deque(self._pool.submit(read, item) for item in items[: self._threads])
        try:
            for item, following in zip_longest(items, items[self._threads :]):
                first = waiting.popleft()
                if following is not None:
                    waiting.append(self._pool.submit(read, following))
                yield item, first
        finally:
            for left in waiting:
                left.cancel()
            # Whoever asked may remove the files now.
            wait(waiting)
