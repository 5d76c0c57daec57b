"""The exported graph of a classifier: prepared images in, logits, scores and heatmaps out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.bundle import FACTS, GRAPH_INPUTS, SIDES, Level, projection_code, side_code
from mammoscope.errors import BundleError
from mammoscope.inference.runtime import ERRORS, open_graph
from mammoscope.types import FloatImage, GreyImage, Laterality

__all__ = ["ExamInput", "ExamScores", "Scorer", "Scores", "sigmoid"]

_OUTPUTS = ["logit", "score", "heatmap"]
_BREASTS = ["breast_logit", "breast_score"]
_EXAM = ["exam_logit", "exam_score"]
_LEVEL_OUTPUTS: dict[Level, list[str]] = {
    "image": _OUTPUTS,
    "breast": [*_OUTPUTS, *_BREASTS],
    "exam": [*_OUTPUTS, *_BREASTS, *_EXAM],
}
_LOCAL = "local_score"


@dataclass(frozen=True, slots=True)
class Scores:
    """Model output of a batch.

    Attributes:
        logit: (B,) float32 before the sigmoid.
        score: (B,) float32 in [0, 1].
        heatmap: (B, h, w) float32 in [0, 1], as it is drawn.
        local_score: (B, h, w) float32 in [0, 1], its cells on the scale of the score.
    """

    logit: NDArray[np.float32]
    score: NDArray[np.float32]
    heatmap: FloatImage
    local_score: FloatImage


@dataclass(frozen=True, slots=True)
class ExamInput:
    """Prepared images of one exam and what is said of them.

    Attributes:
        images: V arrays (H, W), uint8 or uint16.
        lateralities: L or R, one for each.
        views: CC, MLO and so on, one for each; ``None`` where unknown.
        facts: In the order of ``FACTS``, NaN where unknown.
    """

    images: Sequence[GreyImage]
    lateralities: Sequence[str]
    views: Sequence[str | None]
    facts: tuple[float, ...] = (float("nan"),) * len(FACTS)


@dataclass(frozen=True, slots=True)
class ExamScores:
    """Model output of one exam.

    Attributes:
        images: Of its images, in their order.
        breasts: (logit, score) of each breast that has images; right first.
        exam: (logit, score); ``None`` of a breast model.
    """

    images: Scores
    breasts: dict[Laterality, tuple[float, float]]
    exam: tuple[float, float] | None


class Scorer:
    """Runs one exported graph.

    Args:
        model: The ONNX file.
        threads: Threads per image; 0 lets the engine choose.

    Raises:
        BundleError: If the file is not a graph with our inputs and outputs.
    """

    def __init__(self, model: Path, threads: int = 0) -> None:
        #: The graph, loaded.
        self.graph = open_graph(model, threads)
        #: Names of what the graph takes.
        self.inputs = list(self.graph.inputs)
        outputs = self.graph.outputs
        #: What the graph scores.
        self.level: Level = (
            "image" if "side" not in self.inputs else "exam" if _EXAM[0] in outputs else "breast"
        )
        expected = [name for name in GRAPH_INPUTS[self.level] if name != "facts"]
        if self.level == "exam" and "facts" in self.inputs:
            expected.append("facts")
        # A graph of anomalies gives a logit too, which is no classifier's.
        strange = "anomaly" in outputs or self.inputs != expected
        if strange or not set(_LEVEL_OUTPUTS[self.level]) <= set(outputs):
            raise BundleError(
                f"{model} takes {self.inputs} and gives {outputs}; a mammoscope graph of level "
                f"{self.level} takes {expected} and gives {_LEVEL_OUTPUTS[self.level]}"
            )
        # A graph without calibration needs no second map.
        self._outputs = [*_LEVEL_OUTPUTS[self.level], *([_LOCAL] if _LOCAL in outputs else [])]

    def __call__(self, images: Sequence[GreyImage]) -> Scores:
        """Score prepared images of one size, each by itself.

        Graphs of breasts and exams too score each image by itself before they join them, so
        that it does not matter which exam these are of.

        Args:
            images: B arrays (H, W), uint8 or uint16.

        Raises:
            BundleError: If the graph fails or gives a score that is not finite.
        """
        side, view = [SIDES[0]] * len(images), [None] * len(images)
        return _scores(self._run(ExamInput(images, side, view)))

    def exam(self, given: ExamInput) -> ExamScores:
        """Score the images of one exam together.

        Raises:
            BundleError: If the graph fails, gives a score that is not finite, or scores images.
        """
        if self.level == "image":
            raise BundleError("the model scores each image by itself: it is of level image")
        made = self._run(given)
        logit, score = (made[name].tolist() for name in _BREASTS)
        breasts = {
            side: (logit[place], score[place])
            for place, side in enumerate(SIDES)
            if side in given.lateralities
        }
        exam = None
        if self.level == "exam":
            exam = (float(made["exam_logit"][0]), float(made["exam_score"][0]))
        _check_finite(*(value for pair in breasts.values() for value in pair), *(exam or ()))
        return ExamScores(_scores(made), breasts, exam)

    def _run(self, given: ExamInput) -> dict[str, NDArray[np.float32]]:
        batch = np.stack(list(given.images))[:, None].astype(np.float32)  # (B, 1, H, W)
        told: dict[str, NDArray[Any]] = {
            "image": batch,
            "projection": np.array([projection_code(view) for view in given.views], np.int64),
            "side": np.array([side_code(side) for side in given.lateralities], np.int64),
            "facts": np.array(given.facts, np.float32),
        }
        try:
            made = self.graph.run(self._outputs, {name: told[name] for name in self.inputs})
        except ERRORS as error:
            raise BundleError(
                f"the model failed on an image of {batch.shape[2:]}: {error}"
            ) from error
        return dict(zip(self._outputs, made, strict=True))


def sigmoid(logit: float) -> float:
    """Return the sigmoid in double precision, in which the far end has no ties."""
    # The exponential is taken of what is not above 0, and cannot overflow.
    return 1 / (1 + math.exp(-logit)) if logit > 0 else math.exp(logit) / (1 + math.exp(logit))


def _scores(made: dict[str, NDArray[np.float32]]) -> Scores:
    _check_finite(made["logit"], made["score"])
    return Scores(made["logit"], made["score"], made["heatmap"], made.get(_LOCAL, made["heatmap"]))


def _check_finite(*values: float | NDArray[np.float32]) -> None:
    if not all(np.isfinite(value).all() for value in values):
        raise BundleError("the model gave a score that is not a finite number")
