"""Cross-validation: a run of each fold, out-of-fold predictions of them all, and their ensemble.

    RUN/fold-0 … fold-K     whole runs, each validated on the fold that it did not see
    RUN/model.onnx          one graph, the mean of the folds' logits
    RUN/predictions.parquet val rows by the fold that did not see them, test rows by that graph
    RUN/run.json            as of any run, with ``folds``, ``members`` and ``ensemble``

Logits are averaged, and the score stays a map of one logit. Calibration and thresholds are fitted
on out-of-fold logits, each of a single fold, and put on the mean, which scatters less: what is
noise of one fold cancels. On the mean the calibration is therefore too flat, and a high threshold
calls fewer than it was chosen to. To pool first and calibrate the pool would be right (Rahaman
and Thiery, NeurIPS 2021), but no image is left that no fold has learnt from. So the run, its
report and its bundle say that these are figures of single folds; a test split, which the mean
scores, shows what they are worth.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammoscope.artefacts import claim_output, sha256_file, write_json
from mammoscope.bundle import MODEL_FILE
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation.metrics import auroc
from mammoscope.evaluation.run_folder import checked_predictions
from mammoscope.evaluation.tables import own_logits, read_predictions
from mammoscope.export import check_difference, finish_run
from mammoscope.graphs import write_mean
from mammoscope.inference import Scorer
from mammoscope.predictions import predicted
from mammoscope.scores import settle_scores
from mammoscope.training import check_folds, check_run, fit, fold_folder, read_run

__all__ = ["claim_folds", "combine_folds", "fold_folder", "is_finished", "train_fold"]

Progress = Callable[[int, int], None]

_RECORD = "run.json"
_TIMED_IMAGES = 12
_GRAPHS = ("the graph of all folds", "the mean of their logits")


def claim_folds(
    cohort: Path, run: Path, config: Config, *, resume: bool = False, overwrite: bool = False
) -> list[int]:
    """Check the input of every fold, and take the run folder for a new or a stopped run.

    Returns:
        The cohort's folds.

    Raises:
        CohortError: If an image is not prepared, or folds lack a class; every fault is listed.
        ConfigError: If the label or backbone is unknown, the network cannot be trained as
            configured, or weights to start from have learnt from images that validate, or lie in
            the run that is to be replaced.
        OutputError: If a new run's folder is not empty, or cannot be written.
        RunError: If there is nothing to resume, or it differs, the keys are named; or weights to
            start from do not fit.
    """
    cohort, run = Path(cohort), Path(run)
    start = config.weights
    if overwrite and start is not None and start.resolve().is_relative_to(run.resolve()):
        # Each fold reads them when it begins, and by then they would be gone.
        raise ConfigError(f"{config.weights_key}={start} lies in {run}, which is to be replaced")
    folds, facts = check_folds(cohort, config, fresh=not resume)
    if check_run(run, facts, resume=resume, overwrite=overwrite) is None:
        claim_output(run, overwrite=overwrite, marker=_RECORD)
        write_json(run / _RECORD, facts)
    return folds


def is_finished(run: Path, fold: int) -> bool:
    """Say whether a fold of a run was trained and scored before."""
    own = fold_folder(run, fold)
    return (own / _RECORD).is_file() and read_run(own)["status"] == "finished"


def train_fold(
    cohort: Path,
    run: Path,
    config: Config,
    fold: int,
    progress: Progress | None = None,
    told: Callable[[dict[str, float]], None] | None = None,
) -> str:
    """Train and score one fold, go on with it where it stopped, or leave it where it is done.

    Args:
        cohort: The cohort folder.
        run: The folder of all folds, from :func:`claim_folds`.
        config: As it was claimed with.
        fold: Which one validates.
        progress: Called with (done, total) images while they are scored.
        told: Called after each epoch with its row of ``history.csv``.

    Returns:
        One line for people.
    """
    own = fold_folder(run, fold)
    begun = (own / _RECORD).is_file()
    done = fit(cohort, own, config, fold, resume=begun, progress=told)
    if begun and read_run(own)["status"] == "finished":
        return f"{done.summary}; done before"
    finish_run(own, cohort, progress)
    return done.summary


def combine_folds(run: Path, cohort: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Make one run of the folds: mean graph, out-of-fold predictions, test predictions.

    Args:
        run: The folder of all folds, every one finished.
        cohort: Its cohort folder.
        progress: Called with (done, total) test images.

    Returns:
        The run's record.

    Raises:
        RunError: If a fold is not finished, was edited or lacks an image, or the mean graph
            does not give the mean.
        BundleError: If it gives a score that is not finite.
    """
    run = Path(run)
    facts = read_run(run)
    if facts["status"] == "finished":
        return facts
    members = {fold: read_run(fold_folder(run, fold)) for fold in facts["folds"]}
    store = PreparedStore(cohort)
    rows = store.rows().filter(pl.col("laterality").is_not_null())
    held_out, tests = _gathered(run, members, rows)
    write_mean([fold_folder(run, fold) / MODEL_FILE for fold in members], run / MODEL_FILE)
    begun = time.perf_counter()
    scorer = _checked_scorer(run, members, store, held_out)
    label = str(facts["config"]["train"]["label"])
    test = predicted(rows.filter(pl.col("split") == "test"), store, scorer, label, progress)
    _check_mean(test, tests)
    level = facts["config"]["model"].get("level", "image")
    facts |= {
        "epochs": sum(int(member["epochs"]) for member in members.values()),
        "best": {"auroc": auroc(*own_logits(held_out, level)[:2])},
        "members": [
            {key: member[key] for key in ("fold", "epochs", "best", "counts", "hashes")}
            for member in members.values()
        ],
        "ensemble": _cost(run, list(members), store, held_out["image_id"].to_list()),
        "notes": sorted({note for member in members.values() for note in member["notes"]}),
        "timings_s": {
            "train": sum(member["timings_s"]["train"] for member in members.values()),
            "score": round(time.perf_counter() - begun, 2),
        },
        "waiting": _waiting(list(members.values())),
    }
    settle_scores(run, facts, pl.concat([held_out, test]))
    return facts


