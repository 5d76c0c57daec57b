"""Backbones of detectors: maps at strides 4, 8 and 16, all of one width."""

from __future__ import annotations

from collections import OrderedDict
from functools import reduce
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork

from mammoscope.errors import ConfigError
from mammoscope.models.detectors.contract import DetectorSpec
from mammoscope.models.layers import ResidualBlock
from mammoscope.models.registry import check_backbone
from mammoscope.models.weights import bounded_hub, hub_fault

__all__ = ["STRIDES", "Pyramid", "PyramidCnn", "local_contrast", "pyramid", "scaled"]

#: Pixels of the image from one cell to the next, level by level.
STRIDES = (4, 8, 16)
#: The backbone of our own.
OWN = "pyramid_cnn"
# Mean and spread of a mammogram's crop, as in the classifier.
_MEAN, _SPREAD = 0.25, 0.25
# Least deviation that local contrast is measured in, as a share of the largest grey value: of
# 8-bit steps nothing is made.
_LEAST_DEVIATION = 0.004
# Channels that ONNX Runtime computes side by side.
_STRIPES = 16


def scaled(images: Tensor, max_value: float) -> Tensor:
    """Scale grey values in [0, max_value] as backbones want them."""
    return (images / max_value - _MEAN) / _SPREAD


def local_contrast(images: Tensor, max_value: float, window: int) -> Tensor:
    """Return how far each pixel lies from the mean of its surroundings, in their deviations.

    Tissue's power falls steeply with spatial frequency, so that a faint edge is lost in the grey
    around it; local mean and deviation taken away, it is not.

    Args:
        images: (B, 1, H, W) grey values, 0 beyond the breast.
        max_value: Largest grey value.
        window: Side of the square around a pixel, odd.

    Returns:
        (B, 1, H, W), 0 beyond the breast, where nothing counts towards mean and deviation.
    """
    tissue = (images > 0).to(images.dtype)
    grey = images / max_value

    summed = _summed_by_convolution if torch.onnx.is_in_onnx_export() else _summed

    def around(picture: Tensor) -> Tensor:
        return summed(picture, window) / window**2

    share = around(tissue).clamp(min=1e-3)
    off = (grey - around(grey) / share) * tissue
    deviation = (around(off.square()) / share).clamp(min=_LEAST_DEVIATION**2).sqrt()
    return off / deviation


def _summed(picture: Tensor, window: int) -> Tensor:
    """Return the sum of the square around each pixel, 0 beyond the edge.

    Sums of 2, 4, 8 … neighbours are each two of the one before, and a window is made of some of
    them: a tenth of the additions of a pooling layer, and no sum over the whole image, in which
    float32 would lose a faint edge.

    Args:
        picture: (B, 1, H, W).
        window: Side of the square, odd.
    """
    reach = window // 2
    for axis in (-2, -1):
        size = picture.shape[axis]
        sums = functional.pad(picture, (0, 0, reach, reach) if axis == -2 else (reach, reach))
        parts, begun, width = [], 0, 1
        while width <= window:
            if width > 1:
                half, kept = width // 2, sums.shape[axis] - width // 2
                sums = sums.narrow(axis, 0, kept) + sums.narrow(axis, half, kept)
            if window & width:
                parts.append(sums.narrow(axis, begun, size))
                begun += width
            width *= 2
        picture = reduce(torch.add, parts)
    return picture


