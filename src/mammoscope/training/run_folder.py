"""The run folder's record, ``run.json``: what was trained, on what, and how it went."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mammoscope import __version__
from mammoscope.artefacts import check_output, read_json, sha256_file
from mammoscope.cohort.manifest import read_cohort, read_eligibility
from mammoscope.config import Config, ExportConfig, PreprocessConfig
from mammoscope.errors import RunError

__all__ = [
    "RECORD",
    "WEIGHTS",
    "FitResult",
    "check_run",
    "describe_run",
    "differing_keys",
    "fold_folder",
    "read_run",
    "result_of",
]

FORMAT_VERSION = 1
RECORD = "run.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class FitResult:
    """How training went.

    Attributes:
        epochs: Epochs trained in all.
        best_epoch: The epoch whose weights are kept, from 0.
        best: What it measured on validation.
        measure: Name of that measure.
        counts: Images by part.
        notes: Sentences that a user should read.
    """

    epochs: int
    best_epoch: int
    best: float
    measure: str
    counts: dict[str, int]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for people."""
        line = (
            f"{self.counts['train']} images, {self.epochs} epochs, best validation "
            f"{self.measure} {self.best:.3f} in epoch {self.best_epoch + 1}"
        )
        return "; ".join([line, *self.notes])


def describe_run(
    cohort: Path,
    config: Config,
    preprocess: PreprocessConfig,
    fold: int | None,
    counts: dict[str, int],
) -> dict[str, Any]:
    """Return the record of a run that is about to train; of all folds where ``fold`` is none."""
    facts = read_cohort(cohort)
    return {
        "format_version": FORMAT_VERSION,
        "kind": "run",
        "status": "training",
        "synthetic": bool(facts["synthetic"]),
        "partly_synthetic": bool(facts.get("partly_synthetic")),
        "package_version": __version__,
        "code_version": _code_version(),
        "platform": {"python": platform.python_version(), "torch": torch.__version__},
        "config": config.model_dump(mode="json"),
        "preprocess": preprocess.model_dump(mode="json"),
        "eligibility": read_eligibility(cohort).model_dump(mode="json"),
        "cohort": {
            "path": str(cohort.resolve()),
            **{
                f"{name}_sha256": sha256_file(path)
                for name in ("manifest", "splits", "findings")
                if (path := cohort / f"{name}.parquet").is_file()
            },
        },
        "fold": fold,
        "seed": config.train.seed,
        "counts": counts,
    }


def fold_folder(run: Path, fold: int) -> Path:
    """Return the folder of one fold's run in that of all folds."""
    return Path(run) / f"fold-{fold}"


def read_run(run: Path) -> dict[str, Any]:
    """Read a run's record.

    Raises:
        RunError: If it is missing or of another format.
    """
    facts = read_json(Path(run) / RECORD, RunError)
    if facts.get("kind") != "run" or facts.get("format_version") != FORMAT_VERSION:
        raise RunError(
            f"{run}/{RECORD} is of kind {facts.get('kind')!r}, format "
            f"{facts.get('format_version')!r}; this version reads run format {FORMAT_VERSION}"
        )
    return facts


def check_run(
    run: Path, facts: dict[str, Any], *, resume: bool, overwrite: bool = False
) -> dict[str, Any] | None:
    """Return the record of the run to resume, or check that a new one may be written.

    Raises:
        OutputError: If a new run's folder is not empty or cannot be written.
        RunError: If there is nothing to resume, or it differs; the keys are named.
    """
    if not resume:
        check_output(run, overwrite=overwrite, marker=RECORD)
        return None
    if not (run / RECORD).is_file():
        raise RunError(f"{run} holds no {RECORD}: there is nothing to resume")
    earlier = read_run(run)
    # Runs of earlier versions name no engine: there was one.
    earlier["config"].setdefault("export", ExportConfig().model_dump())
    # The same tables in another place are the same cohort, and runs of earlier versions do not
    # say which findings there were; where a run is written down changes nothing of it.
    ignored = {"cohort.path"}
    if "findings_sha256" not in earlier["cohort"]:
        ignored.add("cohort.findings_sha256")
    differing = [
        key
        for section in ("config", "preprocess", "eligibility", "cohort")
        for key in differing_keys(earlier.get(section), facts[section], section)
        if key not in ignored and key.partition(".")[0] != "tracking"
    ] + differing_keys(earlier.get("fold"), facts["fold"], "fold")
    if differing:
        raise RunError(
            f"{run} cannot be resumed: {', '.join(differing)} differ from the stopped run's"
        )
    return earlier


def result_of(facts: dict[str, Any]) -> FitResult:
    """Return how training went from the record of a run that is trained."""
    measure, best = next((k, v) for k, v in facts["best"].items() if k != "epoch")
    return FitResult(
        epochs=int(facts["epochs"]),
        best_epoch=int(facts["best"]["epoch"]),
        best=float(best),
        measure=str(facts.get("measure", {"name": measure, "title": "AUROC"})["title"]),
        counts=facts["counts"],
        notes=tuple(facts.get("notes", ())),
    )


def differing_keys(theirs: Any, ours: Any, name: str) -> list[str]:
    """List the dotted names of the values that differ; ``config.`` goes without saying."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return [] if theirs == ours else [name.removeprefix("config.")]
    keys = [*ours, *(key for key in theirs if key not in ours)]
    return [
        found
        for key in keys
        for found in differing_keys(theirs.get(key), ours.get(key), f"{name}.{key}")
    ]


def _code_version() -> str | None:
    """Return the commit of a source checkout, or ``None`` for an installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1]
    # An environment may lie in the checkout of something else.
    if package.parent.name != "src" or not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, no shell
            command, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
