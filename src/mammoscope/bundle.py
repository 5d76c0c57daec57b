"""What is deployed: ``bundle.json`` and ``model.onnx``, hashed, without a line of code in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mammoscope.artefacts import (
    read_json,
    sha256_file,
    sha256_json,
    write_atomically,
    write_json,
)
from mammoscope.config import EligibilityConfig, PreprocessConfig, ViewMatching, validated
from mammoscope.errors import BundleError, ConfigError
from mammoscope.results import CompanionInfo, CompanionTask, ScoringTask
from mammoscope.types import Density, Laterality, Level, View

__all__ = [
    "AGGREGATION",
    "FACTS",
    "FORMAT_VERSION",
    "GRAPH_INPUTS",
    "GRAPH_OUTPUTS",
    "HIGHEST",
    "IMAGE_SCORES",
    "OTHER_PROJECTION",
    "PROJECTIONS",
    "SIDES",
    "TASK_INPUTS",
    "TASK_OUTPUTS",
    "UNKNOWN_DENSITY",
    "Bundle",
    "Companion",
    "Level",
    "OperatingPoint",
    "density_code",
    "fact_values",
    "projection_code",
    "read_bundle",
    "side_code",
    "write_bundle",
]

FORMAT_VERSION = 4
MODEL_FILE = "model.onnx"
BUNDLE_FILE = "bundle.json"


#: Sides in the order in which graphs of breasts and exams number them and give their scores.
SIDES = (Laterality.R, Laterality.L)
#: Projections by their number in a graph; all others, and unknown ones, share the next.
PROJECTIONS = (View.CC, View.MLO)
OTHER_PROJECTION = len(PROJECTIONS)
#: Densities by their number in a graph of anomalies are A to D; unknown has one of its own.
UNKNOWN_DENSITY = len(Density)
#: What a graph of exams may be told: age in years, density 0 to 3 for A to D, implant 0 or 1.
FACTS = ("age", "density", "implant")

#: What a graph takes, by level and input name; ``facts`` only where the model uses any.
GRAPH_INPUTS: dict[Level, dict[str, str]] = {
    "image": {"image": "(B, 1, H, W) float32 grey values as the preprocessor makes them"},
    "breast": {
        "image": "(V, 1, H, W) float32 grey values of all images of one exam",
        "projection": "(V,) int64: 0 CC, 1 MLO, 2 other or unknown",
        "side": "(V,) int64: 0 R, 1 L",
    },
}
GRAPH_INPUTS["exam"] = {
    **GRAPH_INPUTS["breast"],
    "facts": "(3,) float32: age in years, density 0 to 3, implant 0 or 1; NaN where unknown",
}

#: What a graph gives, by level and output name.
GRAPH_OUTPUTS: dict[Level, dict[str, str]] = {
    "image": {
        "logit": "(B,) float32, before the sigmoid",
        "score": "(B,) float32 in [0, 1]",
        "heatmap": "(B, h, w) float32 in [0, 1], covering the input's field of view",
        "local_score": "(B, h, w) float32 in [0, 1], the heatmap on the scale of the score; where "
        "the graph lacks it the two are one",
    }
}
GRAPH_OUTPUTS["breast"] = {
    **GRAPH_OUTPUTS["image"],
    "breast_logit": "(2,) float32, R and L; NaN for a breast without images",
    "breast_score": "(2,) float32 in [0, 1]",
}
GRAPH_OUTPUTS["exam"] = {
    **GRAPH_OUTPUTS["breast"],
    "exam_logit": "(1,) float32",
    "exam_score": "(1,) float32 in [0, 1]",
}

_PIXELS = GRAPH_INPUTS["image"]["image"]
#: What the graph of a model that finds, outlines or judges takes, by task and input name; an
#: anomaly model's takes the last two only where it is told them.
TASK_INPUTS: dict[str, dict[str, str]] = {
    "detect": {"image": f"{_PIXELS}, or tiles of them"},
    "segment": {"image": f"{_PIXELS}, or windows of them"},
    "anomaly": {
        "image": _PIXELS,
        "projection": "(B,) int64: 0 CC, 1 MLO, 2 other or unknown",
        "density": "(B,) int64: 0 to 3 for A to D, 4 unknown",
    },
}
#: What it gives.
TASK_OUTPUTS: dict[str, dict[str, str]] = {
    "detect": {
        "boxes": "(B, N, 4) float32 x_min, y_min, x_max, y_max on the input's grid",
        "scores": "(B, N) float32 in [0, 1]; 0 where there is no candidate",
        "kinds": "(B, N) int64, places among the kinds that the graph's metadata name",
    },
    "segment": {"mask_logit": "(B, 1, H, W) float32, before the sigmoid"},
    "anomaly": {
        "anomaly": "(B,) float32, at least 0",
        "logit": "(B,) float32, the same in spreads from the mean of normal images",
        "score": "(B,) float32 in [0, 1], its sigmoid",
        "heatmap": "(B, h, w) float32, at least 0: the anomaly by place",
        "local_score": "(B, h, w) float32 in [0, 1], the heatmap on the scale of the score",
    },
}
#: What an image's score is where no classifier scores, by task. None is a probability of cancer.
IMAGE_SCORES: dict[str, str] = {
    "detect": "the score of its highest candidate",
    "segment": "the score of its highest pixel",
    "anomaly": "how unlike normal images it is",
}


def projection_code(view: str | None) -> int:
    """Return the number of a projection in graphs of breasts and exams."""
    return PROJECTIONS.index(View(view)) if view in PROJECTIONS else OTHER_PROJECTION


def density_code(density: str | None) -> int:
    """Return the number of a density in graphs that may be told it: 0 to 3 for A to D."""
    letters = [letter.value for letter in Density]
    return letters.index(density) if density in letters else UNKNOWN_DENSITY


def side_code(laterality: str) -> int:
    """Return the number of a side in graphs of breasts and exams."""
    return SIDES.index(Laterality(laterality))


def fact_values(age: float | None, density: str | None, implant: float | None) -> tuple[float, ...]:
    """Return the numbers of :data:`FACTS`, NaN where unknown."""
    unknown = float("nan")
    letters = [letter.value for letter in Density]
    return (
        unknown if age is None else float(age),
        float(letters.index(density)) if density in letters else unknown,
        unknown if implant is None else float(implant),
    )


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(_Part):
    """A measured value with its interval; ``None`` where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    #: Replicates of the bootstrap without a value.
    undefined: int = 0


