"""Losses that leave out what is unknown."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["masked_bce"]


def masked_bce(
    logits: Tensor,
    labels: Tensor,
    positive_weight: float = 1.0,
    *,
    soft_positive: float = 1.0,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Weighted binary cross-entropy over the images whose label is known.

    Args:
        logits: (B,) before the sigmoid.
        labels: (B,) of 0, 1 or NaN for unknown.
        positive_weight: Weight of the positive term.
        soft_positive: What is asked of a positive: 1, or a little less where labels are doubtful.
        focal_gamma: Above 0, each term is multiplied by its distance from the label to this
            power, so that what is right already counts little (Lin et al., ICCV 2017).

    Returns:
        Mean over the known labels; 0, with a gradient of 0, where none is known.
    """
    known = ~torch.isnan(labels)
    targets = torch.where(known, labels, torch.zeros_like(labels)) * soft_positive
    weight = torch.tensor(positive_weight, dtype=logits.dtype, device=logits.device)
    terms = functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weight, reduction="none"
    )
    if focal_gamma:
        terms = terms * (targets - torch.sigmoid(logits)).abs() ** focal_gamma
    return (terms * known).sum() / known.sum().clamp(min=1)
