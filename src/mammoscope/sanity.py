"""An easy task that must be solved: whether data or code is to blame when nothing is learnt.

Pictures of a half ellipse with a bright disc in it, or none, go the whole way that mammograms go:
files, ingest, preparation, splits, training, export. Every other disc has a hole, and is what the
tables call benign. A disc at full contrast is found by any code that works, and a hole is seen.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from mammoscope.artefacts import write_json
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.splits import split_cohort
from mammoscope.config import PreprocessConfig, Task, load_config
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation.metrics import auroc
from mammoscope.evaluation.stages import CUTOUTS_FILE
from mammoscope.export import finish_run
from mammoscope.training import fit
from mammoscope.types import ByteImage

__all__ = ["LESSONS", "Lesson", "Outcome", "check_tasks", "make_cohort", "take"]

# Patients, each with one picture; every other has a disc, of which every other has a hole.
_PATIENTS = 72
_PICTURE = (320, 192)
_PREPARED = PreprocessConfig(height=80, width=48)
_BREAST_GREY, _DISC_GREY = 90, 250
# Share of a disc's radius that its hole has, so that most of what is outlined stays bright.
_HOLE = 0.45
# The column that says which pictures have a disc; those without a hole have cancer.
_LABEL = "biopsy"
_ON_DISCS = "on bright discs"
_COMMON = (
    f"train.label={_LABEL}",
    "train.seed=0",
    "train.patience=0",
    "train.precision=32-true",
    "train.batch_size=8",
    "evaluation.bootstrap=0",
)


@dataclass(frozen=True, slots=True)
class Exercise:
    """What the exported graph must have said of the pictures.

    Attributes:
        measure: What it is judged by.
        value: From a run folder to the value, on pictures that the run has not learnt from.
        least: What any code that works reaches.
        what: What the value is for, as words behind it.
    """

    measure: str
    value: Callable[[Path], float]
    least: float
    what: str = _ON_DISCS


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a task has to learn of the discs.

    Attributes:
        settings: With which it is trained.
        least: Value of its own measure, on pictures that it has not learnt from.
        exercise: What is asked of the graph as well, where that measure does not tell all.
        what: What the value is for, as words behind it.
    """

    settings: tuple[str, ...]
    least: float
    exercise: Exercise | None = None
    what: str = _ON_DISCS


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a lesson went.

    Attributes:
        task: What was trained.
        measure: What it is judged by.
        value: On pictures that it has not learnt from.
        least: What any code that works reaches.
        seconds: How long it took.
        what: What the value is for, as words behind it.
    """

    task: Task
    measure: str
    value: float
    least: float
    seconds: float
    what: str = _ON_DISCS

    @property
    def passed(self) -> bool:
        """Whether the easy task was solved."""
        return self.value >= self.least

    @property
    def sentence(self) -> str:
        """What it came to, and who is to blame."""
        measured = f"{self.measure} {self.value:.3f} {self.what}, at least {self.least:g}"
        if self.passed:
            return (
                f"{self.task}: {measured} asked: the code learns what is there to be learnt. A "
                "run that learns nothing has its fault in its data or settings"
            )
        return (
            f"{self.task}: {measured} is reached by any code that works: the code or its "
            "installation is to blame, not your data"
        )


def _told_apart(run: Path) -> float:
    """Return the AUROC of pictures with a disc against those without."""
    rows = pl.read_parquet(run / "predictions.parquet")
    label = (rows["cancer"] == 1).to_numpy()
    return auroc(rows["logit"].to_numpy(), label) or 0.0


def _found_and_right(run: Path) -> float:
    """Return the share of the discs that the first stage finds and the second calls right."""
    rows = pl.read_parquet(run / CUTOUTS_FILE)
    right = (pl.col("origin") == "predicted") & (pl.col("called") == pl.col("shows"))
    found = rows.filter(right & pl.col("finding_id").is_not_null())["finding_id"].n_unique()
    return found / rows.filter(pl.col("origin") == "annotated").height


#: What each task has to learn; the second of two stages comes after the first.
LESSONS: dict[Task, Lesson] = {
    "classify": Lesson(
        (
            "model.backbone=baseline_cnn",
            "model.pretrained=false",
            "train.epochs=8",
            "train.lr=2e-3",
        ),
        least=0.95,
    ),
    "detect": Lesson(
        # Boxes have to fit: their middle lies in a disc soon.
        (
            "detect.name=centre",
            "evaluation.hit=iou",
            "evaluation.iou=0.5",
            "train.epochs=12",
            "train.lr=4e-3",
        ),
        least=0.8,
    ),
    "segment": Lesson(
        ("segment.encoder=small", "train.epochs=5", "train.lr=4e-3"),
        least=0.8,
    ),
    "segment-then-classify": Lesson(
        (
            "model.backbone=baseline_cnn",
            "model.pretrained=false",
            "stages.cutout_px=32",
            "stages.margin=0.25",
            "train.epochs=15",
            "train.lr=2e-3",
        ),
        least=0.85,
        what="for telling discs with a hole from those without, where their outlines are given",
        exercise=Exercise(
            "share of discs found and called right",
            _found_and_right,
            0.7,
            "by both stages together",
        ),
    ),
    "anomaly": Lesson(
        ("anomaly.method=vae", "train.epochs=20", "train.lr=4e-3"),
        # An untrained network is surprised by a bright disc too; it has to rebuild normal pictures.
        least=18.0,
        what="for how closely it rebuilds pictures without a disc, which are all that it learns "
        "from (higher is closer)",
        exercise=Exercise(
            "AUROC of the anomaly score",
            _told_apart,
            0.95,
            "for calling pictures with a disc, of which it has seen none, more unusual than others",
        ),
    ),
}


def check_tasks(names: list[str]) -> list[Task]:
    """Return the tasks of these names; all that have a lesson where none is named.

    Raises:
        ConfigError: If one has none.
    """
    unknown = [name for name in names if name not in LESSONS]
    if unknown:
        raise ConfigError(f"--task {unknown[0]} has no lesson; accepted: {', '.join(LESSONS)}")
    return [task for task in LESSONS if not names or task in names]


def make_cohort(folder: Path) -> Path:
    """Write the pictures below a folder and make a cohort of them, prepared and split.

    Returns:
        The cohort folder.
    """
    source, cohort = Path(folder) / "pictures", Path(folder) / "cohort"
    _write_pictures(source)
    ingest(source, cohort, "folder", workers=1)
    prepare(cohort, _PREPARED)
    split_cohort(cohort, folds=4, test=0.0, label=_LABEL)
    return cohort


def take(task: Task, cohort: Path, run: Path) -> list[Outcome]:
    """Train and export one task on the pictures.

    Args:
        task: A key of :data:`LESSONS`.
        cohort: From :func:`make_cohort`.
        run: The run folder to write. The second of two stages takes the first from the folder
            ``segment`` beside it, and trains that where there is none.

    Returns:
        What its own measure came to and, where there is one, its exercise.

    Raises:
        RunError: If the exported graph differs from the trained network, or training diverges.
    """
    lesson, begun = LESSONS[task], time.perf_counter()
    settings = [f"task={task}", *_COMMON, *lesson.settings]
    if task == "segment-then-classify":
        first = run.with_name("segment")
        if not first.exists():
            take("segment", cohort, first)
        settings.append(f"stages.segmenter={json.dumps(str(first))}")
    try:
        made = fit(cohort, run, load_config(None, settings), bar=False)
        finish_run(run, cohort)
    except RunError as error:
        raise RunError(f"{task} on bright discs: {error}. The code is to blame") from error
    seconds = time.perf_counter() - begun
    outcomes = [Outcome(task, made.measure, made.best, lesson.least, seconds, lesson.what)]
    if (asked := lesson.exercise) is not None:
        told = asked.value(run)
        outcomes.append(Outcome(task, asked.measure, told, asked.least, seconds, asked.what))
    return outcomes


def _write_pictures(folder: Path) -> None:
    """Write PNG files with labels and outlines, as the source ``folder`` reads them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    discs: list[dict[str, Any]] = []
    for number in range(_PATIENTS):
        name, sick, holed = f"{number:03}.png", number % 2, number % 4 == 3
        pixels, place = _picture(rng, sick=bool(sick), holed=holed)
        cv2.imwrite(str(folder / name), pixels)
        row = {"file": name, "patient_id": f"p{number:03}", "laterality": "L", "view": "CC"}
        rows.append({**row, _LABEL: sick, "cancer": int(sick and not holed)})
        size = dict(zip(("height", "width"), _PICTURE, strict=True))
        images.append({"id": number, "file_name": name, **size})
        if place is not None:
            discs.append({"image_id": number, "category_id": 1, "malignant": not holed, **place})
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    write_json(
        folder / "boxes.coco.json",
        {"images": images, "categories": [{"id": 1, "name": "mass"}], "annotations": discs},
    )
    write_json(folder / "synthetic.json", {"synthetic": True})


