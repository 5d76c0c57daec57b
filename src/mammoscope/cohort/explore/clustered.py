"""Shares and means of groups of images, where images of one patient count together.

Four images of one woman are not four women. The share of each level keeps its own design
effect: by how much the images of a patient, being alike, widen its variance. Counts divided
by it are effective counts, to which the ordinary interval and test apply.

Source: Rao and Scott, A simple method for the analysis of clustered binary data, Biometrics
48, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mammoscope.statistics import chi_square_tail, pearson_chi_square, wilson_interval

__all__ = ["Outcome", "compare_means", "compare_shares", "shares_by"]

# Cochran's rule: below so many expected, the chi-square distribution does not hold.
_LEAST_EXPECTED = 5.0
# A mean of fewer patients has no variance to speak of.
_LEAST_PATIENTS = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test says.

    Attributes:
        statistic: Chi-square.
        df: Its degrees of freedom.
        p: Chance of a larger one if all levels were alike.
        levels: Row by row the levels compared, with their figures.
        pooled: Levels too small to stand alone.
    """

    statistic: float
    df: int
    p: float
    levels: list[dict[str, Any]]
    pooled: list[str]


def shares_by(frame: pl.DataFrame, column: str, outcome: str) -> pl.DataFrame:
    """Return the share of an outcome at each level of a column, with its interval.

    Args:
        frame: With ``patient_id``, the column, and the outcome: 0, 1 or null.
        column: Its nulls make a level of their own.
        outcome: Null is unknown: counted in ``images``, not in the share.

    Returns:
        A row per level: level, images, patients, known, positives, positive_patients, share,
        low, high (Wilson, 95 %, of effective counts), design_effect. Share and what follows
        are null where nothing is known.
    """
    y = pl.col(outcome)
    counted = frame.group_by(pl.col(column).alias("level"), maintain_order=True).agg(
        pl.len().alias("images"),
        pl.col("patient_id").n_unique().alias("patients"),
        y.is_not_null().sum().alias("known"),
        (y == 1).sum().alias("positives"),
        pl.col("patient_id").filter(y == 1).n_unique().alias("positive_patients"),
    )
    by_patient = (
        frame.filter(y.is_not_null())
        .group_by(pl.col(column).alias("level"), "patient_id", maintain_order=True)
        .agg(pl.len().alias("m"), (y == 1).sum().alias("x"))
    )
    spread = (
        by_patient.join(counted, on="level", nulls_equal=True, maintain_order="left")
        .with_columns((pl.col("positives") / pl.col("known")).alias("share"))
        .group_by("level", maintain_order=True)
        .agg(
            pl.col("share").first(),
            ((pl.col("x") - pl.col("m") * pl.col("share")) ** 2).sum().alias("between"),
            (pl.col("m").cast(pl.Float64) ** 2).sum().alias("squares"),
        )
    )
    joined = counted.join(spread, on="level", how="left", nulls_equal=True, maintain_order="left")
    binomial = pl.col("known") * pl.col("share") * (1 - pl.col("share"))
    # Rao and Scott's estimate, less its factor m / (m - 1), so that one image per patient is
    # exactly the plain interval and test; never below 1, which would claim more images than are.
    # Where all images agree there is nothing to estimate from: a patient's are taken as one.
    effect = (
        pl.when(binomial > 0)
        .then(pl.col("between") / binomial)
        .otherwise(pl.col("squares") / pl.col("known"))
    )
    joined = joined.with_columns(effect.clip(lower_bound=1.0).alias("design_effect"))
    known = joined["known"].to_numpy().astype(np.float64)
    effects = joined["design_effect"].fill_null(1.0).to_numpy()
    total = np.where(known > 0, known, 1.0) / effects
    low, high = wilson_interval(joined["positives"].to_numpy() / effects, total)
    ends = pl.DataFrame({"low": low.clip(0, 1), "high": high.clip(0, 1), "there": known > 0})
    return (
        joined.hstack(ends)
        .with_columns(pl.when("there").then(pl.col("low", "high", "design_effect")))
        .select(
            "level", "images", "patients", "known", "positives", "positive_patients", "share",
            "low", "high", "design_effect",
        )
    )  # fmt: skip


