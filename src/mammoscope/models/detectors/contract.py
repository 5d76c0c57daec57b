"""What every detector takes and gives, in training and after it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from mammoscope.config import DetectionConfig
from mammoscope.models.detectors.selection import best_candidates

__all__ = ["Candidates", "DenseDetector", "Detector", "DetectorSpec", "Truth"]


class Truth(NamedTuple):
    """The lesions of one image.

    Attributes:
        boxes: (n, 4) float32, x_min, y_min, x_max, y_max on the network's grid, half-open.
        kinds: (n,) int64, from 0.
    """

    boxes: Tensor
    kinds: Tensor


class Candidates(NamedTuple):
    """What a detector found in a batch; N is ``detect.most_candidates``.

    Attributes:
        boxes: (B, N, 4) float32 on the network's grid; 0 where there is no candidate.
        scores: (B, N) float32 in [0, 1], falling; 0 where there is no candidate.
        kinds: (B, N) int64, from 0.
    """

    boxes: Tensor
    scores: Tensor
    kinds: Tensor


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """What a detector is built for.

    Attributes:
        config: Which detector, and how candidates are chosen.
        kinds: How many kinds of lesion are told apart.
        size: (H, W) of the input.
        max_value: Largest grey value of the input.
    """

    config: DetectionConfig
    kinds: int
    size: tuple[int, int]
    max_value: int


class Detector(nn.Module):
    """A network that finds lesions in grey images of one size.

    Decoding is part of :meth:`forward`, and every tensor in it has a shape that the number of
    images alone decides: what is exported is what was validated.

    Args:
        spec: What it is built for.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.config = spec.config
        self.kinds = spec.kinds
        self.size = spec.size
        self.max_value = float(spec.max_value)

    @abstractmethod
    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Return the parts of the loss, whose sum is minimised.

        Args:
            images: (B, 1, H, W) float32 grey values in [0, max_value].
            truths: One for each image; it may be empty.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Candidates:
        """Return the candidates of images (B, 1, H, W) float32 in [0, max_value]."""


class DenseDetector(Detector):
    """A detector that gives each place of a grid a box and a score, of which the best are kept."""

    @abstractmethod
    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, A, 4) and scores (B, A, kinds) in [0, 1] of all places."""

    def forward(self, images: Tensor) -> Candidates:
        """Return the candidates of images (B, 1, H, W) float32 in [0, max_value]."""
        boxes, scores = self.dense(images)
        return Candidates(*best_candidates(boxes.float(), scores.float(), self.size, self.config))
