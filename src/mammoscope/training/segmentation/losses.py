"""Losses of masks: Dice, Tversky, cross-entropy, its focal form, and weighted sums of them.

Of single images Dice and Tversky would be unfair to those without a lesion, so that both are over
a whole batch, in which large lesions decide; ``image_dice`` is over the images that have one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mammoscope.config import MaskLoss, SegmentConfig

__all__ = ["LOSSES", "bce", "dice", "focal", "image_dice", "mask_loss", "tversky"]

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
    return _tversky(logits.reshape(1, -1), truth.reshape(1, -1), missed=0.5)[0]


def image_dice(logits: Tensor, truth: Tensor, config: SegmentConfig) -> Tensor:
    """Return 1 - the Dice coefficient of each image or patch with a lesion, their mean.

    A small lesion counts as much as a large one, as it does where lesions are judged one by one.
    What is marked where there is no lesion is left to the losses of single pixels.

    Returns:
        0, with a gradient of 0, where no image has a lesion.
    """
    del config
    own = _tversky(logits.flatten(1), truth.flatten(1), missed=0.5)
    there = truth.flatten(1).amax(dim=1) > 0
    return (own * there).sum() / there.sum().clamp(min=1)


def tversky(logits: Tensor, truth: Tensor, config: SegmentConfig) -> Tensor:
    """Return 1 - the Tversky index of scores and truth over the whole batch.

    Source: Salehi et al., Tversky loss function for image segmentation using 3D fully
    convolutional deep networks, MLMI 2017; missed pixels weigh ``tversky_missed``, their beta.
    """
    return _tversky(logits.reshape(1, -1), truth.reshape(1, -1), config.tversky_missed)[0]


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
    """Return 1 - the Tversky index of each row of (N, pixels), (N,)."""
    score = torch.sigmoid(logits)
    found = (score * truth).sum(dim=1)
    not_found, too_many = (1 - score) * truth, score * (1 - truth)
    wrong = missed * not_found.sum(dim=1) + (1 - missed) * too_many.sum(dim=1)
    return 1 - (found + _SMOOTH) / (found + wrong + _SMOOTH)


#: By the name that they have in settings.
LOSSES: dict[MaskLoss, Callable[[Tensor, Tensor, SegmentConfig], Tensor]] = {
    "dice": dice,
    "image_dice": image_dice,
    "bce": bce,
    "focal": focal,
    "tversky": tversky,
}
