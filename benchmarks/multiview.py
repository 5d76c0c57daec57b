"""Whether views judged together beat the mean of single-view scores, on synthetic images.

    mammoscope synth dicom --patients 900 --seed 5 --scale 0.12 --conspicuity 0.75
    mammoscope ingest dicom cohort
    mammoscope prepare cohort --size 128x64
    mammoscope split cohort --test 0.6
    python benchmarks/multiview.py cohort runs

An image model is trained first. From its weights an image, a breast and an exam model are
trained on for as many epochs each. No view is left out of training, so every one has seen every
training image equally often, but for an epoch's last batch where that is not full. With --from
image breast and exam models begin where the second image model has ended instead. With --last
each of the three is then trained on for that many epochs at a tenth of the rate and with nothing
frozen, whatever --joint says: end to end. They are compared on the test split: AUROC by breast
and by exam, and the paired difference to the mean of the image model's scores. Other ways to join
that model's scores are shown beside it. A run that is there already, with the same settings, is
not trained again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

from mammoscope.config import Config, EvaluationConfig, load_config
from mammoscope.evaluation import compare_runs, evaluate_run
from mammoscope.evaluation.paired import Pair, area_difference
from mammoscope.evaluation.tables import Level, labelled, read_predictions, units
from mammoscope.export import finish_run
from mammoscope.training import fit, read_run
from measure import leave

# Breasts and exams per step, so that a step of each model sees about as many images.
_BATCH = {"image": 16, "breast": 7, "exam": 4}
_BASE = "mean of single-view scores"


def settings(level: str, epochs: int, seed: int, overrides: list[str]) -> Config:
    """Return the settings that all models share, but for the level."""
    return load_config(
        None,
        [
            f"model.level={level}",
            "model.backbone=baseline_cnn",
            "model.pretrained=false",
            f"train.epochs={epochs}",
            f"train.batch_size={_BATCH[level]}",
            "train.lr=1e-3",
            "train.ema=0.97",
            "train.gradient_clip=0.5",
            "train.precision=auto",
            "train.patience=0",
            # Breast and exam models would by default be shown fewer of the images.
            "augment.drop_view=0",
            "train.most_views=100",
            f"train.seed={seed}",
            *overrides,
        ],
    )


def trained(cohort: Path, run: Path, config: Config) -> float:
    """Train, predict and evaluate a run, or what is left of that; returns the seconds it took.

    Raises:
        RunError: If the run that is there was made with other settings.
    """
    begun = time.perf_counter()
    fit(cohort, run, config, resume=(run / "run.json").is_file())
    if read_run(run)["status"] != "finished":
        finish_run(run, cohort)
    evaluate_run(run, overwrite=True)
    return time.perf_counter() - begun


def ways(rows: pl.DataFrame, level: Level) -> dict[str, pl.DataFrame]:
    """Return the ways to make a breast's or exam's score of an image model's."""
    breast = ("patient_id", "exam_id", "laterality")
    logit = pl.col("logit").mean().over(breast)
    highest = pl.col("score").max().over(breast)
    either = 1 - (1 - pl.col("score")).product().over(breast)
    made = {
        _BASE: rows,
        "mean of single-view logits": rows.with_columns(breast_score=1 / (1 + (-logit).exp())),
        "highest single-view score": rows.with_columns(breast_score=highest),
        "any view, as if independent": rows.with_columns(breast_score=either),
    }
    return {name: units(table, level) for name, table in made.items()}


def trained_on(
    options: argparse.Namespace, starts: dict[str, Path], epochs: int, last: str = ""
) -> dict[str, Path]:
    """Train a model of each level on from a run; returns the runs."""
    runs = {}
    for level, start in starts.items():
        run = runs[level] = options.runs / f"{level}{last}-{options.seed}"
        own = [f"model.weights={start / 'weights.safetensors'}", *options.overrides]
        if level != "image":
            own += options.joint
        if level == "exam" and options.facts:
            own.append("model.facts=[age, density, implant]")
        if last:
            own += ["train.frozen_epochs=0", "train.lr=1e-4"]
        seconds = trained(options.cohort, run, settings(level, epochs, options.seed, own))
        print(f"{run.name}: {seconds:.0f} seconds")
    return runs


def told(runs: dict[str, Path], name: str, out: Path) -> None:
    """Print and leave how the scores of three runs compare."""
    config = EvaluationConfig()
    rows = [row for level in ("breast", "exam") for row in compared(runs, level, config)]
    leave(name, "Views judged together, SYNTHETIC images", rows, out)
    for level in ("breast", "exam"):
        print(compare_runs(runs["image"], runs[level], level)["sentence"])


def compared(runs: dict[str, Path], level: Level, config: EvaluationConfig) -> list[dict[str, Any]]:
    """Return a row per way to score, each against the mean of single-view scores."""
    tables = ways(read_predictions(runs["image"] / "predictions.parquet", "test"), level)
    for name in ("breast", "exam"):
        rows = read_predictions(runs[name] / "predictions.parquet", "test")
        # Rows of one split stand in one order whatever the model.
        own = rows.drop("breast_score", "exam_score", strict=False)
        tables[f"{name} model"] = units(rows, level)
        tables[f"{name} model, mean of its image scores"] = units(own, level)
    first, wanted = labelled(tables[_BASE])
    made = []
    for name, table in tables.items():
        second, found = labelled(table)
        # Patient, exam, side and label.
        if not found.drop("score").equals(wanted.drop("score")):
            raise SystemExit("the runs' test rows differ")
        pair = Pair(first.score, second.score, first.label, first.patient)
        _, area, difference = area_difference(pair, config)
        made.append(
            {
                "level": level,
                "score": name,
                "AUROC": _interval(area["value"], area),
                "less the first": _interval(difference["value"], difference["delong"], sign="+"),
                "bootstrap": _interval(None, difference["bootstrap"], sign="+"),
                "p": difference["delong"]["p"],
            }
        )
    return made


def _interval(value: float | None, ends: dict[str, Any], sign: str = "") -> str:
    if ends["low"] is None:
        return ""
    shown = "" if value is None else f"{value:{sign}.3f} "
    return f"{shown}({ends['low']:{sign}.3f} to {ends['high']:{sign}.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cohort", type=Path, help="prepared and split")
    parser.add_argument("runs", type=Path, help="folder for the runs")
    parser.add_argument("--first", type=int, default=8, help="epochs of the first image model")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each model after it")
    parser.add_argument(
        "--from",
        dest="begin",
        choices=("first", "image"),
        default="first",
        help="the image model from which breast and exam models are trained on",
    )
    parser.add_argument("--last", type=int, default=0, help="epochs of each, end to end, after it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument(
        "--joint", action="append", default=[], help="a setting of the breast and exam models only"
    )
    parser.add_argument(
        "--facts", action="store_true", help="tell the exam model age, density and implant"
    )
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    first = options.runs / f"first-{options.seed}"
    begins = settings("image", options.first, options.seed, options.overrides)
    print(f"{first.name}: {trained(options.cohort, first, begins):.0f} seconds")
    begin = first if options.begin == "first" else options.runs / f"image-{options.seed}"
    starts = {"image": first, "breast": begin, "exam": begin}
    runs = trained_on(options, starts, options.epochs)
    told(runs, "multiview", options.out)
    if options.last:
        told(trained_on(options, runs, options.last, "-last"), "multiview-last", options.out)


if __name__ == "__main__":
    sys.exit(main())
