"""The segmentation task: masks learnt from a sum of losses, judged lesion by lesion."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mammoscope.config import SegmentConfig, TrainConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.lesions.overlap import window
from mammoscope.models import Segmenter
from mammoscope.training.learning import BatchLoss, LearningTask, Measure
from mammoscope.training.optimisation import is_frozen
from mammoscope.training.segmentation.losses import mask_loss
from mammoscope.types import Bools

__all__ = ["SegmentationTask", "dice_around"]


class SegmentationTask(LearningTask):
    """Trains a segmenter.

    Args:
        segmenter: The network.
        config: Rates, weights and schedule.
        segment: Losses, and the threshold of a mask; one half where it is chosen afterwards.
        margin: By how much the window around a lesion, in which it is judged, is wider than its
            box on every side, as a share of the box's longer side.
    """

    measure: ClassVar[Measure] = Measure("dice", "Dice")
    measures: ClassVar[tuple[str, ...]] = ("loss", "dice", "found")

    network: Segmenter

    def __init__(
        self, segmenter: Segmenter, config: TrainConfig, segment: SegmentConfig, margin: float
    ) -> None:
        super().__init__(segmenter, config)
        self.segment = segment
        self.margin = margin
        # Where export chooses it, epochs are compared at a half, which favours none of them.
        self._threshold = 0.5 if segment.threshold == "validation" else segment.threshold
        self._losses: list[tuple[float, int]] = []
        self._dice: list[float] = []

    def on_train_epoch_start(self) -> None:
        """Freeze the encoder, running statistics included, or let it go."""
        frozen = is_frozen(self.config, self.current_epoch)
        self.network.encoder.requires_grad_(not frozen).train(not frozen)

    def batch_loss(self, batch: Any) -> BatchLoss:
        """Return the loss of a batch.

        Args:
            batch: Images (B, 1, H, W) float32, and numbers of lesions (B, 1, H, W) uint8.
        """
        images, labels = batch
        return BatchLoss(self._loss(self.network(images), labels), len(images))

    def judge(self, batch: Any) -> None:
        """Compare the masks of a validation batch with its lesions, each by itself.

        Raises:
            RunError: If a logit is not finite.
        """
        images, labels = batch
        logits = self.scored(images)
        if not torch.isfinite(logits).all():
            raise RunError(
                f"a validation logit is not finite in epoch {self.current_epoch}; "
                "the last good checkpoint is kept"
            )
        self._losses.append((float(self._loss(logits, labels)), len(images)))
        predicted = (torch.sigmoid(logits) >= self._threshold).cpu().numpy()[:, 0]
        for mask, numbers in zip(predicted, labels.cpu().numpy()[:, 0], strict=True):
            for number in np.unique(numbers[numbers > 0]):
                lesion = numbers == number
                if self.segment.train_on == "patches" and _is_cut(lesion):
                    continue
                # What is marked of another lesion says nothing of this one.
                alone = mask & (lesion | (numbers == 0))
                self._dice.append(dice_around(alone, lesion, self.margin))

    def measured(self) -> dict[str, float]:
        """Return the mean loss, the mean Dice over lesions, and the share of them that is met."""
        losses, counts = zip(*self._losses, strict=True)
        values = np.array(self._dice)
        self._losses.clear()
        self._dice = []
        return {
            "loss": float(np.average(losses, weights=counts)),
            "dice": float(values.mean()) if values.size else float("nan"),
            "found": float((values > 0).mean()) if values.size else float("nan"),
        }

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return mask_loss(logits, (labels > 0).to(logits.dtype), self.segment)


def _is_cut(lesion: Bools) -> bool:
    """Say whether a lesion runs out of a patch that is not cut around it."""
    edges = (lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1])
    middle = tuple(slice(side // 4, side - side // 4) for side in lesion.shape)
    return any(edge.any() for edge in edges) and not lesion[middle].any()


def dice_around(predicted: Bools, lesion: Bools, margin: float) -> float:
    """Return the Dice coefficient of a lesion within a window around it.

    Args:
        predicted: (H, W) the predicted mask.
        lesion: (H, W) the true one, of at least one pixel.
        margin: By how much the window is wider than the lesion's box on every side, as a share
            of the box's longer side.
    """
    ys, xs = np.flatnonzero(lesion.any(axis=1)), np.flatnonzero(lesion.any(axis=0))
    box = (float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1))
    seen = window(box, margin, (lesion.shape[0], lesion.shape[1]))
    mask, truth = predicted[seen], lesion[seen]
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
