"""Losses that leave out what is unknown."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["balanced_weight", "masked_bce"]


def masked_bce(logits: Tensor, labels: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Weighted binary cross-entropy over the images whose label is known.

    Args:
        logits: (B,) before the sigmoid.
        labels: (B,) of 0, 1 or NaN for unknown.
        positive_weight: Weight of the positive term.

    Returns:
        Mean over the known labels; 0, with a gradient of 0, where none is known.
    """
    known = ~torch.isnan(labels)
    targets = torch.where(known, labels, torch.zeros_like(labels))
    weight = torch.tensor(positive_weight, dtype=logits.dtype, device=logits.device)
    terms = functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weight, reduction="none"
    )
    return (terms * known).sum() / known.sum().clamp(min=1)


def balanced_weight(labels: Sequence[float]) -> float:
    """Return negatives over positives, unknown labels left out."""
    positives = sum(label == 1 for label in labels)
    negatives = sum(label == 0 for label in labels)
    return negatives / positives
