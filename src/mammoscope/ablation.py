"""Ladders: the same recipe trained rung by rung, measured in one table beside what others found.

A ladder's folder holds ``ladder.json``, a run folder for each rung of each arm, and a cohort
folder for each rung that needs images prepared otherwise. A rerun finishes what is left.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.artefacts import (
    check_output,
    claim_output,
    new_folder,
    read_json,
    sha256_file,
    sha256_json,
    write_atomically,
    write_json,
)
from mammoscope.cohort.manifest import read_cohort
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import (
    Config,
    EvaluationConfig,
    LadderConfig,
    PreprocessConfig,
    Rung,
    check_many,
    rung_settings,
    validated,
)
from mammoscope.config.loading import read_yaml
from mammoscope.errors import ConfigError, MammoscopeError, RunError
from mammoscope.evaluation import evaluate_run
from mammoscope.export import finish_run
from mammoscope.folds import claim_folds, combine_folds, train_fold
from mammoscope.models import check_backbone
from mammoscope.training import check_folds, check_start, fit
from mammoscope.training.run_folder import differing_keys

__all__ = ["climb", "ladder_tables"]

FORMAT_VERSION = 3
RECORD = "ladder.json"
_RUN_RECORD = "run.json"
_TABLES = ("manifest.parquet", "splits.parquet", "rejects.csv", "cohort.json", "findings.parquet")
# What a run of its own would leave anew: another rung measures it otherwise.
_NOT_COPIED = shutil.ignore_patterns("checkpoints", "report", "operating_points.json")
_MEASURES = ("f1", "sensitivity", "precision", "accuracy", "auroc")
#: Columns of the tables in a terminal, and what they tell.
_THEIRS = {
    "evaluation F1": "evaluation_f1",
    "test F1": "test_f1",
    **{name: name for name in ("sensitivity", "precision", "accuracy")},
}
_OURS = {"test F1": "test_f1", "AUROC": "auroc", "heat on lesion": "pointing"}

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Step:
    """One run to make."""

    arm: str
    rung: Rung
    config: Config
    preprocess: PreprocessConfig
    run: Path


def climb(
    cohort: Path,
    out: Path,
    ladder: LadderConfig,
    overrides: Iterable[str] = (),
    *,
    arms: Iterable[str] = (),
    fold: int | None = 0,
    workers: int = 2,
    overwrite: bool = False,
    told: Told = lambda _: None,
) -> dict[str, Any]:
    """Train, export and evaluate every rung of a ladder; what is finished already is kept.

    Args:
        cohort: A cohort folder, prepared and split.
        out: The ladder's folder.
        ladder: What to train.
        overrides: Settings on top of every rung's, such as ``train.epochs=3``, or ``ARM:`` and
            one of an arm's.
        arms: Which arms; all by default.
        fold: The fold that validates; ``None`` trains every fold in turn, and each rung is their
            mean, its evaluation figures those of out-of-fold predictions.
        workers: Processes that prepare images.
        overwrite: Replace a ladder that is there.
        told: Called with a sentence when a rung begins.

    Returns:
        What ``ladder.json`` holds.

    Raises:
        ConfigError: If a rung's settings are not accepted, or its network cannot be built at its
            images' size; all are checked before work starts.
        CohortError: If the cohort is not prepared or split, or a part of it lacks a class.
        RunError: If weights that a rung starts from do not fit, the ladder that is there is of
            another cohort or fold, or a rung of it was made with other settings.
        OutputError: If the folder holds something else, or cannot be written.
    """
    cohort, out = Path(cohort), Path(out)
    own = PreparedStore(cohort).config
    steps = _steps(out, ladder, own, list(overrides), list(arms))
    _check_start(cohort, steps, fold, overwrite=overwrite)
    record = _record(cohort, ladder, fold)
    rows = _claimed(out, record, overwrite=overwrite)
    cohorts = {_digest(own): cohort}
    for step in steps:
        if (digest := _digest(step.preprocess)) not in cohorts:
            folder = out / "cohorts" / _cohort_name(ladder, step)
            told(f"prepare images for rung {step.rung.name} of {step.arm}")
            cohorts[digest] = _prepared(cohort, folder, step.preprocess, workers)
    made: list[_Step] = []
    for step in steps:
        told(f"rung {step.rung.name} of {step.arm}")
        where = cohorts[_digest(step.preprocess)]
        rows[step.arm, step.rung.name] = _climbed(step, made, where, fold, ladder.level)
        places = [(arm, rung.name) for arm in ladder.arms for rung in ladder.rungs]
        record["rungs"] = [rows[place] for place in places if place in rows]
        write_json(out / RECORD, record)
        made.append(step)
    return record


def _digest(preprocess: PreprocessConfig) -> str:
    return sha256_json(preprocess.model_dump(mode="json"))


def ladder_tables(record: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Return ``ladder.json`` as tables that fit a terminal: titles, and rows with a header first.

    For each arm what the paper's table has, its figures in brackets below ours, and then what is
    ours alone, with intervals.
    """
    tables = []
    for arm in dict.fromkeys(rung["arm"] for rung in record["rungs"]):
        rungs = [rung for rung in record["rungs"] if rung["arm"] == arm]
        tables += [
            (arm, [["rung", *_THEIRS], *([_says(r), *_cells(r, _THEIRS, _beside)] for r in rungs)]),
            (
                f"{arm}, with intervals",
                [["rung", *_OURS], *([_says(r), *_cells(r, _OURS, _between)] for r in rungs)],
            ),
        ]
    return tables


