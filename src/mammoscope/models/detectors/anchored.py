"""torchvision's one-stage detectors: RetinaNet, FCOS and SSD, on grey images of one size.

Training is theirs. Decoding is ours, from their dense heads: theirs works image by image in
shapes that follow from the data, which no exporter takes with more than one image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.ops import box_iou

from mammoscope.config import DetectionConfig
from mammoscope.models.detectors.contract import DenseDetector, DetectorSpec, Truth
from mammoscope.models.detectors.pyramid import STRIDES, Pyramid

# Hard negatives for each anchor of a lesion, and the lesions' anchors counted at least.
_NEGATIVES, _LEAST_LESIONS = 3, 4

__all__ = [
    "AsTheyAre",
    "FcosDetector",
    "RetinaNetDetector",
    "SsdDetector",
    "anchor_places",
    "anchors",
    "asked",
]


class AsTheyAre(nn.Module):
    """In the place of torchvision's resizing and scaling: images are prepared already."""

    def forward(
        self, images: Sequence[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Join images of one size."""
        size = (int(images[0].shape[1]), int(images[0].shape[2]))
        return ImageList(torch.stack(list(images)), [size] * len(images)), targets


class _TorchvisionDetector(DenseDetector):
    """What the three share: training through their own forward pass."""

    net: Any
    places: Tensor

    def _keep_places(self, backbone: Pyramid) -> None:
        """Compute the anchors once: every image has the same size."""
        self.net.transform = AsTheyAre()
        places = anchor_places(backbone, self.net.anchor_generator, self.size)
        self.register_buffer("places", places, persistent=False)  # (A, 4)

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Return torchvision's parts of the loss."""
        found: dict[str, Tensor] = self.net(list(images), asked(truths, self.first_kind))
        return found

    #: Whether labels begin with 1, 0 being the background.
    first_kind = 0

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, A, 4) and scores (B, A, kinds) of all anchors."""
        features: OrderedDict[str, Tensor] = self.net.backbone(images)
        outputs: dict[str, Tensor] = self.net.head(list(features.values()))
        return self._boxes(outputs["bbox_regression"]), self._scores(outputs)

    def _boxes(self, regressed: Tensor) -> Tensor:
        """Decode (B, A, 4) as torchvision's box coder does, for any number of images.

        Source: Girshick et al., R-CNN, CVPR 2014, appendix C.
        """
        coder = self.net.box_coder
        return decoded(regressed, self.places, coder.weights, coder.bbox_xform_clip)

    @abstractmethod
    def _scores(self, outputs: dict[str, Tensor]) -> Tensor: ...


def decoded(regressed: Tensor, places: Tensor, weights: Sequence[float], longest: float) -> Tensor:
    """Move and stretch boxes (…, A, 4) by what was regressed (…, A, 4)."""
    sides = places[..., 2:] - places[..., :2]
    middle = (places[..., 2:] + places[..., :2]) / 2
    shift = regressed[..., :2] / torch.tensor(weights[:2], device=regressed.device)
    growth = regressed[..., 2:] / torch.tensor(weights[2:], device=regressed.device)
    middle = middle + shift * sides
    half = growth.clamp(max=longest).exp() * sides / 2
    return torch.cat([middle - half, middle + half], dim=-1)


class RetinaNetDetector(_TorchvisionDetector):
    """RetinaNet: anchors with a focal loss.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
    """

    def __init__(self, backbone: Pyramid, spec: DetectorSpec) -> None:
        super().__init__(spec)
        self.net = RetinaNet(backbone, self.kinds, anchor_generator=anchors(self.config))
        self._keep_places(backbone)

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        return torch.sigmoid(outputs["cls_logits"])


class FcosDetector(_TorchvisionDetector):
    """FCOS: distances to the four sides and how central a place is; no anchors.

    Source: Tian et al., FCOS, ICCV 2019.
    """

    def __init__(self, backbone: Pyramid, spec: DetectorSpec) -> None:
        super().__init__(spec)
        points = CentredAnchors(tuple((s,) for s in STRIDES), ((1.0,),) * len(STRIDES))
        self.net = FCOS(backbone, self.kinds, anchor_generator=points)
        self._keep_places(backbone)

    def _boxes(self, regressed: Tensor) -> Tensor:
        sides = self.places[:, 2:] - self.places[:, :2]
        middle = (self.places[:, 2:] + self.places[:, :2]) / 2
        low, high = regressed[..., :2] * sides, regressed[..., 2:] * sides
        return torch.cat([middle - low, middle + high], dim=-1)

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        return torch.sqrt(
            torch.sigmoid(outputs["cls_logits"]) * torch.sigmoid(outputs["bbox_ctrness"])
        )


class SsdDetector(_TorchvisionDetector):
    """SSD: anchors, softmax with a background, and hard negatives.

    Source: Liu et al., SSD: Single Shot MultiBox Detector, ECCV 2016.
    """

    first_kind = 1

    def __init__(self, backbone: Pyramid, spec: DetectorSpec) -> None:
        super().__init__(spec)
        generator = anchors(self.config)
        head = SSDHead(
            [backbone.out_channels] * len(STRIDES),
            generator.num_anchors_per_location(),
            self.kinds + 1,
        )
        # Its own default boxes are stretched with the image; anchors in pixels are not.
        self.net = SSD(backbone, generator, self.size, self.kinds + 1, head=head)
        self._keep_places(backbone)

    def losses(self, images: Tensor, truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Return the losses ``box`` and ``class``, each per anchor that is a lesion's.

        torchvision's own takes three negatives for each positive of the same image, and so learns
        nothing from images without a lesion; here each image has some.
        """
        levels = list(self.net.backbone(images).values())
        outputs = self.net.head(levels)
        box, kind, negative, count = [], [], [], 0
        for number, truth in enumerate(truths):
            wanted, owner = self._matched(truth)
            lesion = wanted > 0
            found = outputs["bbox_regression"][number][lesion]
            due = self.net.box_coder.encode_single(truth.boxes[owner[lesion]], self.places[lesion])
            box.append(functional.smooth_l1_loss(found, due, reduction="sum"))
            off = functional.cross_entropy(
                outputs["cls_logits"][number], wanted, reduction="none"
            )  # (A,)
            kind.append(off[lesion].sum())
            most = _NEGATIVES * max(int(lesion.sum()), _LEAST_LESIONS)
            negative.append(off[~lesion].topk(min(most, int((~lesion).sum()))).values.sum())
            count += int(lesion.sum())
        scale = 1 / max(1, count)
        return {
            "box": torch.stack(box).sum() * scale,
            "class": (torch.stack(kind).sum() + torch.stack(negative).sum()) * scale,
        }

    def _matched(self, truth: Truth) -> tuple[Tensor, Tensor]:
        """Return the label of each anchor (A,), 0 for none, and which lesion it is of (A,)."""
        if not len(truth.boxes):
            none = torch.zeros(len(self.places), dtype=torch.int64, device=self.places.device)
            return none, none
        owner = self.net.proposal_matcher(box_iou(truth.boxes, self.places))
        owned = owner.clamp(min=0)
        return torch.where(owner >= 0, truth.kinds[owned] + self.first_kind, 0), owned

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        return torch.softmax(outputs["cls_logits"], dim=2)[..., 1:]


class CentredAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors around the middles of cells; torchvision's lie around their upper left corners.

    Our backbones keep a cell's view centred on the cell, so that those would lie half a cell, up to
    8 pixels, beside what it sees, and none would cover the image's lower right border.
    """

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Keep 32 bits whatever features have: in bfloat16 a place above 256 is off by a pixel."""
        del dtype
        super().set_cell_anchors(torch.float32, device)

    def grid_anchors(
        self, grid_sizes: list[list[int]], strides: list[list[Tensor]]
    ) -> list[Tensor]:
        """Return the anchors of each level, (A, 4)."""
        return [
            level + torch.stack([across, down, across, down]) / 2
            for level, (down, across) in zip(
                super().grid_anchors(grid_sizes, strides), strides, strict=True
            )
        ]


def anchors(config: DetectionConfig) -> AnchorGenerator:
    """Return anchors of two sides, an octave's half apart, at each level."""
    sides = tuple((side, side * 2**0.5) for side in config.anchors_px)
    return CentredAnchors(sides, (config.anchor_aspects,) * len(sides))


def anchor_places(backbone: Pyramid, generator: AnchorGenerator, size: tuple[int, int]) -> Tensor:
    """Return the anchors of all levels of an image of (H, W), (A, 4)."""
    blank, training = torch.zeros(1, 1, *size), backbone.training
    with torch.no_grad():
        levels = list(backbone.eval()(blank).values())
        made: Tensor = generator(ImageList(blank, [size]), levels)[0]
    backbone.train(training)
    return made


def asked(truths: Sequence[Truth], first_kind: int) -> list[dict[str, Tensor]]:
    """Return the truth of each image as torchvision takes it."""
    return [{"boxes": truth.boxes, "labels": truth.kinds + first_kind} for truth in truths]
