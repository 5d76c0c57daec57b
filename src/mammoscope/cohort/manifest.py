"""The tables of a cohort folder: ``manifest.parquet``, ``rejects.csv``, ``cohort.json``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mammoscope.artefacts import read_json, write_atomically
from mammoscope.config import EligibilityConfig, validated
from mammoscope.errors import CohortError, ConfigError

__all__ = [
    "FORMAT_VERSION",
    "LABEL_COLUMNS",
    "MANIFEST_SCHEMA",
    "Reject",
    "read_cohort",
    "read_eligibility",
    "read_manifest",
    "read_rejects",
    "source_roots",
    "write_manifest",
    "write_rejects",
]

FORMAT_VERSION = 1

#: Columns that may serve as a label: 0, 1 or null.
LABEL_COLUMNS = ("cancer", "biopsy", "invasive", "difficult_negative_case")

#: A row per accepted image. Unknown is null, never 0.
MANIFEST_SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),
    "exam_id": pl.String(),
    "path": pl.String(),
    "laterality": pl.String(),
    "view": pl.String(),
    "cancer": pl.Int8(),
    "biopsy": pl.Int8(),
    "invasive": pl.Int8(),
    "difficult_negative_case": pl.Int8(),
    "birads": pl.String(),
    "density": pl.String(),
    "implant": pl.Int8(),
    "age": pl.Float64(),
    "site_id": pl.String(),
    "machine_id": pl.String(),
    "split": pl.String(),
    "mask": pl.String(),
    "pixel_aspect": pl.Float64(),
    "spacing_y_mm": pl.Float64(),
    "spacing_x_mm": pl.Float64(),
    "source": pl.String(),
    "sop_instance_uid": pl.String(),
    "pixel_sha256": pl.String(),
    "rows": pl.Int64(),
    "columns": pl.Int64(),
    "photometric_interpretation": pl.String(),
    "bits_stored": pl.Int64(),
    "transfer_syntax_uid": pl.String(),
    "file_bytes": pl.Int64(),
    "notes": pl.String(),
}

_SPACING = ("spacing_y_mm", "spacing_x_mm")
_REJECT_COLUMNS = ("stage", "path", "image_id", "reason", "message")


@dataclass(frozen=True, slots=True)
class Reject:
    """A file or image that was refused: the stage, where it lies, a code and a sentence."""

    stage: str
    path: str
    image_id: str
    reason: str
    message: str


def write_manifest(cohort: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the manifest, sorted by patient and image; returns its path."""
    frame = pl.DataFrame(rows, schema=MANIFEST_SCHEMA, strict=True)
    path = Path(cohort) / "manifest.parquet"
    with write_atomically(path) as temporary:
        frame.sort("patient_id", "image_id").write_parquet(temporary)
    return path


def read_manifest(cohort: Path) -> pl.DataFrame:
    """Read the manifest of a cohort folder.

    Raises:
        CohortError: If there is none, or it lacks a column.
    """
    path = Path(cohort) / "manifest.parquet"
    frame = read_table(path, "run mammoscope ingest first")
    missing = [name for name in MANIFEST_SCHEMA if name not in frame.columns]
    if set(missing) - set(_SPACING):
        raise CohortError(f"{path} lacks the columns {', '.join(missing)}")
    # Cohorts of earlier versions do not tell the spacing: it is unknown.
    return frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in missing)


def read_table(path: Path, advice: str) -> pl.DataFrame:
    """Read a Parquet table of a cohort, with advice where it does not exist."""
    if not path.is_file():
        raise CohortError(f"{path} is missing: {advice}")
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CohortError(f"{path} cannot be read as Parquet: {error}") from error


def write_rejects(cohort: Path, rejects: Iterable[Reject]) -> None:
    """Write ``rejects.csv``, one row per refused file, in the order given."""
    rows = [(r.stage, r.path, r.image_id, r.reason, r.message) for r in rejects]
    schema = dict.fromkeys(_REJECT_COLUMNS, pl.String())
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    with write_atomically(Path(cohort) / "rejects.csv") as temporary:
        frame.write_csv(temporary)


def read_rejects(cohort: Path) -> list[Reject]:
    """Read ``rejects.csv``."""
    path = Path(cohort) / "rejects.csv"
    if not path.is_file():
        raise CohortError(f"{path} is missing: run mammoscope ingest first")
    frame = pl.read_csv(path, infer_schema=False).fill_null("")
    if tuple(frame.columns) != _REJECT_COLUMNS:
        raise CohortError(f"{path} does not have the columns {', '.join(_REJECT_COLUMNS)}")
    return [Reject(**row) for row in frame.iter_rows(named=True)]


def read_cohort(cohort: Path) -> dict[str, Any]:
    """Read ``cohort.json`` and check that it is of a format that we know.

    Raises:
        CohortError: If it is missing or of another format.
    """
    values = read_json(Path(cohort) / "cohort.json", CohortError)
    if values.get("kind") != "cohort" or values.get("format_version") != FORMAT_VERSION:
        raise CohortError(
            f"{cohort}/cohort.json is of kind {values.get('kind')!r}, format "
            f"{values.get('format_version')!r}; this version reads cohort format {FORMAT_VERSION}"
        )
    return values


def read_eligibility(cohort: Path) -> EligibilityConfig:
    """Read the rules by which the images of a cohort were accepted.

    Raises:
        CohortError: If ``cohort.json`` has none, or others than this version knows.
    """
    values = read_cohort(cohort)
    try:
        return validated(EligibilityConfig, values["eligibility"], f"{cohort}/cohort.json")
    except KeyError as error:
        message = f"{cohort}/cohort.json names no eligibility rules: run mammoscope ingest anew"
        raise CohortError(message) from error
    except ConfigError as error:
        raise CohortError(f"{error}: run mammoscope ingest anew") from error


def source_roots(cohort: Path) -> dict[str, Path]:
    """Return the folder of each source, by the word in the manifest's column ``source``.

    Paths in the manifest and in the findings are relative to it.

    Raises:
        CohortError: If ``cohort.json`` does not say.
    """
    roots = read_cohort(cohort).get("source_roots")
    if not isinstance(roots, dict) or not roots:
        raise CohortError(
            f"{cohort}/cohort.json has no source_roots: it was made by an earlier version; "
            "run mammoscope ingest again"
        )
    return {str(name): Path(root) for name, root in roots.items()}