def _says(rung: dict[str, Any]) -> str:
    return str(rung["says"] or rung["name"])


def _cells(
    rung: dict[str, Any], names: dict[str, str], told: Callable[[dict[str, Any], str], str]
) -> list[str]:
    return [told(rung, name) for name in names.values()]


def _beside(rung: dict[str, Any], name: str) -> str:
    """Our value, and the published one in brackets."""
    value, theirs = rung["measured"][name]["value"], rung["published"].get(name)
    text = "none" if value is None else f"{value:.3f}"
    return text if theirs is None else f"{text} [{theirs:.3f}]"


def _between(rung: dict[str, Any], name: str) -> str:
    """Our value and its interval."""
    measured = rung["measured"][name]
    text = "none" if measured["value"] is None else f"{measured['value']:.3f}"
    if measured.get("low") is None:
        return text
    return f"{text} ({measured['low']:.3f} to {measured['high']:.3f})"


def _steps(
    out: Path, ladder: LadderConfig, own: PreprocessConfig, overrides: list[str], arms: list[str]
) -> list[_Step]:
    """Resolve and check all rungs before any is trained."""
    strange = [arm for arm in arms if arm not in ladder.arms]
    if strange:
        raise ConfigError(f"--arm {strange[0]} is not one of {', '.join(ladder.arms)}")
    steps = []
    for arm in arms or ladder.arms:
        for place, rung in enumerate(ladder.rungs):
            config, prepare_with = rung_settings(ladder, arm, place, overrides)
            check_backbone(config.model.backbone)
            check_many(config, "ablate")
            values = {**own.model_dump(), **prepare_with}
            preprocess = validated(PreprocessConfig, values, f"rung {rung.name} of {arm}, prepare")
            run = out / arm / f"{place + 1}-{rung.name}"
            steps.append(_Step(arm, rung, config, preprocess, run))
    return steps


def _check_start(cohort: Path, steps: list[_Step], fold: int | None, *, overwrite: bool) -> None:
    """Check, before anything is claimed or prepared, that every rung not yet begun can begin.

    Raises:
        MammoscopeError: If one cannot, of the first fault's kind; every fault is listed.
    """
    seen: set[str] = set()
    faults: dict[str, tuple[type[MammoscopeError], str]] = {}
    for step in steps:
        # Augmentation and evaluation build no network.
        parts = (step.config.model_dump(mode="json", include={"task", "model", "train"}),)
        digest = sha256_json([*parts, step.preprocess.model_dump(mode="json")])
        begun = (step.run / _RUN_RECORD).is_file() and not overwrite
        if begun or digest in seen:
            continue
        seen.add(digest)
        try:
            if fold is None:
                check_folds(cohort, step.config, step.preprocess)
            else:
                check_start(cohort, step.config, fold, step.preprocess)
        except MammoscopeError as error:
            # What is wrong with the cohort is so for every rung, and is said once.
            faults.setdefault(str(error), (type(error), f"{step.rung.name} of {step.arm}"))
    if faults:
        kind = next(iter(faults.values()))[0]
        raise kind("; ".join(f"rung {where}: {text}" for text, (_, where) in faults.items()))


def _cohort_name(ladder: LadderConfig, step: _Step) -> str:
    """Name the folder of a rung's images; arms that have none of their own share them."""
    # Neither name has a dot: one arm's folder is no other rung's.
    return f"{step.arm}.{step.rung.name}" if "prepare" in ladder.arms[step.arm] else step.rung.name


def _record(cohort: Path, ladder: LadderConfig, fold: int | None) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "kind": "ladder",
        "package_version": __version__,
        "synthetic": bool(read_cohort(cohort)["synthetic"]),
        "title": ladder.title,
        "source": ladder.source,
        "level": ladder.level,
        "cohort": {
            f"{name}_sha256": sha256_file(cohort / f"{name}.parquet")
            for name in ("manifest", "splits")
        },
        "fold": "all" if fold is None else fold,
        "settings": {
            "recipe": read_yaml(ladder.recipe),
            "arms": ladder.arms,
            "rungs": {rung.name: _settings(rung) for rung in ladder.rungs},
        },
        "rungs": [],
    }


def _settings(rung: Rung) -> dict[str, Any]:
    """Return what a rung changes."""
    recipe = None if rung.recipe is None else read_yaml(rung.recipe)
    return {"recipe": recipe, "prepare": rung.prepare, "settings": rung.settings}