class Choice(_Part):
    """How far a threshold moves when patients are drawn anew, and how much it flatters itself."""

    replicates: int
    low: float | None
    high: float | None
    optimism: float | None


class OperatingPoint(_Part):
    """A threshold, the target that chose it, and what it measured on the validation images."""

    name: str
    target: str
    threshold: float
    confidence: float
    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    f1: Estimate
    recall_rate: Estimate | None = None
    choice: Choice | None = None


class OperatingPoints(_Part):
    """Operating points by level; ``primary`` names the one that decides *suspicious*.

    They were chosen and measured on scores of the model itself, or of single ``folds`` of which
    it is the mean.
    """

    primary: str
    scored_by: Literal["model", "folds"] = "model"
    image: tuple[OperatingPoint, ...]
    breast: tuple[OperatingPoint, ...]
    exam: tuple[OperatingPoint, ...] = ()

    def threshold(self, level: Level) -> float:
        """Return the primary threshold of a level; the breasts' where exams have none.

        Exams have none where none could be chosen: all validation exams were of one class.
        """
        return self.primary_of(level).threshold

    def primary_of(self, level: Level) -> OperatingPoint:
        """Return the primary operating point of a level, the breasts' where exams have none."""
        points = {"image": self.image, "breast": self.breast, "exam": self.exam or self.breast}
        return next(point for point in points[level] if point.name == self.primary)


class InputContract(_Part):
    """What the graph takes: see :data:`GRAPH_INPUTS`; ``facts`` are those that it uses."""

    level: Level = "image"
    facts: tuple[str, ...] = ()
    inputs: dict[str, str] = GRAPH_INPUTS["image"]
    preprocess: PreprocessConfig


#: How the scores of breasts and exams come about, by the level of the graph.
AGGREGATION: dict[Level, dict[str, str]] = {
    "image": {"breast": "mean of the image scores", "exam": "maximum of the breast scores"},
    "breast": {"breast": "the graph's, from all its views", "exam": "maximum of the breast scores"},
    "exam": {
        "breast": "the graph's, from all its views and the other breast",
        "exam": "the graph's",
    },
}


