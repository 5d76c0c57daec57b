"""The classifier of cut-outs: a backbone, its mean, and a logit for each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mammoscope.models.classifier import FeatureExtractor, scaled

__all__ = ["CutoutClassifier", "CutoutGraph"]


class CutoutClassifier(nn.Module):
    """Tells cut-outs apart.

    Args:
        backbone: The feature extractor.
        classes: How many there are.
        max_value: Largest grey value of the input, 255 or 65535.
        dropout: Share of features dropped in training.
    """

    def __init__(
        self, backbone: FeatureExtractor, classes: int, *, max_value: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.max_value = float(max_value)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes) of cut-outs (B, 1, S, S), float32 grey values."""
        features = self.backbone(scaled(image, self.max_value)).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features)).float()
        return logits


class CutoutGraph(nn.Module):
    """A classifier of cut-outs as it is exported: logits, and shares that sum to 1."""

    def __init__(self, classifier: CutoutClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and scores, (B, classes) each."""
        logits = self.classifier(image)
        return logits, torch.softmax(logits, dim=1)
