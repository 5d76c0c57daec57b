"""Convolutional blocks that networks of ours and their heads are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

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
        first, second = kernels or (2 + stride, 3)
        self.body = nn.Sequential(
            nn.Conv2d(before, after, first, stride, (first - 1) // 2, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, second, 1, second // 2, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride),
                nn.Conv2d(before, after, 1, bias=False),
                nn.BatchNorm2d(after),
            )

    def forward(self, image: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        return torch.relu(self.body(image) + self.shortcut(image))


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
