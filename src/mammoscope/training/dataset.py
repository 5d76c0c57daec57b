"""Prepared images as tensors, with randomness that depends on seed, epoch and place alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.cohort.regions import Regions
from mammoscope.config import AugmentConfig
from mammoscope.training.augment import apply, apply_to_mask, draw
from mammoscope.training.losses import UNKNOWN_LESIONS
from mammoscope.training.sampling import Place
from mammoscope.types import GreyImage

__all__ = ["ImageDataset", "ImageStore", "Reader"]


class ImageStore(Protocol):
    """Where prepared images come from."""

    def read(self, image_id: str) -> GreyImage:
        """Return (H, W) grey values."""
        ...


class Reader:
    """Reads an image, with its lesions where they are to be learnt, and changes both alike.

    Args:
        store: Where the images are.
        lesions: Where their lesions are, if that is to be learnt.
        max_value: Largest grey value.
        augment: How to change training images; ``None`` leaves them.
        seed: Seed of the changes.
    """

    def __init__(
        self,
        store: ImageStore,
        lesions: Regions | None = None,
        *,
        max_value: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        self._store = store
        self._lesions = lesions
        self._max_value = float(max_value)
        self._augment = augment
        self._seed = seed

    def __call__(self, image_id: str, place: Place, *parts: int) -> tuple[Tensor, Tensor | None]:
        """Read one.

        Args:
            image_id: Which.
            place: What its changes are drawn by.
            parts: Tell images of one place apart.

        Returns:
            (1, H, W) float32, and where lesions are to be learnt (H, W) uint8 as
            :func:`.losses.lesion_bce` takes it.
        """
        image = torch.from_numpy(self._store.read(image_id).astype(np.float32))[None]
        mask = None if self._lesions is None else _mask(self._lesions, image_id)
        if self._augment is None:
            return image, mask
        sequence = place.randomness(self._seed, *parts)
        generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
        drawn = draw(self._augment, generator)
        if mask is not None:
            mask = apply_to_mask(mask[None], drawn)[0]
        return apply(image, drawn, self._max_value), mask


def _mask(lesions: Regions, image_id: str) -> Tensor:
    if image_id in lesions.uncertain:
        return torch.full(lesions.size, UNKNOWN_LESIONS, dtype=torch.uint8)
    return torch.from_numpy((lesions.labels(image_id) > 0).astype(np.uint8))


class ImageDataset(Dataset[tuple[Any, ...]]):
    """Images and labels.

    Args:
        reader: Reads the images.
        image_ids: Which.
        labels: 0, 1 or NaN for unknown, one for each image.
        targets: (N, variables) of auxiliary heads, NaN for unknown, if there are any.
    """

    def __init__(
        self,
        reader: Reader,
        image_ids: Sequence[str],
        labels: Sequence[float],
        targets: Tensor | None = None,
    ) -> None:
        if len(image_ids) != len(labels):
            raise ValueError(f"{len(image_ids)} images with {len(labels)} labels")
        self._read = reader
        self._image_ids = list(image_ids)
        self._labels = torch.tensor(labels, dtype=torch.float32)
        self._targets = targets

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, at: int | tuple[int, ...]) -> tuple[Any, ...]:
        """Return a (1, H, W) float32 image and its label; a dictionary of what else is learnt.

        Args:
            at: An index, or a :class:`Place` as the training sampler gives them.

        Returns:
            The dictionary is there where auxiliary heads or lesions are learnt: (variables,)
            ``targets``, (H, W) uint8 ``lesions``.
        """
        place = Place(*at) if isinstance(at, tuple) else Place(at)
        image, mask = self._read(self._image_ids[place.item], place)
        further = {}
        if self._targets is not None:
            further["targets"] = self._targets[place.item]
        if mask is not None:
            further["lesions"] = mask
        shown = (image, self._labels[place.item])
        return (*shown, further) if further else shown
