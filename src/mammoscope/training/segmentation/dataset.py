"""Images with the lesions in them, whole or in patches; randomness by seed, epoch and place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.cohort.regions import Regions
from mammoscope.config import AugmentConfig
from mammoscope.inference import cut_out
from mammoscope.training.augment import apply, apply_to_mask, draw
from mammoscope.training.dataset import ImageStore
from mammoscope.training.sampling import Place
from mammoscope.types import Bools, Box

__all__ = ["LesionImages", "LesionPatches", "Patch"]

# A patch is cut wider and trimmed after it was turned and moved, so that its corners are tissue.
_MARGIN = 1.4
# How far a lesion may lie from the middle of its patch, as a share of the patch's side.
_JITTER = 0.25

Item = tuple[Tensor, Tensor]


class Patch(NamedTuple):
    """What one patch shows.

    Attributes:
        image_id: Of which image.
        box: Of the lesion around which it is cut, on the grid; ``None`` for tissue anywhere.
    """

    image_id: str
    box: Box | None


class LesionImages(Dataset[Item]):
    """Whole images and which lesion covers each of their pixels.

    Args:
        store: Where the images are.
        image_ids: Which.
        regions: Their lesions.
        max_value: Largest grey value.
        augment: How to change training images; ``None`` leaves them.
        seed: Seed of the changes.
    """

    def __init__(
        self,
        store: ImageStore,
        image_ids: Sequence[str],
        regions: Regions,
        *,
        max_value: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        self._store = store
        self._image_ids = list(image_ids)
        self._regions = regions
        self._max_value = float(max_value)
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, at: int | tuple[int, ...]) -> Item:
        """Return a (1, H, W) float32 image and (1, H, W) uint8 numbers of lesions, 0 for none.

        Args:
            at: An index, or a :class:`Place` as the training sampler gives them.
        """
        place = Place(*at) if isinstance(at, tuple) else Place(at)
        name = self._image_ids[place.item]
        image = torch.from_numpy(self._store.read(name).astype(np.float32))[None]
        labels = torch.from_numpy(self._regions.labels(name))[None]
        if self._augment is None:
            return image, labels
        return _changed(image, labels, self._augment, self._max_value, place, self._seed)


class LesionPatches(Dataset[Item]):
    """Square patches, around lesions or of tissue anywhere.

    Args:
        store: Where the images are.
        patches: What each shows.
        regions: Lesions of the images.
        side_px: Side of a patch.
        max_value: Largest grey value.
        augment: How to change training patches; without it, lesions lie in the middle.
        seed: Seed of places and changes.
    """

    def __init__(
        self,
        store: ImageStore,
        patches: Sequence[Patch],
        regions: Regions,
        *,
        side_px: int,
        max_value: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        self._store = store
        self._patches = list(patches)
        self._regions = regions
        self._side = side_px
        self._max_value = float(max_value)
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._patches)

    def __getitem__(self, at: int | tuple[int, ...]) -> Item:
        """Return a (1, P, P) float32 patch and (1, P, P) uint8 numbers of lesions, 0 for none."""
        place = Place(*at) if isinstance(at, tuple) else Place(at)
        patch = self._patches[place.item]
        pixels = self._store.read(patch.image_id)
        rng = np.random.default_rng(place.randomness(self._seed, 1))
        y, x = self._middle(patch, pixels > 0, rng)
        side = self._side if self._augment is None else math.ceil(self._side * _MARGIN)
        top, left = round(y - side / 2), round(x - side / 2)
        image = torch.from_numpy(cut_out(pixels, top, left, side).astype(np.float32))[None]
        labels = cut_out(self._regions.labels(patch.image_id), top, left, side)
        numbers = torch.from_numpy(labels)[None]
        if self._augment is None:
            return image, numbers
        image, numbers = _changed(image, numbers, self._augment, self._max_value, place, self._seed)
        start = (side - self._side) // 2
        inner = slice(start, start + self._side)
        return image[:, inner, inner], numbers[:, inner, inner]

    def _middle(self, patch: Patch, tissue: Bools, rng: np.random.Generator) -> tuple[float, float]:
        """Return row and column of a patch's middle."""
        moved = rng.uniform(-_JITTER, _JITTER, 2) * (self._side if self._augment else 0)
        if patch.box is None:
            places = np.flatnonzero(tissue)
            # An image without any tissue is black wherever one looks.
            chosen = int(places[rng.integers(places.size)]) if places.size else 0
            row, column = divmod(chosen, tissue.shape[1])
            return float(row), float(column)
        box = patch.box
        y, x = (box.y_min + box.y_max) / 2, (box.x_min + box.x_max) / 2
        return y + float(moved[0]), x + float(moved[1])


def _changed(
    image: Tensor,
    labels: Tensor,
    augment: AugmentConfig,
    max_value: float,
    place: Place,
    seed: int,
) -> Item:
    """Change an image at random, and move its lesions with it."""
    generator = torch.Generator().manual_seed(int(place.randomness(seed).generate_state(1)[0]))
    drawn = draw(augment, generator)
    return apply(image, drawn, max_value), apply_to_mask(labels, drawn)
