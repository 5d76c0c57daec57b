"""From a box and a score at every place to a few candidates, in plain tensor arithmetic.

Nothing here depends on data in its shape, so both exporters take it as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mammoscope.config import DetectionConfig

__all__ = ["best_candidates", "clipped", "overlaps", "suppressed"]

# Boxes that suppression looks at.
_LOOKED_AT = 200
# Rounds of suppression. A round settles one more link of a chain of boxes, each of which
# suppresses the next; chains of more than a few are not met.
_ROUNDS = 12


def best_candidates(
    boxes: Tensor, scores: Tensor, size: tuple[int, int], config: DetectionConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the best boxes that do not overlap better ones, whatever their kinds.

    Args:
        boxes: (B, A, 4).
        scores: (B, A, kinds) in [0, 1].
        size: (H, W) of the image, at whose borders boxes are cut.
        config: Floor of scores, overlap and number of candidates.

    Returns:
        Boxes (B, N, 4), scores (B, N) and kinds (B, N) int64, the best first; scores and boxes
        are 0 where there are fewer than N.
    """
    best, kind = scores.max(dim=2)  # (B, A)
    best, order = best.topk(min(_LOOKED_AT, best.shape[1]), dim=1)
    boxes = clipped(boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), size)
    kind = kind.gather(1, order)
    best = torch.where(best >= config.score_floor, best, 0.0)
    best = best * ~suppressed(boxes, config.nms_iou)
    best, order = best.topk(min(config.most_candidates, best.shape[1]), dim=1)
    boxes = boxes.gather(1, order[:, :, None].expand(-1, -1, 4))
    return boxes * (best > 0)[:, :, None], best, kind.gather(1, order)


def suppressed(boxes: Tensor, iou: float) -> Tensor:
    """Say which boxes a greedy suppression leaves out.

    A box is left out where it overlaps an earlier one that is kept. Applied again and again to
    all boxes at once, this rule settles on the answer of the usual loop over boxes.

    Args:
        boxes: (B, N, 4), best first.
        iou: Overlap from which the later of two boxes is left out.

    Returns:
        (B, N) bool.
    """
    count = boxes.shape[1]
    place = torch.arange(count, device=boxes.device)
    earlier = place[None, :] < place[:, None]  # (N, N), row: the later box
    clash = ((overlaps(boxes, boxes) > iou) & earlier).to(boxes.dtype)  # (B, N, N)
    kept = torch.ones_like(boxes[:, :, 0])  # (B, N)
    for _ in range(_ROUNDS):
        kept = 1.0 - (clash * kept[:, None]).amax(dim=2)
    return kept < 0.5


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of boxes (B, N, 4) and (B, M, 4) as (B, N, M); of empty boxes it is 0."""
    low = torch.maximum(first[:, :, None, :2], second[:, None, :, :2])
    high = torch.minimum(first[:, :, None, 2:], second[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=3)
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=2) for b in (first, second)]
    union = areas[0][:, :, None] + areas[1][:, None] - common
    return common / union.clamp(min=1e-6)


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut boxes (…, 4) at the borders of an image of (H, W)."""
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)
