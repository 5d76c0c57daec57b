"""The bundle of an evaluated run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammoscope import __version__
from mammoscope.artefacts import new_folder, read_json, sha256_file
from mammoscope.bundle import (
    AGGREGATION,
    GRAPH_INPUTS,
    GRAPH_OUTPUTS,
    HIGHEST,
    IMAGE_SCORES,
    MODEL_FILE,
    TASK_INPUTS,
    TASK_OUTPUTS,
    Bundle,
    write_bundle,
)
from mammoscope.config import ExportConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.run_folder import frozen_points, read_report
from mammoscope.inference import AnomalyScorer, Scorer
from mammoscope.inference.detector import Detector
from mammoscope.results import INTENDED_USE

__all__ = ["export_bundle"]


def export_bundle(
    run: Path,
    folder: Path,
    *,
    companions: Sequence[Path] = (),
    name: str | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of an evaluated run, with companions that find, outline or judge beside it.

    Args:
        run: The run folder of what scores, trained and evaluated: a classifier, or a detector,
            segmenter or anomaly model.
        folder: The bundle folder.
        companions: Run folders of detectors, segmenters, second stages of a segmenter and anomaly
            models, one of each task at most, trained and evaluated.
        name: Name of the bundle; the run folder's by default.
        overwrite: Replace a bundle that is there.

    Raises:
        RunError: If a run is not finished, not evaluated, of a task that has no place here, or a
            file of it was edited; or if no thresholds could be chosen for its scores.
        OutputError: If the folder exists or cannot be written.
    """
    run = Path(run)
    facts = _finished(run)
    _check_scores(run, facts)
    chosen, report = _evaluated(run, facts)
    _check_points(run, chosen)
    beside = [_companion(Path(other)) for other in companions]
    if _task(facts) != "classify":
        own, model = _companion(run)
        beside.insert(0, ({**own, "file": MODEL_FILE}, model))
    _check_beside([companion for companion, _ in beside])
    predictions = pl.read_parquet(run / "predictions.parquet")
    with new_folder(folder, overwrite=overwrite, marker="bundle.json") as fresh:
        return write_bundle(
            fresh,
            {MODEL_FILE: run / MODEL_FILE, **{c["file"]: model for c, model in beside}},
            name=name or run.resolve().name,
            package_version=__version__,
            synthetic=bool(facts["synthetic"]) or any(c["synthetic"] for c, _ in beside),
            intended_use=INTENDED_USE,
            **_contract(run, facts, predictions),
            calibration=facts.get("calibration", {"method": "none"}),
            eligibility=facts["eligibility"],
            operating_points={
                **{key: chosen[key] for key in ("primary", "scored_by")},
                **chosen["points"],
            },
            reference=_reference(predictions, "test" if facts["fold"] is None else "val"),
            training=_training(facts, report),
            companions=[companion for companion, _ in beside],
        )


def _contract(run: Path, facts: dict[str, Any], predictions: pl.DataFrame) -> dict[str, Any]:
    """Return what the model that scores takes and gives, and how its scores are put together."""
    task, told = _task(facts), {"preprocess": facts["preprocess"]}
    if task == "classify":
        scorer = Scorer(run / MODEL_FILE, threads=1)
        level, taken = scorer.level, scorer.inputs
        inputs, output = GRAPH_INPUTS[level], GRAPH_OUTPUTS[level]
        told["facts"] = facts["config"]["model"].get("facts", []) if "facts" in taken else []
        aggregation = dict(AGGREGATION[level])
    else:
        level, inputs, output = "image", TASK_INPUTS[task], TASK_OUTPUTS[task]
        judges = task == "anomaly"
        taken = AnomalyScorer(run / MODEL_FILE, threads=1).inputs if judges else list(inputs)
        # A segmenter whose candidates score by the whole of them scores images as a detector does.
        by_candidates = facts.get("candidate_score") == "whole"
        image = IMAGE_SCORES["detect" if by_candidates else task]
        aggregation = {"image": image, **AGGREGATION["image"]}
    # As the thresholds of breasts were chosen: where they are a graph's, the column is its own.
    if level == "image" and "breast_score" in predictions.columns:
        aggregation["breast"] = HIGHEST
    taken_as = {name: words for name, words in inputs.items() if name in taken}
    return {
        "input": {"level": level, "inputs": taken_as, **told},
        "output": output,
        "aggregation": aggregation,
    }


def _check_scores(run: Path, facts: dict[str, Any]) -> None:
    """Refuse a run that gives images no score."""
    if _task(facts) == "segment-then-classify":
        first = facts["first_stage"]["run"]
        raise RunError(
            f"{run} tells apart what a segmenter outlines, and gives images no score: mammoscope "
            f"export {first} BUNDLE --with {run}"
        )


def _check_points(run: Path, chosen: dict[str, Any]) -> None:
    """Refuse a run whose evaluation could choose no threshold for what is scored."""
    lacking = [f"{level}s" for level in ("image", "breast") if not chosen["points"].get(level)]
    if lacking:
        raise RunError(
            f"{run} has no operating points of {' and '.join(lacking)}: its validation images do "
            "not hold what they are chosen on, with and without cancer. It can stand beside a "
            f"classifier: mammoscope export CLASSIFIER BUNDLE --with {run}"
        )


def _task(facts: dict[str, Any]) -> str:
    # Runs of earlier versions name no task.
    return str(facts["config"].get("task", "classify"))


