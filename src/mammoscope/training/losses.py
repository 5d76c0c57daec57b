"""Losses that leave out what is unknown."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["UNKNOWN_LESIONS", "lesion_bce", "masked_bce"]

#: What a mask of lesions holds where nobody says whether there is one.
UNKNOWN_LESIONS = 255
# Few cells have a lesion, and to miss one is worse than to look beside it.
_LESION_CELL_WEIGHT = 3.0


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


def lesion_bce(logits: Tensor, masks: Tensor) -> Tensor:
    """Weighted binary cross-entropy of where lesions are, cell by cell.

    Args:
        logits: (N, h, w) that a lesion is in a cell.
        masks: (N, H, W) uint8 on the image's grid: 1 where there is a lesion, 0 where there is
            none, :data:`UNKNOWN_LESIONS` throughout where nobody says.

    Returns:
        Mean over the cells of images whose lesions are known; 0, with a gradient of 0, where
        those of none are.
    """
    known = masks.amax(dim=(1, 2)) != UNKNOWN_LESIONS
    # How much of each cell is lesion, (N, h, w).
    there = (masks == 1).float()[:, None]
    covered = functional.interpolate(there, [*logits.shape[1:]], mode="area")[:, 0]
    weight = torch.tensor(_LESION_CELL_WEIGHT, dtype=logits.dtype, device=logits.device)
    terms = functional.binary_cross_entropy_with_logits(
        logits, covered, pos_weight=weight, reduction="none"
    ).mean(dim=(1, 2))
    return (terms * known).sum() / known.sum().clamp(min=1)
