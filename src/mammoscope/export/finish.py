"""A trained run finished, whatever its task."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from mammoscope.artefacts import read_json
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Task
from mammoscope.errors import RunError
from mammoscope.evaluation.run_folder import check_preprocess

__all__ = ["FINISHERS", "Finisher", "finish_run"]

Progress = Callable[[int, int], None]

#: The module of each task whose ``finish`` exports and scores.
FINISHERS: dict[Task, str] = {
    "classify": "mammoscope.export.classification",
    "segment": "mammoscope.export.segmentation",
    "segment-then-classify": "mammoscope.export.cutouts",
    "detect": "mammoscope.export.detection",
    "anomaly": "mammoscope.export.anomaly",
}


class Finisher(Protocol):
    """Exports the best weights and scores with the graph; see :func:`finish_run`."""

    def __call__(
        self,
        run: Path,
        facts: dict[str, Any],
        store: PreparedStore,
        rows: pl.DataFrame,
        progress: Progress | None,
    ) -> None:
        """Write ``model.onnx``, the tables of predictions and, last, the finished ``run.json``.

        Args:
            run: The run folder, trained.
            facts: What ``run.json`` holds; to be completed.
            store: The cohort's prepared images, prepared as those that were learnt from.
            rows: Which images are to be scored: the test split and the fold that validates.
            progress: Called with (done, total) images.
        """
        ...


def finish_run(run: Path, cohort: Path, progress: Progress | None = None) -> int:
    """Export the best weights and predict validation and test images with the graph.

    Args:
        run: The run folder, trained.
        cohort: Its cohort folder.
        progress: Called with (done, total) images.

    Returns:
        How many images were scored.

    Raises:
        RunError: If the cohort was prepared otherwise since training, or what the graph gives
            differs from the training graph's.
        BundleError: If the graph gives a score that is not finite.
    """
    run = Path(run)
    facts = read_json(run / "run.json", RunError)
    store = PreparedStore(cohort)
    check_preprocess(run, facts, store.cohort, store.config)
    rows = store.rows().filter(
        ((pl.col("split") == "test") | (pl.col("fold") == int(facts["fold"])))
        & pl.col("laterality").is_not_null()
    )
    # Runs of earlier versions name no task.
    task: Task = facts["config"].get("task", "classify")
    finish: Finisher = importlib.import_module(FINISHERS[task]).finish
    finish(run, facts, store, rows, progress)
    return rows.height
