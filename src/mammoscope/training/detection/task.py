"""A detector learnt: its losses, and how many lesions it finds at a price in false positives."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mammoscope.config import Config
from mammoscope.errors import RunError
from mammoscope.evaluation.lesions.one_figure import sensitivity_of
from mammoscope.inference.fusion import Boxes, fused
from mammoscope.models.detectors import Detector
from mammoscope.training.detection.data import DetectionBatch
from mammoscope.training.learning import BatchLoss, LearningTask, Measure
from mammoscope.types import Floats

__all__ = ["DetectionTask"]


class DetectionTask(LearningTask):
    """Trains a detector.

    Args:
        network: The detector.
        config: Rates and schedule, tiles, and what counts as found.
    """

    measure: ClassVar[Measure] = Measure("mean_sensitivity", "mean sensitivity (FROC)")
    measures: ClassVar[tuple[str, ...]] = ("mean_sensitivity", "sensitivity")

    def __init__(self, network: Detector, config: Config) -> None:
        super().__init__(network, config.train)
        self.settings = config
        self._found: list[Boxes] = []
        self._there: list[Floats] = []

    def batch_loss(self, batch: DetectionBatch) -> BatchLoss:
        """Return the sum of the detector's losses."""
        parts = self.network.losses(batch.images, batch.truths)
        total: Tensor = torch.stack([*parts.values()]).sum()
        return BatchLoss(total, len(batch.images))

    def judge(self, batch: DetectionBatch) -> None:
        """Remember candidates and lesions of each image."""
        tiles = self.settings.detect.tiles.size_px
        made = _boxes(self.scored, batch.images)
        for number, truth in enumerate(batch.truths):
            own = (batch.owner == number).nonzero()[:, 0].tolist()
            found = made[own[0]]
            if tiles:
                # The same merging as after training.
                found = fused(
                    [made[tile] for tile in own],
                    [(int(y), int(x)) for y, x in batch.corners[own]],
                    tiles,
                    _extent(batch.corners[own], tiles),
                    self.settings.detect.fusion_iou,
                    self.settings.detect.most_candidates,
                )
            self._found.append(found)
            self._there.append(truth.boxes.cpu().numpy().astype(np.float64))

    def measured(self) -> dict[str, float]:
        """Return the sensitivity at the price that is asked for, and the mean over several."""
        found, there = self._found, self._there
        self._found, self._there = [], []
        for part in found:
            if not np.isfinite(part.score).all() or not np.isfinite(part.box).all():
                raise RunError(
                    f"a candidate is not finite in epoch {self.current_epoch}; the last good "
                    "checkpoint is kept"
                )
        evaluation = self.settings.evaluation
        mean, wanted = sensitivity_of([(part.box, part.score) for part in found], there, evaluation)
        return {"mean_sensitivity": mean, "sensitivity": wanted}


def _boxes(network: Any, images: Tensor) -> list[Boxes]:
    """Return the candidates of each image or tile."""
    boxes, scores, kinds = (part.cpu().numpy() for part in network(images))
    made = []
    for box, score, kind in zip(boxes, scores, kinds, strict=True):
        # What is not finite is told by its measures, not left out here.
        there = ~(score <= 0)
        made.append(
            Boxes(box[there].astype(np.float64), score[there].astype(np.float64), kind[there])
        )
    return made


def _extent(corners: Tensor, side: int) -> tuple[int, int]:
    """Return the (H, W) that tiles cover."""
    last = corners.amax(dim=0) + side
    return int(last[0]), int(last[1])
