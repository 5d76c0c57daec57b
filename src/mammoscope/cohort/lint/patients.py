"""Checks of who is where: a patient in two splits or in two sources, splits out of date."""

from __future__ import annotations

import polars as pl

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some

__all__ = [
    "patient_in_two_sources",
    "patient_in_two_splits",
    "split_differs_from_source",
    "stale_splits",
]


def patient_in_two_splits(evidence: Evidence) -> Answer:
    """A patient of whom images lie in more than one split or fold.

    Looks at ``splits.parquet`` and, on its own, at the manifest's column ``split``.
    """
    findings: list[Finding] = []
    looked = False
    manifest = evidence.manifest
    if not isinstance(evidence.splits, Skipped):
        looked = True
        parts = evidence.splits.with_columns(part=pl.struct("split", "fold"))
        findings += _torn(
            parts,
            "splits.parquet",
            "run mammoscope split --overwrite; it deals whole patients",
        )
    given = manifest.filter(pl.col("split").is_not_null())
    if given.height:
        looked = True
        parts = given.with_columns(part=pl.col("split").str.to_lowercase())
        findings += _torn(
            parts,
            "column split of the table",
            "do not use this column; let mammoscope split deal the patients instead",
        )
    if not looked:
        return Skipped("there is no splits.parquet (run mammoscope split) and no column split")
    return findings


def _torn(parts: pl.DataFrame, subject: str, todo: str) -> list[Finding]:
    """Find the patients with more than one value of ``part``."""
    torn = parts.filter(pl.col("part").n_unique().over("patient_id") > 1)
    if torn.is_empty():
        return []
    return [
        Finding(
            "patient_in_two_splits",
            Severity.ERROR,
            subject,
            torn["patient_id"].n_unique(),
            parts["patient_id"].n_unique(),
            "patients",
            "Images of one patient lie in more than one split or fold, so that a model is tested "
            "on women it was trained on.",
            f"Before any training, {todo}.",
            some(torn["image_id"]),
        )
    ]


def stale_splits(evidence: Evidence) -> Answer:
    """Splits that are not of this manifest: images without a split, or under another patient."""
    if isinstance(evidence.splits, Skipped):
        return evidence.splits
    splits = evidence.splits.select("image_id", pl.col("patient_id").alias("dealt_as"))
    joined = evidence.manifest.join(splits, on="image_id", how="left")
    stale = joined.filter(
        pl.col("dealt_as").is_null() | (pl.col("dealt_as") != pl.col("patient_id"))
    )
    if stale.is_empty():
        return []
    return [
        Finding(
            "stale_splits",
            Severity.ERROR,
            "splits.parquet",
            stale.height,
            joined.height,
            "images",
            "Images have no split, or were dealt under another patient: the splits were drawn "
            "before the manifest was last written.",
            "Run mammoscope split --overwrite.",
            some(stale["image_id"]),
        )
    ]


def split_differs_from_source(evidence: Evidence) -> Answer:
    """Images that the source holds out for testing and ``splits.parquet`` trains on."""
    if isinstance(evidence.splits, Skipped):
        return evidence.splits
    given = evidence.manifest.filter(pl.col("split").is_not_null())
    if given.is_empty():
        return Skipped("the table has no column split")
    held_out = pl.col("split").str.to_lowercase().str.contains("test|holdout|hold-out")
    splits = evidence.splits.select("image_id", pl.col("split").alias("ours"))
    tested = given.filter(held_out)
    trained = tested.join(splits, on="image_id").filter(pl.col("ours") == "train")
    if trained.is_empty():
        return []
    return [
        Finding(
            "split_differs_from_source",
            Severity.WARNING,
            "",
            trained.height,
            tested.height,
            "images",
            "Images of the source's own test split lie in the training split, so results cannot "
            "be compared with published ones.",
            "Run mammoscope split --by split --overwrite, or say that the split is your own.",
            some(trained["image_id"]),
        )
    ]


def patient_in_two_sources(evidence: Evidence) -> Answer:
    """A patient_id that two sources use: one woman seen twice, or two women taken for one.

    An error where even the exam is shared, as then breasts of the two are scored as one.
    """
    named = evidence.manifest.filter(pl.col("source").is_not_null())
    if named["source"].n_unique() < 2:
        return Skipped("the cohort is of one source")
    shared = named.filter(pl.col("source").n_unique().over("patient_id") > 1)
    if shared.is_empty():
        return []
    mixed = shared.filter(pl.col("source").n_unique().over("patient_id", "exam_id") > 1)
    return [
        Finding(
            "patient_in_two_sources",
            Severity.WARNING if mixed.is_empty() else Severity.ERROR,
            ", ".join(sorted(set(shared["source"]))),
            shared["patient_id"].n_unique(),
            named["patient_id"].n_unique(),
            "patients",
            "Two sources use the same patient_id"
            + (
                ", and the same exam_id, so their breasts are scored as one."
                if mixed.height
                else "."
            ),
            "If these are different women, put the source's name before the id and ingest again; "
            "if they are the same, keep them: they stay in one split.",
            some(shared["image_id"]),
        )
    ]
