"""A small detector of our own: a map of lesion centres, and at each cell the box around it.

One fine map serves all sizes of lesion; there are no anchors. Where a lesion's centre is, a
Gaussian of the lesion's size is learnt, so that the cells beside it are not told that they are
wrong, and each of these cells learns the distances to the four sides.

Sources: Zhou, Wang and Krähenbühl, Objects as Points, 2019 (focal loss on Gaussians, peaks
instead of anchors); Tian et al., FCOS, ICCV 2019 (distances to the sides); Rezatofighi et al.,
Generalized Intersection over Union, CVPR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from mammoscope.models.detectors.contract import DenseDetector, DetectorSpec, Truth
from mammoscope.models.detectors.pyramid import STRIDES, Pyramid

__all__ = ["CentreDetector"]

_STRIDE = STRIDES[0]
# Spread of a lesion's Gaussian as a share of its sides, and the least, in cells.
_SPREAD, _LEAST_SPREAD = 0.12, 0.6
# Share of the Gaussian's height from which a cell learns its box.
_LEARNS_BOX = 0.2
# Exponents of the focal loss: of what is right already, and of nearness to a centre.
_ALPHA, _BETA = 2.0, 4.0
_BOX_WEIGHT = 2.0
# Share of cells that are a centre before anything is learnt, and the sides of a box there.
_PRIOR, _FIRST_SIDE = 0.01, 8.0
# Logarithm of the longest distance to a side in cells; beyond it the exponential is cut.
_LONGEST = math.log(256)


class CentreDetector(DenseDetector):
    """Centres and boxes on one map of stride 4.

    Args:
        backbone: The pyramid.
        spec: What it is built for.
    """

    middle: Tensor

    def __init__(self, backbone: Pyramid, spec: DetectorSpec) -> None:
        super().__init__(spec)
        self.backbone = backbone
        width = backbone.out_channels
        self.heat, self.sides = _branch(width, self.kinds), _branch(width, 4)
        nn.init.constant_(self.heat[-1].bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]
        nn.init.constant_(self.sides[-1].bias, math.log(_FIRST_SIDE / 2 / _STRIDE))  # type: ignore[arg-type]
        self.register_buffer("middle", _middles(self.size), persistent=False)  # (h * w, 2)

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, A, 4) and scores (B, A, kinds); only peaks of the map have a score."""
        heat, boxes = self._maps(images)
        heat = torch.sigmoid(heat)
        peaks = heat == functional.max_pool2d(heat, 3, 1, 1)
        return boxes, (heat * peaks).flatten(2).transpose(1, 2)

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Return the losses ``centre`` and ``box``, each per lesion of the batch."""
        heat, boxes = self._maps(images)
        count = max(1, sum(len(truth.boxes) for truth in truths))
        wanted = [self._targets(truth) for truth in truths]
        centre = _focal(heat.flatten(2), torch.stack([part[0] for part in wanted])) / count
        weight = torch.stack([part[1] for part in wanted])  # (B, A)
        learns = weight > 0
        # A sum over no cell is a zero that keeps the gradient's graph whole.
        target = torch.stack([part[2] for part in wanted])[learns]
        off = generalized_box_iou_loss(boxes[learns], target, reduction="none")
        box = (off * weight[learns]).sum() / weight.sum().clamp(min=1.0)
        return {"centre": centre, "box": _BOX_WEIGHT * box}

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, kinds, h, w) and boxes (B, h * w, 4) in pixels."""
        features = self.backbone(images)["0"]
        heat = self.heat(features).float()
        reach = self.sides(features).float().flatten(2).transpose(1, 2)  # (B, A, 4)
        reach = reach.clamp(max=_LONGEST).exp() * _STRIDE
        return heat, torch.cat([self.middle - reach[..., :2], self.middle + reach[..., 2:]], dim=2)

    def _targets(self, truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
        """Return heat (kinds, A), weight (A,) and box (A, 4) that an image is to give.

        A cell within several lesions learns the box of the one whose Gaussian is higher there.
        """
        places = self.middle
        heat = places.new_zeros(self.kinds, len(places))
        weight, box = places.new_zeros(len(places)), places.new_zeros(len(places), 4)
        if not len(truth.boxes):
            return heat, weight, box
        low, high = truth.boxes[:, None, :2], truth.boxes[:, None, 2:]
        spread = (_SPREAD * (high - low)).clamp(min=_LEAST_SPREAD * _STRIDE)
        away = (places - (low + high) / 2) / spread  # (n, A, 2)
        near = torch.exp(-away.square().sum(dim=2) / 2)
        # The nearest cell is the centre, wherever in it the lesion's middle lies.
        near = near / near.amax(dim=1, keepdim=True).clamp(min=1e-6)
        for kind in range(self.kinds):
            own = near[truth.kinds == kind]
            if len(own):
                heat[kind] = own.amax(dim=0)
        within = ((places > low) & (places < high)).all(dim=2) | (near == 1)
        height, owner = (near * within).max(dim=0)
        weight = height * (height >= _LEARNS_BOX)
        return heat, weight, truth.boxes[owner]


def _branch(width: int, outputs: int) -> nn.Sequential:
    last = nn.Conv2d(width, outputs, 1)
    nn.init.normal_(last.weight, std=0.01)
    middle = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(middle, nn.BatchNorm2d(width), nn.ReLU(), last)


def _middles(size: tuple[int, int]) -> Tensor:
    """Return the middles of all cells, (h * w, 2), x before y, in pixels."""
    y, x = torch.meshgrid(
        *((torch.arange(side // _STRIDE) + 0.5) * _STRIDE for side in size), indexing="ij"
    )
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def _focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss of logits (B, kinds, A), summed.

    Source: Objects as Points, equation 1.
    """
    chance = torch.sigmoid(logits)
    centre = wanted == 1
    right = (1 - chance).pow(_ALPHA) * functional.logsigmoid(logits)
    wrong = (1 - wanted).pow(_BETA) * chance.pow(_ALPHA) * functional.logsigmoid(-logits)
    return -torch.where(centre, right, wrong).sum()
