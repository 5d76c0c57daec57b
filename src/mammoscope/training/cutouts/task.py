"""The task of the second stage: cut-outs, and classes that count alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from mammoscope.config import AugmentConfig, StagesConfig, TrainConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.stages import balanced_accuracy
from mammoscope.inference import cut_square
from mammoscope.models import CutoutClassifier
from mammoscope.training.augment import apply, draw
from mammoscope.training.cutouts.listing import Cutout
from mammoscope.training.dataset import ImageStore
from mammoscope.training.learning import BatchLoss, LearningTask, Measure
from mammoscope.training.optimisation import is_frozen
from mammoscope.training.sampling import Place

__all__ = ["CutoutDataset", "CutoutTask"]


class CutoutDataset(Dataset[tuple[Tensor, Tensor]]):
    """Cut-outs and their classes.

    Args:
        store: Where the images are.
        cutouts: Which.
        stages: How they are cut.
        max_value: Largest grey value.
        augment: How to change training cut-outs; ``None`` leaves them.
        seed: Seed of the changes.
    """

    def __init__(
        self,
        store: ImageStore,
        cutouts: Sequence[Cutout],
        stages: StagesConfig,
        *,
        max_value: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        self._store = store
        self._cutouts = list(cutouts)
        self._stages = stages
        self._max_value = float(max_value)
        self._augment = augment
        self._seed = seed

    def __len__(self) -> int:
        return len(self._cutouts)

    def __getitem__(self, at: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return a (1, S, S) float32 cut-out and the number of its class."""
        place = Place(*at) if isinstance(at, tuple) else Place(at)
        cutout = self._cutouts[place.item]
        pixels = self._store.read(cutout.image_id)
        square = cut_square(pixels, cutout.box, self._stages.margin, self._stages.cutout_px)
        image = torch.from_numpy(square)[None]
        if self._augment is not None:
            sequence = place.randomness(self._seed)
            generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
            image = apply(image, draw(self._augment, generator), self._max_value)
        return image, torch.tensor(self._stages.names.index(cutout.shows))


class CutoutTask(LearningTask):
    """Trains a classifier of cut-outs.

    Args:
        classifier: The network.
        config: Rates, weights and schedule.
        shown: How many cut-outs of each class an epoch shows; those of rare ones weigh more.
    """

    measure: ClassVar[Measure] = Measure("balanced_accuracy", "balanced accuracy")
    measures: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "balanced_accuracy")

    network: CutoutClassifier

    def __init__(
        self, classifier: CutoutClassifier, config: TrainConfig, shown: Sequence[float]
    ) -> None:
        super().__init__(classifier, config)
        weights = [sum(shown) / (len(shown) * max(1.0, count)) for count in shown]
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        self.weights: Tensor
        self._seen: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """Freeze the backbone, running statistics included, or let it go."""
        frozen = is_frozen(self.config, self.current_epoch)
        self.network.backbone.requires_grad_(not frozen).train(not frozen)

    def batch_loss(self, batch: Any) -> BatchLoss:
        """Return the loss of cut-outs (B, 1, S, S) with classes (B,)."""
        images, shows = batch
        return BatchLoss(self._loss(self.network(images), shows), len(shows))

    def judge(self, batch: Any) -> None:
        """Keep a batch's logits until the whole validation set is seen."""
        images, shows = batch
        self._seen.append((self.scored(images).float().cpu(), shows.cpu()))

    def measured(self) -> dict[str, float]:
        """Return the loss, the accuracy, and its mean over classes.

        Raises:
            RunError: If a logit is not finite.
        """
        logits = torch.cat([seen[0] for seen in self._seen])
        shows = torch.cat([seen[1] for seen in self._seen])
        self._seen.clear()
        if not torch.isfinite(logits).all():
            raise RunError(
                f"a validation logit is not finite in epoch {self.current_epoch}; "
                "the last good checkpoint is kept"
            )
        called, true = logits.argmax(dim=1).numpy(), shows.numpy()
        return {
            "loss": float(self._loss(logits, shows)),
            "accuracy": float(np.mean(called == true)),
            "balanced_accuracy": balanced_accuracy(called, true),
        }

    def _loss(self, logits: Tensor, shows: Tensor) -> Tensor:
        return functional.cross_entropy(logits, shows, self.weights.to(logits.device))
