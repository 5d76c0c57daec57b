"""Verb that says what a folder is and checks its hashes: info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mammoscope.errors import BundleError, CohortError, MammoscopeError, RunError

if TYPE_CHECKING:
    from mammoscope.bundle import Companion
    from mammoscope.config import EligibilityConfig

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command()(info)


def info(
    path: Annotated[
        Path, typer.Argument(help="A cohort, run or bundle folder.", show_default=False)
    ],
) -> None:
    """Say what a cohort, run or bundle is, and check its hashes.

    Example: `mammoscope info bundle`
    """
    from rich.table import Table

    from mammoscope.cli.console import console

    for marker, describe in (
        ("cohort.json", _cohort),
        ("run.json", _run),
        ("bundle.json", _bundle),
    ):
        if (path / marker).is_file():
            title, facts = describe(path)
            break
    else:
        raise MammoscopeError(
            f"{path} holds neither cohort.json, run.json nor bundle.json: "
            "it is no cohort, run or bundle"
        )
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in facts.items():
        table.add_row(name, str(value))
    console.print(table)


def _check(path: Path, hashes: dict[str, str], error: type[MammoscopeError]) -> dict[str, str]:
    from mammoscope.artefacts import sha256_file

    facts = {}
    for name, expected in hashes.items():
        if not (path / name).is_file():
            raise error(f"{path / name} is missing")
        found = sha256_file(path / name)
        if found != expected:
            raise error(f"{path / name} was edited: its SHA-256 is {found}, not {expected}")
        facts[name] = f"sha256 {found[:12]} ✓"
    return facts


def _data(values: dict[str, Any]) -> str:
    if values.get("partly_synthetic"):
        return "partly synthetic"
    return "synthetic" if values.get("synthetic") else "not synthetic"


def _rules(rules: EligibilityConfig) -> str:
    """Say which rules differ from the defaults."""
    defaults = type(rules)()
    changed = [
        f"{key}={', '.join(value) if isinstance(value, tuple) else value}"
        for key, value in rules
        if value != getattr(defaults, key)
    ]
    return "the defaults, but " + ", ".join(changed) if changed else "the defaults"


def _prepared(path: Path, images: int) -> str:
    """Say which formats are prepared, how, and how many images are."""
    from mammoscope.artefacts import read_json
    from mammoscope.cohort.manifest import read_rejects
    from mammoscope.cohort.store import FORMATS, prepared_names, stage_of

    said = []
    rejects = read_rejects(path)
    for name, (folder, _) in FORMATS.items():
        marker = path / folder / "prepare.json"
        if not marker.is_file():
            continue
        how = read_json(marker, CohortError).get("preprocess", {})
        there = len(prepared_names(path / folder, name))
        refused = sum(reject.stage == stage_of(name) for reject in rejects)
        left = images - there - refused
        again = f"; {left} are left: run mammoscope prepare again" if left > 0 else ""
        size = f"{how.get('height')} x {how.get('width')}, {how.get('bits')} bits"
        said.append(f"{folder}: {there} of {images}, {size}{again}")
    return "\n".join(said) or "not yet"


def _cohort(path: Path) -> tuple[str, dict[str, Any]]:
    from mammoscope.cohort.manifest import (
        read_cohort,
        read_eligibility,
        read_rejects,
        source_roots,
    )

    values = read_cohort(path)
    return f"Cohort {path}", {
        "data": _data(values),
        "source": "\n".join(f"{name}, {root}" for name, root in source_roots(path).items()),
        "images": values["images"],
        "patients": values["patients"],
        "images with cancer": values["positives"],
        "findings": values["findings"],
        "eligibility": _rules(read_eligibility(path)),
        "refused": len(read_rejects(path)),
        "prepared": _prepared(path, values["images"]),
        "split": "yes" if (path / "splits.parquet").is_file() else "not yet",
        **_check(path, values["hashes"], CohortError),
    }


def _run(path: Path) -> tuple[str, dict[str, Any]]:
    from mammoscope.artefacts import read_json
    from mammoscope.config import network_of

    values = read_json(path / "run.json", RunError)
    if values.get("kind") != "run":
        raise RunError(f"{path}/run.json is of kind {values.get('kind')!r}, not 'run'")
    return f"Run {path}", {
        "data": _data(values),
        "status": values["status"],
        "task": values["config"].get("task", "classify"),
        "network": network_of(values["config"]),
        **_of_task(values["config"]),
        "fold": values["fold"] if "folds" not in values else f"all of {values['folds']}",
        "images": values.get("counts"),
        "best": values.get("best"),
        **_scoring(values),
        "evaluated": "yes" if (path / "report" / "report.json").is_file() else "not yet",
        **_check(path, values.get("hashes", {}), RunError),
    }


def _of_task(config: dict[str, Any]) -> dict[str, str]:
    """Say what a classifier scores, or whose findings a second stage tells apart."""
    task = config.get("task", "classify")
    if task == "segment-then-classify":
        return {"segmenter": str(config["stages"]["segmenter"])}
    return {"level": config["model"].get("level", "image")} if task == "classify" else {}


def _companion(one: Companion) -> str:
    """Say from which score on a companion speaks; a second stage speaks of all that is found."""
    from mammoscope.pages import written_score

    if one.task == "segment-then-classify":
        return f"{one.name}, {one.target}"
    return f"{one.name}, from {written_score(one.threshold, 4)} on ({one.target})"


def _scoring(values: dict[str, Any]) -> dict[str, str]:
    """Say what makes scores and how, and what an ensemble costs, where a run or bundle tells."""
    told = {}
    found, cost = values.get("calibration"), values.get("ensemble")
    engine = values.get("engine", values.get("config", {}).get("export"))
    if engine is not None:
        told["engine"] = f"{engine['engine']} in {engine['precision']}"
    if found is not None:
        told["calibration"] = str(found["method"])
        if found.get("prevalence") is not None:
            told["calibration"] += f", share of positive images {found['prevalence']:.2%}"
    if cost is not None:
        told["ensemble"] = (
            f"{cost['combines']} of {cost['folds']} folds\n"
            f"{cost['bytes'] / 1e6:.1f} MB, one fold {cost['fold_bytes'] / 1e6:.1f} MB\n"
            f"{cost['ms_per_image']:.3g} ms per image, one fold {cost['fold_ms_per_image']:.3g} ms"
        )
    return told


def _bundle(path: Path) -> tuple[str, dict[str, Any]]:
    from mammoscope.bundle import read_bundle
    from mammoscope.pages import written_score

    try:
        bundle = read_bundle(path)
    except BundleError as error:
        raise BundleError(f"bundle refused: {error}") from error
    points = bundle.operating_points
    return f"Bundle {bundle.name}", {
        "trained on": "synthetic images" if bundle.synthetic else "images",
        "intended use": bundle.intended_use,
        "eligibility": _rules(bundle.eligibility),
        "task": bundle.task,
        "scores": f"{bundle.input.level}s; "
        + "; ".join(f"{level}: {how}" for level, how in bundle.aggregation.items()),
        "input": f"{bundle.input.preprocess.height} x {bundle.input.preprocess.width}, "
        f"{bundle.input.preprocess.bits} bits",
        "operating point": f"{points.primary}: "
        f"image {written_score(points.threshold('image'), 4)}, "
        f"breast {written_score(points.threshold('breast'), 4)}, "
        f"exam {written_score(points.threshold('exam'), 4)}",
        **_scoring({"calibration": bundle.calibration, **bundle.training}),
        **{
            ("findings" if one == bundle.scoring else f"beside it, {one.task}"): _companion(one)
            for one in bundle.companions
        },
        "bundle.json": f"sha256 {bundle.sha256[:12]} ✓",
        **{name: f"sha256 {digest[:12]} ✓" for name, digest in bundle.hashes.items()},
    }
