"""What the tables of a cohort say: counts, balance, missing values, exams, sizes, encodings."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import polars as pl
from pydicom.uid import UID

from mammoscope.cohort.explore.clustered import shares_by
from mammoscope.cohort.manifest import MANIFEST_SCHEMA, Reject
from mammoscope.types import SCREENING_VIEWS

__all__ = [
    "ATTRIBUTES",
    "about",
    "balance",
    "described",
    "encodings",
    "exams",
    "in_order",
    "missing",
    "sizes",
]

#: Columns by which the class balance is counted, with their names for people.
ATTRIBUTES = {
    "source": "source",
    "site_id": "site",
    "machine_id": "machine",
    "view": "view",
    "laterality": "laterality",
    "age_band": "age band",
    "density": "density",
    "implant": "implant",
    "birads": "BI-RADS",
    "split": "split",
}
_LARGEST = 12


def described(manifest: pl.DataFrame, splits: pl.DataFrame | None) -> pl.DataFrame:
    """Return the manifest with the words that the report groups by.

    Adds ``age_band``, writes ``implant`` as no and yes, and takes ``split`` from the cohort's
    own splits where there are any.
    """
    frame = manifest.with_columns(
        _age_band().alias("age_band"),
        pl.col("implant").replace_strict({0: "no", 1: "yes"}, return_dtype=pl.String()),
    )
    if splits is None:
        return frame
    own = splits.select("image_id", "split")
    return frame.drop("split").join(own, on="image_id", how="left")


def _age_band() -> pl.Expr:
    """Return the decade of the age, whose ends are open."""
    age = pl.col("age")
    decade = (age // 10 * 10).cast(pl.Int64())
    return (
        pl.when(age.is_null())
        .then(None)
        .when(age < 40)
        .then(pl.lit("under 40"))
        .when(age >= 80)
        .then(pl.lit("80 and over"))
        .otherwise(pl.format("{} to {}", decade, decade + 9))
    )


def in_order(level: str | None) -> tuple[int, list[tuple[int, int, str]]]:
    """Return a key that sorts words as people do: 2 before 10, unknown last."""
    if level is None:
        return 2, []
    parts = re.findall(r"\d+|\D+", level)
    numbered = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return int(level.startswith("others")), [(0, 0, "")] if level == "under 40" else numbered


def about(frame: pl.DataFrame, rejects: list[Reject]) -> dict[str, Any]:
    """Count patients, exams, breasts, images and positives, and what was refused."""
    exam, breast = ["patient_id", "exam_id"], ["patient_id", "exam_id", "laterality"]
    positive = frame.filter(pl.col("cancer") == 1)
    refused = Counter((reject.stage, reject.reason) for reject in rejects)
    return {
        "sources": _counted(frame["source"]),
        "images": frame.height,
        "patients": frame["patient_id"].n_unique(),
        "exams": frame.select(exam).n_unique(),
        "breasts": frame.select(breast).n_unique(),
        "positives": {
            "images": positive.height,
            "breasts": positive.select(breast).n_unique(),
            "exams": positive.select(exam).n_unique(),
            "patients": positive["patient_id"].n_unique(),
        },
        "unlabelled": frame["cancer"].null_count(),
        "rejects": [
            {"stage": stage, "reason": str(reason), "count": count}
            for (stage, reason), count in sorted(refused.items())
        ],
    }


def _counted(values: pl.Series) -> dict[str, int]:
    """Count words, the commonest first and ties by name, whatever order threads end in."""
    counts = values.value_counts()
    return dict(counts.sort("count", values.name, descending=[True, False]).iter_rows())


def balance(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Count images and cancers at every level of every attribute.

    Returns:
        By attribute: ``levels``, rows of :func:`~.clustered.shares_by` in people's order, of
        which at most the largest twelve by name; ``share`` over all.
    """
    known = frame["cancer"].drop_nulls()
    overall = int((known == 1).sum()) / len(known) if len(known) else None
    made = {}
    for column, name in ATTRIBUTES.items():
        if frame[column].null_count() == frame.height:
            continue
        rows = shares_by(_lumped(frame, column), column, "cancer").to_dicts()
        rows.sort(key=lambda row: in_order(row["level"]))
        made[column] = {"name": name, "share": overall, "levels": rows}
    return made


