"""Verbs that make, fill and describe a cohort."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from mammoscope.errors import ConfigError

__all__ = ["CohortArgument", "parse_size", "register"]

CohortArgument = Annotated[Path, typer.Argument(help="Cohort folder.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(synth)
    app.command()(ingest)
    app.command()(merge)
    app.command()(prepare)
    app.command()(split)
    app.command()(explore)


def parse_size(text: str) -> tuple[int, int]:
    """Read ``HEIGHTxWIDTH``.

    Raises:
        ConfigError: If it is not of that form.
    """
    match = re.fullmatch(r"(\d+)[xX×](\d+)", text.strip())
    if match is None:
        raise ConfigError(f"--size {text!r} is not of the form HEIGHTxWIDTH, such as 1024x512")
    return int(match[1]), int(match[2])


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    prevalence: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of patients with cancer; 0.041 is the real one."),
    ] = 0.35,
    scale: Annotated[
        float, typer.Option(min=0.07, max=1, help="Size as a share of the detector's.")
    ] = 0.25,
    difficulty: Annotated[
        float, typer.Option(min=0, max=1, help="1: lesions as published; 0: large clear masses.")
    ] = 0.2,
    conspicuity: Annotated[
        float, typer.Option(min=0, max=4, help="Factor on the contrast of cancers; 0 hides them.")
    ] = 1.0,
    profile: Annotated[
        Literal["rsna", "clinical"],
        typer.Option(
            help="rsna: stripped headers and train.csv; clinical: complete headers, a study "
            "folder per patient and labels.csv."
        ),
    ] = "rsna",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    overwrite: Overwrite = False,
) -> None:
    """Write synthetic screening exams as DICOM files, with their table.

    Example: `mammoscope synth exams --patients 120 --seed 0`
    """
    from mammoscope.artefacts import claim_output
    from mammoscope.cli.console import stage
    from mammoscope.cohort.synthetic import write_cohort

    claim_output(out, overwrite=overwrite, marker="synthetic.json")
    with stage("synth") as current:
        made = write_cohort(
            out,
            patients=patients,
            seed=seed,
            prevalence=prevalence,
            scale=scale,
            difficulty=difficulty,
            conspicuity=conspicuity,
            profile=profile,
            workers=workers,
            progress=current.advance,
        )
        current.note = (
            f"{made.images} synthetic DICOM files of {made.patients} patients, "
            f"{made.cancer_patients} with cancer, in {out}"
        )


def ingest(
    src: Annotated[Path, typer.Argument(help="Data set folder.", show_default=False)],
    cohort: CohortArgument,
    source: Annotated[
        str,
        typer.Option(
            help="Layout: rsna, cbis-ddsm, vindr-mammo, inbreast, mini-mias, cmmd, cdd-cesm, "
            "mini-ddsm, folder, or auto to recognise it."
        ),
    ] = "auto",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, such as eligibility.implant=refuse."),
    ] = None,
    faults: Annotated[
        Literal["repair", "drop", "refuse"] | None,
        typer.Option(help="What is done with findings that are wrong; repair unless set."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read headers.")] = 2,
    overwrite: Overwrite = False,
) -> None:
    """Look at every image of a data set and write its manifest, findings and rejects.

    Example: `mammoscope ingest rsna-breast-cancer-detection cohort`
    """
    from mammoscope.cli.console import stage
    from mammoscope.cohort.ingest import ingest as run
    from mammoscope.config import IngestConfig, load_settings

    given = [] if faults is None else [f"faults={faults}"]
    resolved = load_settings(IngestConfig, config, [*given, *(settings or [])])
    with stage("ingest") as current:
        made = run(
            src,
            cohort,
            source,
            resolved,
            overwrite=overwrite,
            workers=workers,
            progress=current.advance,
        )
        kind = _kind(made.synthetic, made.partly_synthetic)
        repaired = f" (repaired: {_counts(made.repaired)})" if made.repaired else ""
        current.note = (
            f"{made.images} {kind} of {made.patients} patients accepted from source "
            f"{made.source}, {made.positives} images with cancer, {made.findings} findings"
            f"{repaired}; refused: {_counts(made.rejects) or 'none'}"
        )


def merge(
    out: Annotated[Path, typer.Argument(help="Cohort folder to write.", show_default=False)],
    cohorts: Annotated[
        list[Path], typer.Argument(help="Two or more cohort folders.", show_default=False)
    ],
    patients: Annotated[
        Literal["auto", "same", "apart"],
        typer.Option(
            help="Whether equal patient names mean one woman; auto takes those of different data "
            "sets apart."
        ),
    ] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Make one cohort of several; the column source says where each image is from.

    Prepared images and splits are not carried over.

    Example: `mammoscope merge both cohort-rsna cohort-vindr`
    """
    from mammoscope.cli.console import stage
    from mammoscope.cohort.merge import merge as run

    with stage("merge", bar=False) as current:
        made = run(out, cohorts, patients=patients, overwrite=overwrite)
        kind = _kind(made.synthetic, made.partly_synthetic)
        prefixed = f"; {', '.join(made.prefixed)} prefixed with it" if made.prefixed else ""
        twice = f"; {made.duplicates} that were there twice refused" if made.duplicates else ""
        current.note = (
            f"{made.images} {kind} of {made.patients} patients with {made.findings} findings, "
            f"source {' or '.join(made.sources)}{prefixed}{twice}"
        )


