"""Verb that runs the whole path on synthetic exams: demo."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

PATIENTS = 320
SIZE = (256, 128)
SETTINGS = (
    "model.backbone=baseline_cnn",
    "model.pretrained=false",
    "train.epochs=14",
    "train.lr=7e-4",
    "train.ema=0.97",
    "train.gradient_clip=0.5",
    "train.precision=auto",
    "train.patience=0",
)
# An exam that no stage has seen: another seed than the cohort's. In the first ones from 20,000 on
# the model misses a cancer, as it may, and a page is to have something to show.
UNSEEN_SEED = 20_003


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to fill.")] = Path("demo"),
    patients: Annotated[int, typer.Option(min=40, help="Synthetic patients.")] = PATIENTS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, split and training.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a demo.")] = False,
) -> None:
    """Run the whole path on synthetic exams: DICOM files to a scored exam and a report.

    Example: `mammoscope demo --out demo`
    """
    from mammoscope.artefacts import claim_output, write_json
    from mammoscope.cli import bundle, cohort, run
    from mammoscope.cli.console import console, errors
    from mammoscope.cohort.synthetic import write_exam
    from mammoscope.evaluation import read_report

    begun = time.perf_counter()
    claim_output(out, overwrite=overwrite, marker="demo.json")
    write_json(out / "demo.json", {"kind": "demo", "synthetic": True, "seed": seed})
    errors.print("The whole path on SYNTHETIC exams, enriched with cancers.", style="bold")
    cohort.synth(out / "dicom", patients=patients, seed=seed, workers=workers)
    cohort.ingest(out / "dicom", out / "cohort", workers=workers)
    cohort.prepare(out / "cohort", size=f"{SIZE[0]}x{SIZE[1]}", workers=workers)
    cohort.split(out / "cohort", seed=seed)
    settings = [*SETTINGS, f"train.seed={seed}"]
    run.train(out / "cohort", out / "run", settings=settings)
    run.evaluate(out / "run")
    bundle.export(out / "run", out / "bundle", name="synthetic-demo")
    write_exam(out / "exam", seed=UNSEEN_SEED + seed, cancer=True)
    bundle.predict_studies(out / "bundle", [out / "exam"], out / "results")
    command = shlex.quote("mammoscope" if shutil.which("mammoscope") else sys.argv[0])
    auroc = read_report(out / "run").report["levels"]["image"]["metrics"]["auroc"]
    console.print(
        f"\nSYNTHETIC held-out patients, exported model: image AUROC "
        f"{auroc['value']:.3f} (95 % interval {auroc['low']:.3f} to {auroc['high']:.3f}), "
        f"whole path in {time.perf_counter() - begun:.0f} s.\n"
        "Research software: nothing here says how it does on women.\n\n"
        f"  Report            {out / 'run' / 'report' / 'index.html'}\n"
        f"  Score your study  {command} predict {out / 'bundle'} PATH/TO/STUDY --out results\n"
        f"  Open the page     {command} serve {out / 'bundle'}    "
        f"then drop the files of {out / 'exam'} on it",
        soft_wrap=True,
    )
