"""Prepared images as tensors, with randomness that depends on seed, epoch and place alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.config import AugmentConfig
from mammoscope.training.augment import apply, draw
from mammoscope.training.sampling import Place
from mammoscope.types import GreyImage

__all__ = ["ImageDataset", "ImageStore"]


class ImageStore(Protocol):
    """Where prepared images come from."""

    def read(self, image_id: str) -> GreyImage:
        """Return (H, W) grey values."""
        ...


class ImageDataset(Dataset[tuple[Tensor, ...]]):
    """Images and labels.

    Args:
        store: Where the images are.
        image_ids: Which.
        labels: 0, 1 or NaN for unknown, one for each image.
        targets: (N, variables) of auxiliary heads, NaN for unknown, if there are any.
        max_value: Largest grey value.
        augment: How to change training images; ``None`` leaves them.
        seed: Seed of the changes.
    """

    def __init__(
        self,
        store: ImageStore,
        image_ids: Sequence[str],
        labels: Sequence[float],
        targets: Tensor | None = None,
        *,
        max_value: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        if len(image_ids) != len(labels):
            raise ValueError(f"{len(image_ids)} images with {len(labels)} labels")
        self._store = store
        self._image_ids = list(image_ids)
        self._labels = torch.tensor(labels, dtype=torch.float32)
        self._targets = targets
        self._max_value = float(max_value)
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, at: int | tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return a (1, H, W) float32 image, its label, and (variables,) targets if there are any.

        Args:
            at: An index, or a :class:`Place` as the training sampler gives them.
        """
        place = Place(*at) if isinstance(at, tuple) else Place(at)
        pixels = self._store.read(self._image_ids[place.item]).astype(np.float32)
        image = torch.from_numpy(pixels)[None]
        if self._augment is not None:
            sequence = place.randomness(self._seed)
            generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
            image = apply(image, draw(self._augment, generator), self._max_value)
        if self._targets is None:
            return image, self._labels[place.item]
        return image, self._labels[place.item], self._targets[place.item]
