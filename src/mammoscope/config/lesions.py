"""Which findings are targets, and what is done with those that cannot be as they stand."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mammoscope.config.loading import Frozen

__all__ = ["FaultRule", "LesionKind", "LesionsConfig"]

#: What is done with a finding that is wrong.
FaultRule = Literal["refuse", "repair", "drop"]

#: What a finding may be; the words of ``findings.parquet``.
LesionKind = Literal[
    "mass", "calcification", "asymmetry", "architectural_distortion", "lymph_node",
    "skin_thickening", "skin_retraction", "nipple_retraction", "other",
]  # fmt: skip


class LesionsConfig(Frozen):
    """Targets of segmentation and detection: rows of the cohort's ``findings.parquet``."""

    kinds: tuple[LesionKind, ...] = Field(
        default=(),
        description="Kinds that are targets; none named means all, those of unknown kind included.",
    )
    malignant_only: bool = Field(
        default=False, description="Leave out findings that are known to be benign."
    )
    box_as: Literal["ellipse", "box"] = Field(
        default="ellipse",
        description="What is filled where a finding has neither contour nor mask, but a box.",
    )
    faults: FaultRule = Field(
        default="repair",
        description="What is done with a finding that is wrong: a box outside its image, over its "
        "border, of no area, or with sides in the wrong order; a mask of another size than the "
        "image, empty, full, or unreadable; whatever of these ingest repaired or left out. refuse "
        "stops before any work; repair swaps, clips, stretches, or takes the box in the mask's "
        "place, and drops what cannot be repaired; drop drops all. Every one is named and counted.",
    )
