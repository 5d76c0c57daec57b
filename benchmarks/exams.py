"""A four-view exam with an untrained model, as the benchmarks of speed have it, and plain scripts.

An exam is read, prepared and scored three ways: by the bundle, as ``mammoscope predict`` does; by
torch eager with our own reader and its check of headers, image by image; and by torch eager after
what public notebooks of the RSNA challenge do with a file. Where the bundle computes in bfloat16,
torch eager with our own reader does so too, a fourth way. Memory is kept from
image to image, as ``predict`` keeps it; in one process that quickens the other ways as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from numpy.typing import NDArray

from mammoscope.bundle import MODEL_FILE, write_bundle
from mammoscope.cohort.synthetic import write_exam
from mammoscope.config import EngineName, ExportConfig, Precision, PreprocessConfig
from mammoscope.export.graph import add_settings
from mammoscope.inference import Predictor, load_bundle
from mammoscope.inference.runtime import ENGINE_KEY
from mammoscope.preprocessing import PreparedImage, Preprocessor, SourceImage
from mammoscope.processes import keep_memory
from mammoscope.types import GreyImage
from measure import Spread, in_turn
from notebook import notebook

__all__ = ["ExamTimes", "add_engine", "engine_of", "untrained"]

_WAYS = ("ours", "eager", "notebook + eager", "eager, bfloat16")
_POINT = {
    "name": "best_f1",
    "target": "best_f1",
    "threshold": 0.5,
    "confidence": 0.95,
    **dict.fromkeys(
        ("sensitivity", "specificity", "precision", "f1"),
        dict.fromkeys(("value", "low", "high")),
    ),
}


def untrained(home: Path, model: Path, task: str, config: PreprocessConfig) -> Predictor:
    """Make a bundle of one exported model, and load it on as many threads as torch has."""
    companion = {
        "task": task,
        "name": "untrained",
        "file": MODEL_FILE,
        "synthetic": True,
        "preprocess": config.model_dump(),
        "threshold": 0.5,
        "target": "none",
        "matching": {} if task == "detect" else None,
    }
    write_bundle(
        home / "bundle",
        {MODEL_FILE: model},
        name="untrained",
        package_version="0",
        synthetic=True,
        intended_use="Timing only.",
        input={"preprocess": config.model_dump()},
        eligibility={},
        operating_points={"primary": "best_f1", "image": [_POINT], "breast": [_POINT]},
        companions=() if task == "classify" else (companion,),
    )
    return load_bundle(home / "bundle", threads=torch.get_num_threads())


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add what computes ours to a benchmark's options."""
    engines, precisions = get_args(EngineName), get_args(Precision)
    parser.add_argument("--engine", default=engines[0], choices=engines, help="export.engine")
    parser.add_argument("--precision", default=precisions[0], choices=precisions)


def engine_of(options: argparse.Namespace, model: Path) -> ExportConfig:
    """Write what computes it into a graph, and return it."""
    how = ExportConfig(engine=options.engine, precision=options.precision)
    add_settings(model, ENGINE_KEY, how.model_dump())
    return how


class ExamTimes:
    """Times an exam of four views, files to result, and the engines alone.

    Args:
        home: A folder for the exam.
        predictor: Ours; :func:`untrained`.
        in_torch: The same network in torch eager: prepared pixels in, (H, W) uint8.
        how: What computes ours.
        scale: Share of the detector's full size.
    """

    def __init__(
        self,
        home: Path,
        predictor: Predictor,
        in_torch: Callable[[GreyImage], Any],
        how: ExportConfig,
        scale: float = 1.0,
    ) -> None:
        keep_memory()
        self._folder = home / "exam"
        write_exam(self._folder, seed=1, cancer=True, scale=scale)
        self._predictor = predictor
        self._config = predictor.bundle.input.preprocess
        self._in_torch = in_torch
        self._how = how
        self._images = predictor.read(self._folder).images

    def prepared(self) -> list[PreparedImage]:
        """Read and prepare the views one after the other."""
        preprocessor = Preprocessor(self._config)
        return [
            preprocessor.prepare(
                SourceImage(image.path, self._config), image.laterality, image.pixel_aspect
            )
            for image in self._images
        ]

    def rows(self, engine: Callable[[GreyImage], Any], repeats: int) -> list[dict[str, object]]:
        """Time all ways in turn.

        Args:
            engine: The exported model alone: prepared pixels in.
            repeats: Rounds.
        """
        size = (self._config.height, self._config.width)
        pixels = [prepared.pixels for prepared in self.prepared()]

        def eager() -> None:
            self._predictor.read(self._folder)
            for prepared in self.prepared():
                self._in_torch(prepared.pixels)

        def plain() -> None:
            for image in self._images:
                self._in_torch(notebook(image.path, size))

        def ours() -> None:
            self._predictor(self._predictor.read(self._folder))

        exam: dict[str, Callable[[], None]] = dict(zip(_WAYS, (ours, eager, plain), strict=False))
        alone: dict[str, Callable[[], None]] = {
            "ours": partial(_each, engine, pixels),
            "eager": partial(_each, self._in_torch, pixels),
        }
        if self._how.precision == "bfloat16":
            for ways in (exam, alone):
                ways["eager, bfloat16"] = partial(_in_bfloat16, ways["eager"])
        return [
            _row("exam, files to result", in_turn(exam, repeats)),
            _row("floor: engine alone", in_turn(alone, repeats)),
        ]


def _in_bfloat16(way: Callable[[], None]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        way()


def _each(way: Callable[[GreyImage], Any], images: list[NDArray[Any]]) -> None:
    for image in images:
        way(image)


def _row(what: str, times: dict[str, list[float]]) -> dict[str, object]:
    """Return milliseconds of each way, and round by round how many times ours they took."""
    row: dict[str, object] = {"what": what}
    row |= {f"{name}, ms": Spread.of(times[name]) if name in times else "-" for name in _WAYS}
    for name in _WAYS[1:]:
        if name == "eager, bfloat16" and name not in times:
            continue
        ratios = [b / a for a, b in zip(times["ours"], times.get(name, ()), strict=False)]
        row[f"{name} / ours"] = Spread.of(ratios) if ratios else "-"
    return row