def _claimed(
    out: Path, record: dict[str, Any], *, overwrite: bool
) -> dict[tuple[str, str], dict[str, Any]]:
    """Take an empty folder, or check that the ladder in it is this one.

    Arms may be added to it, and rungs at its top.

    Returns:
        The rows that are there, by arm and rung.

    Raises:
        OutputError: If the folder holds something else, or cannot be written.
        RunError: If its ladder is another.
    """
    if overwrite or not (out / RECORD).is_file():
        check_output(out, overwrite=overwrite, marker=RECORD)
        claim_output(out, overwrite=overwrite, marker=RECORD)
        write_json(out / RECORD, record)
        return {}
    earlier = read_json(out / RECORD, RunError)
    if earlier.get("kind") != "ladder" or earlier.get("format_version") != FORMAT_VERSION:
        raise RunError(
            f"{out / RECORD} is of kind {earlier.get('kind')!r}, format "
            f"{earlier.get('format_version')!r}; this version reads ladder format {FORMAT_VERSION}"
        )
    theirs, ours = earlier["settings"], record["settings"]
    shared = {
        "recipe": ours["recipe"],
        "arms": {name: ours["arms"].get(name) for name in theirs["arms"]},
        "rungs": dict(list(ours["rungs"].items())[: len(theirs["rungs"])]),
    }
    differing = [
        key
        for section in ("cohort", "fold", "level")
        for key in differing_keys(earlier[section], record[section], section)
    ] + differing_keys(theirs, shared, "ladder")
    if differing:
        raise RunError(
            f"{out} holds another ladder: {', '.join(differing)} differ; climb this one in a "
            "folder of its own, or --overwrite"
        )
    return {(row["arm"], row["name"]): row for row in earlier["rungs"]}


def _prepared(cohort: Path, folder: Path, config: PreprocessConfig, workers: int) -> Path:
    """Prepare the cohort's images otherwise, in a cohort folder with the same tables."""
    for name in _TABLES:
        if (cohort / name).is_file():
            with write_atomically(folder / name) as temporary:
                shutil.copyfile(cohort / name, temporary)
    prepare(folder, config, workers=workers)
    return folder


def _climbed(
    step: _Step, made: list[_Step], cohort: Path, fold: int | None, level: str
) -> dict[str, Any]:
    """Train, export and evaluate one rung, or what is left of that."""
    there = (step.run / _RUN_RECORD).is_file()
    twin = next((other for other in made if _trains_alike(step, other)), None)
    if not there and twin is not None:
        _copy_run(twin.run, step)
        there = True
    _train(step, cohort, fold, there=there)
    report = evaluate_run(step.run, step.config.evaluation, overwrite=True).report
    metrics = report["levels"][level]["metrics"]
    measured = {"test_f1" if name == "f1" else name: metrics[name] for name in _MEASURES}
    measured["evaluation_f1"] = report["validation"][level]["metrics"]["f1"]
    measured["pointing"] = _pointing(report)
    return {
        "arm": step.arm,
        "name": step.rung.name,
        "says": step.rung.says,
        "run": str(step.run),
        "copied_from": None if twin is None else str(twin.run),
        "measured_on": report["measured_on"],
        "threshold": report["levels"][level]["threshold"],
        "measured": measured,
        "published": step.rung.published,
    }


def _train(step: _Step, cohort: Path, fold: int | None, *, there: bool) -> None:
    """Train and score one fold, or all and their mean, or what is left of that."""
    if fold is None:
        for each in claim_folds(cohort, step.run, step.config, resume=there):
            train_fold(cohort, step.run, step.config, each)
        combine_folds(step.run, cohort)
        return
    fit(cohort, step.run, step.config, fold, resume=there)
    if read_json(step.run / _RUN_RECORD, RunError)["status"] != "finished":
        finish_run(step.run, cohort)


def _pointing(report: dict[str, Any]) -> dict[str, Any]:
    """Return the share of lesions on which the heat points, as an estimate."""
    groups = report["pointing"]["groups"]
    if not groups:
        return {"value": None, "low": None, "high": None}
    hit: dict[str, Any] = groups[0]["exact"]["hit"]
    return hit


def _trains_alike(step: _Step, other: _Step) -> bool:
    """Say whether two rungs differ in what is measured only; calibration is in the graph."""
    kept = {"calibration", "prevalence", "breast_score"}
    left_out = {"evaluation": set(EvaluationConfig.model_fields) - kept}
    ours, theirs = (s.config.model_dump(exclude=left_out) for s in (step, other))
    return step.preprocess == other.preprocess and ours == theirs


def _copy_run(source: Path, step: _Step) -> None:
    """Take a finished run over, to be measured in another way."""
    with new_folder(step.run, overwrite=False, marker=_RUN_RECORD) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True, ignore=_NOT_COPIED)
        # Of the run, and of each fold where it has several.
        for record in (fresh / _RUN_RECORD, *fresh.glob(f"*/{_RUN_RECORD}")):
            facts = read_json(record, RunError)
            facts["config"]["evaluation"] = step.config.evaluation.model_dump(mode="json")
            write_json(record, facts)
