"""Batches that are read while the step before them computes, and how long steps wait for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lightning.pytorch.profilers import Profiler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mammoscope.config import TrainConfig
from mammoscope.training.sampling import EpochSampler

__all__ = ["DataClock", "Loader"]

# Batches read ahead; more would only take memory, as reading is the quicker of the two.
_AHEAD = 2


class Loader(DataLoader[tuple[Tensor, ...]]):
    """A loader that reads ahead in a thread where it has no worker processes.

    It starts with the first batch that is asked for and not with ``iter``: Lightning makes the
    iterator of a resumed run before it tells the sampler the epoch.

    Args:
        images: What is read.
        settings: Size of a batch, and processes that read.
        sampler: The order in which training shows them; without one all are shown as they stand.
        collate: Joins what was read to a batch, where torch's own way does not.
        batch_size: In the place of the settings'.
        keep_last: Whether training sees a last batch that is not whole.
    """

    def __init__(
        self,
        images: Dataset[Any],
        settings: TrainConfig,
        sampler: EpochSampler | None = None,
        *,
        collate: Callable[[Any], Any] | None = None,
        batch_size: int | None = None,
        keep_last: bool = False,
    ) -> None:
        size = batch_size or settings.batch_size
        super().__init__(
            images,
            size,
            sampler=sampler,
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            # Spawned, not forked: a fork copies the locks of threads that it does not copy.
            multiprocessing_context="spawn" if settings.workers else None,
            collate_fn=collate,
            # A last batch of one image would break batch normalisation; it is drawn again later.
            drop_last=sampler is not None and len(sampler) > size and not keep_last,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:  # type: ignore[override]
        batches: Iterator[tuple[Tensor, ...]] = super().__iter__()
        if self.num_workers:
            yield from batches
            return
        pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        try:
            coming = deque(pool.submit(next, batches, None) for _ in range(_AHEAD))
            while (batch := coming.popleft().result()) is not None:
                coming.append(pool.submit(next, batches, None))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


class DataClock(Profiler):
    """Counts the seconds in which the loop has no batch to work on, in training and validation."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s = 0.0
        self._begun = 0.0

    def start(self, action_name: str) -> None:
        """Start where a batch is asked for."""
        if action_name.endswith("_next"):
            self._begun = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Count until it is there."""
        if action_name.endswith("_next"):
            self.waited_s += time.perf_counter() - self._begun