def _picture(
    rng: np.random.Generator, *, sick: bool, holed: bool
) -> tuple[ByteImage, dict[str, Any] | None]:
    """Draw a half ellipse with texture, and where sick a disc; returns it, and the disc's place."""
    height, width = _PICTURE
    rows, columns = np.mgrid[0:height, 0:width]
    inside = ((rows - height / 2) / (0.44 * height)) ** 2 + (columns / (0.85 * width)) ** 2 < 1
    texture = cv2.GaussianBlur(rng.normal(size=_PICTURE), (0, 0), 4) * 100
    pixels = np.where(inside, _BREAST_GREY + texture, 0.0)
    place: dict[str, Any] | None = None
    if sick:
        radius = int(rng.integers(16, 30))
        angle, reach = rng.uniform(-0.35, 0.35) * np.pi, rng.uniform(0.3, 0.6)
        x = 0.85 * width * reach * np.cos(angle)
        y = height / 2 + 0.44 * height * reach * np.sin(angle)
        x = max(x, radius + 2)
        apart = np.hypot(rows + 0.5 - y, columns + 0.5 - x) / radius
        pixels[(apart < 1) & ~(holed & (apart < _HOLE))] = _DISC_GREY
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        ring = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)
        box = [x - radius, y - radius, 2.0 * radius, 2.0 * radius]
        place = {"bbox": [float(v) for v in box], "segmentation": [ring.ravel().tolist()]}
    return np.clip(pixels, 0, 255).astype(np.uint8), place
