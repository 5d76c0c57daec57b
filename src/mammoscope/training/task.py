"""The classification task: one LightningModule, one optimiser, one schedule."""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from mammoscope.config import TrainConfig
from mammoscope.errors import RunError
from mammoscope.models import Classifier, MultiViewClassifier
from mammoscope.training.losses import masked_bce

__all__ = ["ClassificationTask", "Network", "cosine_with_warmup"]

# The averaged weights follow closely at first: the share kept is (1 + step) / (10 + step)
# until it reaches the configured decay, so that early epochs do not validate noise.
_AVERAGE_WARMUP = 10
# Parameters of one dimension are norms and biases, which weight decay would only shrink.
_DECAYED_DIMENSIONS = 2


def cosine_with_warmup(step: int, total: int, warmup: int) -> float:
    """Return the share of the peak rate at a step: a linear rise, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


Network = Classifier | MultiViewClassifier


class ClassificationTask(lightning.LightningModule):
    """Trains a classifier on one binary label: of images, unless a subclass says otherwise.

    Args:
        classifier: The network.
        config: Rates, weights and schedule.
        positive_weight: Weight of the positive term of the loss.
    """

    def __init__(self, classifier: Network, config: TrainConfig, positive_weight: float) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = config
        self.positive_weight = positive_weight
        # In the state dict, so that a resumed run goes on with the same average.
        self.average: Network | None = None
        if config.ema > 0:
            self.average = copy.deepcopy(classifier).requires_grad_(requires_grad=False)
        self._seen: list[tuple[Tensor, Tensor]] = []

    @property
    def scored(self) -> Network:
        """The weights that validate and are kept: the average where there is one."""
        return self.classifier if self.average is None else self.average

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what layers draw (dropout) by the step alone, so that a resumed run draws alike."""
        del batch, batch_idx
        sequence = np.random.SeedSequence([self.config.seed, self.trainer.global_step])
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def batch_loss(self, batch: Any) -> tuple[Tensor, int]:
        """Return the loss of a batch of images (B, 1, H, W) and labels (B,), and how many."""
        images, labels = batch
        return self.loss(self.classifier(images).logit, labels, self.positive_weight), len(labels)

    def judged(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the logits (B,) that the weights to be kept give a batch, and its labels (B,)."""
        images, labels = batch
        return self.scored(images).logit, labels

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            RunError: If the loss is not finite; the last good checkpoint is kept.
        """
        loss, count = self.batch_loss(batch)
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss became {float(loss.detach())} in epoch {self.current_epoch}, batch "
                f"{batch_idx}; the last good checkpoint is kept. A lower train.lr, or "
                "train.precision=32-true, usually helps"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=count)
        return loss

    def loss(self, logits: Tensor, labels: Tensor, positive_weight: float) -> Tensor:
        """Return the configured loss of logits and labels of one shape; NaN is left out."""
        return masked_bce(
            logits,
            labels,
            positive_weight,
            soft_positive=self.config.soft_positive,
            focal_gamma=self.config.focal_gamma if self.config.loss == "focal" else 0.0,
        )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the averaged weights towards the current ones."""
        del outputs, batch, batch_idx
        if self.average is None:
            return
        step = self.trainer.global_step
        kept = min(self.config.ema, (1 + step) / (_AVERAGE_WARMUP + step))
        with torch.no_grad():
            ours, theirs = self.average.state_dict(), self.classifier.state_dict()
            for name, value in ours.items():
                if value.dtype.is_floating_point:
                    value.lerp_(theirs[name], 1 - kept)
                else:
                    value.copy_(theirs[name])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Keep a batch's logits until the whole validation set is seen."""
        del batch_idx
        logits, labels = self.judged(batch)
        self._seen.append((logits.float().cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure loss and AUROC over the whole validation set."""
        logits = torch.cat([seen[0] for seen in self._seen])
        labels = torch.cat([seen[1] for seen in self._seen])
        self._seen.clear()
        if not torch.isfinite(logits).all():
            raise RunError(
                f"a validation logit is not finite in epoch {self.current_epoch}; "
                "the last good checkpoint is kept"
            )
        known = ~torch.isnan(labels)
        auroc = float(roc_auc_score(labels[known].numpy(), logits[known].numpy()))
        self.log("val_loss", self.loss(logits, labels, self.positive_weight), batch_size=1)
        self.log("val_auroc", auroc, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a rate that rises over the warm-up and falls as a cosine, by step."""
        decayed = [p for p in self.classifier.parameters() if p.ndim >= _DECAYED_DIMENSIONS]
        free = [p for p in self.classifier.parameters() if p.ndim < _DECAYED_DIMENSIONS]
        groups: list[dict[str, list[nn.Parameter] | float]] = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.lr)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = round(self.config.warmup * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine_with_warmup(step, total, warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