def _companion(run: Path) -> tuple[dict[str, Any], Path]:
    """Return what a bundle says of a model that finds, outlines or judges, and where its graph is.

    Raises:
        RunError: If the run is a classifier's, or not evaluated.
    """
    facts = _finished(run)
    task = _task(facts)
    if task == "classify":
        raise RunError(
            f"{run} is of task classify: beside what scores can stand runs of the other tasks; a "
            "classifier scores, and comes first: mammoscope export CLASSIFIER BUNDLE --with RUN"
        )
    chosen, report = _evaluated(run, facts)
    if task == "anomaly":
        point = chosen["points"]["image"][0]
    elif task == "segment-then-classify":
        point = {"threshold": 0.0, "target": f"tells apart {', '.join(facts['classes'])}"}
    else:
        point = chosen["candidates"]
    matching = None
    if task == "detect":
        matching = Detector(run / MODEL_FILE).contract.matching.model_dump()
    told = {
        "task": task,
        "name": run.resolve().name,
        "file": "cutouts.onnx" if "first_stage" in facts else f"{task}.onnx",
        "synthetic": bool(facts["synthetic"]),
        "preprocess": facts["preprocess"],
        "threshold": float(point["threshold"]),
        "target": str(point["target"]),
        "matching": matching,
        "training": {
            "fold": facts["fold"],
            "counts": facts["counts"],
            "cohort": {k: v for k, v in facts["cohort"].items() if k != "path"},
            "run_hashes": facts["hashes"],
            "measured_on": report["measured_on"],
            **{key: report[key] for key in ("operating_points_sha256",) if key in report},
            **{key: facts[key] for key in ("first_stage",) if key in facts},
        },
    }
    return told, run / MODEL_FILE


def _check_beside(companions: list[dict[str, Any]]) -> None:
    """Refuse two models of one task, and a second stage without its first.

    Which of two finds would not be clear; and a second stage has learnt from what the first finds.
    """
    tasks = [companion["task"] for companion in companions]
    twice = sorted({task for task in tasks if tasks.count(task) > 1})
    if twice:
        raise RunError(f"two runs are of task {', '.join(twice)}: a bundle holds one of each")
    by_task = {companion["task"]: companion for companion in companions}
    if (second := by_task.get("segment-then-classify")) is not None:
        own = second["training"]["first_stage"]
        first = by_task.get("segment", {"training": {"run_hashes": {}}})
        if first["training"]["run_hashes"].get(MODEL_FILE) != own["model_sha256"]:
            raise RunError(
                f"{second['name']} tells apart what {own['run']} outlines, and that run is not in "
                f"the bundle: add --with {own['run']}"
            )


def _finished(run: Path) -> dict[str, Any]:
    """Return the record of a finished, unedited run."""
    facts = read_json(run / "run.json", RunError)
    if facts.get("status") != "finished":
        raise RunError(
            f"{run} is {facts.get('status')}, not finished: run mammoscope train --resume"
        )
    for file, expected in facts["hashes"].items():
        if sha256_file(run / file) != expected:
            raise RunError(f"{run / file} was edited: its SHA-256 is not {expected}")
    if "eligibility" not in facts:
        raise RunError(
            f"{run}/run.json names no eligibility rules: train on a cohort that has some"
        )
    return dict(facts)


def _evaluated(run: Path, facts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return operating points and report of an evaluated run; a second stage has no points."""
    chosen: dict[str, Any] = {}
    if _task(facts) == "segment-then-classify":
        if not (run / "report" / "report.json").is_file():
            raise RunError(f"{run} has no report: run mammoscope evaluate {run} first")
        report = read_report(run).report
    else:
        chosen, report = frozen_points(run)
    if report["run"]["hashes"] != facts["hashes"]:
        raise RunError(
            f"{run}/report is of other predictions: run mammoscope evaluate {run} --overwrite"
        )
    return chosen, report


def _training(facts: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Return what a bundle says of how it came about."""
    model = facts["config"]["model"]
    return {
        "task": _task(facts),
        # Runs of earlier versions name no engine: there was one.
        "engine": facts["config"].get("export", ExportConfig().model_dump()),
        **({"backbone": model["backbone"]} if _task(facts) == "classify" else {}),
        "fold": facts["fold"],
        **({"ensemble": facts["ensemble"]} if "ensemble" in facts else {}),
        "counts": facts["counts"],
        "cohort": {k: v for k, v in facts["cohort"].items() if k != "path"},
        "run_hashes": facts["hashes"],
        "operating_points_sha256": report["operating_points_sha256"],
        "measured_on": report["measured_on"],
        "measured": report["levels"],
    }


def _reference(predictions: pl.DataFrame, split: str) -> dict[str, Any]:
    """Distribution of scores, against which a service can watch for drift.

    They must be scores of the graph that is deployed: of a run of all folds it has scored the
    test split alone. Without one there is no reference.
    """
    rows = predictions.filter(pl.col("split") == split)
    if not rows.height:
        return {}
    shares = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    scores = rows["score"].to_numpy()
    views = rows["view"].value_counts().sort("view")
    return {
        "split": split,
        "images": rows.height,
        "score_quantiles": {str(share): float(np.quantile(scores, share)) for share in shares},
        "views": {str(view): int(count) for view, count in views.iter_rows()},
    }
