"""``explore``: the numbers of a cohort as ``explore.json`` and as a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mammoscope import __version__
from mammoscope.artefacts import check_output, new_folder, write_json
from mammoscope.cohort.explore import tables
from mammoscope.cohort.explore.biases import find_biases
from mammoscope.cohort.explore.findings import crops_of, judge_findings
from mammoscope.cohort.explore.page import render_page
from mammoscope.cohort.explore.pixels import draw_sample, galleries, look_at, thumbnails
from mammoscope.cohort.explore.quality import quality
from mammoscope.cohort.manifest import (
    Reject,
    read_cohort,
    read_manifest,
    read_rejects,
    read_table,
)
from mammoscope.cohort.splits import read_splits
from mammoscope.cohort.store import PreparedStore

__all__ = ["Exploration", "explore"]

FORMAT_VERSION = 1

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Exploration:
    """A report on disk.

    Attributes:
        path: Its page.
        report: What ``explore.json`` holds.
    """

    path: Path
    report: dict[str, Any]


def explore(
    cohort: Path,
    *,
    sample: int = 1000,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exploration:
    """Write ``explore/explore.json`` and ``explore/index.html`` into a cohort.

    Before ``prepare`` there are no pixels to look at, before ``split`` no splits; the report
    is made without them and says so. No patient's name is in it.

    Args:
        cohort: The cohort folder.
        sample: At most so many prepared images are read for grey values and mean images;
            0 reads none.
        overwrite: Replace a report that is there.
        progress: Called with (done, total) sampled images.

    Raises:
        CohortError: If the cohort is damaged.
        OutputError: If there is a report already, or it cannot be written.
    """
    cohort = Path(cohort)
    facts = read_cohort(cohort)
    folder = cohort / "explore"
    check_output(folder, overwrite=overwrite, marker="explore.json")
    manifest, rejects = read_manifest(cohort), read_rejects(cohort)
    splits = read_splits(cohort) if (cohort / "splits.parquet").is_file() else None
    frame = tables.described(manifest, splits)
    seen, measured, pictures = _seen(cohort, frame, rejects, sample, progress)
    report = {
        "format_version": FORMAT_VERSION,
        "kind": "explore",
        "package_version": __version__,
        "synthetic": bool(facts["synthetic"]),
        "partly_synthetic": bool(facts.get("partly_synthetic")),
        "sample": sample,
        "hashes": facts["hashes"],
        "notes": _notes(frame, splits, seen, sample),
        "about": tables.about(frame, rejects),
        "biases": find_biases(frame, measured),
        "balance": tables.balance(frame),
        "missing": tables.missing(frame),
        "exams": tables.exams(frame),
        "sizes": tables.sizes(frame),
        "encodings": tables.encodings(frame),
        **seen,
        "findings": _findings(cohort, frame),
    }
    with new_folder(folder, overwrite=overwrite, marker="explore.json") as fresh:
        (fresh / "index.html").write_text(render_page(report, pictures), encoding="utf-8")
        write_json(fresh / "explore.json", report)
    return Exploration(folder / "index.html", report)


def _seen(
    cohort: Path,
    frame: pl.DataFrame,
    rejects: list[Reject],
    sample: int,
    progress: Progress | None,
) -> tuple[dict[str, Any], pl.DataFrame | None, dict[str, str]]:
    """Look at prepared images: the sections of the report, what tests need, and pictures."""
    nothing: dict[str, Any] = {"prepared": 0, "pixels": None, "gallery": None, "quality": None}
    if not (cohort / "images" / "prepare.json").is_file():
        return nothing, None, {}
    store = PreparedStore(cohort)
    prepared = frame.filter(pl.col("image_id").is_in(list(store)))
    if not prepared.height:
        return nothing, None, {}
    judged = quality(store.facts(), prepared, rejects)
    worst = thumbnails(store, [row["image_id"] for row in judged["worst"]])
    gallery, shown = galleries(store, prepared)
    pixels, measured, means = (
        look_at(store, draw_sample(prepared, sample), progress) if sample else (None, None, {})
    )
    sections = {
        "prepared": prepared.height,
        "pixels": pixels,
        "gallery": gallery,
        "quality": judged,
    }
    return sections, measured, {**worst, **shown, **means}


def _findings(cohort: Path, frame: pl.DataFrame) -> dict[str, Any] | None:
    path = cohort / "findings.parquet"
    if not path.is_file():
        return None
    findings, crops = read_table(path, "run mammoscope ingest again"), None
    if not findings.height:
        return None
    if (cohort / "images" / "prepare.json").is_file():
        store = PreparedStore(cohort)
        marked = findings["image_id"].unique().sort() if "image_id" in findings.columns else ()
        crops = crops_of(store, [name for name in marked if name in store])
    return judge_findings(findings, frame, crops)


def _notes(
    frame: pl.DataFrame, splits: pl.DataFrame | None, seen: dict[str, Any], sample: int
) -> list[str]:
    notes, prepared = [], seen["prepared"]
    if splits is None:
        notes.append(
            "The cohort is not split yet: splits, where shown, are those of the source's table."
        )
    if not prepared:
        notes.append(
            "No image is prepared yet: grey values, mean images, galleries and crop quality are "
            "left out. Run mammoscope prepare, then explore again with --overwrite."
        )
        return notes
    refused = sum(row["images"] for row in seen["quality"]["refused"])
    if prepared + refused < frame.height:
        left = frame.height - prepared - refused
        notes.append(
            f"{left:,} images are not prepared yet; what is shown of pixels is of the "
            f"{prepared:,} that are. Run mammoscope prepare again to finish."
        )
    if not sample:
        notes.append("--sample 0: grey values and mean images are left out.")
    return notes
