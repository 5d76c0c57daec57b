"""Convolutional blocks that networks of ours and their heads are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["HEAD_CHANNELS", "ResidualBlock", "head_layers"]

#: Channels of head layers at most: a 3 x 3 convolution of 2048 would outweigh its backbone.
HEAD_CHANNELS = 256


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, with an even kernel where the grid is halved.

    With the usual kernel of 3, a cell's centre of view moves half a cell up and to the left at
    every halving, and heatmaps lie beside what they show.
    """

    def __init__(
        self, before: int, after: int, stride: int = 1, kernels: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.stride = stride
        first, second = kernels or (2 + stride, 3)
        self.body = nn.Sequential(
            nn.Conv2d(before, after, first, stride, (first - 1) // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, second, 1, second // 2, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride),
                nn.Conv2d(before, after, 1, bias=False),
                nn.BatchNorm2d(after),
            )

    def forward(self, image: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        return torch.relu(self.body(image) + self._beside(image))

    def _beside(self, image: Tensor) -> Tensor:
        """Return the shortcut; exported, its mean and its convolution are one convolution.

        ONNX Runtime takes the mean of 24 channels pixel by pixel, out of the order in which it
        keeps them, and longer over it than over the convolution.
        """
        if not self.shortcut or not torch.onnx.is_in_onnx_export():
            shortcut: Tensor = self.shortcut(image)
            return shortcut
        side, weight = self.stride, self.shortcut[1].get_parameter("weight")
        means = weight.expand(-1, -1, side, side) / side**2
        joined: Tensor = self.shortcut[2](functional.conv2d(image, means, stride=side))
        return joined


def head_layers(kinds: Sequence[Literal["conv", "residual"]], channels: int) -> nn.Sequential:
    """Build the layers between a backbone and its map of local logits.

    Args:
        kinds: In order; each keeps height and width, (B, channels, h, w) to (B, C, h, w) with C
            at most 256.
        channels: Of the backbone's features.
    """
    layers: list[nn.Module] = []
    for kind in kinds:
        width = min(channels, HEAD_CHANNELS)
        if kind == "residual":
            layers.append(ResidualBlock(channels, width))
        else:
            convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
        channels = width
    return nn.Sequential(*layers)
