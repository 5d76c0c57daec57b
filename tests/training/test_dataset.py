from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mammoscope.config import AugmentConfig, TrainConfig
from mammoscope.training.dataset import ImageDataset, Reader
from mammoscope.training.loading import Loader
from mammoscope.training.losses import UNKNOWN_LESIONS
from mammoscope.training.sampling import EpochSampler, Place


class Memory:
    """An image store without a disk."""

    def __init__(self, dtype: type = np.uint8) -> None:
        rng = np.random.default_rng(0)
        self.images = {f"i{n}": rng.integers(0, 200, (32, 16)).astype(dtype) for n in range(6)}

    def read(self, image_id: str) -> np.ndarray:
        return self.images[image_id]


def dataset(store: Memory, augment: AugmentConfig | None = None, seed: int = 0) -> ImageDataset:
    labels = [0.0, 1.0, float("nan"), 0.0, 1.0, 0.0]
    reader = Reader(store, max_value=255, augment=augment, seed=seed)
    return ImageDataset(reader, list(store.images), labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_are_grey_values_as_prepared(dtype):
    store = Memory(dtype)
    image, label = dataset(store)[1]
    assert image.dtype == torch.float32
    assert image.shape == (1, 32, 16)
    assert np.array_equal(image[0].numpy(), store.images["i1"])
    assert label == 1
    assert torch.isnan(dataset(store)[2][1])


def test_changes_depend_on_seed_epoch_and_place_alone():
    store, augment = Memory(), AugmentConfig()
    first, again = dataset(store, augment), dataset(store, augment)
    again[0, 0], again[3, 1]
    assert torch.equal(first[2, 5][0], again[2, 5][0])
    assert not torch.equal(first[2, 5][0], first[2, 6][0])
    assert not torch.equal(first[2, 5][0], dataset(store, augment, seed=1)[2, 5][0])


def test_an_image_that_an_epoch_repeats_is_changed_otherwise():
    images = dataset(Memory(), AugmentConfig())
    shown = [images[Place(2, 5, occurrence)][0] for occurrence in range(3)]
    assert not torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[1], shown[2])
    assert torch.equal(shown[0], images[2, 5][0])


def test_workers_change_nothing():
    images = dataset(Memory(), AugmentConfig())
    loaded = []
    for workers in (0, 1):
        sampler = EpochSampler([0.0, 1.0] * 3, TrainConfig(seed=2))
        sampler.set_epoch(3)
        options = {"multiprocessing_context": "spawn"} if workers else {}
        loader = DataLoader(images, 2, sampler=sampler, num_workers=workers, **options)
        loaded.append(torch.cat([batch for batch, _ in loader]))
    assert torch.equal(*loaded)


def test_a_last_batch_that_is_not_whole_waits_for_another_epoch_of_training():
    images = [torch.zeros(1)] * 5
    pairs, eights = TrainConfig(batch_size=2), TrainConfig(batch_size=8)
    order = EpochSampler([0.0] * 5, pairs)
    assert len(Loader(images, pairs, order)) == 2
    assert len(Loader(images, pairs, order, keep_last=True)) == 3
    # Validation shows all, and so does training where there is no other batch.
    assert len(Loader(images, pairs)) == 3
    assert len(Loader(images, eights, order)) == 1


def test_labels_and_images_must_be_as_many():
    with pytest.raises(ValueError, match="1 images with 2 labels"):
        ImageDataset(Reader(Memory(), max_value=255), ["i0"], [0.0, 1.0])


class Drawn:
    """Lesions in memory: a square in the first image, none in the second, the third unknown."""

    size = (32, 16)
    uncertain = frozenset({"i2"})

    def labels(self, image_id: str) -> np.ndarray:
        labels = np.zeros(self.size, np.uint8)
        if image_id == "i0":
            labels[4:12, 2:8] = 2
        return labels


def test_lesions_move_with_their_image_and_unknown_ones_stay_unknown():
    still = AugmentConfig(rotate_degrees=0, scale=0, shift=0, gamma=0, flip_vertical=True)
    store, names = Memory(), ["i0", "i1", "i2"]
    shown = ImageDataset(
        Reader(store, Drawn(), max_value=255, augment=still), names, [1.0, 0.0, 1.0]
    )
    turned = set()
    for epoch in range(8):
        image, _, further = shown[Place(0, epoch)]
        upright = bool(np.array_equal(image[0].numpy(), store.images["i0"]))
        expected = torch.from_numpy(Drawn().labels("i0") > 0)
        assert torch.equal(further["lesions"] == 1, expected if upright else expected.flip(0))
        turned.add(upright)
        assert not shown[Place(1, epoch)][2]["lesions"].any()
        assert (shown[Place(2, epoch)][2]["lesions"] == UNKNOWN_LESIONS).all()
    assert turned == {True, False}
