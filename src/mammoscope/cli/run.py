"""Verbs of a run: train, rescore, calibrate, evaluate, explain, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from mammoscope.cohort.store import PreparedStore
    from mammoscope.config import Config
    from mammoscope.evaluation import Report
    from mammoscope.tracking import Tracker

__all__ = ["register"]

RunArgument = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(train)
    app.command()(rescore)
    app.command()(calibrate)
    app.command()(evaluate)
    app.command()(explain)
    app.command()(compare)


def train(
    cohort: Annotated[Path, typer.Argument(help="Cohort folder.", show_default=False)],
    run: RunArgument,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as train.lr=3e-4.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Safetensors file to start from, or the folder of a run of all folds: weights of "
            "the task's section.",
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Fold that validates; 0 by default.")
    ] = None,
    folds: Annotated[
        Literal["all"] | None,
        typer.Option(help="Train every fold in turn, and make one run of them."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run.")] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Write it down in MLflow; see section tracking.")
    ] = False,
) -> None:
    """Train a classifier, export its graph, and predict validation and test images with it.

    Example: `mammoscope train cohort run --set train.epochs=20 --set model.backbone=resnet18`
    """
    from mammoscope.config import check_many, load_config
    from mammoscope.processes import is_first_process

    if fold is not None and folds is not None:
        raise typer.BadParameter(
            "--fold trains one, --folds all trains every one: give one of them"
        )
    given = [*(settings or []), *(["tracking.enabled=true"] * track)]
    resolved = load_config(config, given)
    if weights is not None:
        named = f"{resolved.weights_key}={json.dumps(str(weights))}"
        resolved = load_config(config, [*given, named])
    if folds is not None:
        check_many(resolved, "train --folds all", tracks=True)
    first = not resolved.train.is_shared or is_first_process()
    # Checked before torch is loaded, which takes seconds.
    if not resume and first:
        _check_free(run, overwrite=overwrite)
    if folds is not None:
        _train_folds(cohort, run, resolved, resume=resume, overwrite=overwrite)
        return
    if not first:
        from mammoscope.training import fit

        # The first process tells, exports and scores.
        fit(cohort, run, resolved, fold or 0, resume=resume)
        return
    _train_fold(cohort, run, resolved, fold or 0, resume=resume, overwrite=overwrite)


def _train_fold(
    cohort: Path, run: Path, resolved: Config, fold: int, *, resume: bool, overwrite: bool
) -> None:
    """Train on one fold, score with the exported graph, and write it down where that is asked."""
    from functools import partial

    from mammoscope.cli.console import stage
    from mammoscope.export import finish_run
    from mammoscope.tracking import tracked
    from mammoscope.training import fit

    with tracked(resolved, cohort, run, fold=fold, resume=resume) as tracker:
        told = partial(tracker.epoch, run=run) if tracker else None
        with stage("train", bar=False) as current:
            made = fit(
                cohort, run, resolved, fold, resume=resume, overwrite=overwrite, progress=told
            )
            current.note = made.summary
        with stage("score") as current:
            images = finish_run(run, cohort, progress=current.advance)
            current.note = f"{images} validation and test images scored with the exported graph"
        _tracked_to(tracker, resolved, run)


def _check_free(run: Path, *, overwrite: bool) -> None:
    """Check that a run may be made here, and say how to go on with one that was stopped."""
    from mammoscope.artefacts import check_output, read_json
    from mammoscope.errors import OutputError, RunError

    if not overwrite and (run / "run.json").is_file():
        status = read_json(run / "run.json", RunError).get("status")
        if status != "finished":
            raise OutputError(
                f"{run} holds a run that was stopped: --resume goes on with it, --overwrite "
                "replaces it"
            )
    check_output(run, overwrite=overwrite, marker="run.json")


def _train_folds(cohort: Path, run: Path, config: Config, *, resume: bool, overwrite: bool) -> None:
    from functools import partial

    from mammoscope.cli.console import stage
    from mammoscope.folds import claim_folds, combine_folds, fold_folder, is_finished, train_fold
    from mammoscope.tracking import tracked

    with tracked(config, cohort, run, fold="all", resume=resume) as parent:
        with stage("check", bar=False) as current:
            folds = claim_folds(cohort, run, config, resume=resume, overwrite=overwrite)
            current.note = f"{len(folds)} folds, each with both classes on both sides"
        if parent is not None:
            parent.mark(run)
        for fold in folds:
            own = fold_folder(run, fold)
            with stage(f"fold {fold}", bar=False) as current:
                if parent is None or is_finished(run, fold):
                    current.note = train_fold(cohort, run, config, fold)
                    continue
                with tracked(config, cohort, own, fold=fold, resume=resume, parent=parent) as child:
                    told = partial(child.epoch, run=own) if child else None
                    current.note = train_fold(cohort, run, config, fold, told=told)
                    if child is not None and (missed := child.finish(own)):
                        current.note += f"; {missed}"
        with stage("combine") as current:
            facts = combine_folds(run, cohort, progress=current.advance)
            current.note = _combined(facts)
        _tracked_to(parent, config, run)


def _combined(facts: dict[str, Any]) -> str:
    """Say what a run of all folds is worth and what it costs."""
    cost = facts["ensemble"]
    return (
        f"out-of-fold AUROC {facts['best']['auroc']:.3f} of {facts['predicted']['val']} "
        f"images; one graph of {cost['folds']} folds: {cost['bytes'] / 1e6:.1f} MB and "
        f"{cost['ms_per_image']:.3g} ms per image, one fold {cost['fold_bytes'] / 1e6:.1f} MB "
        f"and {cost['fold_ms_per_image']:.3g} ms"
    )


def _tracked_to(tracker: Tracker | None, config: Config, run: Path) -> None:
    """Write a finished run down, and say where, or why it was not."""
    from mammoscope.cli.console import errors, stage

    if tracker is not None:
        with stage("track", bar=False) as current:
            current.note = tracker.finish(run) or f"run {tracker.run_id} of {tracker.uri}"
    elif config.tracking.enabled:
        errors.print("not tracked: pip install 'mammoscope[track]'", soft_wrap=True)


def rescore(
    run: RunArgument,
    cohort: Annotated[Path, typer.Argument(help="Its cohort folder.", show_default=False)],
    made: Annotated[Path, typer.Argument(help="Folder of the new run.", show_default=False)],
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="export.engine=NAME, export.precision=FORMAT; what is not set is the default.",
        ),
    ],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run.")] = False,
) -> None:
    """Make a run of another's weights, exported and scored by another engine.

    Example: `mammoscope rescore run cohort quick --set export.engine=openvino`
    """
    from mammoscope.artefacts import check_output
    from mammoscope.cli.console import stage
    from mammoscope.config import load_config
    from mammoscope.errors import ConfigError

    given = load_config(None, settings)
    if given.model_fields_set - {"export"}:
        raise ConfigError("rescore takes settings of section export only")
    check_output(made, overwrite=overwrite, marker="run.json")

    from mammoscope.export import rescore_run

    with stage("score") as current:
        images = rescore_run(
            run, cohort, made, given.export, overwrite=overwrite, progress=current.advance
        )
        current.note = (
            f"{images} validation and test images scored by {given.export.engine} in "
            f"{given.export.precision}. Next: mammoscope evaluate {made}"
        )


def calibrate(
    run: RunArgument,
    settings: Annotated[
        list[str],
        typer.Option(
            "--set", help="evaluation.calibration=METHOD, evaluation.prevalence=SHARE, or both."
        ),
    ],
) -> None:
    """Calibrate a finished run's scores anew: its graph and predictions; no image is scored again.

    Example: `mammoscope calibrate run --set evaluation.prevalence=0.005`
    """
    from mammoscope.cli.console import errors, stage
    from mammoscope.evaluation.run_folder import read_run
    from mammoscope.scores import calibrate_run

    with stage("calibrate", bar=False) as current:
        made = calibrate_run(run, settings)
        current.note = f"{made.sentence()} Next: mammoscope evaluate {run} --overwrite"
    # Another method than was asked for, or none, must not pass for it.
    for note in read_run(run)["calibration"]["notes"]:
        errors.print(note, soft_wrap=True)


def evaluate(
    run: RunArgument,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as evaluation.bootstrap=0.")
    ] = None,
    cohort: Annotated[
        Path | None, typer.Option(help="The run's cohort, if it was moved since training.")
    ] = None,
) -> None:
    """Measure a run from its predictions: report.json, index.html and figures.

    Example: `mammoscope evaluate run`
    """
    from rich.markup import escape

    from mammoscope.cli.console import console, errors, stage
    from mammoscope.evaluation import evaluate_run, run_evaluation_config
    from mammoscope.tracking import track_report

    config = run_evaluation_config(run, settings or [])
    with stage("evaluate", bar=False) as current:
        pictures = _pictures(run, cohort)
        report = evaluate_run(run, config, overwrite=overwrite, cohort=cohort, pictures=pictures)
        current.note = f"report in {report.path}"
    if missed := track_report(run, report.report):
        errors.print(missed, soft_wrap=True)
    _print_report(report)
    for sentence in report.report["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(sentence)}", soft_wrap=True, markup=True)
    console.print(f"Report: {report.path}")


def _pictures(run: Path, cohort: Path | None) -> PreparedStore | None:
    """Return the prepared images of a run's cohort, if they are there as the run saw them."""
    from mammoscope.cohort.store import PreparedStore
    from mammoscope.errors import MammoscopeError
    from mammoscope.evaluation.attributes import cohort_folder
    from mammoscope.evaluation.run_folder import read_run

    facts = read_run(run)
    try:
        store = PreparedStore(cohort_folder(facts, cohort))
    except MammoscopeError:
        # A report without pictures is right without them.
        return None
    return store if store.config.model_dump(mode="json") == facts["preprocess"] else None