def _lumped(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Put all but the largest levels together."""
    counts = _counted(frame[column].drop_nulls())
    if len(counts) <= _LARGEST:
        return frame
    kept = list(counts)[:_LARGEST]
    others = f"others ({len(counts) - _LARGEST})"
    return frame.with_columns(
        pl.when(pl.col(column).is_in(kept) | pl.col(column).is_null())
        .then(pl.col(column))
        .otherwise(pl.lit(others))
    )


def missing(frame: pl.DataFrame) -> dict[str, Any]:
    """Count nulls of every column of the manifest, over all and by site."""
    columns = [name for name in MANIFEST_SCHEMA if name in frame.columns and name != "notes"]
    whole = frame.select(pl.col(columns).null_count()).row(0, named=True)
    nulls = pl.col([name for name in columns if name != "site_id"]).null_count()
    of_sites = frame.group_by("site_id").agg(pl.len().alias("_images"), nulls).to_dicts()
    of_sites.sort(key=lambda row: in_order(row["site_id"]))
    some = [name for name in columns if 0 < whole[name] < frame.height]
    return {
        "images": frame.height,
        "sites": [{"site": row["site_id"], "images": row["_images"]} for row in of_sites],
        "complete": [name for name in columns if whole[name] == 0],
        "absent": [name for name in columns if whole[name] == frame.height],
        "columns": [
            {
                "column": name,
                "missing": whole[name],
                "by_site": [
                    # The site itself is missing where the group of images has none.
                    (row["_images"] if row["site_id"] is None else 0)
                    if name == "site_id"
                    else row[name]
                    for row in of_sites
                ],
            }
            for name in some
        ],
    }


def exams(frame: pl.DataFrame) -> dict[str, Any]:
    """Count images per exam, complete exams, and which of the four views are missing."""
    place = pl.concat_str("laterality", "view", separator=" ")
    grouped = frame.group_by("patient_id", "exam_id").agg(
        pl.len().alias("images"), place.unique().alias("views")
    )
    wanted = [f"{side} {view}" for side, view in SCREENING_VIEWS]
    has = [pl.col("views").list.contains(word).alias(word) for word in wanted]
    there = grouped.select("images", *has)
    patterns: Counter[str] = Counter()
    for row in there.group_by(wanted).len().sort(wanted).iter_rows(named=True):
        lost = [word for word in wanted if not row[word]]
        patterns[", ".join(lost) or "none"] += row["len"]
    repeated = frame.group_by("patient_id", "exam_id", "laterality", "view").len()
    return {
        "exams": grouped.height,
        "images_per_exam": {
            str(images): count
            for images, count in sorted(there["images"].value_counts().iter_rows())
        },
        "complete": patterns.get("none", 0),
        "missing_views": [
            {"views": views, "exams": count} for views, count in patterns.most_common() if count
        ],
        "repeated_views": repeated.filter(pl.col("len") > 1).height,
    }


def sizes(frame: pl.DataFrame) -> dict[str, Any]:
    """Count sizes by machine, with the true aspect (width over height) of each."""
    aspect = pl.col("columns") * pl.col("pixel_aspect").fill_null(1.0) / pl.col("rows")
    true = frame.with_columns(aspect.alias("aspect"))
    grouped = (
        true.group_by("rows", "columns", "machine_id")
        .agg(
            pl.len().alias("images"),
            pl.col("aspect").min().alias("aspect_min"),
            pl.col("aspect").max().alias("aspect_max"),
        )
        .sort("images", "rows", "columns", "machine_id", descending=[True, False, False, False])
    )
    kept = grouped.head(_LARGEST)
    return {
        "distinct": true.select("rows", "columns").n_unique(),
        "largest": kept.to_dicts(),
        "others": grouped.height - kept.height,
        "images_of_others": frame.height - int(kept["images"].sum()),
    }


def encodings(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Count photometric interpretation, bits and transfer syntax by machine."""
    keys = ["machine_id", "photometric_interpretation", "bits_stored", "transfer_syntax_uid"]
    grouped = frame.group_by(keys).agg(pl.len().alias("images"))
    rows = grouped.to_dicts()
    rows.sort(key=lambda row: (in_order(row["machine_id"]), -row["images"], str(row)))
    for row in rows:
        uid = row["transfer_syntax_uid"]
        row["transfer_syntax"] = UID(uid).name if uid else None
    return rows
