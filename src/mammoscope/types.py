"""The nouns of the domain, as frozen dataclasses.

Arrays are (H, W); boxes are (x_min, y_min, x_max, y_max), half-open, in pixels of
the original image; unknown is ``None``, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SCREENING_VIEWS",
    "Anomaly",
    "Bools",
    "Box",
    "BreastResult",
    "ByteImage",
    "Density",
    "Exam",
    "ExamResult",
    "Finding",
    "FloatImage",
    "Floats",
    "FoundBy",
    "GreyImage",
    "ImageResult",
    "Ints",
    "Laterality",
    "Level",
    "MammogramImage",
    "Refusal",
    "Sighting",
    "View",
]

#: Numbers of a calculation, of any shape.
Floats: TypeAlias = NDArray[np.float64]
#: Labels and choices.
Bools: TypeAlias = NDArray[np.bool_]
#: Places and counts.
Ints: TypeAlias = NDArray[np.int64]
#: Pixels as float32; presentation values lie in [0, 1].
FloatImage: TypeAlias = NDArray[np.float32]
#: Pixels or masks as uint8.
ByteImage: TypeAlias = NDArray[np.uint8]
#: Prepared pixels: grey values of 8 or 16 bits.
GreyImage: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]


class Laterality(StrEnum):
    """Which breast, from the patient's side (Image Laterality, 0020,0062)."""

    L = "L"
    R = "R"


class View(StrEnum):
    """Projection, in the RSNA table's words (View Position, 0018,5101)."""

    CC = "CC"
    MLO = "MLO"
    ML = "ML"
    LM = "LM"
    LMO = "LMO"
    AT = "AT"


#: What is scored and measured: images one by one, breasts or exams.
Level = Literal["image", "breast", "exam"]


class Density(StrEnum):
    """Breast composition, ACR BI-RADS fifth edition."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"


#: The four views of a complete screening exam, in hanging order: right breast first.
SCREENING_VIEWS: tuple[tuple[Laterality, View], ...] = (
    (Laterality.R, View.CC),
    (Laterality.L, View.CC),
    (Laterality.R, View.MLO),
    (Laterality.L, View.MLO),
)


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open rectangle in pixels: ``x_min <= x < x_max``, ``y_min <= y < y_max``."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    def __post_init__(self) -> None:
        if not (self.x_max > self.x_min and self.y_max > self.y_min):
            raise ValueError(f"a box needs x_max > x_min and y_max > y_min, got {self}")


#: What a finding comes from: a classifier's or anomaly model's map, a detector, or a segmenter's
#: mask.
FoundBy = Literal["heatmap", "detector", "segmenter"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one model says of a finding.

    Attributes:
        found_by: Which.
        box: Its own, in original pixels.
        score: Its own, in [0, 1].
        kind: What it takes the finding for.
        kind_score: As that of a finding.
    """

    found_by: FoundBy
    box: Box
    score: float
    kind: str
    kind_score: float | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspicious region of an image.

    Attributes:
        box: In original pixels.
        score: In [0, 1].
        kind: What it is taken for, such as mass; suspicious where the model does not say, unusual
            where it only knows normal images.
        found_by: What it comes from; of one that several models found, whose box and score it has.
        outline: (x, y) of the corners of its outline, in original pixels, where a mask was found.
        matched: What shows the same lesion in another view of the breast: that image's name, and
            which of its findings, from 0.
        kind_score: Share in [0, 1] that the kind has among those that a second stage tells apart;
            ``None`` where there is none.
        seen_by: What each model says of it where several found it; see :attr:`sightings`.
    """

    box: Box
    score: float
    kind: str = "suspicious"
    found_by: FoundBy = "heatmap"
    outline: tuple[tuple[float, float], ...] = ()
    matched: tuple[str, int] | None = None
    kind_score: float | None = None
    seen_by: tuple[Sighting, ...] = ()

    @property
    def sightings(self) -> tuple[Sighting, ...]:
        """What each model that found it says of it: one at least."""
        own = Sighting(self.found_by, self.box, self.score, self.kind, self.kind_score)
        return self.seen_by or (own,)


@dataclass(frozen=True, slots=True)
class Anomaly:
    """How unlike the normal images of training an image or an exam is.

    Attributes:
        score: In [0, 1]; of an exam, that of its most unusual image.
        unusual: Whether it reaches the threshold, which normal images alone have chosen.
        map: Of an image: where it is unusual, (h, w) float32 in [0, 1], on the network's grid.
        geometry: Plain form of the geometry that maps that grid to pixels.
    """

    score: float
    unusual: bool
    map: FloatImage | None = field(default=None, repr=False, compare=False)
    geometry: dict[str, Any] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class MammogramImage:
    """One image of an exam: where it lies and what it shows. Pixels are read when needed.

    Attributes:
        image_id: Name of the image, unique within its exam.
        path: The file.
        laterality: Which breast.
        view: Which projection.
        pixel_aspect: True width of a pixel over its height; 1 unless the image was stretched.
    """

    image_id: str
    path: Path
    laterality: Laterality
    view: View
    pixel_aspect: float = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An image that was not scored: its name, a reason code and a sentence."""

    image_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Exam:
    """One visit: the images that can be read, those refused, and what a reader must know.

    What is known of the woman (age in years, density, whether she has an implant) is for
    models that use it.
    """

    exam_id: str
    images: tuple[MammogramImage, ...]
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    age: float | None = None
    density: Density | None = None
    implant: bool | None = None


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What the model says of one image.

    Attributes:
        image_id: Name of the image.
        laterality: Which breast.
        view: Which projection.
        height_px: Height of the original image.
        width_px: Width of the original image.
        logit: Model output before the sigmoid.
        score: Score in [0, 1]; the bundle's task says what of.
        suspicious: Whether the score reaches the bundle's image operating point.
        findings: Suspicious regions, in original pixels: those of the bundle's detector, then
            those that its segmenter alone has found, each highest first; where it has neither,
            those of the heatmap.
        decoder: Which decoder read the pixels.
        crop_quality: Of the breast's crop, in [0, 1]; a low one is to be looked at.
        warnings: What a reader must know about this image.
        heatmap: Map of what the score comes from, (h, w) float32 in [0, 1], on the network's grid:
            of class activation, of a mask, or of what is unusual. A detector has none.
        geometry: Plain form of the preprocessing geometry, which maps the grid to pixels.
        anomaly: How unusual it is, where the bundle has a model that says so.
    """

    image_id: str
    laterality: Laterality
    view: View
    height_px: int
    width_px: int
    logit: float
    score: float
    suspicious: bool
    findings: tuple[Finding, ...]
    decoder: str
    crop_quality: float
    warnings: tuple[str, ...] = ()
    heatmap: FloatImage | None = field(default=None, repr=False, compare=False)
    geometry: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    anomaly: Anomaly | None = None


@dataclass(frozen=True, slots=True)
class BreastResult:
    """One breast's score, against the bundle's breast operating point.

    It is the mean or the highest of its images' scores, as the bundle says, or that
    of a model of breasts or exams.
    """

    laterality: Laterality
    score: float
    suspicious: bool
    image_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExamResult:
    """Scores of one exam: images, breasts, and the exam.

    The exam's score is that of its highest breast, or that of a model of exams.
    ``missing_views`` names the screening views that are absent, such as ``"R MLO"``; ``anomaly``
    is there where the bundle has a model that says how unusual an image is.
    """

    exam_id: str
    score: float
    suspicious: bool
    images: tuple[ImageResult, ...]
    breasts: tuple[BreastResult, ...]
    missing_views: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    anomaly: Anomaly | None = None
