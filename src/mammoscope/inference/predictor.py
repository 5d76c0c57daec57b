"""Predictor: an exam in, an :class:`ExamResult` out, by the bundle alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mammoscope.bundle import FACTS, HIGHEST, MODEL_FILE, SIDES, Bundle, fact_values, read_bundle
from mammoscope.errors import (
    BundleError,
    DicomError,
    IncompleteExamError,
    IneligibleImageError,
    Reason,
)
from mammoscope.explain import find_regions
from mammoscope.inference.ahead import AheadReader
from mammoscope.inference.companions import (
    CompanionModel,
    Rating,
    Seen,
    Verdict,
    load_companions,
)
from mammoscope.inference.exam import Words, read_exam
from mammoscope.inference.joining import joined
from mammoscope.inference.scorer import ExamInput, ExamScores, Scorer, Scores
from mammoscope.log import get_logger
from mammoscope.preprocessing import PreparedImage, Preprocessor, SourceImage
from mammoscope.results import ModelInfo
from mammoscope.types import (
    SCREENING_VIEWS,
    Anomaly,
    BreastResult,
    Exam,
    ExamResult,
    Finding,
    FloatImage,
    ImageResult,
    MammogramImage,
    Refusal,
)

__all__ = ["Predictor", "load_bundle"]

_log = get_logger(__name__)

OnImage = Callable[[ImageResult, FloatImage], None]


@dataclass(frozen=True, slots=True)
class _Reading:
    """An image that can be scored: what the graphs see, and the file for people to see.

    Attributes:
        image: Which.
        source: The file.
        prepared: As the model that scores takes it.
        others: As each companion takes it, in their order.
    """

    image: MammogramImage
    source: SourceImage
    prepared: PreparedImage
    others: tuple[PreparedImage, ...] = ()


class Predictor:
    """Scores exams with one bundle.

    Args:
        bundle: What the bundle says.
        scorer: Its classifier's graph, loaded; ``None`` where one of the companions scores.
        companions: Its companions that look at images, loaded, in the bundle's order.

    Raises:
        BundleError: If the graph is of another level than the bundle says.
    """

    def __init__(
        self, bundle: Bundle, scorer: Scorer | None, companions: Sequence[CompanionModel] = ()
    ) -> None:
        if scorer is not None and scorer.level != bundle.input.level:
            raise BundleError(
                f"bundle {bundle.name} says that its model scores {bundle.input.level}s, and "
                f"{MODEL_FILE} scores {scorer.level}s: it takes {scorer.inputs}"
            )
        self.bundle = bundle
        self._scorer = scorer
        self._companions = tuple(companions)
        # It scores images one by one, and none is kept: nothing needs those of an exam together.
        images_only = scorer is not None and scorer.level == "image" and not companions
        self._alone = scorer if images_only else None
        self._ahead = AheadReader()
        self._preprocessor = Preprocessor(bundle.input.preprocess)
        self._highest = bundle.aggregation["breast"] == HIGHEST
        self._image_threshold = bundle.operating_points.threshold("image")
        self._breast_threshold = bundle.operating_points.threshold("breast")
        self._exam_threshold = bundle.operating_points.threshold("exam")
        own = scorer.graph.notes if scorer is not None else ()
        told = [*own, *(note for companion in companions for note in companion.notes)]
        self._notes = list(dict.fromkeys(told))

    @property
    def _scoring(self) -> int:
        """Place among the companions of the one that scores, where there is no classifier."""
        return [one.file for one in self.bundle.looking].index(MODEL_FILE)

    @property
    def _finds(self) -> bool:
        """Whether findings are a companion's, and not the heatmap's."""
        return any(companion.task != "anomaly" for companion in self.bundle.looking)

    @property
    def model_info(self) -> ModelInfo:
        """What ``results.json`` says of the model."""
        return ModelInfo(
            name=self.bundle.name,
            bundle_sha256=self.bundle.sha256,
            synthetic=self.bundle.synthetic,
            operating_point=self.bundle.operating_points.primary,
            task=self.bundle.task,
            level=self.bundle.input.level,
            image_threshold=self._image_threshold,
            breast_threshold=self._breast_threshold,
            exam_threshold=self._exam_threshold,
            companions=[companion.info for companion in self.bundle.companions],
        )

    def check(self) -> None:
        """Send a blank input through every graph.

        Raises:
            BundleError: If a graph fails or gives a score that is not finite.
        """
        for companion in self._companions:
            companion.check()
        if self._scorer is None:
            return
        preprocess = self.bundle.input.preprocess
        blank = np.zeros((preprocess.height, preprocess.width), np.uint8)
        if self._scorer.level == "image":
            self._scorer([blank])
        else:
            self._scorer.exam(ExamInput([blank], ["R"], ["CC"]))

    def read(
        self,
        path: Path | str | Sequence[Path],
        *,
        table: Path | str | Words | None = None,
        exam_id: str | None = None,
    ) -> Exam:
        """Read an exam by the bundle's eligibility rules; see :func:`read_exam`."""
        rules = self.bundle.eligibility
        return read_exam(path, table=table, exam_id=exam_id, eligibility=rules)

    def __call__(self, exam: Exam, on_image: OnImage | None = None) -> ExamResult:
        """Score an exam.

        Args:
            exam: From :meth:`read`, so that the rules of the training cohort hold.
            on_image: Called with each image's result and its original presentation pixels,
                (H, W) float32 in [0, 1], which are not kept.

        Raises:
            IncompleteExamError: If no image of it can be scored; the message says why.
        """
        refused = list(exam.refused)
        images: list[ImageResult] = []
        readings: list[_Reading] = []
        for image, ahead in self._ahead(self._read, exam.images):
            try:
                reading = ahead.result()
                if self._alone is not None:
                    rating = _rating(self._alone([reading.prepared.pixels]))
                    images.append(self._result(reading, rating, on_image))
                else:
                    readings.append(reading)
            except (DicomError, IneligibleImageError) as error:
                _log.warning("%s refused: %s", image.image_id, error.reason)
                reason = error.reason or Reason.UNREADABLE_FILE
                refused.append(Refusal(image.image_id, reason, str(error)))
        if not images and not readings:
            raise IncompleteExamError(
                _nothing_scored(exam.exam_id, refused),
                [(r.image_id, r.reason, r.message) for r in refused],
            )
        together = None
        if readings:
            images, together = self._joined(exam, readings, on_image)
        breasts = self._breasts(images, together)
        score = max(breast.score for breast in breasts)
        if together is not None and together.exam is not None:
            score = together.exam[1]
        missing = _missing_views(images)
        warnings = [*exam.warnings, *self._unknown_facts(exam), *self._notes]
        if missing:
            warnings.append(
                f"{len(missing)} of the 4 screening views are missing: {', '.join(missing)}"
            )
        return ExamResult(
            exam_id=exam.exam_id,
            score=score,
            suspicious=score >= self._exam_threshold,
            images=tuple(images),
            breasts=breasts,
            missing_views=missing,
            refused=tuple(refused),
            warnings=tuple(warnings),
            anomaly=_most_unusual(images),
        )

    def _joined(
        self, exam: Exam, readings: list[_Reading], on_image: OnImage | None
    ) -> tuple[list[ImageResult], ExamScores | None]:
        """Score the images of an exam and have the companions look at them, together."""
        together = self._together(exam, readings)
        verdicts = [
            model([Seen(r.image, r.others[place]) for r in readings], exam)
            for place, model in enumerate(self._companions)
        ]
        images = []
        for place, reading in enumerate(readings):
            told = [verdict[place] for verdict in verdicts]
            if self._scorer is None:
                rating = told[self._scoring].rating
            elif together is None:
                rating = _rating(self._scorer([reading.prepared.pixels]))
            else:
                rating = _rating(together.images, place)
            images.append(self._result(reading, rating, on_image, told))
        return images, together

    def _read(self, image: MammogramImage) -> _Reading:
        try:
            source = SourceImage(image.path, self._preprocessor.config)
            prepared = self._preprocessor.prepare(source, image.laterality, image.pixel_aspect)
            # Models of one preprocessing share what was prepared.
            made = {self.bundle.input.preprocess: prepared}
            for companion in self.bundle.looking:
                config = companion.preprocess
                if config not in made:
                    own = SourceImage(image.path, config)
                    preprocessor = Preprocessor(config)
                    made[config] = preprocessor.prepare(own, image.laterality, image.pixel_aspect)
        except OSError as error:
            message = f"{image.path.name} cannot be opened: {error.strerror or error}"
            raise DicomError(message, Reason.UNREADABLE_FILE) from error
        others = tuple(made[companion.preprocess] for companion in self.bundle.looking)
        return _Reading(image, source, prepared, others)

    def _together(self, exam: Exam, readings: list[_Reading]) -> ExamScores | None:
        """Score breasts and exam, where the model does that."""
        if self._scorer is None or self._scorer.level == "image":
            return None
        given = ExamInput(
            images=[reading.prepared.pixels for reading in readings],
            lateralities=[reading.image.laterality for reading in readings],
            views=[reading.image.view for reading in readings],
            facts=fact_values(exam.age, exam.density, exam.implant),
        )
        return self._scorer.exam(given)

    def _unknown_facts(self, exam: Exam) -> list[str]:
        """Say which facts the model was measured with and is not told of this exam."""
        used = [name for name in FACTS if name in self.bundle.input.facts]
        unknown = [name for name in used if getattr(exam, name) is None]
        return [
            f"{name} is not known of this exam; the model uses it, and was measured with it where "
            "the cohort knew it"
            for name in unknown
        ]

    def _result(
        self,
        reading: _Reading,
        rating: Rating,
        on_image: OnImage | None,
        told: Sequence[Verdict] = (),
    ) -> ImageResult:
        image, prepared = reading.image, reading.prepared
        suspicious = rating.score >= self._image_threshold
        findings: tuple[Finding, ...] = ()
        if self._finds:
            findings = joined([finding for verdict in told for finding in verdict.findings])
        elif suspicious and rating.local_score is not None:
            kind = "unusual" if self.bundle.task == "anomaly" else "suspicious"
            threshold = self._image_threshold
            findings = find_regions(rating.local_score, prepared.geometry, threshold, kind)
        height, width = reading.source.shape
        result = ImageResult(
            image_id=image.image_id,
            laterality=image.laterality,
            view=image.view,
            height_px=height,
            width_px=width,
            logit=rating.logit,
            score=rating.score,
            suspicious=suspicious,
            findings=findings,
            decoder=prepared.decoder,
            crop_quality=prepared.quality,
            warnings=prepared.warnings,
            heatmap=rating.heatmap,
            geometry=prepared.geometry.as_dict(),
            anomaly=next((verdict.anomaly for verdict in told if verdict.anomaly), None),
        )
        if on_image is not None:
            on_image(result, reading.source.shown())
        return result

    def _breasts(
        self, images: list[ImageResult], together: ExamScores | None
    ) -> tuple[BreastResult, ...]:
        breasts = []
        for side in SIDES:
            own = [image for image in images if image.laterality is side]
            if own:
                scores = [image.score for image in own]
                score = max(scores) if self._highest else math.fsum(scores) / len(scores)
                if together is not None:
                    score = together.breasts[side][1]
                names = tuple(image.image_id for image in own)
                breasts.append(BreastResult(side, score, score >= self._breast_threshold, names))
        return tuple(breasts)