class Companion(_Part):
    """A model of the bundle that finds, outlines, tells apart what is outlined, or judges.

    It stands beside a classifier, which scores; or it is what scores, and its ``file`` is
    :data:`MODEL_FILE`.

    ``threshold`` is the score from which a candidate is a finding, or an image is unusual;
    ``target`` is what it was chosen for. The second of two stages leaves out nothing that the first
    finds: its threshold is 0, and its target names what it tells apart. What must be known to run
    the graph beside that stands in the graph itself.
    """

    task: CompanionTask
    name: str
    file: str
    synthetic: bool
    preprocess: PreprocessConfig
    threshold: float
    target: str
    matching: ViewMatching | None = None
    training: dict[str, Any] = {}

    @property
    def info(self) -> CompanionInfo:
        """What readers of results are told of it."""
        return CompanionInfo(
            task=self.task,
            name=self.name,
            threshold=self.threshold,
            target=self.target,
            synthetic=self.synthetic,
        )


#: What ``aggregation`` says of breasts where the highest of their images' scores is taken.
HIGHEST = "maximum of the image scores"


class Bundle(_Part):
    """Everything that ``bundle.json`` says."""

    format_version: Literal[4] = 4
    kind: Literal["bundle"] = "bundle"
    name: str
    package_version: str
    synthetic: bool
    intended_use: str
    input: InputContract
    output: dict[str, str | None] = dict(GRAPH_OUTPUTS["image"])
    aggregation: dict[str, str] = AGGREGATION["image"]
    calibration: dict[str, Any] = {"method": "none"}
    eligibility: EligibilityConfig
    operating_points: OperatingPoints
    reference: dict[str, Any] = {}
    training: dict[str, Any] = {}
    companions: tuple[Companion, ...] = ()
    hashes: dict[str, str]

    @property
    def scoring(self) -> Companion | None:
        """The companion that scores; ``None`` where a classifier does."""
        return next((one for one in self.companions if one.file == MODEL_FILE), None)

    @property
    def task(self) -> ScoringTask:
        """What the model that scores was trained for."""
        if self.scoring is None:
            return "classify"
        if self.scoring.task == "segment-then-classify":
            raise BundleError(f"bundle {self.name}: a second stage scores no image")
        return self.scoring.task

    @property
    def looking(self) -> tuple[Companion, ...]:
        """Companions that look at whole images: all but the second of two stages."""
        return tuple(one for one in self.companions if one != self.second_stage)

    @property
    def second_stage(self) -> Companion | None:
        """What tells apart the findings of the segmenter, if there is one."""
        stages = "segment-then-classify"
        return next((one for one in self.companions if one.task == stages), None)

    @property
    def sha256(self) -> str:
        """Digest of all that is said here, the model's hash included: the bundle's identity."""
        return sha256_json(self.model_dump(mode="json"))


def write_bundle(folder: Path, models: Mapping[str, Path], **fields: Any) -> Bundle:
    """Copy the models into a folder and write ``bundle.json`` beside them.

    Args:
        folder: An empty folder.
        models: The ONNX files by their name in the bundle; :data:`MODEL_FILE` is the one that
            scores, the others stand beside it.
        **fields: All of :class:`Bundle` but ``hashes``.
    """
    folder = Path(folder)
    hashes = {}
    for name, model in models.items():
        with write_atomically(folder / name) as temporary:
            shutil.copyfile(model, temporary)
        hashes[name] = sha256_file(folder / name)
    bundle = validated(Bundle, {**fields, "hashes": hashes}, str(folder))
    values = bundle.model_dump(mode="json")
    write_json(folder / BUNDLE_FILE, {**values, "content_sha256": bundle.sha256})
    return bundle


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every hash.

    Raises:
        BundleError: If a file is missing, edited (which file, which hash), or of another format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder; a bundle is a folder with {BUNDLE_FILE}")
    values = read_json(folder / BUNDLE_FILE, BundleError)
    if values.get("kind") != "bundle" or values.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"{folder}/{BUNDLE_FILE} is of kind {values.get('kind')!r}, format "
            f"{values.get('format_version')!r}; this version reads bundle format {FORMAT_VERSION}"
        )
    declared = values.pop("content_sha256", None)
    found = sha256_json(values)
    if declared != found:
        raise BundleError(
            f"{folder}/{BUNDLE_FILE} was edited: its SHA-256 is {found}, it declares {declared}"
        )
    try:
        bundle = validated(Bundle, values, f"{folder}/{BUNDLE_FILE}")
    except ConfigError as error:
        raise BundleError(str(error)) from error
    for name, expected in bundle.hashes.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path} is missing")
        actual = sha256_file(path)
        if actual != expected:
            raise BundleError(f"{path} was edited: its SHA-256 is {actual}, not {expected}")
    return bundle
