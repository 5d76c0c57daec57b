"""A run folder as evaluation reads it: finished, of a known format, and not edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mammoscope.artefacts import read_json, sha256_file
from mammoscope.errors import RunError

__all__ = ["checked_predictions", "read_run"]


def read_run(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` holds.

    Raises:
        RunError: If it is missing or of another format.
    """
    facts = read_json(Path(run) / "run.json", RunError)
    if facts.get("kind") != "run" or facts.get("format_version") != 1:
        raise RunError(
            f"{run}/run.json is of kind {facts.get('kind')!r}, format "
            f"{facts.get('format_version')!r}; this version reads run format 1"
        )
    return facts


def checked_predictions(run: Path, facts: dict[str, Any]) -> Path:
    """Return where the predictions lie, if they are those that the run made.

    Raises:
        RunError: If the run is not finished, or its predictions were edited.
    """
    path = run / "predictions.parquet"
    expected = facts.get("hashes", {}).get(path.name)
    if facts.get("status") != "finished" or not path.is_file():
        raise RunError(f"{run} is {facts.get('status')}, not finished: train it first")
    if sha256_file(path) != expected:
        raise RunError(f"{path} was edited: its SHA-256 is not {expected} of run.json")
    return path