def prepare(
    cohort: CohortArgument,
    size: Annotated[
        str | None, typer.Option(help="Height x width of the prepared images; 1024x512 unless set.")
    ] = None,
    bits: Annotated[int | None, typer.Option(help="8 or 16 bits a pixel; 8 unless set.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of preprocessing settings.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A preprocessing setting: key=value. May be repeated."),
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="store (for training), png or jpeg.")
    ] = "store",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    overwrite: Overwrite = False,
) -> None:
    """Decode, window, crop, orient and fit every image. A rerun finishes what is left.

    Example: `mammoscope prepare cohort --size 1024x512 --set voi_index=1 --workers 8`
    """
    from mammoscope.cli.console import stage
    from mammoscope.cohort.prepare import prepare as run
    from mammoscope.cohort.store import FORMATS
    from mammoscope.config import PreprocessConfig, load_settings
    from mammoscope.processes import keep_memory

    given = [] if bits is None else [f"bits={bits}"]
    if size is not None:
        given += [
            f"{side}={n}" for side, n in zip(("height", "width"), parse_size(size), strict=True)
        ]
    preprocess = load_settings(PreprocessConfig, config, [*given, *(overrides or [])])
    size_text = (
        f"{preprocess.height} x {preprocess.width}" if preprocess.resize else "their own size"
    )
    if workers == 1:
        # This process does what workers do otherwise.
        keep_memory()
    with stage("prepare") as current:
        made = run(
            cohort,
            preprocess,
            workers=workers,
            file_format=file_format,
            overwrite=overwrite,
            progress=current.advance,
        )
        earlier = f", {made.found} were prepared already" if made.found else ""
        refused = f", {made.refused} refused (see rejects.csv)" if made.refused else ""
        warned = f", {made.warned} with a warning" if made.warned else ""
        current.note = (
            f"{made.prepared} images of {size_text} in {cohort / FORMATS[file_format][0]}"
            f"{warned}{earlier}{refused}"
        )


def split(
    cohort: CohortArgument,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the training patients.")] = 5,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of patients held out.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    by: Annotated[
        str | None, typer.Option(help="Column of the table whose train and test are honoured.")
    ] = None,
    train_only: Annotated[
        list[str] | None,
        typer.Option(help="A source whose patients are only trained on; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Deal patients to a test split and folds, stratified by cancer and site.

    Example: `mammoscope split cohort --folds 5 --test 0.2 --seed 0`
    """
    from mammoscope.cli.console import stage
    from mammoscope.cohort.splits import split_cohort

    with stage("split") as current:
        made = split_cohort(
            cohort,
            folds=folds,
            test=test,
            seed=seed,
            by=by,
            train_only=train_only or [],
            overwrite=overwrite,
        )
        held_out = made.table.filter(made.table["split"] == "test")
        in_training = made.table.filter(made.table["split"] == "train")
        trained = in_training.filter(in_training["fold"].is_not_null())
        extra = in_training.filter(in_training["fold"].is_null())
        current.note = (
            f"{trained['patients'].sum()} patients in {trained.height} folds, "
            f"{held_out['patients'].sum()} held out ({held_out['positives'].sum()} of "
            f"{held_out['images'].sum()} images with cancer)"
        )
        if extra.height:
            current.note += f"; {extra['patients'].sum()} more for training only"
        if held_out["images"].sum() and not held_out["positives"].sum():
            current.note += "; with none of cancer held out, nothing can be evaluated"


def explore(
    cohort: CohortArgument,
    sample: Annotated[
        int, typer.Option(min=0, help="Prepared images read for grey values; 0 reads none.")
    ] = 1000,
    overwrite: Overwrite = False,
) -> None:
    """Write explore/index.html and explore.json: what is in a cohort, and its biases.

    Works before prepare too, then without pictures.

    Example: `mammoscope explore cohort --sample 1000`
    """
    from mammoscope.cli.console import stage
    from mammoscope.cohort.explore import explore as run

    with stage("explore") as current:
        made = run(cohort, sample=sample, overwrite=overwrite, progress=current.advance)
        about, biases = made.report["about"], made.report["biases"]
        kind = _kind(made.report["synthetic"], made.report["partly_synthetic"])
        current.note = (
            f"{about['images']} {kind} of {about['patients']} patients, "
            f"{len(biases['found'])} biases found by {len(biases['tests'])} tests: {made.path}"
        )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _kind(synthetic: bool, partly: bool) -> str:
    if partly:
        return "images, some of them synthetic,"
    return "synthetic images" if synthetic else "images"