def _waiting(members: list[dict[str, Any]]) -> float:
    """Return the share of all folds' training in which there was no batch to work on."""
    seconds = [float(member["timings_s"]["train"]) for member in members]
    waited = sum(float(m["waiting"]) * own for m, own in zip(members, seconds, strict=True))
    return round(waited / max(sum(seconds), 1e-9), 4)


def _gathered(
    run: Path, members: dict[int, dict[str, Any]], rows: pl.DataFrame
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Return out-of-fold rows of all folds, and each fold's test rows, all images there."""
    held_out, tests = [], []
    for fold, member in members.items():
        folder = fold_folder(run, fold)
        path = checked_predictions(folder, member)
        if sha256_file(folder / MODEL_FILE) != member["hashes"][MODEL_FILE]:
            raise RunError(f"{folder / MODEL_FILE} was edited: it is not the one of run.json")
        validation, test = read_predictions(path, "val"), read_predictions(path, "test")
        for found, wanted, name in (
            (validation, rows.filter(pl.col("fold") == fold), "validation"),
            (test, rows.filter(pl.col("split") == "test"), "test"),
        ):
            missing = wanted.join(found, on="image_id", how="anti")["image_id"]
            if len(missing):
                raise RunError(
                    f"{path} lacks {len(missing)} of the {wanted.height} {name} images, "
                    f"{missing[0]} first: remove {folder} and resume"
                )
        scores = ("score", "breast_score", "exam_score")
        held_out.append(validation.drop(*scores, strict=False))
        tests.append(test.sort("image_id"))
    return pl.concat(held_out), tests


def _checked_scorer(
    run: Path, members: dict[int, dict[str, Any]], store: PreparedStore, held_out: pl.DataFrame
) -> Scorer:
    """Load the mean graph and compare it with its parts on images of every fold."""
    scorer = Scorer(run / MODEL_FILE)
    names = held_out.group_by("fold", maintain_order=True).first()["image_id"]
    images = [store.read(name) for name in names]
    parts = [Scorer(fold_folder(run, fold) / MODEL_FILE)(images).logit for fold in members]
    check_difference(np.mean(parts, axis=0) - scorer(images).logit, *_GRAPHS)
    return scorer


def _check_mean(test: pl.DataFrame, tests: list[pl.DataFrame]) -> None:
    """Compare the mean graph's test logits with those that the folds gave before."""
    for name in (column for column in test.columns if column.endswith("logit")):
        parts = [part[name].to_numpy() for part in tests]
        difference = np.mean(parts, axis=0) - test.sort("image_id")[name].to_numpy()
        check_difference(difference, *_GRAPHS)


def _cost(run: Path, folds: list[int], store: PreparedStore, names: list[str]) -> dict[str, Any]:
    """Measure size and time per image of the mean graph beside those of one fold's."""
    paths = {"": run / MODEL_FILE, "fold_": fold_folder(run, folds[0]) / MODEL_FILE}
    scorers = {kind: Scorer(path) for kind, path in paths.items()}
    taken: dict[str, list[float]] = {kind: [] for kind in paths}
    # One image before the clock starts; in turn, so that what slows the machine slows both.
    for number, name in enumerate([*names[:1], *names[:_TIMED_IMAGES]]):
        image = store.read(name)
        for kind, scorer in scorers.items():
            begun = time.perf_counter()
            scorer([image])
            if number:
                taken[kind].append(1000 * (time.perf_counter() - begun))
    return {
        "folds": len(folds),
        "combines": "mean of logits",
        **{f"{kind}bytes": path.stat().st_size for kind, path in paths.items()},
        **{f"{kind}ms_per_image": round(statistics.median(taken[kind]), 3) for kind in paths},
    }
