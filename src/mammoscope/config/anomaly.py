"""What finds images that are unlike normal ones, and where it draws the line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mammoscope.config.loading import Frozen

__all__ = ["AnomalyConfig", "ConditionName"]

#: What a conditional autoencoder can be told of an image: columns of the manifest.
ConditionName = Literal["view", "density"]

_Weight = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(gt=0, lt=1)]


class AnomalyConfig(Frozen):
    """The anomaly model: it learns from cancer-free images alone."""

    method: Literal["vae", "patchcore"] = Field(
        default="vae",
        description="vae rebuilds the image and is judged by what it cannot rebuild; patchcore "
        "compares patches of features with those of normal images.",
    )
    cancers: Literal["refuse", "leave_out"] = Field(
        default="leave_out",
        description="What becomes of training images with cancer: the training is refused, or they "
        "are left out, counted and named.",
    )
    specificities: tuple[_Share, ...] = Field(
        default=(0.95, 0.9),
        description="Shares of normal validation images that stay below each threshold; the first "
        "is the primary one.",
    )
    edge_px: Annotated[int, Field(ge=0)] = Field(
        default=4, description="Rim of the breast that is not judged, in pixels of the input."
    )
    top_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.02,
        description="Share of the breast, its most anomalous part, whose mean is the image's "
        "score; 1 is the mean of the whole breast.",
    )
    conditions: tuple[ConditionName, ...] = Field(
        default=(), description="What vae is told of each image; what is unknown has its own code."
    )
    latent_width: Annotated[int, Field(ge=1)] = Field(
        default=32, description="Channels of vae's latent map, of which a cell holds 32 pixels."
    )
    width: Annotated[int, Field(ge=4)] = Field(
        default=8, description="Channels of vae's first block; deeper ones have up to 8 times it."
    )
    shrink: Annotated[int, Field(ge=1)] = Field(
        default=1, description="How many times smaller vae sees the image, each way."
    )
    kl_weight: _Weight = Field(
        default=1e-4,
        description="Weight of the KL term, in nats per latent cell, beside the mean squared error "
        "of grey values in [0, 1].",
    )
    kl_warmup: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.3, description="Share of all steps over which the KL term's weight rises."
    )
    score_l2: _Weight = Field(
        default=1.0,
        description="Weight of the squared error in vae's score; each term is told in units of its "
        "mean over normal validation images.",
    )
    score_ssim: _Weight = Field(default=1.0, description="Weight of 1 - SSIM in it.")
    score_perceptual: _Weight = Field(
        default=0.0,
        description="Weight of the squared difference of the feature network's maps in it.",
    )
    score_kl: _Weight = Field(default=0.0, description="Weight of the latent cells' KL term in it.")
    backbone: str = Field(
        default="baseline_cnn",
        description="Feature network of patchcore and of the perceptual term: a name of timm, or "
        "baseline_cnn.",
    )
    pretrained: bool = Field(
        default=False, description="ImageNet weights for it where they can be had."
    )
    weights: Path | None = Field(
        default=None,
        description="Local safetensors file of its weights, such as weights.safetensors of a "
        "classifier's run; without one its features are random.",
    )
    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(1, 2),
        description="Which of its stages are taken, from the image on; the grid is the first's.",
    )
    bank_size: Annotated[int, Field(ge=1)] = Field(
        default=2000, description="Patches of normal images that patchcore keeps."
    )
    bank_candidates: Annotated[int, Field(ge=1)] = Field(
        default=40_000, description="Patches drawn from all training images, of which it chooses."
    )

    @field_validator("specificities", "layers")
    @classmethod
    def _some_each_once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values:
            raise ValueError("at least one is needed")
        if len(set(values)) < len(values):
            raise ValueError("a value is there twice")
        return values

    @field_validator("conditions")
    @classmethod
    def _each_once(cls, names: tuple[ConditionName, ...]) -> tuple[ConditionName, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a condition is named twice")
        return names

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.method == "patchcore" and self.conditions:
            raise ValueError("conditions are told to vae; patchcore takes none")
        if self.method == "vae" and not (
            self.score_l2 + self.score_ssim + self.score_perceptual + self.score_kl
        ):
            raise ValueError("score_l2, score_ssim, score_perceptual and score_kl are all 0")
        if self.bank_candidates < self.bank_size:
            raise ValueError(
                f"bank_candidates={self.bank_candidates} are fewer than bank_size={self.bank_size}"
            )
        return self
