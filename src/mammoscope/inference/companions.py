"""Models that find, outline, or judge how unusual an image is: beside a classifier, or alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mammoscope.bundle import SIDES, Companion
from mammoscope.inference.anomaly import AnomalyScorer
from mammoscope.inference.detector import Detector, image_score, in_original
from mammoscope.inference.fusion import Boxes
from mammoscope.inference.matching import ViewCandidates, breast_depth, matched
from mammoscope.inference.scorer import sigmoid
from mammoscope.inference.segmenter import Segmenter
from mammoscope.preprocessing import Geometry, PreparedImage
from mammoscope.types import Anomaly, Exam, Finding, FloatImage, GreyImage, MammogramImage

__all__ = ["CompanionModel", "Rating", "Seen", "Verdict", "load_companion"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One image as a companion is shown it."""

    image: MammogramImage
    prepared: PreparedImage


@dataclass(frozen=True, slots=True)
class Rating:
    """What one image is scored, by a classifier or by a model that finds, outlines or judges.

    Attributes:
        logit: Before the sigmoid.
        score: In [0, 1].
        heatmap: (h, w) float32 in [0, 1], as it is drawn; ``None`` of a detector.
        local_score: (h, w) float32 in [0, 1], its cells on the scale of the score.
    """

    logit: float
    score: float
    heatmap: FloatImage | None = None
    local_score: FloatImage | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a companion says of one image, and what it scores it where no classifier does."""

    rating: Rating
    findings: tuple[Finding, ...] = ()
    anomaly: Anomaly | None = None


class CompanionModel(Protocol):
    """A companion, loaded."""

    def __call__(self, seen: Sequence[Seen], exam: Exam) -> list[Verdict]:
        """Look at the images of an exam, each once; a verdict for each, in order.

        Raises:
            BundleError: If the graph fails, or gives a number that is not finite.
        """
        ...

    def check(self) -> None:
        """Send a blank image through the graph.

        Raises:
            BundleError: If that fails.
        """
        ...


def load_companion(companion: Companion, folder: Path, threads: int = 0) -> CompanionModel:
    """Load a companion of a bundle whose hashes were checked.

    Args:
        companion: What the bundle says of it.
        folder: The bundle's.
        threads: Threads per image; 0 lets ONNX Runtime choose.

    Raises:
        BundleError: If its file is not a graph of its task.
    """
    kinds: dict[str, Callable[[Companion, Path, int], CompanionModel]] = {
        "detect": _Detecting,
        "segment": _Outlining,
        "anomaly": _Judging,
    }
    return kinds[companion.task](companion, folder / companion.file, threads)


class _Detecting:
    """Finds lesions, and takes what two views of a breast agree on for more likely."""

    def __init__(self, companion: Companion, model: Path, threads: int) -> None:
        self._companion = companion
        self._detector = Detector(model, threads)

    def __call__(self, seen: Sequence[Seen], exam: Exam) -> list[Verdict]:
        del exam
        kept: dict[str, Verdict] = {}
        for side in SIDES:
            breast = [one for one in seen if one.image.laterality is side]
            kept |= self._of_breast(breast)
        return [kept[one.image.image_id] for one in seen]

    def _of_breast(self, breast: Sequence[Seen]) -> dict[str, Verdict]:
        max_value = self._companion.preprocess.max_value
        views = [
            ViewCandidates(
                one.image.image_id,
                one.image.view,
                self._detector(one.prepared.pixels),
                breast_depth(one.prepared.pixels, max_value),
            )
            for one in breast
        ]
        matching = self._companion.matching
        if matching is not None and matching.enabled:
            told = matched(views, matching)
        else:
            told = [(view.boxes.score, [None] * len(view.boxes)) for view in views]
        # Of each image, its candidates that are findings, the highest first.
        order = {
            view.image_id: [
                int(place)
                for place in np.argsort(-score, kind="stable")
                if score[place] >= self._companion.threshold
            ]
            for view, (score, _) in zip(views, told, strict=True)
        }
        made = {}
        for one, view, (score, partners) in zip(breast, views, told, strict=True):
            moved = replace(view.boxes, score=score)
            geometry, own = one.prepared.geometry, order[view.image_id]
            findings = tuple(
                replace(finding, matched=_numbered(partners[place], order))
                for place in own
                for finding in self._finding(moved, place, geometry)
            )
            made[view.image_id] = Verdict(Rating(*image_score(score)), findings)
        return made

    def _finding(self, boxes: Boxes, place: int, geometry: Geometry) -> tuple[Finding, ...]:
        one = slice(place, place + 1)
        own = Boxes(boxes.box[one], boxes.score[one], boxes.kind[one])
        return in_original(own, geometry, self._detector.contract.kinds)

    def check(self) -> None:
        self._detector(_blank(self._companion))


class _Outlining:
    """Outlines lesions."""

    def __init__(self, companion: Companion, model: Path, threads: int) -> None:
        self._companion = companion
        self._segmenter = Segmenter(model, threads)

    def __call__(self, seen: Sequence[Seen], exam: Exam) -> list[Verdict]:
        del exam
        least = self._companion.threshold
        verdicts = []
        for one in seen:
            (outlined,) = self._segmenter([one.prepared.pixels])
            found = outlined.findings(one.prepared.geometry)
            rating = Rating(outlined.logit, sigmoid(outlined.logit), outlined.scores)
            verdicts.append(Verdict(rating, tuple(f for f in found if f.score >= least)))
        return verdicts

    def check(self) -> None:
        self._segmenter([_blank(self._companion)])


class _Judging:
    """Judges how unlike the normal images of training an image is."""

    def __init__(self, companion: Companion, model: Path, threads: int) -> None:
        self._companion = companion
        self._scorer = AnomalyScorer(model, threads)

    def __call__(self, seen: Sequence[Seen], exam: Exam) -> list[Verdict]:
        verdicts = []
        for one in seen:
            made = self._scorer([one.prepared.pixels], [one.image.view], [exam.density])
            logit, where = float(made.logit[0]), made.local_score[0]
            score, geometry = sigmoid(logit), one.prepared.geometry.as_dict()
            unusual = score >= self._companion.threshold
            verdicts.append(
                Verdict(
                    Rating(logit, score, where, where),
                    anomaly=Anomaly(score, unusual, where, geometry),
                )
            )
        return verdicts

    def check(self) -> None:
        self._scorer([_blank(self._companion)])


def _numbered(
    partner: tuple[str, int] | None, order: dict[str, list[int]]
) -> tuple[str, int] | None:
    """Return which finding of its image a candidate's counterpart is, if it is one."""
    if partner is None or partner[1] not in order[partner[0]]:
        return None
    return partner[0], order[partner[0]].index(partner[1])


def _blank(companion: Companion) -> GreyImage:
    return np.zeros((companion.preprocess.height, companion.preprocess.width), np.uint8)
