"""Features of boxes, by bilinear sampling: what torchvision's roi_align does, for any build.

torchvision's own needs its compiled library, which does not load beside a CPU-only torch; its
form in Python compiles itself on the first call and takes four times as long as this.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BoxPool", "pooled"]

# Samples for each cell of the result, each way.
_SAMPLES = 2


def pooled(features: Tensor, boxes: Tensor, cells: int, stride: float) -> Tensor:
    """Return what lies in boxes, each on a grid of its own.

    Args:
        features: (B, C, h, w).
        boxes: (B, N, 4) in pixels of the image.
        cells: Cells of the result, each way.
        stride: Pixels of the image from one place of the features to the next.

    Returns:
        (B, N, C, cells, cells): as ``roi_align`` with ``aligned=True`` and two samples each way,
        but for boxes that reach out of the image, outside which this sees zeros.

    Source: He et al., Mask R-CNN, ICCV 2017, section 3.
    """
    batch, channels, height, width = features.shape
    count = cells * _SAMPLES
    at = (torch.arange(count, device=boxes.device, dtype=boxes.dtype) + 0.5) / count
    low, high = boxes[..., :2], boxes[..., 2:]
    points = low[:, :, None] + at[None, None, :, None] * (high - low)[:, :, None]  # (B, N, S, 2)
    size = torch.tensor([width * stride, height * stride], device=boxes.device, dtype=boxes.dtype)
    points = 2 * points / size - 1
    number = boxes.shape[1]
    x = points[..., 0][:, :, None].expand(-1, -1, count, -1)
    y = points[..., 1][:, :, :, None].expand(-1, -1, -1, count)
    grid = torch.stack([x, y], dim=-1).reshape(batch, number * count, count, 2)
    sampled = functional.grid_sample(
        features, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )  # (B, C, N * S, S)
    means = functional.avg_pool2d(sampled, _SAMPLES)  # (B, C, N * cells, cells)
    return means.reshape(batch, channels, number, cells, cells).transpose(1, 2)


class BoxPool(nn.Module):
    """Pools each box from the level of a pyramid that suits its size.

    Args:
        strides: Of the levels.
        reference: Side of a box, in pixels, that belongs to the middle level.
        cells: Cells of the result, each way.
    """

    def __init__(self, strides: tuple[int, ...], reference: float, cells: int = 7) -> None:
        super().__init__()
        self.strides = strides
        self.reference = reference
        self.cells = cells

    def forward(self, levels: list[Tensor], boxes: Tensor) -> Tensor:
        """Pool boxes (B, N, 4) from levels (B, C, h, w): (B, N, C, cells, cells)."""
        sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=2).sqrt()
        # Lin et al., Feature Pyramid Networks, equation 1: a level for each doubling.
        level = torch.log2(sides / self.reference + 1e-6).floor() + len(levels) // 2
        level = level.clamp(0, len(levels) - 1)[:, :, None, None, None]
        made = torch.zeros((), device=boxes.device)
        for number, (features, stride) in enumerate(zip(levels, self.strides, strict=True)):
            own = (level == number).to(features.dtype)
            made = made + own * pooled(features, boxes, self.cells, stride)
        return made
