"""The classification task: one LightningModule, one optimiser, one schedule."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from mammoscope.config import TrainConfig
from mammoscope.errors import RunError
from mammoscope.models import Classifier, MultiViewClassifier
from mammoscope.training.auxiliary import AuxiliaryHeads
from mammoscope.training.losses import masked_bce
from mammoscope.training.optimisation import (
    build_optimizer,
    cosine_with_warmup,
    is_frozen,
    parameter_groups,
)
from mammoscope.training.validation import validation_measures

__all__ = ["BatchLoss", "ClassificationTask", "Network"]

# The averaged weights follow closely at first: the share kept is (1 + step) / (10 + step)
# until it reaches the configured decay, so that early epochs do not validate noise.
_AVERAGE_WARMUP = 10


Network = Classifier | MultiViewClassifier


class BatchLoss(NamedTuple):
    """The loss of a batch, and what auxiliary heads need.

    Attributes:
        loss: Of the labels.
        units: How many images, breasts or exams it is of.
        features: (N, channels, h, w) of its images.
        targets: (N, variables) of auxiliary heads.
    """

    loss: Tensor
    units: int
    features: Tensor
    targets: Tensor | None


class ClassificationTask(lightning.LightningModule):
    """Trains a classifier on one binary label: of images, unless a subclass says otherwise.

    Args:
        classifier: The network.
        config: Rates, weights and schedule.
        positive_weight: Weight of the positive term of the loss.
        auxiliary: Heads that are trained beside it, if any.
    """

    def __init__(
        self,
        classifier: Network,
        config: TrainConfig,
        positive_weight: float,
        auxiliary: AuxiliaryHeads | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.config = config
        self.positive_weight = positive_weight
        # In the state dict, so that a resumed run goes on with the same average.
        self.average: Network | None = None
        if config.ema > 0:
            self.average = copy.deepcopy(classifier).requires_grad_(requires_grad=False)
        self.auxiliary = auxiliary
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._averaged_step: int | None = None

    @property
    def scored(self) -> Network:
        """The weights that validate and are kept: the average where there is one."""
        return self.classifier if self.average is None else self.average

    @property
    def looker(self) -> Classifier:
        """The network that looks at single images, itself or a part of it."""
        network = self.classifier
        return network if isinstance(network, Classifier) else network.classifier

    def on_train_start(self) -> None:
        """Begin where the average stands."""
        self._averaged_step = self.trainer.global_step

    def on_train_epoch_start(self) -> None:
        """Freeze the backbone, running statistics included, or let it go."""
        frozen = is_frozen(self.config, self.current_epoch)
        self.looker.backbone.requires_grad_(not frozen).train(not frozen)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what layers draw (dropout) by the step, so that a resumed run draws alike.

        Of several processes each draws for itself.
        """
        del batch
        place = [self.config.seed, self.trainer.global_step]
        if self.config.accumulate > 1:
            place.append(batch_idx)
        process = (self.global_rank,) if self.global_rank else ()
        sequence = np.random.SeedSequence(place, spawn_key=process)
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def batch_loss(self, batch: Any) -> BatchLoss:
        """Return the loss of a batch.

        Args:
            batch: Images (B, 1, H, W), labels (B,), and with auxiliary heads their targets
                (B, variables).
        """
        images, labels, *targets = batch
        features = self.looker.features(images)
        loss = self.loss(self.looker.read(features).logit, labels, self.positive_weight)
        return BatchLoss(loss, len(labels), features, targets[0] if targets else None)

    def judged(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the logits (B,) that the weights to be kept give a batch, and its labels (B,)."""
        images, labels = batch[:2]
        return self.scored(images).logit, labels

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, that of auxiliary heads included.

        Args:
            batch: As :meth:`batch_loss` takes it.
            batch_idx: Which batch of the epoch.

        Raises:
            RunError: If the loss is not finite; the last good checkpoint is kept.
        """
        loss, count, features, targets = self.batch_loss(batch)
        told: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": count}
        self.log("train_loss", loss, **told)
        if self.auxiliary is not None and targets is not None:
            further = self.auxiliary.loss(features, targets)
            self.log("auxiliary_loss", further, **told)
            loss = loss + self.config.auxiliary_weight * further
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss became {float(loss.detach())} in epoch {self.current_epoch}, batch "
                f"{batch_idx}; the last good checkpoint is kept. A lower train.lr, or "
                "train.precision=32-true, usually helps"
            )
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
        step = self.trainer.global_step
        # Where gradients accumulate, not every batch is a step.
        if self.average is None or step == self._averaged_step:
            return
        self._averaged_step = step
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
        """Measure loss and ranks over the whole validation set."""
        logits = torch.cat([seen[0] for seen in self._seen])
        labels = torch.cat([seen[1] for seen in self._seen])
        self._seen.clear()
        if not torch.isfinite(logits).all():
            raise RunError(
                f"a validation logit is not finite in epoch {self.current_epoch}; "
                "the last good checkpoint is kept"
            )
        self.log("val_loss", self.loss(logits, labels, self.positive_weight), batch_size=1)
        for name, value in validation_measures(logits, labels).items():
            self.log(f"val_{name}", value, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser, with rates that rise over the warm-up and fall as a cosine."""
        others = [] if self.auxiliary is None else [*self.auxiliary.parameters()]
        if isinstance(self.classifier, MultiViewClassifier):
            others += self.classifier.own_parameters()
        optimizer = build_optimizer(parameter_groups(self.looker, others, self.config), self.config)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = round(self.config.warmup * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine_with_warmup(step, total, warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
