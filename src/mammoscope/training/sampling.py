"""Which training images an epoch shows, and in what order: what a rare label asks for.

Everything follows from seed and epoch, so that a resumed run draws as an uninterrupted one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from mammoscope.config import TrainConfig
from mammoscope.errors import CohortError
from mammoscope.types import Ints

__all__ = ["EpochSampler", "Place", "draw_rates", "drawn_counts", "idle_sampling"]


class Place(NamedTuple):
    """What an epoch shows at one place of its order.

    Attributes:
        item: Which image, breast or exam, from 0.
        epoch: From 0.
        occurrence: How often the epoch has shown it before.
    """

    item: int
    epoch: int = 0
    occurrence: int = 0

    def randomness(self, seed: int, *parts: int) -> np.random.SeedSequence:
        """Return what it is changed by at random; ``parts`` tell parts of it apart.

        By the place and not in sequence, so that neither the number of workers nor a resumed run
        changes anything.
        """
        again = (self.occurrence,) if self.occurrence else ()
        entropy = [seed, self.epoch, self.item, *parts]
        return np.random.SeedSequence(entropy, spawn_key=again)


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
        share = config.keep_negatives
        wanted = ratio * positives if share is None else share * negatives
        negatives = min(negatives, round(wanted))
    elif config.sampling == "oversample":
        positives = max(positives, round(negatives / ratio))
    return positives, negatives


def idle_sampling(labels: Sequence[float], config: TrainConfig) -> list[str]:
    """Return a sentence that a user should read where under- or oversampling changes nothing.

    Args:
        labels: 0, 1 or NaN for unknown, one for each image.
        config: How images are drawn.
    """
    there = sum(label == 1 for label in labels), sum(label == 0 for label in labels)
    if config.sampling == "all" or drawn_counts(labels, config) != there:
        return []
    asked = f"to {config.negatives_per_positive:g} negatives a positive"
    if config.keep_negatives is not None:
        asked = f"to {config.keep_negatives:g} of the negatives"
    return [
        f"train.sampling={config.sampling} {asked} changes nothing here: of {there[0]} positives "
        f"and {there[1]} negatives each is shown once an epoch"
    ]


def draw_rates(labels: Sequence[float], config: TrainConfig) -> list[float]:
    """Return how often an epoch shows each image, breast or exam on average.

    Args:
        labels: 0, 1 or NaN for unknown, one for each.
        config: How they are drawn.
    """
    positives, negatives = drawn_counts(labels, config)
    shown = {1.0: positives, 0.0: negatives}
    there = Counter(labels)
    return [shown[label] / there[label] if label in shown else 1.0 for label in labels]


class EpochSampler(Sampler[Place]):
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

    def __iter__(self) -> Iterator[Place]:
        rng = np.random.default_rng([self._config.seed, self._epoch])
        positives, negatives = self._shown
        sick = _drawn(self._positives, positives, rng)
        others = np.concatenate([_drawn(self._negatives, negatives, rng), self._unknown])
        if self._config.positives_per_batch:
            order = self._with_positives(sick, others, rng)
        else:
            order = rng.permutation(np.sort(np.concatenate([sick, others])))
        seen: Counter[int] = Counter()
        places = []
        for item in order.tolist():
            places.append(Place(item, self._epoch, seen[item]))
            seen[item] += 1
        process, processes = _process()
        if processes == 1:
            return iter(places)
        size = self._config.batch_size
        starts = range(process * size, len(self) * processes, processes * size)
        return (place for start in starts for place in places[start : start + size])

    def _batches(self) -> int:
        """Return how many batches are trained on: whole ones, unless there is but one."""
        return max(1, (sum(self._shown) + self._unknown.size) // self._config.batch_size)

    def _with_positives(self, sick: Ints, others: Ints, rng: np.random.Generator) -> Ints:
        """Lay out batches that have their positives, the others dealt at random.

        What is left over at the end the loader drops.
        """
        size, wanted = self._config.batch_size, self._config.positives_per_batch
        sick, others = rng.permutation(sick), rng.permutation(others)
        batches = self._batches()
        first, rest = sick[: wanted * batches], sick[wanted * batches :]
        filling = rng.permutation(np.concatenate([rest, others]))
        order: list[Ints] = []
        for number in range(batches):
            batch = first[number * wanted : (number + 1) * wanted]
            room = size - batch.size
            batch = np.concatenate([batch, filling[:room]])
            filling = filling[room:]
            order.append(rng.permutation(batch))
        return np.concatenate([*order, filling])

    def _check_batches(self) -> None:
        wanted, batches = self._config.positives_per_batch, self._batches()
        positives = self._shown[0]
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
