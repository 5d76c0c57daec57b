"""How found lesions are judged: a part of the section ``evaluation``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mammoscope.config.loading import Frozen

__all__ = ["LesionMeasures"]


class LesionMeasures(Frozen):
    """When a candidate hits a lesion, and at which rates of false positives that is told."""

    hit: Literal["centre", "distance", "iou"] = Field(
        default="centre",
        description="When a candidate box hits a lesion: its centre lies in the lesion's box; its "
        "centre lies nearer to the lesion's than half the diagonal of the lesion's box or "
        "hit_distance_px, whichever is more; or both boxes overlap by evaluation.iou.",
    )
    hit_distance_px: Annotated[float, Field(ge=0)] = Field(
        default=100.0, description="Of hit=distance, in pixels of the original image."
    )
    iou: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2, description="Least intersection over union of two boxes, of hit=iou."
    )
    mask_iou: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1,
        description="Least intersection over union at which a part of a predicted mask finds a "
        "lesion.",
    )
    patch_margin: Annotated[float, Field(ge=0)] = Field(
        default=0.5,
        description="By how much the window around a lesion is wider than its box on every side, "
        "as a share of the box's longer side, where masks are compared in a window.",
    )
    false_positives_on: Literal["all", "normal"] = Field(
        default="all",
        description="On which images false positives are counted: all, or those without cancer "
        "and without any finding.",
    )
    froc_false_positives: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.25, 0.5, 1.0, 2.0),
        description="False positives per image at which the FROC curve's sensitivity is told; the "
        "mean sensitivity is that over them.",
    )
    candidate_false_positives: Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="False positives per image for which the cut-off on candidates is chosen, on "
        "validation images.",
    )

    @field_validator("froc_false_positives")
    @classmethod
    def _rising(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not rates or list(rates) != sorted(set(rates)):
            raise ValueError("one rate at least, each above the one before it")
        return rates