def _summed_by_convolution(picture: Tensor, window: int) -> Tensor:
    """Return what :func:`_summed` does, as ONNX Runtime does it quickly.

    It takes parts of tensors on one thread, but convolves sixteen channels at once, each by itself.
    One picture has one channel: its rows are cut into sixteen stripes for sums along them, its
    columns for sums down them, and a stripe is a channel.
    """
    height, width = picture.shape[-2:]
    picture = functional.pad(picture, (0, -width % _STRIPES, 0, -height % _STRIPES))
    tall, wide = picture.shape[-2:]
    ones = picture.new_ones(_STRIPES, 1, 1, window)
    stripes = picture.reshape(-1, _STRIPES, tall // _STRIPES, wide)
    beside = functional.conv2d(stripes, ones, padding=(0, window // 2), groups=_STRIPES)
    stripes = beside.reshape(-1, tall, _STRIPES, wide // _STRIPES).transpose(1, 2)
    ones = ones.transpose(2, 3)
    sums = functional.conv2d(stripes, ones, padding=(window // 2, 0), groups=_STRIPES)
    return sums.transpose(1, 2).reshape(-1, 1, tall, wide)[..., :height, :width]


class PyramidCnn(nn.Module):
    """A residual network of 0.6 million weights, trained from scratch.

    Args:
        channels: Of what it sees.
    """

    #: Channels of its three maps.
    widths = (32, 64, 128)

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        fine, middle, coarse = self.widths
        self.stages = nn.ModuleList(
            [
                nn.Sequential(
                    ResidualBlock(channels, 24, stride=2),
                    ResidualBlock(24, fine, stride=2),
                    ResidualBlock(fine, fine),
                ),
                nn.Sequential(ResidualBlock(fine, middle, stride=2), ResidualBlock(middle, middle)),
                nn.Sequential(
                    ResidualBlock(middle, coarse, stride=2, kernels=(4, 1)),
                    ResidualBlock(coarse, coarse),
                ),
            ]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, channels, H, W) to maps at strides 4, 8 and 16."""
        made = []
        for stage in self.stages:
            image = stage(image)
            made.append(image)
        return made


class Pyramid(nn.Module):
    """A backbone and a feature pyramid over it.

    Args:
        body: Gives maps at :data:`STRIDES`.
        widths: Channels of these.
        channels: Channels of all maps of the pyramid.
        max_value: Largest grey value of the input.
        windows: Sides in which local contrast is measured, each a channel beside the image.

    Source: Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017.
    """

    def __init__(
        self,
        body: nn.Module,
        widths: tuple[int, ...],
        channels: int,
        max_value: float,
        windows: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.body = body
        self.top_down = FeaturePyramidNetwork(list(widths), channels, norm_layer=nn.BatchNorm2d)
        #: As torchvision's detectors want it.
        self.out_channels = channels
        self.max_value = max_value
        self.windows = windows

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, 1, H, W) grey values to (B, channels, H / stride, W / stride) by level."""
        contrasts = [local_contrast(images, self.max_value, side) for side in self.windows]
        maps = self.body(torch.cat([scaled(images, self.max_value), *contrasts], dim=1))
        named = OrderedDict((str(level), features) for level, features in enumerate(maps))
        made: OrderedDict[str, Tensor] = self.top_down(named)
        return made


def pyramid(spec: DetectorSpec) -> tuple[Pyramid, list[str]]:
    """Build the backbone that ``detect.backbone`` names, and a pyramid over it.

    Returns:
        The pyramid, and sentences that a user should read (weights that could not be had).

    Raises:
        ConfigError: If the backbone is unknown, or has no maps at strides 4, 8 and 16.
    """
    config, size = spec.config, spec.size
    if size[0] % STRIDES[-1] or size[1] % STRIDES[-1]:
        raise ConfigError(
            f"detect: images of {size[0]}x{size[1]} cannot be halved four times; sides that are "
            f"multiples of {STRIDES[-1]} can"
        )
    if config.backbone == OWN:
        told = f"{OWN} has no weights but its own runs': it begins anew"
        body = PyramidCnn(1 + len(config.contrast_px))
        own = Pyramid(body, body.widths, config.channels, spec.max_value, config.contrast_px)
        return own, [told] if config.pretrained else []
    try:
        check_backbone(config.backbone)
    except ConfigError as error:
        message = str(error).replace("model.backbone", "detect.backbone")
        raise ConfigError(message.replace("baseline_cnn", OWN)) from error
    body, notes = _timm_body(config.backbone, size, pretrained=config.pretrained)
    widths = tuple(body.feature_info.channels())
    return Pyramid(body, widths, config.channels, spec.max_value), notes


def _timm_body(name: str, size: tuple[int, int], *, pretrained: bool) -> tuple[Any, list[str]]:
    # What timm makes has attributes that no base class declares.
    probe: Any
    try:
        probe = timm.create_model(name, features_only=True)
        strides = probe.feature_info.reduction()
        places = [strides.index(stride) for stride in STRIDES]
    except (RuntimeError, ValueError, AttributeError, AssertionError) as error:
        raise ConfigError(
            f"detect.backbone {name} has no maps at strides {', '.join(map(str, STRIDES))}; "
            "convolutional networks such as resnet10t and mobilenetv3_small_050 have"
        ) from error
    options: dict[str, Any] = {"features_only": True, "in_chans": 1, "out_indices": places}
    notes: list[str] = []
    if pretrained:
        fault = hub_fault()
        try:
            with bounded_hub(offline=fault is not None):
                return timm.create_model(name, pretrained=True, **options), notes
        # As in the classifier's registry: each of these means that there are no weights.
        except (OSError, RuntimeError, ValueError) as error:
            reason = fault or str(error).strip().partition("\n")[0][:200]
            notes.append(
                f"ImageNet weights for {name} could not be had ({reason}); training starts from "
                "random weights"
            )
    body = timm.create_model(name, **options)
    with torch.no_grad():
        made = body.eval()(torch.zeros(1, 1, *size))
    wanted = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
    if [tuple(features.shape[2:]) for features in made] != wanted:
        raise ConfigError(f"detect.backbone {name} gives no maps of B x C x h x w")
    return body.train(), notes
