"""The task of the second stage: cut-outs, and classes that count alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from mammoscope.config import AugmentConfig, StagesConfig, TrainConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.stages import balanced_accuracy, mean_auroc
from mammoscope.inference import cut_square
from mammoscope.models import CutoutClassifier
from mammoscope.training.augment import apply, draw
from mammoscope.training.cutouts.listing import Cutout
from mammoscope.training.dataset import ImageStore
from mammoscope.training.learning import BatchLoss, LearningTask, Measure
from mammoscope.training.optimisation import is_frozen
from mammoscope.training.sampling import Place
from mammoscope.types import Box

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
        box, sequence = cutout.box, place.randomness(self._seed)
        if self._augment is not None:
            # A seed of its own: the numbers of the other changes stay as they were.
            box = _moved(box, self._stages.jitter, np.random.default_rng(sequence.spawn(1)[0]))
        square = cut_square(pixels, box, self._stages.margin, self._stages.cutout_px)
        image = torch.from_numpy(square)[None]
        if self._augment is not None:
            generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
            image = apply(image, draw(self._augment, generator), self._max_value)
        return image, torch.tensor(self._stages.names.index(cutout.shows))


def _moved(box: Box, jitter: float, rng: np.random.Generator) -> Box:
    """Return a box moved and scaled at random, as a first stage misses the true one."""
    longer = max(box.x_max - box.x_min, box.y_max - box.y_min)
    dx, dy, growth = (float(drawn) for drawn in rng.uniform(-jitter, jitter, 3))
    x, y = (box.x_min + box.x_max) / 2 + dx * longer, (box.y_min + box.y_max) / 2 + dy * longer
    across, down = (
        math.exp(growth) * side / 2 for side in (box.x_max - box.x_min, box.y_max - box.y_min)
    )
    return Box(x - across, y - down, x + across, y + down)


class CutoutTask(LearningTask):
    """Trains a classifier of cut-outs.

    Args:
        classifier: The network.
        config: Rates, weights and schedule.
        shown: How many cut-outs of each class an epoch shows; those of rare ones weigh more.
    """

    # Few cut-outs validate: how many lie on the right side of a cut hangs on chance more than how
    # they are ranked.
    measure: ClassVar[Measure] = Measure("auroc", "AUROC")
    measures: ClassVar[tuple[str, ...]] = ("loss", "auroc", "accuracy", "balanced_accuracy")

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
        """Return the loss, the mean AUROC of classes, the accuracy, and its mean over classes.

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
            "auroc": mean_auroc(logits.softmax(dim=1).double().numpy(), true),
            "accuracy": float(np.mean(called == true)),
            "balanced_accuracy": balanced_accuracy(called, true),
        }

    def _loss(self, logits: Tensor, shows: Tensor) -> Tensor:
        return functional.cross_entropy(logits, shows, self.weights.to(logits.device))
