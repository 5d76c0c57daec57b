"""What the cohort knows of each image, read from the tables that the run was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mammoscope.artefacts import sha256_file
from mammoscope.errors import RunError

__all__ = [
    "CohortTable",
    "cohort_folder",
    "read_cohort_table",
    "refused_images",
    "with_attributes",
]

_FILES = {"manifest.parquet": "manifest_sha256", "splits.parquet": "splits_sha256"}
_ATTRIBUTES = {
    "machine_id": pl.String(),
    "age": pl.Float64(),
    "density": pl.String(),
    "implant": pl.Int8(),
    "invasive": pl.Int8(),
    "difficult_negative_case": pl.Int8(),
    "source": pl.String(),
}


@dataclass(frozen=True, slots=True)
class CohortTable:
    """A row per prepared image of the cohort, or why there is none.

    Attributes:
        rows: Manifest and splits joined; ``None`` where they could not be read.
        note: The sentence that says why; empty where they could.
        refused: How many images ``prepare`` refused, by reason; no row is of them.
    """

    rows: pl.DataFrame | None
    note: str = ""
    refused: dict[str, int] = field(default_factory=dict)


def cohort_folder(facts: dict[str, Any], cohort: Path | None = None) -> Path:
    """Return where a run's cohort lies: where it was said to, else where it lay at training."""
    return Path(facts["cohort"]["path"]) if cohort is None else Path(cohort)


def read_cohort_table(facts: dict[str, Any], cohort: Path | None = None) -> CohortTable:
    """Read manifest and splits of a run's cohort, if they are those it was trained on.

    Args:
        facts: What ``run.json`` holds.
        cohort: Where the cohort lies now; where it lay at training by default.

    Raises:
        RunError: If a cohort that was named is not the run's, or its rejects cannot be read.
    """
    folder = cohort_folder(facts, cohort)
    for name, key in _FILES.items():
        path = folder / name
        if not path.is_file():
            fault = f"{path} is missing"
        elif sha256_file(path) != facts["cohort"][key]:
            fault = f"{path} is not the one that the run was trained on"
        else:
            continue
        if cohort is not None:
            raise RunError(f"{fault} (SHA-256 {facts['cohort'][key]} in run.json)")
        return CohortTable(
            None,
            f"{fault}, so subgroups by age, machine and other columns of the cohort, and the "
            "baseline of age and machine, are left out, as is what the model card says of the "
            "data; mammoscope evaluate --cohort says where the cohort lies.",
        )
    manifest, splits = (pl.read_parquet(folder / name) for name in _FILES)
    splits = splits.select("image_id", "split", "fold")
    # Cohorts of earlier versions lack columns; what they lack is unknown.
    manifest = manifest.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in _ATTRIBUTES.items()
        if name not in manifest.columns
    )
    joined = manifest.drop("split", strict=False).join(splits, on="image_id")
    refused = (
        refused_images(folder, "prepare")
        .unique("image_id")
        .filter(pl.col("image_id").is_in(joined["image_id"].to_list()))
    )
    counts = refused["reason"].value_counts().sort("reason")
    return CohortTable(
        joined.join(refused, on="image_id", how="anti", maintain_order="left"),
        refused={str(reason): int(count) for reason, count in counts.iter_rows()},
    )


def refused_images(folder: Path, stage: Literal["ingest", "prepare"]) -> pl.DataFrame:
    """Return image_id and reason of what a stage refused.

    What ``prepare`` refused the store leaves out; ``ingest`` may have refused an image, or no more
    than a finding of it.

    Raises:
        RunError: If the cohort's rejects cannot be read.
    """
    path = folder / "rejects.csv"
    if not path.is_file():
        return pl.DataFrame(schema={"image_id": pl.String(), "reason": pl.String()})
    try:
        rows = pl.read_csv(path, infer_schema=False).filter(pl.col("stage") == stage)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path} cannot be read as a table of rejects: {error}") from error
    return rows.select("image_id", "reason")


def with_attributes(rows: pl.DataFrame, table: CohortTable) -> pl.DataFrame:
    """Return predictions with the cohort's columns beside them; unknown is null.

    ``age_band`` is ten years, such as ``40 to 49``.
    """
    kept = rows.drop([name for name in _ATTRIBUTES if name in rows.columns])
    if table.rows is None:
        joined = kept.with_columns(
            pl.lit(None, dtype).alias(name) for name, dtype in _ATTRIBUTES.items()
        )
    else:
        known = table.rows.select("image_id", *_ATTRIBUTES)
        joined = kept.join(known, on="image_id", how="left", maintain_order="left")
    decade = (pl.col("age") // 10 * 10).cast(pl.Int64)
    return joined.with_columns(age_band=pl.format("{} to {}", decade, decade + 9))
