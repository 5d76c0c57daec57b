"""Feature extractors: an image to a map of features, from a network of ours or any of timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from mammoscope.errors import ConfigError
from mammoscope.models.classifier import FeatureExtractor
from mammoscope.models.layers import ResidualBlock

__all__ = ["BASELINES", "BaselineCnn", "FineCnn", "ResidualCnn", "TimmBackbone"]


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
            ResidualBlock(1, 24, stride=2),
            ResidualBlock(24, 24),
            ResidualBlock(24, 48, stride=2),
            ResidualBlock(48, 48),
            ResidualBlock(48, 128, stride=2, kernels=(4, 1)),
            ResidualBlock(128, 128, kernels=(1, 1)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 128, H / 8, W / 8)."""
        features: Tensor = self.blocks(image)
        return features

    def depths(self) -> dict[str, int]:
        """Count blocks from the image on."""
        return {name: int(name.split(".")[1]) for name, _ in self.named_parameters()}


class ResidualCnn(FeatureExtractor):
    """A plain residual network of 0.8 million weights whose cells see 230 pixels; stride 16.

    Wide enough to see a mass with its surroundings. It asks to be told where lesions are
    (``model.pool=attention``), without which its heat lies beside them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channels = 128
        self.blocks = nn.Sequential(
            # An even kernel, as in the blocks.
            nn.Sequential(nn.Conv2d(1, 16, 6, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            ResidualBlock(16, 32, stride=2),
            ResidualBlock(32, 64, stride=2),
            ResidualBlock(64, 96, stride=2),
            ResidualBlock(96, 128),
            ResidualBlock(128, 128),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 128, H / 16, W / 16)."""
        features: Tensor = self.blocks(image)
        return features

    def depths(self) -> dict[str, int]:
        """Count blocks from the image on."""
        return {name: int(name.split(".")[1]) for name, _ in self.named_parameters()}


class FineCnn(FeatureExtractor):
    """A residual network of 0.06 million weights for all pixels of a large image; stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 64
        self.blocks = nn.Sequential(
            ResidualBlock(1, 16, stride=2),
            ResidualBlock(16, 32, stride=2),
            ResidualBlock(32, 64, stride=2, kernels=(4, 1)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 64, H / 8, W / 8)."""
        features: Tensor = self.blocks(image)
        return features


class TimmBackbone(FeatureExtractor):
    """A backbone of timm with one input channel and no head.

    Args:
        name: Its name in timm.
        size: (H, W) of the input, for those that need it.
        pretrained: Load timm's weights.
        drop_path: Largest share of residual paths skipped in training.

    Raises:
        ConfigError: If the network cannot take images of that size, gives no map, or has no
            residual paths to skip.
    """

    # timm's models share methods and attributes that no base class declares.
    body: Any

    def __init__(
        self, name: str, size: tuple[int, int], *, pretrained: bool, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "in_chans": 1,
            "num_classes": 0,
            "global_pool": "",
            "pretrained": pretrained,
        }
        if drop_path:
            options["drop_path_rate"] = drop_path
        self.body = _created(name, options, size)
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

    def depths(self) -> dict[str, int]:
        """Count layers from the image on, as timm groups them."""
        groups = group_parameters(self.body, self.body.group_matcher(coarse=False), reverse=True)
        return {f"body.{name}": int(depth) for name, depth in groups.items()}

    def undecayed(self) -> set[str]:
        """Position embeddings and the like, as timm lists them."""
        listed: set[str] = getattr(self.body, "no_weight_decay", set)()
        return {f"body.{name}" for name in listed}

    def recompute_activations(self) -> bool:
        """Switch timm's gradient checkpointing on."""
        try:
            self.body.set_grad_checkpointing(True)
        except (AttributeError, AssertionError):
            return False
        return True

    def _as_map(self, features: Tensor) -> Tensor:
        if self._grid is not None:
            # Tokens (B, N, C): class and register tokens come first.
            rows, columns = self._grid
            tokens = features[:, -rows * columns :]
            return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)
        return features.permute(0, 3, 1, 2) if self._channels_last else features


def _created(name: str, options: dict[str, Any], size: tuple[int, int]) -> nn.Module:
    """Have timm make a network for images of a size, or of any size."""
    try:
        return timm.create_model(name, **options, img_size=size)
    except TypeError:
        # Convolutional networks take any size and no such argument.
        pass
    except AssertionError as error:
        raise _unfit(name, size, str(error)) from error
    try:
        return timm.create_model(name, **options)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise ConfigError(
            f"model.drop_path: {name} has no residual paths that can be skipped; set it to 0"
        ) from error


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
BASELINES: dict[str, Callable[[], FeatureExtractor]] = {
    "baseline_cnn": BaselineCnn,
    "residual_cnn": ResidualCnn,
}
