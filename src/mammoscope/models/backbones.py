"""Feature extractors: an image to a map of features, from a network of ours or any of timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mammoscope.errors import ConfigError
from mammoscope.models.classifier import FeatureExtractor

__all__ = ["BASELINES", "BaselineCnn", "TimmBackbone"]


class BaselineCnn(FeatureExtractor):
    """A plain residual network of 0.25 million weights, trained from scratch; stride 8.

    A cell sees 58 pixels and no more. Of networks that see further, those tried here put the
    heat around a lesion instead of on it: once every cell near it can see it, the pooled logit
    is as well served by its neighbours (``docs/experiments.md``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels = 128
        self.blocks = nn.Sequential(
            _ResidualBlock(1, 24, stride=2),
            _ResidualBlock(24, 24),
            _ResidualBlock(24, 48, stride=2),
            _ResidualBlock(48, 48),
            _ResidualBlock(48, 128, stride=2, kernels=(4, 1)),
            _ResidualBlock(128, 128, kernels=(1, 1)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 128, H / 8, W / 8)."""
        features: Tensor = self.blocks(image)
        return features


class _ResidualBlock(nn.Module):
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
        return torch.relu(self.body(image) + self.shortcut(image))


class TimmBackbone(FeatureExtractor):
    """A backbone of timm with one input channel and no head.

    Args:
        name: Its name in timm.
        size: (H, W) of the input, for those that need it.
        pretrained: Load timm's weights.

    Raises:
        ConfigError: If the network cannot take images of that size, or gives no map.
    """

    # timm's models share methods and attributes that no base class declares.
    body: Any

    def __init__(self, name: str, size: tuple[int, int], *, pretrained: bool) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "in_chans": 1,
            "num_classes": 0,
            "global_pool": "",
            "pretrained": pretrained,
        }
        try:
            self.body = timm.create_model(name, **options, img_size=size)
        except TypeError:
            # Convolutional networks take any size and no such argument.
            self.body = timm.create_model(name, **options)
        except AssertionError as error:
            raise _unfit(name, size, str(error)) from error
        try:
            with torch.no_grad():
                training = self.body.training
                probe = self.body.eval().forward_features(torch.zeros(1, 1, *size))
                self.body.train(training)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise _unfit(name, size, str(error)) from error
        if not isinstance(probe, Tensor) or probe.ndim not in (3, 4):
            raise _unfit(name, size, "it gives no map of features")
        width = int(self.body.num_features)
        self._channels_last = probe.ndim == 4 and probe.shape[-1] == width != probe.shape[1]
        self._grid: tuple[int, int] | None = None
        if probe.ndim == 3:
            tokens = probe.shape[1] - int(getattr(self.body, "num_prefix_tokens", 0))
            grid = _grid(tokens, size)
            if grid is None:
                raise _unfit(name, size, f"its {tokens} tokens are no grid over the image")
            self._grid = grid
        self.channels = int(self._as_map(probe).shape[1])

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, C, h, w)."""
        return self._as_map(self.body.forward_features(image))

    def _as_map(self, features: Tensor) -> Tensor:
        if self._grid is not None:
            # Tokens (B, N, C): class and register tokens come first.
            rows, columns = self._grid
            tokens = features[:, -rows * columns :]
            return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)
        return features.permute(0, 3, 1, 2) if self._channels_last else features


def _grid(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Find the (h, w) of square patches that cover an image with this many tokens."""
    height, width = size
    for patch in range(1, min(size) + 1):
        if height % patch == 0 == width % patch and (height // patch) * (width // patch) == tokens:
            return height // patch, width // patch
    # Some networks cut what does not fill a patch.
    for patch in range(1, min(size) + 1):
        if (height // patch) * (width // patch) == tokens:
            return height // patch, width // patch
    return None


def _unfit(name: str, size: tuple[int, int], why: str) -> ConfigError:
    reason = why.strip().partition("\n")[0] or "it refuses them without a reason"
    return ConfigError(
        f"model.backbone {name} cannot be used on images of {size[0]}x{size[1]}: {reason}"
    )


#: Backbones of our own, by name; every name that timm knows is accepted beside them.
BASELINES: dict[str, Callable[[], FeatureExtractor]] = {"baseline_cnn": BaselineCnn}
