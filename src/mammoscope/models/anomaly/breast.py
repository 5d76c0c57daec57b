"""Where in an image anomalies are looked for, and how a map of them becomes one score.

Prepared images are 0 outside the breast, so the breast is what is above 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["breast_of", "mean_in_cells", "top_mean"]


def breast_of(image: Tensor, edge_px: int) -> Tensor:
    """Return which pixels are breast and not its rim, (B, 1, H, W) of 0 and 1.

    Holes, such as a black pixel within, are no rim; nor is the border of the image, where the
    chest wall lies.

    Args:
        image: (B, 1, H, W) grey values, 0 outside the breast.
        edge_px: Width of the rim that is left out.
    """
    inside = (image > 0).float()
    # A pixel without a breast pixel around it is air; a single black one is not.
    inside = functional.max_pool2d(inside, 3, 1, 1)
    size = 2 * (edge_px + 1) + 1
    air = functional.max_pool2d(1 - inside, size, 1, edge_px + 1)
    return 1 - air


def mean_in_cells(values: Tensor, breast: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Return the mean of values over the breast's part of each cell, and which cells count.

    Args:
        values: (B, 1, H, W).
        breast: (B, 1, H, W) of 0 and 1.
        cell: Side of a cell, in pixels.

    Returns:
        (B, h, w) means, 0 where a cell does not count; and (B, h, w) of 0 and 1: a cell counts
        where at least half of it is breast.
    """
    share = functional.avg_pool2d(breast, cell)
    summed = functional.avg_pool2d(values * breast, cell)
    counts = (share >= 0.5).float()
    return (counts * summed / share.clamp(min=1e-6)).squeeze(1), counts.squeeze(1)


def top_mean(heat: Tensor, counts: Tensor, share: float) -> Tensor:
    """Return the mean of the highest cells of each map, (B,); 0 where none counts.

    Args:
        heat: (B, h, w), not below 0.
        counts: (B, h, w) of 0 and 1: which cells are of the breast.
        share: Of the cells that count; at least one is taken.
    """
    ranked = (heat * counts).flatten(1).sort(dim=1, descending=True).values  # (B, h * w)
    taken = (counts.flatten(1).sum(dim=1, keepdim=True) * share).ceil().clamp(min=1.0)
    place = torch.arange(ranked.shape[1], device=heat.device, dtype=heat.dtype)
    return (ranked * (place[None] < taken)).sum(dim=1) / taken[:, 0]
