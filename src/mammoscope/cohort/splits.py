"""Splits that no patient straddles: ``splits.parquet``, stratified by label and site."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mammoscope.artefacts import write_atomically
from mammoscope.cohort.manifest import LABEL_COLUMNS, read_manifest, read_table
from mammoscope.errors import CohortError, OutputError

__all__ = ["SplitSummary", "read_splits", "split_cohort", "split_patients"]

_TEST_WORDS = frozenset({"test", "testing", "holdout"})
_TRAIN_WORDS = frozenset({"train", "training", "val", "valid", "validation"})


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """Patients, images and positive images of the test split and of each fold."""

    table: pl.DataFrame


def split_cohort(
    cohort: Path,
    *,
    folds: int = 5,
    test: float = 0.2,
    seed: int = 0,
    by: str | None = None,
    label: str = "cancer",
    train_only: Collection[str] = (),
    overwrite: bool = False,
) -> SplitSummary:
    """Write ``splits.parquet``: image_id, patient_id, split (train or test) and fold.

    The fold is null in test, and of patients who are there for training only: every fold trains on
    them, and none is validated, calibrated or measured on them.

    Args:
        cohort: The cohort folder.
        folds: Number of folds of the training patients, at least 2.
        test: Share of patients held out; ignored with ``by``.
        seed: Seed of the draw.
        by: Column of the manifest whose words train and test are honoured.
        label: Column to stratify by.
        train_only: Words of the manifest's column ``source`` whose patients are trained on only.
        overwrite: Replace splits that are there.

    Raises:
        CohortError: If the column is unknown or has other words, a patient is in both of its
            parts, a source is unknown or shares a patient with another, or there are too few
            patients.
        OutputError: If splits exist already.
    """
    cohort = Path(cohort)
    path = cohort / "splits.parquet"
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; pass --overwrite to draw it anew")
    if label not in LABEL_COLUMNS:
        raise CohortError(f"unknown label {label!r}; known: {', '.join(LABEL_COLUMNS)}")
    manifest = read_manifest(cohort)
    extra = _patients_of(manifest, train_only)
    own = manifest.filter(~pl.col("patient_id").is_in(extra))
    patients = _patients(own, label)
    held_out = _held_out_by(own, by) if by else None
    assigned = split_patients(patients, folds=folds, test=test, seed=seed, held_out=held_out)
    trained = [(name, "train", None) for name in sorted(extra)]
    assigned = pl.concat([assigned, pl.DataFrame(trained, schema=assigned.schema, orient="row")])
    splits = manifest.select("image_id", "patient_id").join(assigned, on="patient_id", how="left")
    with write_atomically(path) as temporary:
        splits.sort("image_id").write_parquet(temporary)
    joined = splits.join(manifest.select("image_id", label), on="image_id")
    table = (
        joined.group_by("split", "fold")
        .agg(
            pl.col("patient_id").n_unique().alias("patients"),
            pl.len().alias("images"),
            pl.col(label).sum().alias("positives"),
        )
        .sort("split", "fold", descending=[True, False])
    )
    return SplitSummary(table)


def split_patients(
    patients: pl.DataFrame,
    *,
    folds: int,
    test: float,
    seed: int,
    held_out: set[str] | None = None,
) -> pl.DataFrame:
    """Deal patients to test and folds, stratum by stratum.

    Args:
        patients: A row per patient with ``patient_id`` and ``stratum``.
        folds: Number of folds, at least 2.
        test: Share of each stratum held out, at least 0 and below 1.
        seed: Seed of the draw.
        held_out: The test patients, where they are given.

    Returns:
        patient_id, split, fold; a row per patient.
    """
    if folds < 2:
        raise CohortError(f"--folds is {folds}; at least 2 are needed to validate")
    if not 0 <= test < 1:
        raise CohortError(f"--test is {test}; at least 0 and below 1 are accepted")
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, int | None]] = []
    turn = 0
    for stratum in sorted(set(patients["stratum"])):
        names = sorted(patients.filter(pl.col("stratum") == stratum)["patient_id"])
        order = [names[i] for i in rng.permutation(len(names))]
        if held_out is None:
            count = _rounded(len(order) * test, rng)
            tested, kept = order[:count], order[count:]
        else:
            tested = [name for name in order if name in held_out]
            kept = [name for name in order if name not in held_out]
        rows += [(name, "test", None) for name in tested]
        # Dealing goes on where the last stratum stopped, so that folds stay equal in size.
        rows += [(name, "train", (turn + i) % folds) for i, name in enumerate(kept)]
        turn += len(kept)
    if sum(split == "train" for _, split, _ in rows) < folds:
        raise CohortError(f"too few patients for {folds} folds: {patients.height} in all")
    schema = {"patient_id": pl.String(), "split": pl.String(), "fold": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def read_splits(cohort: Path) -> pl.DataFrame:
    """Read the splits and check that no patient is in two.

    Raises:
        CohortError: If there are none, or a patient is in two splits or folds.
    """
    splits = read_table(Path(cohort) / "splits.parquet", "run mammoscope split first")
    places = splits.group_by("patient_id").agg(
        pl.struct("split", "fold").n_unique().alias("places")
    )
    torn = places.filter(pl.col("places") > 1).height
    if torn:
        raise CohortError(f"{cohort}/splits.parquet has {torn} patients in more than one split")
    return splits


def _patients(manifest: pl.DataFrame, label: str) -> pl.DataFrame:
    positive = pl.col(label).max().fill_null(-1).cast(pl.String())
    site = pl.col("site_id").drop_nulls().first().fill_null("")
    return manifest.group_by("patient_id").agg(
        pl.concat_str([positive, site], separator="|").alias("stratum")
    )


def _patients_of(manifest: pl.DataFrame, sources: Collection[str]) -> set[str]:
    """Return the patients of sources, none of whom is in another."""
    known = sorted(set(manifest["source"].drop_nulls()))
    strange = sorted(set(sources) - set(known))
    if strange:
        raise CohortError(
            f"--train-only {strange[0]} is not a source of the cohort; its manifest has "
            f"{', '.join(known) or 'none'}"
        )
    is_extra = pl.col("source").is_in(list(sources)).fill_null(value=False)
    parts = manifest.group_by("patient_id").agg(any=is_extra.any(), all=is_extra.all())
    torn = parts.filter(pl.col("any") != pl.col("all")).height
    if torn:
        raise CohortError(
            f"{torn} patients of --train-only {', '.join(sources)} are in another source too, "
            "which is validated and tested: merge with --patients apart, or name all their sources"
        )
    return set(parts.filter(pl.col("any"))["patient_id"])


def _held_out_by(manifest: pl.DataFrame, column: str) -> set[str]:
    if column not in manifest.columns:
        raise CohortError(f"the manifest has no column {column!r}; --by split is the usual one")
    words = manifest.select("patient_id", pl.col(column).cast(pl.String()).str.to_lowercase())
    strange = set(words[column].fill_null("")) - _TEST_WORDS - _TRAIN_WORDS
    if strange:
        raise CohortError(
            f"column {column} holds {sorted(strange)[:5]}; accepted: "
            f"{', '.join(sorted(_TRAIN_WORDS | _TEST_WORDS))}"
        )
    is_test = pl.col(column).is_in(list(_TEST_WORDS))
    parts = words.group_by("patient_id").agg(is_test.any().alias("any"), is_test.all().alias("all"))
    torn = parts.filter(pl.col("any") != pl.col("all")).height
    if torn:
        raise CohortError(
            f"column {column} puts {torn} patients in both train and test; a patient's "
            "images belong together"
        )
    return set(parts.filter(pl.col("any"))["patient_id"])


def _rounded(value: float, rng: np.random.Generator) -> int:
    """Round at random by the remainder, so that small strata are held out in proportion."""
    whole = int(value)
    return whole + int(rng.random() < value - whole)
