"""``results.json``: what ``predict`` writes and ``POST /v1/exams`` answers.

The pydantic models below are the published JSON Schema
(``docs/reference/results.schema.json``, a test keeps it current).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mammoscope.errors import IncompleteExamError, MammoscopeError
from mammoscope.types import (
    Anomaly,
    Box,
    ExamResult,
    Finding,
    FoundBy,
    ImageResult,
    Level,
    Sighting,
)

__all__ = [
    "INTENDED_USE",
    "RESEARCH_NOTICE",
    "CompanionInfo",
    "CompanionTask",
    "FailedExamPart",
    "ModelInfo",
    "ResultsDocument",
    "ScoringTask",
    "failed_exam",
    "results_document",
    "results_schema",
]

RESEARCH_NOTICE = (
    "Research software. Not a medical device; not for diagnosis. No clinical accuracy is claimed."
)

INTENDED_USE = (
    "Research on the scoring of two-view screening mammograms. Not a medical device; "
    "not for diagnosis, screening decisions or triage of patients."
)

#: What a model that scores may have been trained for.
ScoringTask = Literal["classify", "detect", "segment", "anomaly"]
#: What a model beside it may have been.
CompanionTask = Literal["detect", "segment", "segment-then-classify", "anomaly"]

_Score = Annotated[float, Field(ge=0, le=1)]
# Above 1 where the highest scores of validation tie and no threshold among them keeps the target.
_Threshold = Annotated[
    float, Field(ge=0, description="A score that reaches it is suspicious; above 1 none does.")
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CompanionInfo(_Part):
    """A model that finds, outlines, tells apart or judges: beside what scores, or that itself."""

    task: CompanionTask
    name: str
    threshold: float = Field(
        description="Score from which a candidate is a finding, or an image is unusual; 0 of a "
        "second stage, which leaves out nothing that the segmenter finds."
    )
    target: str = Field(
        description="What the threshold was chosen for; of a second stage, what it tells apart."
    )
    synthetic: bool


class ModelInfo(_Part):
    """Which bundle scored."""

    name: str
    bundle_sha256: str = Field(description="Digest of bundle.json, which pins model.onnx.")
    synthetic: bool = Field(description="True where the model was trained on synthetic images.")
    operating_point: str = Field(description="Name of the primary operating point.")
    task: ScoringTask = Field(
        description="What the model that scores was trained for. Of classify, scores are those of "
        "a classifier, calibrated as bundle.json says. Of detect and segment, an image's score is "
        "that of its highest candidate or pixel, and of anomaly, how unlike normal images it is: "
        "ranks, and no probability of cancer."
    )
    level: Level = Field(
        description="What the model scores: images one by one, breasts or exams from all views."
    )
    image_threshold: _Threshold
    breast_threshold: _Threshold
    exam_threshold: _Threshold
    companions: list[CompanionInfo] = Field(
        default=[],
        description="What finds, outlines or judges: beside a classifier, or what scores itself.",
    )


class BoxPart(_Part):
    """Half-open box in pixels of the original image."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class PointPart(_Part):
    """A point in pixels of the original image."""

    x: float
    y: float


class MatchPart(_Part):
    """A finding of another image that shows the same lesion."""

    image_id: str
    finding: int = Field(ge=0, description="Its place among that image's findings, from 0.")


class SightingPart(_Part):
    """What one model says of a finding."""

    found_by: FoundBy
    box: BoxPart
    score: _Score
    kind: str
    kind_score: _Score | None


class FindingPart(_Part):
    """A suspicious region of one image."""

    box: BoxPart
    score: _Score
    kind: str = Field(
        description="Such as mass; suspicious where the model does not say, unusual where it only "
        "knows normal images."
    )
    kind_score: _Score | None = Field(
        description="Share that the kind has among those that the second of two stages tells "
        "apart; null where there is none."
    )
    found_by: FoundBy = Field(
        description="What it comes from: a classifier's or anomaly model's map, a detector, or a "
        "segmenter's mask. Of a lesion that detector and segmenter both find it is the detector, "
        "whose box and score the finding has, with the segmenter's outline."
    )
    seen_by: list[SightingPart] = Field(
        min_length=1, description="What each model that found it says of it by itself."
    )
    outline: list[PointPart] = Field(description="Corners of its outline where a mask was found.")
    matched: MatchPart | None = Field(description="The same lesion in another view of the breast.")


class AnomalyPart(_Part):
    """How unlike the normal images of training it is; an exam as its most unusual image."""

    score: _Score
    unusual: bool = Field(
        description="Whether it reaches the threshold that normal images have chosen."
    )


