"""Grad-CAM: a heatmap for networks that have none of their own, and one to compare ours with.

Our classifiers need none: their heatmap is made of the logits that the score is pooled from.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["grad_cam"]


def grad_cam(
    model: nn.Module, layer: nn.Module, images: Tensor, logit: Callable[[nn.Module, Tensor], Tensor]
) -> Tensor:
    """Return where the features of a layer raise the logit.

    Each channel is weighted by its mean gradient; the weighted sum is cut at 0 and divided by
    its largest value, so that maps of different images cannot be compared in height.

    Args:
        model: The network, in evaluation mode; its weights get no gradient from this.
        layer: The part whose output (B, C, h, w) is explained, such as a backbone.
        images: (B, 1, H, W) as the network takes them.
        logit: Runs the network and returns (B,) logits.

    Returns:
        (B, h, w) float32 in [0, 1]; all 0 where nothing raises the logit.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, equations 1 and 2.
    """
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            # An image's logit depends on that image alone, so one sum serves the whole batch.
            # The images carry the gradient, that weights without one are no hindrance.
            total = logit(model, images.detach().clone().requires_grad_()).sum()
            (gradient,) = torch.autograd.grad(total, kept)
    finally:
        handle.remove()
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    raised = functional.relu((weights * kept[0].detach()).sum(dim=1))  # (B, h, w)
    highest = raised.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, raised / highest, raised).float()
