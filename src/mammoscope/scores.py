"""A run's logits made into its scores: calibrated on validation, in its graph and its predictions.

The graph's arithmetic and the column ``score`` come from the same nodes, so that report, bundle
and service give one score for one logit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from mammoscope.artefacts import sha256_file, write_atomically, write_json
from mammoscope.bundle import MODEL_FILE
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import run_evaluation_config
from mammoscope.evaluation.attributes import read_cohort_table
from mammoscope.evaluation.calibration import Calibration, fit_calibration, prevalence_of
from mammoscope.evaluation.run_folder import check_splits, checked_predictions, read_run
from mammoscope.evaluation.tables import (
    Level,
    own_logits,
    read_predictions,
    with_breast_score,
)
from mammoscope.graphs import write_calibrated, write_scores
from mammoscope.inference.runtime import open_graph
from mammoscope.types import Floats

__all__ = ["calibrate_run", "scores_of", "settle_scores"]

_PREDICTIONS = "predictions.parquet"
_JOINED: dict[Level, str] = {"breast": "breast_logit", "exam": "exam_logit"}


def settle_scores(run: Path, facts: dict[str, Any], predictions: pl.DataFrame) -> Calibration:
    """Calibrate a run's logits, write them into graph and predictions, and call the run finished.

    Args:
        run: The run folder, with its graph.
        facts: What ``run.json`` is to hold; completed here.
        predictions: Rows with ``split``, ``logit`` and ``cancer``; of a breast or exam model also
            ``breast_logit`` and ``exam_logit``, which are calibrated by breasts and by exams.
    """
    config = EvaluationConfig.model_validate(facts["config"]["evaluation"])
    validation = predictions.filter(pl.col("split") == "val")
    calibration, joined, notes = _fitted(validation, config)
    before = facts.get("hashes", {}).get(_PREDICTIONS)
    # Not finished until graph, predictions and their hashes are of one mind.
    write_json(run / "run.json", {**facts, "status": "trained"})
    model, path = run / MODEL_FILE, run / _PREDICTIONS
    write_calibrated(model, model, calibration, joined)
    scored = _with_score(predictions, "logit", calibration, model)
    for level, name in _JOINED.items():
        if level in joined:
            scored = _with_score(scored, name, joined[level], model)
    if "breast" not in joined:
        scored = with_breast_score(scored, config.breast_score)
    with write_atomically(path) as temporary:
        scored.write_parquet(temporary)
    facts |= {
        "status": "finished",
        "calibration": {
            **calibration.as_dict(),
            "asked": config.calibration,
            "notes": notes,
            **({"joined": {k: made.as_dict() for k, made in joined.items()}} if joined else {}),
        },
        "predicted": {split: int((scored["split"] == split).sum()) for split in ("val", "test")},
        "hashes": {MODEL_FILE: sha256_file(model), path.name: sha256_file(path)},
    }
    if facts["hashes"][path.name] != before:
        # Thresholds of other scores.
        (run / "operating_points.json").unlink(missing_ok=True)
    write_json(run / "run.json", facts)
    return calibration


def _fitted(
    validation: pl.DataFrame, config: EvaluationConfig
) -> tuple[Calibration, dict[str, Calibration], list[str]]:
    """Fit images, and breasts and exams where the model scores them, each on its own logits."""
    logit, label, patient = own_logits(validation, "image")
    calibration, notes = fit_calibration(logit, label, patient, config, config.prevalence)
    image_share = float(label.mean()) if label.size else 0.0
    joined: dict[str, Calibration] = {}
    for level, name in _JOINED.items():
        if name not in validation.columns:
            continue
        logit, label, patient = own_logits(validation, level)
        share = float(label.mean()) if label.size else 0.0
        asked = prevalence_of(share, image_share, config.prevalence)
        joined[level], more = fit_calibration(logit, label, patient, config, asked)
        notes += [f"By {level}: {note}" for note in more]
    return calibration, joined, notes


def _with_score(
    rows: pl.DataFrame, logit: str, calibration: Calibration, model: Path
) -> pl.DataFrame:
    """Put the scores of a column of logits beside it."""
    name = logit.replace("logit", "score")
    score = pl.Series(name, scores_of(rows[logit].to_numpy(), calibration, model))
    rows = rows.drop(name, strict=False)
    return rows.insert_column(rows.columns.index(logit) + 1, score)


def scores_of(logit: Floats, calibration: Calibration, model: Path) -> Floats:
    """Return scores (N,) of a graph's logits (N,), by its engine and the nodes that end it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scores.onnx"
        write_scores(model, path, calibration)
        (scores,) = open_graph(path).run(["score"], {"logit": logit.astype(np.float32)})
    return np.asarray(scores, np.float64)


def _check_classifier(run: Path, facts: dict[str, Any]) -> None:
    # Runs of earlier versions name no task.
    task = facts["config"].get("task", "classify")
    if task != "classify":
        raise RunError(f"{run} is of task {task}: calibration is of a classifier's logits")


def calibrate_run(run: Path, overrides: Iterable[str]) -> Calibration:
    """Fit another calibration to a finished run; no image is scored anew.

    Thresholds chosen before are removed: they are of other scores.

    Args:
        run: The run folder.
        overrides: Settings of section evaluation, such as ``evaluation.prevalence=0.005``.

    Raises:
        RunError: If the run is not finished or no classifier's, its predictions or graph were
            edited, or an image is missing: a count taken anew would hide it.
        ConfigError: If a setting is not accepted.
    """
    run = Path(run)
    facts = read_run(run)
    _check_classifier(run, facts)
    config = run_evaluation_config(run, overrides)
    path = checked_predictions(run, facts)
    model = run / MODEL_FILE
    if not model.is_file() or sha256_file(model) != facts["hashes"][MODEL_FILE]:
        raise RunError(f"{model} is missing or was edited: its SHA-256 is not that of run.json")
    check_splits(path, facts, read_cohort_table(facts, None))
    predictions = pl.concat([read_predictions(path, "val"), read_predictions(path, "test")])
    facts["config"]["evaluation"] = config.model_dump(mode="json")
    return settle_scores(run, facts, predictions)
