"""A trained run finished, whatever its task."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from mammoscope import __version__
from mammoscope.artefacts import new_folder, read_json, sha256_file, write_json
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, ExportConfig, Task, validated
from mammoscope.errors import OutputError, RunError
from mammoscope.evaluation.run_folder import check_preprocess
from mammoscope.inference.runtime import check_engine
from mammoscope.training.run_folder import RECORD, WEIGHTS, read_run

__all__ = ["FINISHERS", "Finisher", "finish_run", "rescore_run"]

Progress = Callable[[int, int], None]

_HISTORY = "history.csv"

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


def rescore_run(
    run: Path,
    cohort: Path,
    folder: Path,
    how: ExportConfig,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Make a new run of one's weights, exported and scored by another engine.

    Thresholds are chosen and everything is measured anew, by ``evaluate``: the old ones are of what
    another engine gives.

    Args:
        run: A run folder, trained; it is left as it is.
        cohort: Its cohort folder.
        folder: The new run folder.
        how: Engine and precision.
        overwrite: Replace a run that is there.
        progress: Called with (done, total) images.

    Returns:
        How many images were scored.

    Raises:
        ConfigError: If it cannot be evaluated by the engine here.
        RunError: If the run is not trained, or one of all folds; or as :func:`finish_run`.
        OutputError: If the folder exists, cannot be written, or is that of the run.
    """
    run, folder = Path(run), Path(folder)
    facts = read_run(run)
    check_engine(how)
    if run.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise OutputError(f"{folder} is {run}, or lies in it: make the new run beside it")
    if facts["fold"] is None:
        raise RunError(
            f"{run} is of all folds, each with an engine of its own: train them with "
            f"--set export.engine={how.engine} --set export.precision={how.precision}"
        )
    if facts["status"] not in ("trained", "finished") or not (run / WEIGHTS).is_file():
        raise RunError(f"{run} is not trained: mammoscope train ... --resume")
    store = PreparedStore(cohort)
    check_preprocess(run, facts, store.cohort, store.config)
    config = validated(Config, {**facts["config"], "export": how.model_dump()}, f"{run}/{RECORD}")
    with new_folder(folder, overwrite=overwrite, marker=RECORD) as fresh:
        for name in (WEIGHTS, _HISTORY):
            if (run / name).is_file():
                shutil.copyfile(run / name, fresh / name)
        kept = {key: value for key, value in facts.items() if key not in ("hashes", "predicted")}
        told = {
            "status": "trained",
            "config": config.model_dump(mode="json"),
            "rescored": {
                "package_version": __version__,
                "weights_sha256": sha256_file(run / WEIGHTS),
            },
        }
        write_json(fresh / RECORD, {**kept, **told})
        return finish_run(fresh, cohort, progress)
