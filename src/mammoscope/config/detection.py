"""What ``task: detect`` obeys beside the settings that all tasks share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mammoscope.config.loading import Frozen

__all__ = [
    "OWN_BACKBONES",
    "DetectionConfig",
    "DetectorName",
    "MatchingConfig",
    "TileConfig",
    "ViewMatching",
]

#: Names of the registry of detectors.
DetectorName = Literal[
    "centre", "faster_rcnn", "retinanet", "fcos", "ssd", "rt_detr_v2", "yolov8", "yolov5u"
]

#: Detectors that bring a backbone of their own.
OWN_BACKBONES = ("rt_detr_v2", "yolov8", "yolov5u")

_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]


class TileConfig(Frozen):
    """Square parts of a prepared image, for images too large to be seen whole."""

    size_px: Annotated[int, Field(ge=0, multiple_of=32)] = Field(
        default=0,
        description="Side of a tile in pixels of the prepared image; 0 shows whole images.",
    )
    overlap: Annotated[float, Field(ge=0, lt=0.9)] = Field(
        default=0.25, description="Share of a tile's side that the next one sees again, at least."
    )
    lesion_share: _Share = Field(
        default=0.5,
        description="Share of the tiles drawn from images with lesions that hold one; the others "
        "lie anywhere in the breast.",
    )
    per_image: Annotated[int, Field(ge=1)] = Field(
        default=2, description="Tiles that an epoch draws from each training image."
    )


class MatchingConfig(Frozen):
    """How candidates of two projections of a breast are taken for one lesion."""

    enabled: bool = Field(
        default=True,
        description="Match candidates of CC and of MLO, ML, LM or LMO views of a breast, and move "
        "their scores.",
    )
    depth_tolerance: Literal["validation"] | _Positive = Field(
        default="validation",
        description="Difference in depth, as a share of the breast's own depth, at which two "
        "candidates' agreement has fallen to 1/e; validation chooses it with rise.",
    )
    size_tolerance: _Positive = Field(
        default=0.7,
        description="Difference of the logarithms of two candidates' sizes at which their "
        "agreement has fallen to 1/e.",
    )
    least_agreement: _Share = Field(
        default=0.3, description="Agreement below which two candidates are not one lesion."
    )
    rise: Literal["validation"] | Annotated[float, Field(ge=0)] = Field(
        default="validation",
        description="Logits by which a score rises, at most, where the other view has a matching "
        "candidate; validation chooses what finds most validation lesions, none where nothing "
        "helps.",
    )


class ViewMatching(MatchingConfig):
    """The same with every number settled, as a detector's graph and a bundle keep it."""

    depth_tolerance: _Positive = 0.1
    rise: Annotated[float, Field(ge=0)] = 0.0


class DetectionConfig(Frozen):
    """The detector: boxes with scores, from one grey image."""

    name: DetectorName = Field(
        default="centre",
        description="centre is a small one of ours; faster_rcnn, retinanet, fcos and ssd are "
        "torchvision's, rt_detr_v2 is transformers' (extra detr); yolov8 and yolov5u are "
        "ultralytics' (extra yolo, under the AGPL-3.0).",
    )
    backbone: str = Field(
        default="pyramid_cnn",
        description="A name of timm with maps at strides 4, 8 and 16, or pyramid_cnn, a small one "
        "of ours; rt_detr_v2 and yolo bring their own.",
    )
    pretrained: bool = Field(
        default=False, description="The library's weights where they can be had."
    )
    weights: Path | None = Field(
        default=None,
        description="Local safetensors file: a detector's, of a run or a library, or a backbone's.",
    )
    channels: Annotated[int, Field(ge=32, le=512, multiple_of=32)] = Field(
        default=32, description="Channels of the feature pyramid."
    )
    contrast_px: tuple[Annotated[int, Field(ge=3, le=255)], ...] = Field(
        default=(),
        description="Sides of squares, in pixels of the network's input, in which local contrast "
        "is measured, each a channel beside the image; odd. pyramid_cnn alone takes them.",
    )
    tell_kinds: bool = Field(
        default=False,
        description="Tell the kinds of lesion apart; off, all are one kind.",
    )
    anchors_px: tuple[_Positive, _Positive, _Positive] = Field(
        default=(8.0, 16.0, 32.0),
        description="Sides of the anchors at strides 4, 8 and 16, in pixels of the network's "
        "input, for detectors that have anchors.",
    )
    anchor_aspects: tuple[_Positive, ...] = Field(
        default=(0.5, 1.0, 2.0), min_length=1, description="Heights of anchors over their widths."
    )
    tiles: TileConfig = TileConfig()
    score_floor: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.01, description="Score below which nothing is a candidate."
    )
    most_candidates: Annotated[int, Field(ge=1, le=300)] = Field(
        default=20, description="Candidates of an image, or of a tile, at most."
    )
    nms_iou: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2,
        description="Overlap (IoU) with a better candidate at which one is left out: a lesion is "
        "named once.",
    )
    fusion_iou: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.4, description="Overlap (IoU) at which boxes of different tiles are merged."
    )
    matching: MatchingConfig = MatchingConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if any(side % 2 == 0 for side in self.contrast_px):
            raise ValueError("contrast_px: sides of squares around a pixel are odd")
        if self.contrast_px and (self.backbone != "pyramid_cnn" or self.name in OWN_BACKBONES):
            raise ValueError("contrast_px: pyramid_cnn alone sees local contrast")
        if self.weights is not None and self.pretrained:
            raise ValueError("weights and pretrained are two ways to begin: choose one")
        return self