def compare_shares(shares: pl.DataFrame) -> Outcome | None:
    """Test whether the levels of :func:`shares_by` have the same share.

    Levels whose expected effective counts are too few are pooled, and left out if they are
    too few even together. The level of unknowns is not compared.

    Returns:
        ``None`` if fewer than two levels can be compared.
    """
    known = shares.filter((pl.col("known") > 0) & pl.col("level").is_not_null())
    if known.height < 2:
        return None
    effect = pl.col("design_effect")
    effective = known.select(
        "level",
        "known",
        count=pl.col("positives"),
        total=pl.col("known") / effect,
        positives=pl.col("positives") / effect,
    ).sort("total", "level", descending=[True, False])
    rows, pooled = _large_enough(effective)
    positives = np.array([row["positives"] for row in rows], np.float64)
    total = np.array([row["total"] for row in rows], np.float64)
    if len(rows) < 2 or not 0 < positives.sum() < total.sum():
        return None
    statistic = pearson_chi_square(positives, total)
    df = len(rows) - 1
    levels = [
        {
            "level": row["level"],
            "images": row["known"],
            "positives": row["count"],
            "value": row["count"] / row["known"],
        }
        for row in rows
    ]
    return Outcome(statistic, df, chi_square_tail(statistic, df), levels, pooled)


def _large_enough(effective: pl.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """Pool the levels that expect too few; returns rows to compare, and what was pooled."""
    positives, total = (effective[name].to_numpy().sum() for name in ("positives", "total"))
    share = float(positives / total)
    expected = pl.col("total") * min(share, 1 - share)
    small = effective.filter(expected < _LEAST_EXPECTED)
    rows = effective.filter(expected >= _LEAST_EXPECTED).to_dicts()
    others = small.drop("level").sum().filter(expected >= _LEAST_EXPECTED)
    rows += [{"level": "others", **row} for row in others.to_dicts()]
    return rows, small["level"].to_list()


def compare_means(frame: pl.DataFrame, column: str, value: str) -> Outcome | None:
    """Test whether the levels of a column have the same mean, each patient counted once.

    Welch's comparison of means with unequal variances, in its large-sample form: the weighted
    sum of squares around the weighted mean is chi-square with K - 1 degrees.

    Returns:
        ``None`` if fewer than two levels have enough patients.

    Source: James, Biometrika 38, 1951.
    """
    by_patient = (
        frame.filter(pl.col(column).is_not_null() & pl.col(value).is_not_null())
        .group_by(pl.col(column).alias("level"), "patient_id", maintain_order=True)
        .agg(pl.col(value).mean(), pl.len().alias("images"))
    )
    groups = (
        by_patient.group_by("level", maintain_order=True)
        .agg(
            pl.len().alias("patients"),
            pl.col("images").sum(),
            pl.col(value).mean().alias("mean"),
            pl.col(value).var().alias("variance"),
        )
        .sort("level")
    )
    large = groups.filter((pl.col("patients") >= _LEAST_PATIENTS) & (pl.col("variance") > 0))
    if large.height < 2:
        return None
    mean = large["mean"].to_numpy()
    weight = large["patients"].to_numpy() / large["variance"].to_numpy()
    centre = np.average(mean, weights=weight)
    statistic = float((weight * (mean - centre) ** 2).sum())
    df = large.height - 1
    levels = [
        {k: row[k] for k in ("level", "images", "patients")} | {"value": row["mean"]}
        for row in large.to_dicts()
    ]
    left_out = groups.join(large, on="level", how="anti")["level"].cast(pl.String()).to_list()
    return Outcome(statistic, df, chi_square_tail(statistic, df), levels, left_out)
