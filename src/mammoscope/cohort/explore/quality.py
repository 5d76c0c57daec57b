"""How well the breast was cut out, and which images to look at first."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from mammoscope.cohort.explore.tables import in_order
from mammoscope.cohort.manifest import Reject

__all__ = ["quality"]

_WORST = 24
#: Shares of the breast kept by the crop, below which images are counted.
_KEPT_STEPS = (0.999, 0.99, 0.95, 0.90)


def quality(facts: pl.DataFrame, frame: pl.DataFrame, rejects: list[Reject]) -> dict[str, Any]:
    """Summarise what ``prepare`` found, and list the worst images first.

    Args:
        facts: From ``PreparedStore.facts``: image_id, breast_fraction, kept_fraction,
            borders, quality (worst is lowest), warnings, decoder.
        frame: From :func:`~.tables.described`.
        rejects: Of the cohort; those of ``prepare`` are counted.
    """
    words = frame.select("image_id", "machine_id", "laterality", "view", "cancer")
    joined = facts.join(words, on="image_id", how="inner")
    worst = joined.sort("quality", "image_id", nulls_last=False).head(_WORST)
    return {
        "images": joined.height,
        "quantiles": {
            name: _quantiles(joined[name])
            for name in ("quality", "kept_fraction", "breast_fraction")
        },
        "kept_below": [
            {"share": step, "images": int((joined["kept_fraction"] < step).sum())}
            for step in _KEPT_STEPS
        ],
        "borders": _counted(joined["borders"], ","),
        "warnings": _counted(joined["warnings"], "; "),
        "disagreements": int(joined.select(_disagrees()).to_series().sum()),
        "decoders": dict(sorted(joined["decoder"].fill_null("unknown").value_counts().iter_rows())),
        "refused": [
            {"reason": reason, "images": count}
            for reason, count in sorted(
                Counter(str(r.reason) for r in rejects if r.stage == "prepare").items()
            )
        ],
        "machines": _by_machine(joined),
        "worst": [_worst_row(row) for row in worst.to_dicts()],
    }


def _disagrees() -> pl.Expr:
    """Whether the side of the chest wall contradicts the laterality, as the preprocessor says."""
    return pl.col("warnings").fill_null("").str.contains("chest wall lies on", literal=True)


def _quantiles(values: pl.Series) -> dict[str, float | None]:
    names = {"least": 0.0, "p01": 0.01, "p05": 0.05, "median": 0.5, "p95": 0.95, "most": 1.0}
    return {name: values.quantile(share, "linear") for name, share in names.items()}


def _counted(values: pl.Series, separator: str) -> list[dict[str, Any]]:
    """Count the items of strings that list several."""
    counts: Counter[str] = Counter()
    for text, images in values.fill_null("").value_counts().iter_rows():
        for item in {part.strip() for part in text.split(separator)} - {""}:
            counts[item] += images
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"what": what, "images": images} for what, images in ranked]


def _by_machine(joined: pl.DataFrame) -> list[dict[str, Any]]:
    rows = (
        joined.group_by("machine_id")
        .agg(
            pl.len().alias("images"),
            pl.col("quality").median().alias("quality_median"),
            pl.col("quality").quantile(0.05, "linear").alias("quality_p05"),
            (pl.col("kept_fraction") < 0.99).sum().alias("kept_below_99"),
            (pl.col("warnings").fill_null("") != "").sum().alias("with_warnings"),
            _disagrees().sum().alias("disagreements"),
        )
        .to_dicts()
    )
    return sorted(rows, key=lambda row: in_order(row["machine_id"]))


def _worst_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return one image with what is wrong with it, in words."""
    wrong = []
    if row["kept_fraction"] is not None and row["kept_fraction"] < _KEPT_STEPS[0]:
        wrong.append(f"keeps {row['kept_fraction']:.1%} of the breast".replace("%", " %"))
    if row["borders"]:
        wrong.append("breast touches " + ", ".join(part for part in row["borders"].split(",")))
    if row["warnings"]:
        wrong.append(row["warnings"])
    names = ("image_id", "laterality", "view", "machine_id", "quality", "kept_fraction",
             "breast_fraction", "borders", "decoder")  # fmt: skip
    return {name: row[name] for name in names} | {"wrong": wrong}
