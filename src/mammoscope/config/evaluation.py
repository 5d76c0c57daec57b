"""What a report measures, and where it draws the line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mammoscope.config.lesion_measures import LesionMeasures

__all__ = ["EvaluationConfig"]

#: Targets of operating points that take a value.
_TARGETS = ("specificity", "sensitivity", "recall_rate", "threshold")


class EvaluationConfig(LesionMeasures):
    """What the report measures."""

    operating_points: tuple[str, ...] = Field(
        default=("best_f1", "specificity=0.9"),
        description="Targets, chosen on validation images; the first is the primary one. best_f1, "
        "best_pf1, specificity=VALUE, sensitivity=VALUE or recall_rate=VALUE; threshold=0.5 "
        "chooses nothing.",
    )
    calibration: Literal["none", "temperature", "platt", "isotonic"] = Field(
        default="platt",
        description="How validation logits become scores; part of the exported graph, so set for "
        "train or calibrate.",
    )
    breast_score: Literal["mean", "max"] = Field(
        default="mean",
        description="How the scores of a breast's images become its own, where an image model "
        "scores them; part of the bundle, so set for train or calibrate.",
    )
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of positive images where the model will be used; scores are corrected "
        "to it, those of breasts and exams by the same factor of odds, and thresholds and measures "
        "weighted. None keeps the share of the validation images.",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        default=2000, description="Patient-clustered bootstrap replicates for the intervals."
    )
    partial_specificity: tuple[float, float] = Field(
        default=(0.8, 1.0), description="Range of specificity of the partial AUROC."
    )
    specificities: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.8, 0.9, 0.965), description="Where the ROC curve's sensitivity is told."
    )
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.95, description="Level of all intervals."
    )
    pointing_tolerance_px: Annotated[float, Field(ge=0)] = Field(
        default=15.0,
        description="How far from a lesion's box the hottest point may lie in the second form of "
        "the pointing game, in pixels of the network's input.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="Of the bootstrap.")

    @field_validator("partial_specificity")
    @classmethod
    def _a_range(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= ends[0] < ends[1] <= 1:
            raise ValueError("two values from 0 to 1, the lower one first")
        return ends

    @field_validator("operating_points")
    @classmethod
    def _known_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets:
            raise ValueError("at least one operating point is needed")
        for target in targets:
            name, separator, value = target.partition("=")
            if target in ("best_f1", "best_pf1"):
                continue
            if name not in _TARGETS or not separator:
                raise ValueError(
                    f"{target!r} is not one of best_f1, best_pf1, "
                    + ", ".join(f"{known}=VALUE" for known in _TARGETS)
                )
            if not _between_0_and_1(value):
                raise ValueError(f"{target!r}: its value is a number between 0 and 1")
        if len(set(targets)) < len(targets):
            raise ValueError("an operating point is named twice")
        return targets

    @model_validator(mode="after")
    def _scores_to_correct(self) -> EvaluationConfig:
        if self.prevalence is not None and self.calibration in ("none", "temperature"):
            raise ValueError(
                "prevalence corrects scores that meet the share of positives: set calibration to "
                f"platt or isotonic; {self.calibration} moves no score up or down"
            )
        return self


def _between_0_and_1(text: str) -> bool:
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False
