"""``findings.parquet``: what a source says is in an image, and where, in original pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mammoscope.artefacts import write_atomically
from mammoscope.cohort.manifest import read_table
from mammoscope.errors import CohortError

__all__ = [
    "FINDINGS_SCHEMA",
    "KINDS",
    "SHAPES",
    "kind_of",
    "new_findings",
    "read_findings",
    "write_findings",
]

#: What a finding may be; null where the owner does not say.
KINDS = (
    "mass",
    "calcification",
    "asymmetry",
    "architectural_distortion",
    "lymph_node",
    "skin_thickening",
    "skin_retraction",
    "nipple_retraction",
    "other",
)

#: How the owner drew it; null where the owner names a finding and not its place.
SHAPES = ("box", "polygon", "circle", "mask")

#: A row per finding of an accepted image. Unknown is null, never 0.
FINDINGS_SCHEMA: dict[str, pl.DataType] = {
    "finding_id": pl.String(),
    "image_id": pl.String(),
    "kind": pl.String(),
    "malignant": pl.Int8(),
    "birads": pl.String(),
    "x_min": pl.Float64(),
    "y_min": pl.Float64(),
    "x_max": pl.Float64(),
    "y_max": pl.Float64(),
    "shape": pl.String(),
    "contour": pl.List(pl.Float64()),
    "mask": pl.String(),
    "description": pl.String(),
    "contrast": pl.Float64(),
    "conspicuity": pl.Float64(),
    "repaired": pl.List(pl.String()),
}

# The owners' words, lower case and with underscores, for ours.
_SYNONYMS = {
    "masses": "mass",
    "mass_enhancement": "mass",
    "spiculated_mass": "mass",
    "circumscribed_mass": "mass",
    "circ": "mass",
    "spic": "mass",
    "misc": "mass",
    "calc": "calcification",
    "calcifications": "calcification",
    "benign_calcifications": "calcification",
    "cluster": "calcification",
    "microcalcification": "calcification",
    "microcalcifications": "calcification",
    "suspicious_calcification": "calcification",
    "asym": "asymmetry",
    "assymetry": "asymmetry",
    "asymmetries": "asymmetry",
    "focal_asymmetry": "asymmetry",
    "global_asymmetry": "asymmetry",
    "asymmetric_breast_tissue": "asymmetry",
    "focal_asymmetric_density": "asymmetry",
    "arch": "architectural_distortion",
    "distortion": "architectural_distortion",
    "suspicious_lymph_node": "lymph_node",
    "intramammary_lymph_node": "lymph_node",
}
# Descriptors come before the noun, as in irregular_spiculated_mass.
_ENDINGS = {"_mass": "mass", "_calcifications": "calcification", "_asymmetry": "asymmetry"}


def kind_of(word: str) -> str | None:
    """Return the kind that an owner's word means: ``other`` where it is none, null if empty."""
    name = re.sub(r"[^a-z]+", "_", word.lower()).strip("_")
    if not name:
        return None
    known = _SYNONYMS.get(name, name)
    for ending, kind in _ENDINGS.items():
        known = kind if name.endswith(ending) else known
    return known if known in KINDS else "other"


def write_findings(cohort: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the findings, sorted by image and in the source's order; returns their path."""
    frame = pl.DataFrame(rows, schema=FINDINGS_SCHEMA, strict=True)
    path = Path(cohort) / "findings.parquet"
    with write_atomically(path) as temporary:
        frame.sort("image_id", maintain_order=True).write_parquet(temporary)
    return path


def read_findings(cohort: Path) -> pl.DataFrame:
    """Read the findings of a cohort folder.

    Raises:
        CohortError: If there are none, or the table lacks a column.
    """
    path = Path(cohort) / "findings.parquet"
    frame = read_table(path, "run mammoscope ingest first")
    missing = [name for name in FINDINGS_SCHEMA if name not in frame.columns]
    if set(missing) - {"repaired"}:
        raise CohortError(f"{path} lacks the columns {', '.join(missing)}")
    # Cohorts of earlier versions do not tell what ingest repaired.
    return frame.with_columns(pl.lit(None, FINDINGS_SCHEMA[name]).alias(name) for name in missing)


def new_findings(
    known: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of a second copy of an image that the first does not have."""
    sides = ("kind", "x_min", "y_min", "x_max", "y_max")
    there = {tuple(row[side] for side in sides) for row in known}
    return [row for row in others if tuple(row[side] for side in sides) not in there]
