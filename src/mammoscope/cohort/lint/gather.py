"""Gather the evidence: read the tables, sample images, measure them in workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from mammoscope.cohort.lint.duplicates import find_clusters
from mammoscope.cohort.lint.evidence import Duplicates, Evidence, machine_names
from mammoscope.cohort.lint.facts import Hash, ImageFacts
from mammoscope.cohort.lint.findings import Skipped
from mammoscope.cohort.lint.measure import hash_prepared, measure_image
from mammoscope.cohort.manifest import read_manifest, read_table, source_roots
from mammoscope.cohort.store import PreparedStore
from mammoscope.errors import CohortError
from mammoscope.processes import mapped

__all__ = ["gather", "sample_by_machine"]

Progress = Callable[[int, int], None]
# Tasks that a worker is handed at once, so that handing over costs little.
_CHUNK = 8


def gather(
    cohort: Path, *, sample: int, seed: int, label: str, workers: int, progress: Progress | None
) -> Evidence:
    """Gather all that the checks look at.

    Args:
        cohort: The cohort folder.
        sample: Originals read per machine; 0 reads all.
        seed: Of the sample.
        label: Column that will be trained on.
        workers: Processes; results do not depend on their number.
        progress: Called with (done, total).
    """
    manifest = read_manifest(cohort)
    roots = source_roots(cohort)
    sampled = sample_by_machine(manifest, sample, seed)
    columns = ("image_id", "path", "pixel_aspect", "source")
    originals = [
        {**row, "root": str(roots[row["source"]])}
        for row in sampled.select(columns).iter_rows(named=True)
        if roots[row["source"]].is_dir()
    ]
    # Where all originals are read, their hashes serve: a crop adds differences of its own.
    prepared = _prepared_ids(cohort, manifest) if len(originals) < manifest.height else []
    to_hash = [{"image_id": name, "cohort": str(cohort)} for name in prepared]
    total = len(originals) + len(to_hash)
    report = progress or (lambda _done, _total: None)
    facts: list[ImageFacts] = []
    unreadable: list[tuple[str, str]] = []
    measured = mapped(measure_image, originals, workers, _CHUNK)
    for done, (task, outcome) in enumerate(zip(originals, measured, strict=True), start=1):
        if isinstance(outcome, str):
            unreadable.append((task["image_id"], outcome))
        else:
            facts.append(outcome)
        report(done, total)
    hashes: list[tuple[str, Hash]] = []
    for done, hashed in enumerate(mapped(hash_prepared, to_hash, workers, _CHUNK), start=1):
        if hashed is not None:
            hashes.append(hashed)
        report(len(originals) + done, total)
    return Evidence(
        manifest=manifest,
        splits=_splits(cohort),
        images=facts or _why_none(roots, len(unreadable)),
        duplicates=_duplicates(hashes or [(f.image_id, f.hash) for f in facts]),
        unreadable=unreadable,
        label=label,
        seed=seed,
    )


def sample_by_machine(manifest: pl.DataFrame, sample: int, seed: int) -> pl.DataFrame:
    """Draw rows of each machine, the same for the same seed; 0 takes all."""
    if sample == 0:
        return manifest
    rng = np.random.default_rng(seed)
    groups: dict[str, list[str]] = {}
    for name, machine in machine_names(manifest).items():
        groups.setdefault(machine, []).append(name)
    drawn: list[str] = []
    for machine in sorted(groups):
        names = sorted(groups[machine])
        drawn += [names[i] for i in rng.permutation(len(names))[:sample]]
    return manifest.filter(pl.col("image_id").is_in(drawn))


def _prepared_ids(cohort: Path, manifest: pl.DataFrame) -> list[str]:
    """Return the images that are prepared; none where prepare has not run."""
    if not (cohort / "images" / "prepare.json").is_file():
        return []
    there = set(PreparedStore(cohort))
    return [name for name in manifest["image_id"] if name in there]


def _splits(cohort: Path) -> pl.DataFrame | Skipped:
    """Read the splits without the checks of :func:`read_splits`, which refuses faulty ones."""
    path = cohort / "splits.parquet"
    if not path.is_file():
        return Skipped("there is no splits.parquet: run mammoscope split")
    splits = read_table(path, "run mammoscope split first")
    missing = {"image_id", "patient_id", "split", "fold"} - set(splits.columns)
    if missing:
        raise CohortError(f"{path} lacks the columns {', '.join(sorted(missing))}")
    return splits


def _why_none(roots: dict[str, Path], unreadable: int) -> Skipped:
    gone = [str(root) for root in roots.values() if not root.is_dir()]
    if gone and not unreadable:
        there = f"{', '.join(gone)}, which the cohort was ingested from, is no longer there"
        return Skipped(there)
    return Skipped(f"none of the {unreadable} sampled originals can be read")


def _duplicates(hashes: list[tuple[str, Hash]]) -> Duplicates | Skipped:
    if not hashes:
        return Skipped("no image is prepared, and no original could be read")
    names = [name for name, _ in hashes]
    return Duplicates(len(names), find_clusters(names, np.stack([bits for _, bits in hashes])))