def load_bundle(path: Path | str, *, threads: int = 0) -> Predictor:
    """Load a bundle, every hash checked.

    Args:
        path: The bundle's folder.
        threads: Threads of each model; 0 lets its engine choose.

    Raises:
        BundleError: If a file is missing, edited or of another format.
    """
    bundle = read_bundle(Path(path))
    companions = load_companions(bundle, Path(path), threads)
    scorer = Scorer(Path(path) / MODEL_FILE, threads) if bundle.task == "classify" else None
    return Predictor(bundle, scorer, companions)


def _rating(scores: Scores, place: int = 0) -> Rating:
    """Return what a classifier says of one image of a batch."""
    return Rating(
        float(scores.logit[place]),
        float(scores.score[place]),
        scores.heatmap[place],
        scores.local_score[place],
    )


def _most_unusual(images: Sequence[ImageResult]) -> Anomaly | None:
    """Return the exam's anomaly: that of its most unusual image, without its map."""
    told = [image.anomaly for image in images if image.anomaly is not None]
    if not told:
        return None
    return Anomaly(max(one.score for one in told), any(one.unusual for one in told))


def _missing_views(images: list[ImageResult]) -> tuple[str, ...]:
    there = {(image.laterality, image.view) for image in images}
    return tuple(f"{side} {view}" for side, view in SCREENING_VIEWS if (side, view) not in there)


def _nothing_scored(exam_id: str, refused: list[Refusal]) -> str:
    reasons = "; ".join(f"{r.image_id}: {r.reason}, {r.message}" for r in refused[:8])
    return f"exam {exam_id} has no image that can be scored: {reasons or 'it holds none'}"
