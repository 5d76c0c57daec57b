"""The classification task: one binary label of images, breasts or exams."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mammoscope.config import TrainConfig
from mammoscope.errors import RunError
from mammoscope.models import Classifier, MultiViewClassifier
from mammoscope.training.auxiliary import AuxiliaryHeads
from mammoscope.training.learning import BatchLoss, LearningTask, Measure
from mammoscope.training.losses import lesion_bce, masked_bce
from mammoscope.training.optimisation import is_frozen, parameter_groups
from mammoscope.training.validation import VALIDATION_MEASURES, validation_measures

__all__ = ["ClassificationTask", "LabelLoss", "Network"]


Network = Classifier | MultiViewClassifier


class LabelLoss(NamedTuple):
    """The loss of a batch's labels, and what is learnt beside them.

    Attributes:
        loss: Of the labels.
        units: How many images, breasts or exams it is of.
        features: (N, channels, h, w) of its images.
        targets: (N, variables) of auxiliary heads.
        lesions: (N, H, W) uint8 as :func:`.losses.lesion_bce` takes it, where that is learnt.
    """

    loss: Tensor
    units: int
    features: Tensor
    targets: Tensor | None
    lesions: Tensor | None = None


class ClassificationTask(LearningTask):
    """Trains a classifier on one binary label: of images, unless a subclass says otherwise.

    Args:
        classifier: The network.
        config: Rates, weights and schedule.
        positive_weight: Weight of the positive term of the loss.
        auxiliary: Heads that are trained beside it, if any.
    """

    measure: ClassVar[Measure] = Measure("auroc", "AUROC")
    further_losses: ClassVar[tuple[str, ...]] = ("auxiliary_loss", "lesion_loss")
    measures: ClassVar[tuple[str, ...]] = ("loss", *VALIDATION_MEASURES)

    network: Network

    def __init__(
        self,
        classifier: Network,
        config: TrainConfig,
        positive_weight: float,
        auxiliary: AuxiliaryHeads | None = None,
    ) -> None:
        super().__init__(classifier, config)
        self.positive_weight = positive_weight
        self.auxiliary = auxiliary
        self._seen: list[tuple[Tensor, Tensor]] = []

    @property
    def looker(self) -> Classifier:
        """The network that looks at single images, itself or a part of it."""
        network = self.network
        return network if isinstance(network, Classifier) else network.classifier

    def on_train_epoch_start(self) -> None:
        """Freeze what is to stay as it is, running statistics included, or let it go."""
        frozen = is_frozen(self.config, self.current_epoch)
        whole = self.config.frozen_part == "image_model"
        part = self.looker if whole else self.looker.backbone
        part.requires_grad_(not frozen).train(not frozen)

    def label_loss(self, batch: Any) -> LabelLoss:
        """Return the loss of a batch's labels.

        Args:
            batch: Images (B, 1, H, W), labels (B,), and where more is learnt a dictionary of it:
                ``targets`` of auxiliary heads (B, variables), ``lesions`` (B, H, W).
        """
        images, labels, *others = batch
        further: dict[str, Tensor] = others[0] if others else {}
        features = self.looker.features(images)
        loss = self.loss(self.looker.read(features).logit, labels, self.positive_weight)
        taught = further.get("targets"), further.get("lesions")
        return LabelLoss(loss, len(labels), features, *taught)

    def batch_loss(self, batch: Any) -> BatchLoss:
        """Return the loss of a batch, with those of auxiliary heads and of known lesions.

        Args:
            batch: As :meth:`label_loss` takes it.
        """
        loss, count, features, targets, lesions = self.label_loss(batch)
        whole, told = loss, {"train_loss": loss}
        if self.auxiliary is not None and targets is not None:
            told["auxiliary_loss"] = self.auxiliary.loss(features, targets)
            whole = whole + self.config.auxiliary_weight * told["auxiliary_loss"]
        if lesions is not None:
            told["lesion_loss"] = lesion_bce(self.looker.lesion_logits(features), lesions)
            whole = whole + self.config.lesion_weight * told["lesion_loss"]
        return BatchLoss(whole, count, told)

    def judged(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the logits (B,) that the weights to be kept give a batch, and its labels (B,)."""
        images, labels = batch[:2]
        return self.scored(images).logit, labels

    def loss(self, logits: Tensor, labels: Tensor, positive_weight: float) -> Tensor:
        """Return the configured loss of logits and labels of one shape; NaN is left out."""
        return masked_bce(
            logits,
            labels,
            positive_weight,
            soft_positive=self.config.soft_positive,
            focal_gamma=self.config.focal_gamma if self.config.loss == "focal" else 0.0,
        )

    def judge(self, batch: Any) -> None:
        """Keep a batch's logits until the whole validation set is seen."""
        logits, labels = self.judged(batch)
        self._seen.append((logits.float().cpu(), labels.cpu()))

    def measured(self) -> dict[str, float]:
        """Measure loss and ranks over the whole validation set.

        Raises:
            RunError: If a logit is not finite; the last good checkpoint is kept.
        """
        logits = torch.cat([seen[0] for seen in self._seen])
        labels = torch.cat([seen[1] for seen in self._seen])
        self._seen.clear()
        if not torch.isfinite(logits).all():
            raise RunError(
                f"a validation logit is not finite in epoch {self.current_epoch}; "
                "the last good checkpoint is kept"
            )
        loss = float(self.loss(logits, labels, self.positive_weight))
        return {"loss": loss} | validation_measures(logits, labels)

    def groups(self) -> list[dict[str, Any]]:
        """Return groups of parameters by depth of the backbone and decay."""
        others = [] if self.auxiliary is None else [*self.auxiliary.parameters()]
        if isinstance(self.network, MultiViewClassifier):
            others += self.network.own_parameters()
        return parameter_groups(self.looker, others, self.config)
