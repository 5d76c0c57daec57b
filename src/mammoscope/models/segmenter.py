"""Networks that score each pixel: ours, and those of segmentation-models-pytorch by name."""

from __future__ import annotations

import difflib
import math
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from mammoscope.config import SegmentConfig
from mammoscope.errors import ConfigError
from mammoscope.models.classifier import scaled
from mammoscope.models.layers import ResidualBlock
from mammoscope.models.weights import bounded_hub, hub_fault, load_segmenter_weights

__all__ = ["SMALL", "Segmenter", "SmallUnet", "build_segmenter", "check_segmenter"]

#: The encoder's name by which :class:`SmallUnet` is asked for.
SMALL = "small"
_TIMM = "tu-"

# Channels at full size and after each halving.
_WIDTHS = (12, 24, 48, 72, 96)
# Sides are filled up to a multiple of this, which the deepest encoders need.
_MULTIPLE = 32
# Share of pixels that belong to lesions, at which an untrained map starts.
_PRIOR = 0.01


class Segmenter(nn.Module):
    """A network with one logit for each pixel.

    Args:
        body: (B, 1, H, W) to (B, 1, H, W), both sides multiples of 32; its first layers by
            themselves as ``encoder``.
        max_value: Largest grey value of the input, 255 or 65535.
    """

    def __init__(self, body: nn.Module, *, max_value: int) -> None:
        super().__init__()
        self.body: Any = body
        self.max_value = float(max_value)
        head = getattr(body, "segmentation_head", body)
        last = [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1]
        if last.bias is not None:
            nn.init.constant_(last.bias, math.log(_PRIOR / (1 - _PRIOR)))

    def forward(self, image: Tensor) -> Tensor:
        """Score a batch.

        Args:
            image: (B, 1, H, W) float32 grey values in [0, max_value]; any H and W.

        Returns:
            (B, 1, H, W) float32 logits.
        """
        height, width = image.shape[-2:]
        below, right = -height % _MULTIPLE, -width % _MULTIPLE
        # Beyond the image there is nothing, which is black.
        image = functional.pad(image, (0, right, 0, below))
        logits: Tensor = self.body(scaled(image, self.max_value))
        return logits[..., :height, :width].float()

    @property
    def encoder(self) -> nn.Module:
        """The part that weights to start from are for."""
        encoder: nn.Module = self.body.encoder
        return encoder


class SmallUnet(nn.Module):
    """A U-Net of residual blocks with 0.6 million weights, trained from scratch.

    Source: Ronneberger et al., U-Net, MICCAI 2015.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks = [ResidualBlock(1, _WIDTHS[0])]
        blocks += [ResidualBlock(one, other, stride=2) for one, other in pairwise(_WIDTHS)]
        self.encoder = nn.ModuleList(blocks)
        self.decoder = nn.ModuleList(
            ResidualBlock(deep + wide, wide) for wide, deep in pairwise(_WIDTHS)
        )
        self.head = nn.Conv2d(_WIDTHS[0], 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 1, H, W); both sides are multiples of 16."""
        levels: list[Tensor] = []
        for block in self.encoder:
            image = block(image)
            levels.append(image)
        deep = levels.pop()
        for block in reversed(self.decoder):
            wide = levels.pop()
            deep = functional.interpolate(deep, scale_factor=2, mode="bilinear")
            deep = block(torch.cat([deep, wide], dim=1))
        logits: Tensor = self.head(deep)
        return logits


def check_segmenter(config: SegmentConfig) -> None:
    """Check that decoder and encoder are known, without building them.

    Raises:
        ConfigError: If one is not; the nearest names are given.
    """
    if config.encoder == SMALL:
        return
    # Loaded here: it takes a second, and most runs are of other tasks.
    import segmentation_models_pytorch as smp

    decoders = [*smp.MODEL_ARCHITECTURES_MAPPING]
    if config.decoder.lower() not in decoders:
        raise _unknown("segment.decoder", config.decoder, decoders, "those named")
    if config.encoder.startswith(_TIMM):
        if timm.is_model(config.encoder.removeprefix(_TIMM).partition(".")[0]):
            return
        known = [f"{_TIMM}{name}" for name in timm.list_models()]
    else:
        known = [SMALL, *smp.encoders.get_encoder_names()]
        if config.encoder in known:
            return
    raise _unknown(
        "segment.encoder",
        config.encoder,
        known,
        f"{SMALL}, every encoder of segmentation-models-pytorch, and {_TIMM}NAME for timm's",
    )


def build_segmenter(
    config: SegmentConfig, *, max_value: int, size: tuple[int, int]
) -> tuple[Segmenter, list[str]]:
    """Build the network that a configuration names.

    Args:
        config: Which decoder, encoder and weights.
        max_value: Largest grey value of the input.
        size: (H, W) of what it is to look at.

    Returns:
        The network, and sentences that a user should read (weights that could not be had).

    Raises:
        ConfigError: If a part is unknown, decoder and encoder do not go together, or they cannot
            take images of that size.
        RunError: If a weights file does not fit; the keys are given.
    """
    check_segmenter(config)
    notes: list[str] = []
    if config.encoder == SMALL:
        body: nn.Module = SmallUnet()
    elif config.pretrained and config.weights is None:
        body = _pretrained(config, notes)
    else:
        body = _created(config, weights=None)
    segmenter = Segmenter(body, max_value=max_value)
    _probe(segmenter, config, size)
    if config.weights is not None:
        notes += load_segmenter_weights(segmenter, segmenter.encoder, config.weights)
    return segmenter, notes


def _created(config: SegmentConfig, weights: str | bool | None) -> nn.Module:
    import segmentation_models_pytorch as smp

    try:
        body: nn.Module = smp.create_model(
            config.decoder, config.encoder, encoder_weights=weights, in_channels=1, classes=1
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise _unfit(config, str(error)) from error
    return body


def _pretrained(config: SegmentConfig, notes: list[str]) -> nn.Module:
    """Build a network with an encoder of ImageNet's weights, or with a note that says why not."""
    fault = hub_fault()
    weights: str | bool = True if config.encoder.startswith(_TIMM) else "imagenet"
    try:
        with bounded_hub(offline=fault is not None):
            return _created(config, weights)
    # As for classifiers: each class means that there are no weights. A KeyError: never were any.
    except (OSError, RuntimeError, KeyError) as error:
        reason = fault or str(error).strip().partition("\n")[0][:200] or type(error).__name__
        notes.append(
            f"ImageNet weights for {config.encoder} could not be had ({reason}); "
            "training starts from random weights"
        )
        return _created(config, weights=None)


def _probe(segmenter: Segmenter, config: SegmentConfig, size: tuple[int, int]) -> None:
    """Check that images of a size go through."""
    try:
        with torch.no_grad():
            made = segmenter.eval()(torch.zeros(1, 1, *size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _unfit(config, f"images of {size[0]} x {size[1]}: {error}") from error
    segmenter.train()
    if made.shape[-2:] != size:
        raise _unfit(config, f"it gives a map of {made.shape[-2]} x {made.shape[-1]}")


def _unfit(config: SegmentConfig, why: str) -> ConfigError:
    reason = why.strip().partition("\n")[0][:200]
    return ConfigError(
        f"segment.decoder={config.decoder} with segment.encoder={config.encoder} cannot be "
        f"built: {reason}"
    )


def _unknown(key: str, name: str, known: list[str], accepted: str) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    listed = ", ".join(known) if accepted == "those named" else accepted
    return ConfigError(
        f"{key}: {name!r} is unknown; nearest: {', '.join(near) or 'none'}. Accepted: {listed}"
    )
