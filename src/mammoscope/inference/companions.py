"""Models that find, outline, or judge how unusual an image is: beside a classifier, or alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from mammoscope.bundle import SIDES, Bundle, Companion
from mammoscope.errors import BundleError
from mammoscope.inference.anomaly import AnomalyScorer
from mammoscope.inference.cutouts import CutoutScorer
from mammoscope.inference.detector import Detector, image_score, in_original
from mammoscope.inference.fusion import Boxes
from mammoscope.inference.matching import ViewCandidates, breast_depth, matched
from mammoscope.inference.outlining import Candidate, Outlined
from mammoscope.inference.scorer import sigmoid
from mammoscope.inference.segmenter import Segmenter
from mammoscope.preprocessing import Geometry, PreparedImage
from mammoscope.types import Anomaly, Box, Exam, Finding, FloatImage, GreyImage, MammogramImage

__all__ = ["CompanionModel", "Rating", "Seen", "Verdict", "load_companions"]


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

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads its results must know of the engine that computes it."""
        ...

    def __call__(self, seen: Sequence[Seen], exam: Exam) -> list[Verdict]:
        """Look at the images of an exam, each once; a verdict for each, in order.

        Raises:
            BundleError: If the graph fails, or gives a number that is not finite.
        """
        ...

    def check(self) -> None:
        """Send an image of one grey through the graph.

        Raises:
            BundleError: If that fails.
        """
        ...


def load_companions(bundle: Bundle, folder: Path, threads: int = 0) -> list[CompanionModel]:
    """Load the companions of a bundle whose hashes were checked.

    Args:
        bundle: What it says of them.
        folder: Where it lies.
        threads: Threads per image; 0 lets the engine choose.

    Returns:
        Those that look at images, in the bundle's order.

    Raises:
        BundleError: If a file is not a graph of its task, or a second stage has no first.
    """
    second = bundle.second_stage
    tells = None if second is None else CutoutScorer(folder / second.file, threads)
    if tells is not None and all(one.task != "segment" for one in bundle.looking):
        raise BundleError(f"bundle {bundle.name} has a second stage and no segmenter before it")

    def outlining(companion: Companion, model: Path, threads: int) -> CompanionModel:
        return _Outlining(companion, model, threads, tells)

    kinds: dict[str, Callable[[Companion, Path, int], CompanionModel]] = {
        "detect": _Detecting,
        "segment": outlining,
        "anomaly": _Judging,
    }
    return [kinds[one.task](one, folder / one.file, threads) for one in bundle.looking]


class _Detecting:
    """Finds lesions, and takes what two views of a breast agree on for more likely."""

    def __init__(self, companion: Companion, model: Path, threads: int) -> None:
        self._companion = companion
        self._detector = Detector(model, threads)
        self.notes = self._detector.graph.notes

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
            # As in ``candidates.parquet``, where a box of no area is no candidate.
            sides = view.boxes.box
            there = (sides[:, 2] > sides[:, 0]) & (sides[:, 3] > sides[:, 1])
            made[view.image_id] = Verdict(Rating(*image_score(score[there])), findings)
        return made

    def _finding(self, boxes: Boxes, place: int, geometry: Geometry) -> tuple[Finding, ...]:
        one = slice(place, place + 1)
        own = Boxes(boxes.box[one], boxes.score[one], boxes.kind[one])
        return in_original(own, geometry, self._detector.contract.kinds)

    def check(self) -> None:
        self._detector(_grey(self._companion))


class _Outlining:
    """Outlines lesions, and has a second stage tell them apart where there is one."""

    def __init__(
        self, companion: Companion, model: Path, threads: int, second: CutoutScorer | None
    ) -> None:
        self._companion = companion
        self._segmenter = Segmenter(model, threads)
        self._second = second
        self.notes = self._segmenter.graph.notes + (second.graph.notes if second else ())

    def __call__(self, seen: Sequence[Seen], exam: Exam) -> list[Verdict]:
        del exam
        least = self._companion.threshold
        verdicts = []
        for one in seen:
            (outlined,) = self._segmenter([one.prepared.pixels])
            kept = tuple(c for c in outlined.candidates if c.score >= least)
            found = self._found(replace(outlined, candidates=kept), one.prepared)
            rating = Rating(outlined.logit, sigmoid(outlined.logit), outlined.scores)
            verdicts.append(Verdict(rating, found))
        return verdicts

    def _found(self, outlined: Outlined, prepared: PreparedImage) -> tuple[Finding, ...]:
        """Return the candidates as findings, with what the second stage takes each for."""
        if self._second is None:
            return outlined.findings(prepared.geometry)
        boxes = [_drawn(candidate, outlined.parts).box for candidate in outlined.candidates]
        shares = self._second(prepared.pixels, boxes).score
        made: list[Finding] = []
        for candidate, share in zip(outlined.candidates, shares, strict=True):
            # None where it lies outside the image.
            one = replace(outlined, candidates=(candidate,)).findings(prepared.geometry)
            kind, score = self._second.settings.classes[int(share.argmax())], float(share.max())
            made += [replace(finding, kind=kind, kind_score=score) for finding in one]
        return tuple(made)

    def check(self) -> None:
        grey = _grey(self._companion)
        self._segmenter([grey])
        if self._second is not None:
            self._second(grey, [Box(0, 0, *grey.shape[::-1])])


class _Judging:
    """Judges how unlike the normal images of training an image is."""

    def __init__(self, companion: Companion, model: Path, threads: int) -> None:
        self._companion = companion
        self._scorer = AnomalyScorer(model, threads)
        self.notes = self._scorer.graph.notes

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
        self._scorer([_grey(self._companion)])


def _numbered(
    partner: tuple[str, int] | None, order: dict[str, list[int]]
) -> tuple[str, int] | None:
    """Return which finding of its image a candidate's counterpart is, if it is one."""
    if partner is None or partner[1] not in order[partner[0]]:
        return None
    return partner[0], order[partner[0]].index(partner[1])


def _grey(companion: Companion) -> GreyImage:
    # Not black: a graph that works in tiles is not shown those without tissue.
    return np.ones((companion.preprocess.height, companion.preprocess.width), np.uint8)


def _drawn(candidate: Candidate, parts: Sequence[Candidate]) -> Candidate:
    """Return the largest part of the mask within a candidate; itself where there is none.

    The second stage has learnt from parts, and was measured on them; a candidate reaches further,
    down to a lower score.
    """
    outer = candidate.box
    within = [
        part
        for part in parts
        if outer.x_min <= part.box.x_min
        and outer.y_min <= part.box.y_min
        and part.box.x_max <= outer.x_max
        and part.box.y_max <= outer.y_max
    ]
    return max(within, key=lambda part: int(part.mask.sum()), default=candidate)
