"""What every anomaly model takes and gives: one contract for all, in training and in the graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["AnomalyModel", "AnomalyOutput"]


class AnomalyOutput(NamedTuple):
    """What an anomaly model says of a batch.

    Attributes:
        score: (B,) how unlike normal images; at least 0, without an upper end.
        heatmap: (B, h, w) the same by place, over the whole input; 0 outside the breast.
        reconstruction: (B, 1, h', w') grey values of the input's range as the model expects the
            breast to be, h' and w' those of the image as it sees it; ``None`` where it makes none.
    """

    score: Tensor
    heatmap: Tensor
    reconstruction: Tensor | None = None


class AnomalyModel(nn.Module):
    """A model of normal images.

    ``centre`` and ``spread`` are those of the scores of normal validation images: the logit is the
    score told in their units.

    Args:
        max_value: Largest grey value of the input.
    """

    #: What it is told beside the image, in order: ``projection``, ``density``.
    conditions: tuple[str, ...] = ()

    centre: Tensor
    spread: Tensor

    def __init__(self, max_value: int) -> None:
        super().__init__()
        self.max_value = float(max_value)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, image: Tensor, *conditions: Tensor) -> AnomalyOutput:
        """Judge a batch.

        Args:
            image: (B, 1, H, W) float32 grey values in [0, max_value], 0 outside the breast.
            conditions: (B,) int64 codes, one tensor for each of :attr:`conditions`.
        """
        raise NotImplementedError

    def terms(self, image: Tensor, *conditions: Tensor) -> Tensor:
        """Return the mean of each term of the map over the breast, (B, terms); none by default."""
        del conditions
        return image.new_zeros(image.shape[0], 0)

    def set_units(self, units: Tensor) -> None:
        """Say in which units each term of the map is told.

        Args:
            units: (terms,) above 0: what each is on normal images.
        """
        del units

    def standardise(self, scores: Tensor) -> None:
        """Take centre and spread from the scores (N,) of normal validation images."""
        self.centre = scores.mean()
        # One image, or scores that are all alike, have no spread to be told in.
        spread = scores.std() if scores.numel() > 1 else torch.zeros(())
        self.spread = spread if float(spread) > 0 else torch.ones(())
