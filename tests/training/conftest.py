"""Cohort folders as prepare and split leave them, small enough to train on in a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from mammoscope.artefacts import write_json
from mammoscope.cohort.manifest import write_manifest, write_rejects
from mammoscope.cohort.store import write_prepared
from mammoscope.config import Config, PreprocessConfig
from mammoscope.preprocessing import Geometry, PreparedImage

SIZE = (64, 32)

MakeCohort = Callable[..., Path]


def make_blob(cancer: int, seed: int) -> np.ndarray:
    """(64, 32) uint8: noise, with a bright disc where there is cancer."""
    rng = np.random.default_rng(seed)
    image = rng.integers(20, 90, SIZE)
    if cancer:
        y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
        centre = rng.integers(12, 52), rng.integers(8, 24)
        image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 36] = 240
    return image.astype(np.uint8)


@pytest.fixture
def blob() -> Callable[[int, int], np.ndarray]:
    """Draw one image: (cancer, seed) to (64, 32) uint8."""
    return make_blob


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep sums in one order whatever the machine: a resumed run is compared bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_cohort(folder: Path, rows: list[dict[str, Any]], splits: list[dict[str, Any]]) -> Path:
    """Write a cohort whose images are blobs, drawn by their place and label."""
    preprocess = PreprocessConfig(height=SIZE[0], width=SIZE[1])
    geometry = Geometry.fit(SIZE, (0, 0, SIZE[1], SIZE[0]), SIZE, mirrored=False)
    for number, row in enumerate(rows):
        blob = make_blob(int(row["cancer"] or 0), number)
        prepared = PreparedImage(blob, geometry, 0.5, 1.0, ("left",), 1.0)
        write_prepared(folder / "images", row["image_id"], prepared)
    write_manifest(folder, rows)
    write_rejects(folder, [])
    pl.DataFrame(splits).write_parquet(folder / "splits.parquet")
    write_json(
        folder / "cohort.json",
        {"format_version": 1, "kind": "cohort", "synthetic": True, "eligibility": {}},
    )
    write_json(
        folder / "images" / "prepare.json", {"preprocess": preprocess.model_dump(mode="json")}
    )
    return folder


@pytest.fixture(scope="session")
def make_cohort(tmp_path_factory: pytest.TempPathFactory) -> MakeCohort:
    """Write a prepared and split cohort of blobs."""

    def make(
        images: int = 24,
        *,
        folds: int = 2,
        cancer: Callable[[int], Any] | None = None,
        columns: Callable[[int], dict[str, Any]] = lambda _: {},
    ) -> Path:
        label = cancer or (lambda number: number // folds % 2)
        rows, splits = [], []
        for number in range(images):
            image_id, patient_id = f"i{number:03}", f"p{number:03}"
            rows.append(
                {
                    "image_id": image_id,
                    "patient_id": patient_id,
                    "exam_id": patient_id,
                    "path": f"{image_id}.dcm",
                    "laterality": "L",
                    "view": "CC",
                    "cancer": label(number),
                    **columns(number),
                }
            )
            held_out = number >= images - 4
            splits.append(
                {
                    "image_id": image_id,
                    "patient_id": patient_id,
                    "split": "test" if held_out else "train",
                    "fold": None if held_out else number % folds,
                }
            )
        return write_cohort(tmp_path_factory.mktemp("cohort"), rows, splits)

    return make


@pytest.fixture(scope="session")
def make_exams(tmp_path_factory: pytest.TempPathFactory) -> MakeCohort:
    """Write a prepared and split cohort of exams, every other with a blob in one breast."""

    def make(patients: int = 12, *, folds: int = 2, test: int = 2, change: Any = None) -> Path:
        rows: list[dict[str, Any]] = []
        splits: list[dict[str, Any]] = []
        for number in range(patients):
            held_out = number >= patients - test
            for side in "LR":
                for view in ("CC", "MLO", "MLO") if number % 3 == 0 else ("CC", "MLO"):
                    image_id = f"i{len(rows):03}"
                    sick = number // folds % 2 and side == "LR"[number % 2]
                    row = {
                        "image_id": image_id,
                        "patient_id": f"p{number:03}",
                        "exam_id": f"e{number:03}",
                        "path": f"{image_id}.dcm",
                        "laterality": side,
                        "view": view,
                        "cancer": int(sick),
                        "age": 50.0 + number if number % 4 else None,
                        "density": "ABCD"[number % 4] if number % 3 else None,
                        "implant": 0,
                    }
                    rows.append(row | (change(row) if change else {}))
                    splits.append(
                        {
                            "image_id": image_id,
                            "patient_id": row["patient_id"],
                            "split": "test" if held_out else "train",
                            "fold": None if held_out else number % folds,
                        }
                    )
        return write_cohort(tmp_path_factory.mktemp("exams"), rows, splits)

    return make


@pytest.fixture(scope="session")
def exams(make_exams: MakeCohort) -> Path:
    """Ten exams to train on in two folds, two to test on."""
    return make_exams()


@pytest.fixture(scope="session")
def cohort(make_cohort: MakeCohort) -> Path:
    """Twenty training images in two folds, four test images."""
    return make_cohort()


@pytest.fixture
def quick() -> Callable[..., Config]:
    """A configuration that trains an epoch in well under a second."""

    def configure(**train: Any) -> Config:
        values = {"epochs": 4, "batch_size": 4, "lr": 1e-3, "patience": 0, "seed": 3}
        values |= {"precision": "32-true", **train}
        model = {"backbone": "baseline_cnn", "dropout": 0.3}
        return Config.model_validate({"model": model, "train": values})

    return configure