def explain(
    run: RunArgument,
    cohort: Annotated[
        Path | None, typer.Option(help="The run's cohort, if it was moved since training.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Most images to look at.")] = 200,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an explanation.")] = False,
) -> None:
    """Compare heatmaps with known lesions, beside Grad-CAM, and hide what they point at.

    Example: `mammoscope explain run`
    """
    from mammoscope.artefacts import check_output
    from mammoscope.cli.console import console, print_rows, stage

    check_output(run / "explanation", overwrite=overwrite, marker="explanation.json")

    from mammoscope.attribution import explain_run, explanation_rows

    with stage("explain") as current:
        made = explain_run(
            run, cohort=cohort, images=images, overwrite=overwrite, progress=current.advance
        )
        current.note = f"{made.report['images']} images with a lesion"
    kind = "SYNTHETIC " if made.report["synthetic"] else ""
    print_rows(explanation_rows(made.report), f"Pointing game, {kind}positive images with a box")
    for note in made.report["notes"]:
        console.print(note, soft_wrap=True)
    console.print(f"Explanation: {made.path}", soft_wrap=True)


def compare(
    first: RunArgument,
    second: Annotated[Path, typer.Argument(help="Another run folder.", show_default=False)],
    level: Annotated[
        Literal["lesion", "image", "breast", "exam"] | None,
        typer.Option(
            help="What is found or scored; lesion of runs that find some, else image.",
            show_default=False,
        ),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="File to write the comparison to.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as evaluation.seed=1.")
    ] = None,
    cohort: Annotated[
        Path | None, typer.Option(help="The runs' cohort, if it was moved; of level lesion.")
    ] = None,
) -> None:
    """Compare two evaluated runs on the test split that they share: difference, interval, p.

    Example: `mammoscope compare run-a run-b --level breast`
    """
    from mammoscope.artefacts import write_json
    from mammoscope.cli.console import console, print_rows
    from mammoscope.config import load_config
    from mammoscope.errors import ConfigError
    from mammoscope.evaluation import (
        compare_lesions,
        compare_runs,
        comparison_rows,
        finds_lesions,
        lesion_comparison_rows,
    )

    given = load_config(None, settings or [])
    if given.model_fields_set - {"evaluation"}:
        raise ConfigError("compare takes settings of section evaluation only")
    level = level or ("lesion" if finds_lesions(first) and finds_lesions(second) else "image")
    if level == "lesion":
        made = compare_lesions(first, second, given.evaluation, cohort=cohort)
        rows = lesion_comparison_rows(made)
        counts = f"{made['n']} lesions on {made['images']} images of {made['patients']} patients"
    else:
        made = compare_runs(first, second, level, given.evaluation)
        rows = comparison_rows(made)
        counts = (
            f"{made['n']} {level}s of {made['patients']} patients, {made['positives']} positive"
        )
    if json_path is not None:
        write_json(json_path, made)
    kind = "SYNTHETIC " if made["synthetic"] else ""
    console.print(f"first   {first}\nsecond  {second}", soft_wrap=True)
    print_rows(rows, f"{kind}test split: {counts}")
    for text in (*made["notes"], made["sentence"]):
        console.print(text, soft_wrap=True)
    if json_path is not None:
        console.print(f"Comparison: {json_path}", soft_wrap=True)


def _print_report(report: Report) -> None:
    """Print the table of results; it says *synthetic* where the images are."""
    from mammoscope.cli.console import print_rows
    from mammoscope.evaluation import summary_rows

    kind = "SYNTHETIC images" if report.report["synthetic"] else "images"
    whose = "Held-out" if report.report["measured_on"] == "test" else "Validation (not held-out)"
    print_rows(summary_rows(report), f"{whose} patients, {kind}")
