"""Which training images an epoch shows, and in what order: what a rare label asks for.

Everything follows from seed and epoch, so that a resumed run draws as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from mammoscope.config import TrainConfig
from mammoscope.errors import CohortError
from mammoscope.types import Ints

__all__ = ["EpochSampler", "drawn_counts"]


def drawn_counts(labels: Sequence[float], config: TrainConfig) -> tuple[int, int]:
    """Return how many positive and negative images an epoch shows.

    Args:
        labels: 0, 1 or NaN for unknown, one for each image.
        config: How images are drawn.
    """
    positives = sum(label == 1 for label in labels)
    negatives = sum(label == 0 for label in labels)
    ratio = config.negatives_per_positive
    if config.sampling == "undersample":
        negatives = min(negatives, round(ratio * positives))
    elif config.sampling == "oversample":
        positives = max(positives, round(negatives / ratio))
    return positives, negatives


class EpochSampler(Sampler[tuple[int, int]]):
    """The images of an epoch, in an order that seed and epoch alone decide.

    Lightning calls :meth:`set_epoch` before each epoch. Where several processes train, each has
    every so manieth batch of the same order, and all have as many.

    Args:
        labels: 0, 1 or NaN for unknown, one for each image.
        config: How images are drawn, and how many make a batch.

    Raises:
        CohortError: If there are too few positives for those that each batch is to have.
    """

    def __init__(self, labels: Sequence[float], config: TrainConfig) -> None:
        known = np.asarray(labels, dtype=np.float64)
        self._config = config
        self._positives = np.flatnonzero(known == 1)
        self._negatives = np.flatnonzero(known == 0)
        self._unknown = np.flatnonzero(np.isnan(known))
        self._shown = drawn_counts(labels, config)
        self._epoch = 0
        self._check_batches()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __len__(self) -> int:
        whole = sum(self._shown) + self._unknown.size
        _, processes = _process()
        if processes == 1:
            return whole
        size = self._config.batch_size
        return whole // (size * processes) * size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self._config.seed, self._epoch])
        positives, negatives = self._shown
        sick = _drawn(self._positives, positives, rng)
        others = np.concatenate([_drawn(self._negatives, negatives, rng), self._unknown])
        order = rng.permutation(np.sort(np.concatenate([sick, others])))
        if self._config.positives_per_batch:
            order = self._with_positives(sick, others, rng)
        process, processes = _process()
        if processes > 1:
            size = self._config.batch_size
            batches = order[: len(self) * processes].reshape(-1, size)
            order = batches[process::processes].reshape(-1)
        return ((int(index), self._epoch) for index in order)

    def _with_positives(self, sick: Ints, others: Ints, rng: np.random.Generator) -> Ints:
        """Lay out batches that have their positives, the others dealt at random."""
        size, wanted = self._config.batch_size, self._config.positives_per_batch
        sick, others = rng.permutation(sick), rng.permutation(others)
        # Whole batches only: those left over are dropped by the loader as well.
        batches = math.ceil((sick.size + others.size) / size)
        first, rest = sick[: wanted * batches], sick[wanted * batches :]
        filling = rng.permutation(np.concatenate([rest, others]))
        order: list[Ints] = []
        for number in range(batches):
            batch = first[number * wanted : (number + 1) * wanted]
            room = size - batch.size
            batch = np.concatenate([batch, filling[:room]])
            filling = filling[room:]
            order.append(rng.permutation(batch))
        return np.concatenate(order)

    def _check_batches(self) -> None:
        wanted, size = self._config.positives_per_batch, self._config.batch_size
        if not wanted:
            return
        positives = self._shown[0]
        batches = math.ceil((sum(self._shown) + self._unknown.size) / size)
        if positives < wanted * batches:
            raise CohortError(
                f"train.positives_per_batch={wanted} asks for {wanted * batches} positive images "
                f"in {batches} batches, and an epoch has {positives}: use a larger "
                "train.batch_size, or train.sampling=oversample"
            )


def _process() -> tuple[int, int]:
    """Return which of how many training processes this one is."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _drawn(places: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Draw places: some of them without repeats, or each as often as the others, or once more."""
    whole, part = divmod(count, max(1, places.size))
    chosen = rng.permutation(places)[:part] if part else places[:0]
    return np.concatenate([np.tile(places, whole), chosen]).astype(np.int64)