class ImagePart(_Part):
    """One scored image."""

    image_id: str
    laterality: Literal["L", "R"]
    view: Literal["CC", "MLO", "ML", "LM", "LMO", "AT"]
    height_px: int
    width_px: int
    logit: float
    score: _Score
    suspicious: bool
    findings: list[FindingPart]
    anomaly: AnomalyPart | None = Field(description="Null where the bundle has no such model.")
    decoder: str
    crop_quality: _Score
    warnings: list[str]


class BreastPart(_Part):
    """One breast: the mean or the highest of its images' scores, or a breast or exam model's."""

    laterality: Literal["L", "R"]
    score: _Score
    suspicious: bool
    image_ids: list[str]


class RefusalPart(_Part):
    """An image that was not scored."""

    image_id: str
    reason: str
    message: str


class ExamPart(_Part):
    """One exam: the highest score of its breasts, or that of an exam model; what is missing."""

    exam_id: str
    score: _Score
    suspicious: bool
    breasts: list[BreastPart]
    images: list[ImagePart]
    anomaly: AnomalyPart | None = Field(description="Null where the bundle has no such model.")
    missing_views: list[str]
    refused: list[RefusalPart]
    warnings: list[str]


class FailedExamPart(_Part):
    """An exam of which nothing could be scored. It has no score, not a score of 0."""

    exam_id: str
    message: str
    refused: list[RefusalPart]


class ResultsDocument(_Part):
    """The whole document."""

    format_version: Literal[2] = 2
    kind: Literal["results"] = "results"
    package_version: str
    notice: str = RESEARCH_NOTICE
    model: ModelInfo
    exams: list[ExamPart]
    failed: list[FailedExamPart] = []


def results_document(
    results: Sequence[ExamResult],
    model: ModelInfo,
    package_version: str,
    failed: Sequence[FailedExamPart] = (),
) -> dict[str, Any]:
    """Return the document as plain JSON values.

    Args:
        results: Scored exams.
        model: Which bundle scored them.
        package_version: Version of mammoscope.
        failed: Exams of which nothing could be scored.
    """
    document = ResultsDocument(
        package_version=package_version,
        model=model,
        exams=[_exam_part(result) for result in results],
        failed=list(failed),
    )
    return document.model_dump(mode="json")


def failed_exam(exam_id: str, error: MammoscopeError) -> FailedExamPart:
    """Return what the document says of an exam of which nothing could be scored."""
    refused = error.refused if isinstance(error, IncompleteExamError) else ()
    return FailedExamPart(
        exam_id=exam_id,
        message=str(error),
        refused=[RefusalPart(image_id=i, reason=r, message=m) for i, r, m in refused],
    )


def results_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document."""
    schema = ResultsDocument.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _exam_part(result: ExamResult) -> ExamPart:
    return ExamPart(
        exam_id=result.exam_id,
        score=result.score,
        suspicious=result.suspicious,
        breasts=[
            BreastPart(
                laterality=breast.laterality.value,
                score=breast.score,
                suspicious=breast.suspicious,
                image_ids=list(breast.image_ids),
            )
            for breast in result.breasts
        ],
        images=[_image_part(image) for image in result.images],
        anomaly=_anomaly_part(result.anomaly),
        missing_views=list(result.missing_views),
        refused=[
            RefusalPart(image_id=r.image_id, reason=r.reason, message=r.message)
            for r in result.refused
        ],
        warnings=list(result.warnings),
    )


def _image_part(image: ImageResult) -> ImagePart:
    return ImagePart(
        image_id=image.image_id,
        laterality=image.laterality.value,
        view=image.view.value,
        height_px=image.height_px,
        width_px=image.width_px,
        logit=image.logit,
        score=image.score,
        suspicious=image.suspicious,
        findings=[_finding_part(finding) for finding in image.findings],
        anomaly=_anomaly_part(image.anomaly),
        decoder=image.decoder,
        crop_quality=image.crop_quality,
        warnings=list(image.warnings),
    )


def _finding_part(finding: Finding) -> FindingPart:
    matched = finding.matched
    return FindingPart(
        box=_box_part(finding.box),
        score=finding.score,
        kind=finding.kind,
        kind_score=finding.kind_score,
        found_by=finding.found_by,
        seen_by=[_sighting_part(one) for one in finding.sightings],
        outline=[PointPart(x=x, y=y) for x, y in finding.outline],
        matched=MatchPart(image_id=matched[0], finding=matched[1]) if matched else None,
    )


def _sighting_part(sighting: Sighting) -> SightingPart:
    return SightingPart(
        found_by=sighting.found_by,
        box=_box_part(sighting.box),
        score=sighting.score,
        kind=sighting.kind,
        kind_score=sighting.kind_score,
    )


def _box_part(box: Box) -> BoxPart:
    return BoxPart(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max)


def _anomaly_part(anomaly: Anomaly | None) -> AnomalyPart | None:
    if anomaly is None:
        return None
    return AnomalyPart(score=anomaly.score, unusual=anomaly.unusual)
