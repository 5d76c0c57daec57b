"""torchvision's Faster R-CNN on grey images of one size.

Layers, targets and losses are torchvision's. Proposals and boxes are chosen in fixed shapes, which
the exporter takes; torchvision's own choice has shapes that follow from the data, and needs its
compiled library.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign

from mammoscope.models.detectors.anchored import (
    AsTheyAre,
    anchor_places,
    anchors,
    asked,
    decoded,
)
from mammoscope.models.detectors.contract import DenseDetector, DetectorSpec, Truth
from mammoscope.models.detectors.pooling import BoxPool
from mammoscope.models.detectors.pyramid import STRIDES, Pyramid
from mammoscope.models.detectors.selection import clipped, suppressed

__all__ = ["FasterRcnnDetector"]

_CELLS = 7
_HIDDEN = 256
# Proposals of an image: looked at, and kept, in training and after it.
_LOOKED_AT, _TRAINED_ON, _KEPT = 300, 200, 64
_PROPOSAL_IOU = 0.7


class _ListPool(nn.Module):
    """A pool of boxes as torchvision calls it: a list of boxes for each image."""

    def __init__(self, pool: BoxPool) -> None:
        super().__init__()
        self.pool = pool

    def forward(
        self, features: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        del sizes
        counts = [len(own) for own in boxes]
        padded = nn.utils.rnn.pad_sequence(boxes, batch_first=True)
        made = self.pool(list(features.values()), padded)
        return torch.cat([own[:count] for own, count in zip(made, counts, strict=True)])


class FasterRcnnDetector(DenseDetector):
    """Faster R-CNN: proposals first, then each of them is judged.

    Source: Ren et al., Faster R-CNN, NeurIPS 2015.
    """

    places: Tensor

    def __init__(self, backbone: Pyramid, spec: DetectorSpec) -> None:
        super().__init__(spec)
        self.pool = BoxPool(STRIDES, reference=self.config.anchors_px[1], cells=_CELLS)
        generator = anchors(self.config)
        # torchvision's modules take each other as what they are at run time.
        self.net: Any = FasterRCNN(
            backbone,
            rpn_anchor_generator=generator,
            rpn_batch_size_per_image=128,
            box_roi_pool=MultiScaleRoIAlign(["0"], _CELLS, 2),
            box_head=TwoMLPHead(backbone.out_channels * _CELLS**2, _HIDDEN),
            box_predictor=FastRCNNPredictor(_HIDDEN, self.kinds + 1),
            box_batch_size_per_image=64,
        )
        # Its constructor takes no pool but its own, whose operator a CPU-only torch lacks.
        self.net.roi_heads.box_roi_pool = _ListPool(self.pool)
        self.net.transform = AsTheyAre()
        places = anchor_places(backbone, generator, self.size)
        self.register_buffer("places", places, persistent=False)  # (A, 4)

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Return torchvision's parts of the loss, of both stages."""
        features: OrderedDict[str, Tensor] = self.net.backbone(images)
        flat, deltas = concat_box_prediction_layers(*self.net.rpn.head([*features.values()]))
        places, due = [self.places] * len(truths), asked(truths, first_kind=1)
        labels, matched = self.net.rpn.assign_targets_to_anchors(places, due)
        wanted = self.net.rpn.box_coder.encode(matched, places)
        objectness, box = self.net.rpn.compute_loss(flat, deltas, labels, wanted)
        proposals = self._proposals(flat.detach(), deltas.detach(), len(truths), _TRAINED_ON)
        _, second = self.net.roi_heads(features, [*proposals], [self.size] * len(truths), due)
        return {"objectness": objectness, "proposal": box, **second}

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, P, 4) and scores (B, P, kinds) of the proposals that are kept."""
        features: OrderedDict[str, Tensor] = self.net.backbone(images)
        levels = list(features.values())
        batch = images.shape[0]
        flat, deltas = concat_box_prediction_layers(*self.net.rpn.head(levels))
        proposals = self._proposals(flat, deltas, batch, _KEPT)  # (B, P, 4)
        count = proposals.shape[1]
        of_boxes = self.pool(levels, proposals).flatten(0, 1)  # (B * P, C, 7, 7)
        logits, regressed = self.net.roi_heads.box_predictor(self.net.roi_heads.box_head(of_boxes))
        scores = torch.softmax(logits, dim=1)[:, 1:].reshape(batch, count, self.kinds)
        coder = self.net.roi_heads.box_coder
        regressed = regressed.reshape(batch, count, self.kinds + 1, 4)
        best = scores.argmax(dim=2)[:, :, None, None].expand(-1, -1, 1, 4) + 1
        own = regressed.gather(2, best).squeeze(2)
        return decoded(own, proposals, coder.weights, coder.bbox_xform_clip), scores

    def _proposals(self, flat: Tensor, deltas: Tensor, batch: int, most: int) -> Tensor:
        """Return the best boxes of the first stage, (B, P, 4)."""
        coder = self.net.rpn.box_coder
        moved = deltas.reshape(batch, -1, 4)
        boxes = decoded(moved, self.places, coder.weights, coder.bbox_xform_clip)
        scores = torch.sigmoid(flat.reshape(batch, -1))
        best, order = scores.topk(min(_LOOKED_AT, scores.shape[1]), dim=1)
        boxes = clipped(boxes.gather(1, order[:, :, None].expand(-1, -1, 4)), self.size)
        best = best * ~suppressed(boxes, _PROPOSAL_IOU)
        order = best.topk(min(most, best.shape[1]), dim=1).indices
        return boxes.gather(1, order[:, :, None].expand(-1, -1, 4))
