"""What the service says of itself, as published in its OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from mammoscope import __version__
from mammoscope.bundle import Bundle, Estimate, Level, OperatingPoint
from mammoscope.results import RESEARCH_NOTICE, BoxPart, CompanionInfo, ScoringTask
from mammoscope.service.settings import ServiceSettings

__all__ = ["DisplayDocument", "HealthDocument", "ModelDocument", "describe_model"]


class PointFacts(BaseModel):
    """The primary operating point of a level, as measured on the validation images."""

    threshold: float
    confidence: float
    sensitivity: Estimate
    specificity: Estimate


class OperatingPointFacts(BaseModel):
    """The operating point that decides *suspicious*.

    ``exam`` is null where nothing was measured on exams; they are judged at ``exam_threshold``,
    which is then the breasts'. ``scored_by`` says whose validation scores chose it: the model's,
    or those of single ``folds`` of which it is the mean.
    """

    name: str
    target: str
    scored_by: Literal["model", "folds"]
    image: PointFacts
    breast: PointFacts
    exam: PointFacts | None
    exam_threshold: float


class Limits(BaseModel):
    """How much one upload may hold."""

    max_upload_bytes: int
    max_files: int
    max_unzipped_bytes: int


class ModelDocument(BaseModel):
    """Which bundle serves, and within which limits."""

    name: str
    bundle_sha256: str
    synthetic: bool
    intended_use: str
    notice: str
    package_version: str
    bundle_package_version: str
    input_height_px: int
    input_width_px: int
    task: ScoringTask
    level: Level
    aggregation: dict[str, str]
    operating_point: OperatingPointFacts
    limits: Limits
    companions: list[CompanionInfo]


class HealthDocument(BaseModel):
    """Whether a synthetic image goes the whole way from file to score."""

    ok: bool
    message: str
    checked_s_ago: float
    model: str
    bundle_sha256: str


class DisplayImage(BaseModel):
    """How one image of the results is shown; ``heatmap_url`` is null where the model has no map."""

    image_url: str
    heatmap_url: str | None
    width_px: int
    height_px: int
    flipped: bool
    pixel_aspect: float
    breast: BoxPart


class DisplayDocument(BaseModel):
    """How an exam is hung; images in the order of the results."""

    exam_id: str
    images: list[DisplayImage]


def describe_model(bundle: Bundle, settings: ServiceSettings) -> ModelDocument:
    """Return what a user should know of the model."""
    points = bundle.operating_points
    return ModelDocument(
        name=bundle.name,
        bundle_sha256=bundle.sha256,
        synthetic=bundle.synthetic,
        intended_use=bundle.intended_use,
        notice=RESEARCH_NOTICE,
        package_version=__version__,
        bundle_package_version=bundle.package_version,
        input_height_px=bundle.input.preprocess.height,
        input_width_px=bundle.input.preprocess.width,
        task=bundle.task,
        level=bundle.input.level,
        aggregation=bundle.aggregation,
        operating_point=OperatingPointFacts(
            name=points.primary,
            target=points.primary_of("image").target,
            scored_by=points.scored_by,
            image=_facts(points.primary_of("image")),
            breast=_facts(points.primary_of("breast")),
            exam=_facts(points.primary_of("exam")) if points.exam else None,
            exam_threshold=points.threshold("exam"),
        ),
        limits=Limits(
            max_upload_bytes=settings.max_upload_bytes,
            max_files=settings.max_files,
            max_unzipped_bytes=settings.max_unzipped_bytes,
        ),
        companions=[companion.info for companion in bundle.companions],
    )


def _facts(point: OperatingPoint) -> PointFacts:
    return PointFacts(
        threshold=point.threshold,
        confidence=point.confidence,
        sensitivity=point.sensitivity,
        specificity=point.specificity,
    )
