"""What is done with images before a model sees them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mammoscope.config.lesions import FaultRule
from mammoscope.config.loading import Frozen

__all__ = ["EligibilityConfig", "IngestConfig", "PreprocessConfig"]


class PreprocessConfig(Frozen):
    """From stored pixel values to network input; stored whole in every bundle."""

    height: Annotated[int, Field(ge=32, le=8192)] = Field(
        default=1024, description="Height of the network's input in pixels."
    )
    width: Annotated[int, Field(ge=32, le=8192)] = Field(
        default=512, description="Width of the network's input in pixels."
    )
    bits: Literal[8, 16] = Field(default=8, description="Depth of a grey value.")
    resolution: Literal["reduced", "full"] = Field(
        default="reduced",
        description="reduced decodes JPEG 2000 at the smallest of its resolutions whose crop still "
        "covers the network's input; full decodes everything.",
    )
    rescale: bool = Field(
        default=True, description="Apply the modality LUT or Rescale Slope and Intercept."
    )
    voi: Literal["auto", "lut", "window", "none"] = Field(
        default="auto",
        description="VOI transformation: auto is the VOI LUT, else the window, else none; none "
        "shows the whole range of values.",
    )
    voi_index: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Which of several windows or VOI LUTs, counted from 0."
    )
    photometric: bool = Field(
        default=True, description="Invert MONOCHROME1, so that tissue is bright."
    )
    inverted: Literal["correct", "refuse", "ignore"] = Field(
        default="correct",
        description="What to do with an image whose background is bright although its header "
        "says otherwise.",
    )
    orient: bool = Field(default=True, description="Mirror so that the chest wall is on the left.")
    crop: bool = Field(default=True, description="Crop to the breast; off keeps the whole image.")
    margin: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.02, description="Border kept around the breast, as a share of the crop's size."
    )
    mask: bool = Field(default=True, description="Blank what lies outside the breast.")
    normalise: Literal["window", "breast"] = Field(
        default="window",
        description="Which values become black and white: the ends of the VOI window, or those "
        "between which 99 % of the breast's pixels lie.",
    )
    resize: bool = Field(
        default=True,
        description="Fit to height and width; off keeps the crop's own size, for export to other "
        "tools.",
    )

    @property
    def max_value(self) -> int:
        """Largest grey value of the prepared image."""
        return (1 << self.bits) - 1


#: What a rule of the gate does with an image that it fires on.
Action = Literal["accept", "warn", "refuse"]


class EligibilityConfig(Frozen):
    """Which images may be scored; kept in the cohort, the run and the bundle alike.

    Each action's key is the reason code of its rule. The defaults are those of two-view
    screening with full-field digital mammograms.
    """

    for_processing: Action = Field(
        default="refuse", description="Raw detector values, made for processing."
    )
    tomosynthesis: Action = Field(
        default="refuse", description="Tomosynthesis slices and projections of one frame."
    )
    synthetic_2d: Action = Field(
        default="refuse", description="2D images computed from a tomosynthesis."
    )
    contrast_enhanced: Action = Field(
        default="refuse",
        description="Contrast-enhanced images, the low-energy ones excepted: they look like "
        "mammograms without contrast.",
    )
    biopsy: Action = Field(
        default="refuse", description="Images that guide a biopsy: scout, needle, marker."
    )
    quality_control: Action = Field(default="refuse", description="Phantoms and test exposures.")
    not_a_breast: Action = Field(
        default="refuse", description="A body part other than the breast is named."
    )
    secondary_capture: Literal["accept", "warn", "listed", "refuse"] = Field(
        default="listed",
        description="Images captured a second time. listed: refused, unless a table gives "
        "laterality and view, as those of public data sets do; then warn.",
    )
    marked_up: Action = Field(
        default="refuse", description="Drawings, annotated copies, screen captures."
    )
    burned_in_annotation: Action = Field(
        default="refuse", description="Text in the pixels that names the patient."
    )
    spot_compression: Action = Field(default="refuse", description="Spot compression views.")
    magnification: Action = Field(
        default="refuse",
        description="Magnification views, or a magnification above max_magnification.",
    )
    supplementary_view: Action = Field(
        default="refuse",
        description="Cleavage, rolled, tangential, infra-mammary fold and axillary tissue views.",
    )
    implant_displaced: Action = Field(
        default="accept", description="Implant-displaced views; scored as their view."
    )
    implant: Action = Field(default="warn", description="A breast with an implant.")
    partial_view: Action = Field(
        default="warn", description="One of several images of a breast too large for the detector."
    )
    wrong_size: Action = Field(
        default="refuse", description="A side of fewer pixels than min_side_px: a thumbnail."
    )
    implausible_size: Action = Field(
        default="refuse",
        description="A long side outside min_long_side_mm and max_long_side_mm by the spacing.",
    )
    warped: Action = Field(
        default="warn", description="Derived without preserving where things lie."
    )
    unknown_vendor: Action = Field(
        default="warn", description="A manufacturer is named that is none of vendors."
    )
    min_side_px: Annotated[int, Field(ge=1)] = Field(
        default=96, description="Fewest pixels of the shorter side; there a pixel is 2 mm wide."
    )
    min_long_side_mm: Annotated[float, Field(gt=0)] = Field(
        default=80.0, description="Shortest long side; detectors are 180 x 240 mm and larger."
    )
    max_long_side_mm: Annotated[float, Field(gt=0)] = Field(
        default=500.0, description="Longest long side; detectors and films end at 300 mm."
    )
    max_magnification: Annotated[float, Field(ge=1)] = Field(
        default=1.3,
        description="Largest estimated magnification of a contact view, where the breast's upper "
        "side reaches 1.2; stands for magnification begin at 1.5.",
    )
    vendors: tuple[str, ...] = Field(
        default=(
            "AGFA", "CARESTREAM", "FUJI", "FUJIFILM", "GE", "GENERAL ELECTRIC", "GIOTTO",
            "HOLOGIC", "IMS", "KODAK", "KONICA", "KONICA MINOLTA", "LORAD", "METALTRONICA",
            "PHILIPS", "PLANMECA", "PLANMED", "SECTRA", "SIEMENS", "MAMMOSCOPE",  # our phantom
        ),
        description="Manufacturers that are known, as whole words of their names.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _some_size_is_accepted(self) -> Self:
        if self.min_long_side_mm > self.max_long_side_mm:
            raise ValueError("min_long_side_mm is above max_long_side_mm")
        return self


class IngestConfig(Frozen):
    """Everything that ``ingest`` obeys; ``cohort.json`` keeps it resolved."""

    faults: FaultRule = Field(
        default="repair",
        description="What is done with a finding that is wrong, as lesions.faults says of "
        "training. repair mends what can be mended and names it in the manifest's notes; what "
        "cannot be is left out. drop leaves out all of them, into rejects.csv. refuse writes no "
        "cohort.",
    )
    eligibility: EligibilityConfig = EligibilityConfig()
