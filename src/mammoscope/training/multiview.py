"""The training task of breast and exam models: losses at every level that they score."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mammoscope.config import TrainConfig
from mammoscope.models import MultiViewClassifier
from mammoscope.training.auxiliary import AuxiliaryHeads
from mammoscope.training.task import ClassificationTask, LabelLoss
from mammoscope.training.units import UnitBatch

__all__ = ["MultiViewTask", "PositiveWeights"]


@dataclass(frozen=True, slots=True)
class PositiveWeights:
    """Weight of the positive term of the loss at each level."""

    image: float
    breast: float
    exam: float


class MultiViewTask(ClassificationTask):
    """Trains a breast or exam model.

    The loss is that of the breasts, for an exam model with that of the exams, and the images'
    own loss times ``train.image_weight``. Unknown labels are left out of each.

    Args:
        model: The network.
        config: Rates, weights and schedule.
        weights: Of the positive terms.
        auxiliary: Heads that are trained beside it, if any.
    """

    network: MultiViewClassifier

    def __init__(
        self,
        model: MultiViewClassifier,
        config: TrainConfig,
        weights: PositiveWeights,
        auxiliary: AuxiliaryHeads | None = None,
    ) -> None:
        own = weights.exam if model.level == "exam" else weights.breast
        super().__init__(model, config, own, auxiliary)
        self.weights = weights

    def label_loss(self, batch: UnitBatch) -> LabelLoss:
        """Return the loss of a batch of units."""
        features = self.network.features(batch.given)
        made = self.network.read(features, batch.given)
        loss = self.loss(made.breast_logit, batch.breast_label, self.weights.breast)
        if self.network.level == "exam":
            loss = loss + self.loss(made.exam_logit, batch.label, self.weights.exam)
        if self.config.image_weight:
            own = self.loss(made.image_logit, batch.image_label, self.weights.image)
            loss = loss + self.config.image_weight * own
        there = batch.given.mask
        lesions = batch.lesions[there] if batch.lesions.numel() else None
        return LabelLoss(loss, len(batch.label), features, batch.targets[there], lesions)

    def judged(self, batch: UnitBatch) -> tuple[Tensor, Tensor]:
        """Return logits and labels of the units: a breast model's exam logit is its breast's."""
        return self.scored(batch.given).exam_logit, batch.label
