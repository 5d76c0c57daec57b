"""RT-DETR v2 of transformers (Apache-2.0), sized for two cores, on one grey channel.

Source: Lv et al., RT-DETRv2: Improved Baseline with Bag-of-Freebies for Real-Time Detection
Transformer, 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mammoscope.errors import ConfigError
from mammoscope.models.detectors.contract import DenseDetector, Detector, DetectorSpec, Truth
from mammoscope.models.detectors.pyramid import scaled
from mammoscope.models.weights import bounded_hub, hub_fault

__all__ = ["RtDetrDetector", "build_rt_detr"]

#: The smallest that its authors publish.
_PUBLISHED = "PekingU/rtdetr_v2_r18vd"
# Of the network from scratch; the published one has 300 queries, six layers and 256 channels.
_QUERIES, _LAYERS, _HEADS, _DENOISING = 60, 3, 4, 40
_STRIDES = [4, 8, 16]
_WIDTHS = [48, 96, 128]
# Spread of its first weights, about PyTorch's own for such widths; the library's is a fifth of it.
_FIRST_SPREAD = 0.05


class RtDetrDetector(DenseDetector):
    """A detection transformer: a fixed number of queries, each a box or nothing.

    Args:
        net: The library's detector, of one input channel.
        spec: What it is built for.
    """

    sides: Tensor

    def __init__(self, net: Any, spec: DetectorSpec) -> None:
        super().__init__(spec)
        # Second names of the decoder's heads, which nothing calls: safetensors takes none twice.
        del net.class_embed, net.bbox_embed
        net.model.generate_anchors = partial(_in_32_bits, net.model.generate_anchors)
        self.net = net
        height, width = self.size
        sides = torch.tensor([width, height, width, height], dtype=torch.float32)
        self.register_buffer("sides", sides, persistent=False)

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Return its three losses, of all decoder layers together."""
        asked = []
        for truth in truths:
            low, high = truth.boxes[:, :2], truth.boxes[:, 2:]
            boxes = torch.cat([(low + high) / 2, high - low], dim=1) / self.sides
            asked.append({"class_labels": truth.kinds, "boxes": boxes})
        made = self.net(pixel_values=scaled(images, self.max_value), labels=asked)
        parts: dict[str, Tensor] = {}
        for name, value in made.loss_dict.items():
            # loss_vfl, loss_vfl_aux_0, loss_vfl_dn_0 and so on.
            kind = name.removeprefix("loss_").partition("_")[0]
            parts[kind] = parts[kind] + value if kind in parts else value
        return parts

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, queries, 4) and scores (B, queries, kinds)."""
        made = self.net(pixel_values=scaled(images, self.max_value))
        middle, sides = made.pred_boxes[..., :2], made.pred_boxes[..., 2:]
        boxes = torch.cat([middle - sides / 2, middle + sides / 2], dim=2) * self.sides
        return boxes, torch.sigmoid(made.logits)


def build_rt_detr(spec: DetectorSpec) -> tuple[Detector, list[str]]:
    """Build RT-DETR v2: a small one from scratch, or the published one with its weights.

    Raises:
        ConfigError: If the image cannot be halved as often as needed.
    """
    from transformers import RTDetrV2ForObjectDetection

    config, size = spec.config, spec.size
    coarsest = 32 if config.pretrained else _STRIDES[-1]
    if size[0] % coarsest or size[1] % coarsest:
        raise ConfigError(
            f"detect: rt_detr_v2 takes images whose sides are multiples of {coarsest}, not "
            f"{size[0]}x{size[1]}"
        )
    notes: list[str] = []
    net = _published(spec.kinds, notes) if config.pretrained else None
    if net is None:
        net = RTDetrV2ForObjectDetection(_small(spec.kinds, config.channels * 2))
        _open_norms(net)
    return RtDetrDetector(net, spec), notes


def _small(kinds: int, width: int) -> Any:
    import transformers

    # Both take more words than they declare.
    library: Any = transformers
    backbone = library.RTDetrResNetConfig(
        num_channels=1,
        # The first stage halves nothing, for which its widths must be equal.
        embedding_size=_WIDTHS[0],
        hidden_sizes=_WIDTHS,
        depths=[1, 1, 1],
        layer_type="basic",
        out_indices=[1, 2, 3],
    )
    return library.RTDetrV2Config(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=_WIDTHS,
        feat_strides=_STRIDES,
        encoder_hidden_dim=width,
        encoder_ffn_dim=2 * width,
        encoder_attention_heads=_HEADS,
        d_model=width,
        decoder_in_channels=[width] * len(_STRIDES),
        decoder_ffn_dim=2 * width,
        decoder_attention_heads=_HEADS,
        decoder_layers=_LAYERS,
        num_queries=_QUERIES,
        num_denoising=_DENOISING,
        num_labels=kinds,
        initializer_range=_FIRST_SPREAD,
    )


def _open_norms(net: nn.Module) -> None:
    """Have batch normalisations begin with the factor 1, as its authors' do.

    The library draws factors from a normal distribution of spread 0.01. Each of them takes away
    two orders of magnitude, and behind all of them images are less than rounding: every place has
    one score, and which of them become queries is chance, in training and between two runtimes.
    """
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)


def _in_32_bits(anchors: Any, shapes: Any, device: Any, dtype: torch.dtype) -> Any:
    """Give anchors, and with them all boxes, 32 bits whatever features have.

    In bfloat16 a place beyond the middle is off by up to a 500th of the image's side.
    """
    del dtype
    return anchors(shapes, device=device, dtype=torch.float32)


def _published(kinds: int, notes: list[str]) -> Any:
    """Load the published weights with a first layer folded to one channel; or say why not."""
    from transformers import RTDetrV2ForObjectDetection

    fault = hub_fault()
    try:
        with bounded_hub(offline=fault is not None):
            # Safetensors only: nothing that is loaded is executed.
            net = RTDetrV2ForObjectDetection.from_pretrained(
                _PUBLISHED, num_labels=kinds, ignore_mismatched_sizes=True, use_safetensors=True
            )
    # The hub's client raises its own classes over several transports; all are one of these.
    except (OSError, RuntimeError, ValueError) as error:
        reason = fault or str(error).strip().partition("\n")[0][:200]
        notes.append(
            f"weights of {_PUBLISHED} could not be had ({reason}); training starts from random "
            "weights, with a smaller network"
        )
        return None
    _fold_first_layer(net)
    return net


def _fold_first_layer(net: nn.Module) -> None:
    """Have the first convolution take one channel; three equal ones gave the same response."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            module.weight = nn.Parameter(module.weight.sum(dim=1, keepdim=True))
            module.in_channels = 1
            break
    for module in net.modules():
        # Its backbone refuses images whose channels are not those that it was made for.
        if getattr(module, "num_channels", None) == 3:
            module.num_channels = 1  # type: ignore[assignment]
