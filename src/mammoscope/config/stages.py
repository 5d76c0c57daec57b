"""How what a segmenter outlines is told apart: the second of two stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mammoscope.config.loading import Frozen

__all__ = ["CutoutClass", "StagesConfig"]

#: What a cut-out may show.
CutoutClass = Literal["normal", "benign", "malignant"]


class StagesConfig(Frozen):
    """A classifier of cut-outs; its network is that of the section model."""

    segmenter: Path | None = Field(
        default=None,
        description="Run folder of the first stage: a finished run of task segment on the same "
        "cohort, with the same fold held out.",
    )
    classes: Literal["benign-malignant", "with-normal"] = Field(
        default="benign-malignant",
        description="What cut-outs are told apart as: benign or malignant, or normal tissue too.",
    )
    learn_from: Literal["annotated", "predicted"] = Field(
        default="annotated",
        description="Whose masks training cut-outs are taken around. The first stage has learnt "
        "from training images, so that its masks of them are better than of others.",
    )
    margin: Annotated[float, Field(ge=0, le=4)] = Field(
        default=0.5,
        description="Tissue beside a lesion in its cut-out on every side, as a share of the longer "
        "side of its box.",
    )
    cutout_px: Annotated[int, Field(ge=16, le=1024)] = Field(
        default=64, description="Side to which cut-outs are scaled."
    )
    jitter: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.1,
        description="Training boxes are moved by up to this share of their longer side, and scaled "
        "by up to a factor of e to the power of it, as a first stage misses true ones.",
    )

    @property
    def names(self) -> tuple[CutoutClass, ...]:
        """The classes, in the order of the network's outputs."""
        two: tuple[CutoutClass, ...] = ("benign", "malignant")
        return two if self.classes == "benign-malignant" else ("normal", *two)
