"""Images with the boxes of their lesions: whole or in tiles, changed at random with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mammoscope.cohort.regions import Regions
from mammoscope.config import AugmentConfig, TileConfig
from mammoscope.inference.fusion import sides_of
from mammoscope.inference.tiles import Corner, cut, tile_corners
from mammoscope.models.detectors import Truth
from mammoscope.training.augment import AugmentParameters, apply, draw
from mammoscope.training.augment.geometry import cropped, warped
from mammoscope.training.dataset import ImageStore
from mammoscope.training.sampling import Place

__all__ = ["DetectionBatch", "LesionImages", "WholeImages", "collate", "truth_of"]

# Share of a lesion's box that a tile or a changed image must show for it to be asked for.
_SHOWN = 0.4


class DetectionBatch(NamedTuple):
    """Images or tiles, and what is in them.

    Attributes:
        images: (T, 1, h, w) float32 grey values.
        truths: What is in each of the images that the tiles are of; of each tile in training.
        owner: (T,) int64, of which image each tile is.
        corners: (T, 2) int64, y and x of each tile in its image.
    """

    images: Tensor
    truths: list[Truth]
    owner: Tensor
    corners: Tensor


def truth_of(regions: Regions, image_id: str, kinds: Sequence[str]) -> Truth:
    """Return the lesions of an image as a detector is asked for them.

    Args:
        regions: Those of the cohort.
        image_id: Which image.
        kinds: Kinds that are told apart; none where all are one.
    """
    names = [region.kind for region in regions.of(image_id)]
    places = [kinds.index(name) if kinds and name is not None else 0 for name in names]
    return Truth(
        torch.from_numpy(sides_of(regions.boxes(image_id))).float(),
        torch.tensor(places, dtype=torch.int64),
    )


class LesionImages(Dataset[DetectionBatch]):
    """What training shows: images, or tiles drawn from them.

    Args:
        store: Where the images are.
        image_ids: Which; each stands for ``tiles.per_image`` items where there are tiles.
        regions: Their lesions.
        kinds: Kinds that are told apart; none where all are one.
        max_value: Largest grey value.
        tiles: Size and share of those with a lesion.
        augment: How to change images, boxes with them.
        seed: Seed of changes and places.
    """

    def __init__(
        self,
        store: ImageStore,
        image_ids: Sequence[str],
        regions: Regions,
        kinds: Sequence[str],
        *,
        max_value: int,
        tiles: TileConfig,
        augment: AugmentConfig | None,
        seed: int = 0,
    ) -> None:
        self._store = store
        self._image_ids = list(image_ids)
        self._regions = regions
        self._kinds = tuple(kinds)
        self._max_value = float(max_value)
        self._tiles = tiles
        self._each = tiles.per_image if tiles.size_px else 1
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._image_ids) * self._each

    def __getitem__(self, at: int | tuple[int, ...]) -> DetectionBatch:
        """Return one image or tile with what is in it, a batch of one.

        Args:
            at: An index, or a :class:`Place` as the training sampler gives them.
        """
        place = Place(*at) if isinstance(at, tuple) else Place(at)
        image_id = self._image_ids[place.item // self._each]
        image = torch.from_numpy(self._store.read(image_id).astype(np.float32))[None]
        truth = truth_of(self._regions, image_id, self._kinds)
        sequence = place.randomness(self._seed)
        if self._augment is not None:
            generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
            parameters = draw(self._augment, generator)
            truth = self._moved(image_id, truth, parameters)
            image = apply(image, parameters, self._max_value)
        if self._tiles.size_px:
            image, truth = self._tile(image, truth, np.random.default_rng(sequence.spawn(1)[0]))
        nothing = torch.zeros(1, 2, dtype=torch.int64)
        return DetectionBatch(image[None], [truth], nothing[:, 0], nothing)

    def _moved(self, image_id: str, truth: Truth, parameters: AugmentParameters) -> Truth:
        """Return the boxes of lesions as the changes leave them: those of their changed masks."""
        boxes, kinds = [], []
        regions = self._regions.of(image_id)
        for region, kind in zip(regions, truth.kinds, strict=True):
            mask = torch.from_numpy(self._regions.mask(region).astype(np.float32))[None]
            share = cropped(warped(mask, parameters), parameters)[0]  # (H, W), of each pixel
            # Lesions may grow or shrink; what mostly left the image is no longer asked for.
            if share.sum() < _SHOWN * mask.sum() * parameters.enlargement:
                continue
            # Of a lesion that is smaller than a pixel, no pixel is mostly lesion.
            moved = share >= share.max().clamp(max=0.5)
            rows, columns = (moved.any(dim=side).nonzero()[:, 0] for side in (1, 0))
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            kinds.append(kind)
        return Truth(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(kinds, dtype=torch.int64),
        )

    def _tile(self, image: Tensor, truth: Truth, rng: np.random.Generator) -> tuple[Tensor, Truth]:
        """Draw a tile (1, side, side): over a lesion, or anywhere in the breast."""
        side = self._tiles.size_px
        height, width = image.shape[1:]
        if len(truth.boxes) and rng.random() < self._tiles.lesion_share:
            box = truth.boxes[int(rng.integers(len(truth.boxes)))].numpy()
            # The lesion's middle comes to lie anywhere in the inner half of the tile.
            aim = (box[:2] + box[2:]) / 2 + side * rng.uniform(-0.25, 0.25, 2)
        else:
            tissue = image[0].nonzero().numpy()
            y, x = tissue[int(rng.integers(len(tissue)))] if len(tissue) else (0, 0)
            aim = np.array([x, y], dtype=np.float64)
        x, y = (
            int(np.clip(round(middle - side / 2), 0, max(0, length - side)))
            for middle, length in zip(aim, (width, height), strict=True)
        )
        tile = torch.from_numpy(cut(image[0].numpy(), (y, x), side).copy())
        return tile[None], _within(truth, (y, x), side)


def _within(truth: Truth, corner: Corner, side: int) -> Truth:
    """Return the lesions that a tile shows, in its own pixels."""
    origin = torch.tensor([corner[1], corner[0]] * 2, dtype=torch.float32)
    boxes = (truth.boxes - origin).clamp(0, side)
    areas = [(b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, truth.boxes)]
    shown = areas[0] >= _SHOWN * areas[1]
    return Truth(boxes[shown], truth.kinds[shown])


class WholeImages(Dataset[DetectionBatch]):
    """What validation shows: every image, unchanged, whole or in all its tiles.

    Args:
        store: Where the images are.
        image_ids: Which.
        regions: Their lesions.
        kinds: Kinds that are told apart; none where all are one.
        tiles: Size and overlap.
    """

    def __init__(
        self,
        store: ImageStore,
        image_ids: Sequence[str],
        regions: Regions,
        kinds: Sequence[str],
        tiles: TileConfig,
    ) -> None:
        self._store = store
        self._image_ids = list(image_ids)
        self._regions = regions
        self._kinds = tuple(kinds)
        self._tiles = tiles

    def __len__(self) -> int:
        return len(self._image_ids)

    def __getitem__(self, at: int) -> DetectionBatch:
        """Return the tiles of one image and what is in all of it."""
        pixels = self._store.read(self._image_ids[at])
        truth = truth_of(self._regions, self._image_ids[at], self._kinds)
        parts, corners = [pixels], [(0, 0)]
        if side := self._tiles.size_px:
            corners = tile_corners(pixels.shape, side, self._tiles.overlap)
            parts = [cut(pixels, corner, side) for corner in corners]
        images = torch.from_numpy(np.stack(parts).astype(np.float32))[:, None]
        owner = torch.zeros(len(parts), dtype=torch.int64)
        return DetectionBatch(images, [truth], owner, torch.tensor(corners))


def collate(samples: Sequence[DetectionBatch]) -> DetectionBatch:
    """Join the batches of single images."""
    return DetectionBatch(
        torch.cat([sample.images for sample in samples]),
        [truth for sample in samples for truth in sample.truths],
        torch.cat([sample.owner + number for number, sample in enumerate(samples)]),
        torch.cat([sample.corners for sample in samples]),
    )
