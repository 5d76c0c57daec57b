"""Losses of masks: Dice, Tversky, cross-entropy, its focal form, and weighted sums of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mammoscope.config import MaskLoss, SegmentConfig

__all__ = ["LOSSES", "bce", "dice", "focal", "mask_loss", "tversky"]

# Keeps the loss of a batch without any lesion finite, and small where little is predicted.
_SMOOTH = 1.0


def mask_loss(logits: Tensor, truth: Tensor, config: SegmentConfig) -> Tensor:
    """Return the configured sum of losses.

    Args:
        logits: (B, 1, H, W) before the sigmoid.
        truth: (B, 1, H, W) of 0 and 1, of the same type.
        config: Which losses, their weights and parameters.
    """
    parts = [weight * LOSSES[name](logits, truth, config) for name, weight in config.losses.items()]
    return torch.stack(parts).sum()


def bce(logits: Tensor, truth: Tensor, config: SegmentConfig) -> Tensor:
    """Return the binary cross-entropy, the mean over all pixels."""
    del config
    return functional.binary_cross_entropy_with_logits(logits, truth)


def dice(logits: Tensor, truth: Tensor, config: SegmentConfig) -> Tensor:
    """Return 1 - the Dice coefficient of scores and truth over the whole batch.

    Over the batch and not by image: most images and patches have no lesion, and of a small one a
    pixel would weigh as much as a hundred of another's. Source: Milletari et al., V-Net, 3DV 2016.
    """
    del config
    return _tversky(logits, truth, missed=0.5)


def tversky(logits: Tensor, truth: Tensor, config: SegmentConfig) -> Tensor:
    """Return 1 - the Tversky index of scores and truth over the whole batch.

    Source: Salehi et al., Tversky loss function for image segmentation using 3D fully
    convolutional deep networks, MLMI 2017; missed pixels weigh ``tversky_missed``, their beta.
    """
    return _tversky(logits, truth, missed=config.tversky_missed)


def focal(logits: Tensor, truth: Tensor, config: SegmentConfig) -> Tensor:
    """Return the focal loss, the mean over all pixels.

    Source: Lin et al., Focal loss for dense object detection, ICCV 2017.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    # The share of belief in the truth, of which the entropy is the logarithm.
    wrong = 1 - torch.exp(-entropy)
    weight = truth * config.focal_alpha + (1 - truth) * (1 - config.focal_alpha)
    return (weight * wrong**config.focal_gamma * entropy).mean()


def _tversky(logits: Tensor, truth: Tensor, missed: float) -> Tensor:
    score = torch.sigmoid(logits)
    found = (score * truth).sum()
    not_found, too_many = (1 - score) * truth, score * (1 - truth)
    wrong = missed * not_found.sum() + (1 - missed) * too_many.sum()
    return 1 - (found + _SMOOTH) / (found + wrong + _SMOOTH)


#: By the name that they have in settings.
LOSSES: dict[MaskLoss, Callable[[Tensor, Tensor, SegmentConfig], Tensor]] = {
    "dice": dice,
    "bce": bce,
    "focal": focal,
    "tversky": tversky,
}
