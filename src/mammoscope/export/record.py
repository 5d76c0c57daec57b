"""What export and scoring leave in a run: its tables, their hashes, and the record of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mammoscope.artefacts import sha256_file, write_atomically, write_json
from mammoscope.bundle import MODEL_FILE
from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.run_folder import POINTS_FILE
from mammoscope.evaluation.tables import with_breast_score

__all__ = ["settle_tables", "tell_engine", "tell_timings"]

_ENGINE = "computed by "


def settle_tables(run: Path, facts: dict[str, Any], tables: Mapping[str, pl.DataFrame]) -> None:
    """Write the tables of a run whose scores are not calibrated, and call it finished.

    Args:
        run: The run folder, with its graph.
        facts: What ``run.json`` is to hold; completed here.
        tables: By the name of their file; ``predictions`` among them, with scores.
    """
    how = EvaluationConfig.model_validate(facts["config"]["evaluation"]).breast_score
    tables = {**tables, "predictions": with_breast_score(tables["predictions"], how)}
    before = facts.get("hashes", {})
    # Not finished until tables, graph and their hashes are of one mind.
    write_json(run / "run.json", {**facts, "status": "trained"})
    hashes = {MODEL_FILE: sha256_file(run / MODEL_FILE)}
    for name, table in tables.items():
        path = run / f"{name}.parquet"
        with write_atomically(path) as temporary:
            table.write_parquet(temporary)
        hashes[path.name] = sha256_file(path)
    if hashes != before:
        # Thresholds that were chosen before are of other scores.
        (run / POINTS_FILE).unlink(missing_ok=True)
    split = tables["predictions"]["split"]
    facts |= {
        "status": "finished",
        "calibration": {"method": "none"},
        "predicted": {name: int((split == name).sum()) for name in ("val", "test")},
        "hashes": hashes,
    }
    write_json(run / "run.json", facts)


def tell_engine(facts: dict[str, Any], sentence: str) -> None:
    """Put among a run's notes what computes its graph, in the place of what they said before.

    Args:
        facts: What ``run.json`` is to hold.
        sentence: From :func:`mammoscope.export.graph.by_engine`; empty where nothing is to be said.
    """
    others = [note for note in facts.get("notes", []) if not note.startswith(_ENGINE)]
    facts["notes"] = [*others, *([f"{_ENGINE}{sentence}"] if sentence else [])]


def tell_timings(facts: dict[str, Any], begun: float, exported: float) -> None:
    """Add to a run's record what its export took, and what scoring has taken since.

    Args:
        facts: What ``run.json`` is to hold; ``timings_s`` is completed.
        begun: When the export began, by ``time.perf_counter``.
        exported: How many seconds it took.
    """
    facts["timings_s"] = {
        **facts.get("timings_s", {}),
        "export": round(exported, 2),
        "score": round(time.perf_counter() - begun - exported, 2),
    }
