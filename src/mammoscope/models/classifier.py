"""The image classifier: features, a map of local logits, and the logit pooled from it.

Every cell of the last feature map gets a logit of its own; the image's logit is pooled
from them. The heatmap is therefore what the score is made of, not a later explanation.

With ``pool=attention`` a second map says where a lesion is, and the logit is pooled from there.
Where lesions are known in training, that map is taught them: a few hundred images are too few to
learn from a label alone what to look at (``docs/experiments.md``). Ideas: attention-based pooling
(Ilse et al., ICML 2018) and GMIC (Shen et al., Med. Image Anal. 68, 2021).
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
# Where attention starts: lesions cover about a fiftieth of a breast.
_LESION_LOGIT = -4.0
# The axis of (B, 1, H, W), and of (B, h, w) from the end, along which an image is turned.
_FLIPPED_AXIS = {"vertical": -2, "horizontal": -1}
# Shares nearer to 0 and 1 than this have no logit in float32.
_CLIP = 1e-6


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


class Reading(NamedTuple):
    """What a classifier reads from features.

    Attributes:
        logit: (B,) before the sigmoid.
        local: (B, h, w) local logits; their sigmoid is the heatmap.
    """

    logit: Tensor
    local: Tensor


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
        pool: How local logits become the image's logit: their mean, their maximum, a
            log-sum-exp, which lies between the two, or their mean where a second map says that
            a lesion is, plus what the whole image adds.
        dropout: Share of feature channels dropped in training.
        prior: Share of positives, at which the untrained output starts.
        head: Layers between backbone and map of local logits, by kind.
        test_flips: Ways in which an image is turned and looked at again outside training; logits
            and local logits are means over all looks.
    """

    def __init__(
        self,
        backbone: FeatureExtractor,
        *,
        max_value: int,
        pool: Literal["avg", "max", "lse", "attention"] = "lse",
        dropout: float = 0.0,
        prior: float = 0.5,
        head: Sequence[Literal["conv", "residual"]] = (),
        test_flips: Sequence[Literal["vertical", "horizontal"]] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head_layers(head, backbone.channels)
        #: Channels of :meth:`features`.
        self.channels = min(backbone.channels, HEAD_CHANNELS) if head else backbone.channels
        self.pool = pool
        self.test_flips = tuple(_FLIPPED_AXIS[name] for name in test_flips)
        self.max_value = float(max_value)
        self.dropout = nn.Dropout2d(dropout)
        self.local_logits = _to_one(self.channels)
        bounded = min(max(prior, 0.01), 0.99)
        prior_logit = math.log(bounded / (1 - bounded))
        self.attention: nn.Conv2d | None = None
        self.context: nn.Conv2d | None = None
        if pool == "attention":
            self.attention, self.context = _to_one(self.channels), _to_one(self.channels)
            nn.init.constant_(self.attention.bias, _LESION_LOGIT)  # type: ignore[arg-type]
            nn.init.constant_(self.context.bias, prior_logit)  # type: ignore[arg-type]
        else:
            nn.init.constant_(self.local_logits.bias, prior_logit)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> ClassifierOutput:
        """Score a batch.

        Args:
            image: (B, 1, H, W) float32 grey values in [0, max_value].
        """
        readings = [self.look(self.features(image))]
        for axis in () if self.training else self.test_flips:
            turned = self.look(self.features(image.flip(axis)))
            readings.append(Reading(turned.logit, turned.local.flip(axis)))
        logit = torch.stack([reading.logit for reading in readings]).mean(dim=0)
        local = torch.stack([reading.local for reading in readings]).mean(dim=0)
        return ClassifierOutput(logit, torch.sigmoid(local))

    def features(self, image: Tensor) -> Tensor:
        """Return what the backbone and the head's layers make of a batch, (B, channels, h, w)."""
        features: Tensor = self.head(self.backbone(scaled(image, self.max_value)))
        return features

    def read(self, features: Tensor) -> ClassifierOutput:
        """Score features (B, channels, h, w), of images looked at once."""
        reading = self.look(features)
        return ClassifierOutput(reading.logit, torch.sigmoid(reading.local))

    def look(self, features: Tensor) -> Reading:
        """Return logits and local logits of features (B, channels, h, w)."""
        dropped = self.dropout(features)
        local: Tensor = self.local_logits(dropped).squeeze(1).float()
        if self.attention is None or self.context is None:
            return Reading(self._pooled(local), local)
        where = self.lesion_logits(features)
        share = torch.softmax(where.flatten(1), dim=1)
        whole = self.context(dropped).float().mean(dim=(1, 2, 3))
        logit = (share * local.flatten(1)).sum(dim=1) + whole
        # Hot is what is taken for a lesion and for one of the label's kind.
        hot = (torch.sigmoid(where) * torch.sigmoid(local)).clamp(_CLIP, 1 - _CLIP)
        # Not torch.logit: its name in an exported graph is that of the graph's output.
        return Reading(logit, torch.log(hot) - torch.log1p(-hot))

    def lesion_logits(self, features: Tensor) -> Tensor:
        """Return logits (B, h, w) that a lesion is in a cell, of features (B, channels, h, w).

        Raises:
            TypeError: If the network does not pool by attention.
        """
        if self.attention is None:
            raise TypeError("only a network that pools by attention says where lesions are")
        where: Tensor = self.attention(features).squeeze(1).float()
        return where

    def _pooled(self, local: Tensor) -> Tensor:
        """Pool a map of local logits (B, h, w) to the images' logits (B,)."""
        local = local.flatten(1)
        if self.pool == "avg":
            return local.mean(dim=1)
        if self.pool == "max":
            return local.amax(dim=1)
        # Divided by the number of cells, so that a flat map keeps its value.
        spread = torch.logsumexp(_SHARPNESS * local, dim=1) - math.log(local.shape[1])
        return spread / _SHARPNESS


def _to_one(channels: int) -> nn.Conv2d:
    """Return a map from features to one number a cell, near 0 at first."""
    made = nn.Conv2d(channels, 1, kernel_size=1)
    nn.init.normal_(made.weight, std=0.01)
    nn.init.zeros_(made.bias)  # type: ignore[arg-type]
    return made
