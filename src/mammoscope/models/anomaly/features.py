"""Maps of features from some stages of a backbone, on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mammoscope.errors import ConfigError
from mammoscope.models.backbones import BaselineCnn, TimmBackbone
from mammoscope.models.classifier import FeatureExtractor

__all__ = ["FeatureMaps"]

# Grey values are shifted as those that our classifiers' backbones see.
_MEAN, _SPREAD = 0.25, 0.25
# The baseline's blocks come in pairs of one resolution.
_PER_STAGE = 2


class FeatureMaps(nn.Module):
    """A frozen backbone, some of whose stages are read.

    Args:
        backbone: The network.
        layers: Its stages, from the image on.
        size: (H, W) of the input.

    Raises:
        ConfigError: If it has no such stages, or does not give them.
    """

    def __init__(
        self, backbone: FeatureExtractor, layers: Sequence[int], size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(requires_grad=False).eval()
        self.layers = tuple(layers)
        try:
            with torch.no_grad():
                probe = self.stages(torch.zeros(1, 1, *size))
        except (
            AttributeError,
            AssertionError,
            IndexError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise ConfigError(
                f"anomaly.layers={list(layers)}: the network does not give them: "
                f"{str(error).partition(chr(10))[0] or type(error).__name__}"
            ) from error
        #: Channels of each stage.
        self.widths = tuple(int(found.shape[1]) for found in probe)

    def train(self, mode: bool = True) -> FeatureMaps:
        """Stay in evaluation mode: the network is not trained here."""
        super().train(mode)
        self.backbone.eval()
        return self

    def stages(self, grey: Tensor) -> list[Tensor]:
        """Return the map of each stage, (B, C, h, w), finest first.

        Args:
            grey: (B, 1, H, W) grey values in [0, 1].
        """
        scaled = (grey - _MEAN) / _SPREAD
        if isinstance(self.backbone, TimmBackbone):
            found = self.backbone.body.forward_intermediates(
                scaled, indices=list(self.layers), output_fmt="NCHW", intermediates_only=True
            )
            return list(found)
        if not isinstance(self.backbone, BaselineCnn):
            raise TypeError(f"a {type(self.backbone).__name__} tells no stages")
        made: list[Tensor] = []
        blocks = self.backbone.blocks
        for number in range(_PER_STAGE * (max(self.layers) + 1)):
            scaled = blocks[number](scaled)
            if number % _PER_STAGE and number // _PER_STAGE in self.layers:
                made.append(scaled)
        return made

    def forward(self, grey: Tensor) -> Tensor:
        """Return patch features (B, C, h, w) on the first stage's grid.

        Each stage is averaged over 3 x 3 neighbours, so that a patch knows what is around it, and
        coarser ones are interpolated.

        Source: Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022,
        section 3.1.
        """
        found = [functional.avg_pool2d(stage, 3, 1, 1) for stage in self.stages(grey)]
        grid = [int(side) for side in found[0].shape[-2:]]
        spread = [
            functional.interpolate(stage, size=grid, mode="bilinear", align_corners=False)
            for stage in found[1:]
        ]
        return torch.cat([found[0], *spread], dim=1)
