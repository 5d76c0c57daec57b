"""How lesions are outlined: network, losses, patches, and how whole images are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mammoscope.config.loading import Frozen

__all__ = ["CandidateScore", "MaskLoss", "SegmentConfig"]

#: Losses of masks; weighted sums of them are what is trained.
MaskLoss = Literal["dice", "image_dice", "bce", "focal", "tversky"]
#: What the score of a candidate is made of.
CandidateScore = Literal["highest", "whole"]
_Weight = Annotated[float, Field(gt=0)]


class SegmentConfig(Frozen):
    """A network that gives each pixel a score, and what its map is made into."""

    decoder: str = Field(
        default="unet",
        description="A decoder of segmentation-models-pytorch: unet, unetplusplus, fpn, manet, "
        "deeplabv3plus and so on.",
    )
    encoder: str = Field(
        default="efficientnet-b0",
        description="One of its encoders, tu-NAME for those of timm, or small, a network of ours "
        "that trains on a CPU from scratch and has a U-Net's decoder.",
    )
    pretrained: bool = Field(
        default=True, description="ImageNet weights of the encoder where they can be had."
    )
    weights: Path | None = Field(
        default=None,
        description="Local safetensors file: the weights of a segmentation run with the same "
        "network, or of its encoder alone.",
    )
    losses: dict[MaskLoss, _Weight] = Field(
        default={"dice": 1.0, "bce": 1.0},
        min_length=1,
        description="Weight of each loss in the sum: dice, bce, focal, tversky, and image_dice, in "
        "which a small lesion counts as much as a large one.",
    )
    focal_gamma: Annotated[float, Field(ge=0)] = Field(
        default=2.0, description="How much the focal loss forgets what is already right."
    )
    focal_alpha: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.75, description="Weight of lesions' pixels in the focal loss; others have 1 - it."
    )
    tversky_missed: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.7,
        description="Weight of missed pixels in the Tversky loss; pixels too many have 1 - it, and "
        "0.5 makes it the Dice loss.",
    )
    train_on: Literal["whole", "patches"] = Field(
        default="whole",
        description="What a step shows: whole images, or patches around lesions mixed with others.",
    )
    patch_px: Annotated[int, Field(ge=32, le=4096)] = Field(
        default=128, description="Side of a patch, and of a window, in pixels of prepared images."
    )
    lesion_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.7, description="Share of patches that hold a lesion; the others show tissue."
    )
    lesion_repeats: Annotated[int, Field(ge=1)] = Field(
        default=1, description="Patches around each lesion in an epoch."
    )
    infer_on: Literal["whole", "windows"] | None = Field(
        default=None,
        description="How an image is looked at: whole, or in windows that slide over it; none "
        "follows train_on.",
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5, description="Share of a window that the next one sees again."
    )
    blend: Literal["gaussian", "mean"] = Field(
        default="gaussian",
        description="How windows that overlap are joined: the middle of each weighs most, or all "
        "of it alike.",
    )
    threshold: Literal["validation"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="validation",
        description="Score from which a pixel belongs to a predicted mask; validation chooses the "
        "highest at which the mean Dice of validation lesions is within 0.01 of the best.",
    )
    candidate_threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2,
        description="Score from which pixels that hang together are a candidate, with a box; no "
        "higher than the threshold.",
    )
    candidate_score: Literal["validation"] | CandidateScore = Field(
        default="validation",
        description="What a candidate's score is, by which candidates rank and are cut off: "
        "highest is that of its highest pixel; whole, how far all its pixels' logits lie above "
        "candidate_threshold's, in sum, over the root of their number; validation chooses what "
        "finds most validation lesions.",
    )
    min_area_px: Annotated[int, Field(ge=1)] = Field(
        default=4, description="Smallest predicted lesion, in pixels of prepared images."
    )

    @property
    def in_windows(self) -> bool:
        """Whether images are looked at in windows."""
        if self.infer_on is None:
            return self.train_on == "patches"
        return self.infer_on == "windows"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.encoder == "small" and self.decoder != "unet":
            raise ValueError(f"encoder=small has a U-Net's decoder: decoder is {self.decoder}")
        if self.threshold != "validation" and self.candidate_threshold > self.threshold:
            raise ValueError(
                f"candidate_threshold={self.candidate_threshold} is above "
                f"threshold={self.threshold}: a mask would have no candidate"
            )
        return self
