"""The image classifier: features, a map of local logits, and the logit pooled from it.

Every cell of the last feature map gets a logit of its own; the image's logit is pooled
from them. The heatmap is therefore what the score is made of, not a later explanation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mammoscope.models.layers import HEAD_CHANNELS, head_layers

__all__ = ["Classifier", "ClassifierOutput", "FeatureExtractor", "scaled"]

# Grey values are scaled to [0, 1] and shifted by the mean and spread of a mammogram's crop.
_MEAN, _SPREAD = 0.25, 0.25
# Sharpness of the log-sum-exp pool: 0 is the mean of the map, infinity its maximum.
_SHARPNESS = 3.0


def scaled(image: Tensor, max_value: float) -> Tensor:
    """Return grey values in [0, max_value] as networks see them: about 0, with a spread of 1."""
    return (image / max_value - _MEAN) / _SPREAD


class ClassifierOutput(NamedTuple):
    """What a classifier gives.

    Attributes:
        logit: (B,) before the sigmoid.
        heatmap: (B, h, w) in [0, 1], the sigmoid of the local logits.
    """

    logit: Tensor
    heatmap: Tensor


class FeatureExtractor(nn.Module):
    """A backbone: (B, 1, H, W) to (B, channels, h, w)."""

    channels: int

    def depths(self) -> dict[str, int]:
        """Return how deep each parameter lies, by name; 0 is nearest to the image.

        Raises:
            NotImplementedError: If a backbone does not know.
        """
        raise NotImplementedError

    def undecayed(self) -> set[str]:
        """Return the names of parameters that weight decay is to leave alone."""
        return set()

    def recompute_activations(self) -> bool:
        """Compute activations again for the gradient instead of keeping them, where it can."""
        return False


class Classifier(nn.Module):
    """A backbone with a map of local logits and a pool.

    Args:
        backbone: The feature extractor.
        max_value: Largest grey value of the input, 255 or 65535.
        pool: How local logits become the image's logit: their mean, their maximum, or a
            log-sum-exp, which lies between the two.
        dropout: Share of feature channels dropped in training.
        prior: Share of positives, at which the untrained output starts.
        head: Layers between backbone and map of local logits, by kind.
    """

    def __init__(
        self,
        backbone: FeatureExtractor,
        *,
        max_value: int,
        pool: Literal["avg", "max", "lse"] = "lse",
        dropout: float = 0.0,
        prior: float = 0.5,
        head: Sequence[Literal["conv", "residual"]] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head_layers(head, backbone.channels)
        #: Channels of :meth:`features`.
        self.channels = min(backbone.channels, HEAD_CHANNELS) if head else backbone.channels
        self.pool = pool
        self.max_value = float(max_value)
        self.dropout = nn.Dropout2d(dropout)
        self.local_logits = nn.Conv2d(self.channels, 1, kernel_size=1)
        nn.init.normal_(self.local_logits.weight, std=0.01)
        bounded = min(max(prior, 0.01), 0.99)
        nn.init.constant_(self.local_logits.bias, math.log(bounded / (1 - bounded)))  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> ClassifierOutput:
        """Score a batch.

        Args:
            image: (B, 1, H, W) float32 grey values in [0, max_value].
        """
        return self.read(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """Return what the backbone and the head's layers make of a batch, (B, channels, h, w)."""
        features: Tensor = self.head(self.backbone(scaled(image, self.max_value)))
        return features

    def read(self, features: Tensor) -> ClassifierOutput:
        """Score features (B, channels, h, w)."""
        local = self.local(features)
        return ClassifierOutput(self.pooled(local), torch.sigmoid(local))

    def local(self, features: Tensor) -> Tensor:
        """Return the map of local logits (B, h, w) of features (B, channels, h, w)."""
        local: Tensor = self.local_logits(self.dropout(features)).squeeze(1).float()
        return local

    def pooled(self, local: Tensor) -> Tensor:
        """Pool a map of local logits (B, h, w) to the images' logits (B,)."""
        local = local.flatten(1)
        if self.pool == "avg":
            return local.mean(dim=1)
        if self.pool == "max":
            return local.amax(dim=1)
        # Divided by the number of cells, so that a flat map keeps its value.
        spread = torch.logsumexp(_SHARPNESS * local, dim=1) - math.log(local.shape[1])
        return spread / _SHARPNESS
