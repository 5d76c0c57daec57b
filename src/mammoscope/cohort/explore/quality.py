"""How well the breast was cut out, and which images to look at first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import polars as pl

from mammoscope.cohort.explore.tables import in_order
from mammoscope.cohort.manifest import Reject

__all__ = ["quality"]

_WORST = 24
#: Shares kept, below which images are counted; the first is also where it is called a fault.
_KEPT_STEPS = (0.9, 0.7, 0.5)
# Outside these shares of the image, what was found is seldom a whole breast and nothing else.
_LEAST_BREAST, _MOST_BREAST = 0.06, 0.8
# From this quality on, nothing is looked for that could explain it.
_SOUND = 0.95


def quality(facts: pl.DataFrame, frame: pl.DataFrame, rejects: list[Reject]) -> dict[str, Any]:
    """Summarise what ``prepare`` found, and list the worst images first.

    Args:
        facts: From ``PreparedStore.facts``: image_id, breast_fraction (of the image),
            kept_fraction (of the bright region that hangs together with the breast),
            borders of the original that the breast touches ("left,top"), quality (worst is
            lowest), warnings (sentences joined by "; "), decoder.
        frame: From :func:`~.tables.described`.
        rejects: Of the cohort; those of ``prepare`` are counted.
    """
    words = frame.select("image_id", "machine_id", "laterality", "view", "cancer")
    joined = facts.join(words, on="image_id", how="inner").with_columns(_named_borders())
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


def _named_borders() -> pl.Expr:
    """Name left and right by what lies there: the breast always touches the chest wall's."""
    left_wall = (pl.col("laterality") == "L") ^ _disagrees()
    borders = pl.col("borders").fill_null("")
    wall, nipple = ["chest wall", "nipple side"], ["nipple side", "chest wall"]
    return (
        pl.when(left_wall)
        .then(borders.str.replace_many(["left", "right"], wall))
        .otherwise(borders.str.replace_many(["left", "right"], nipple))
        .alias("borders")
    )


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
            (pl.col("kept_fraction") < _KEPT_STEPS[0]).sum().alias("kept_below"),
            pl.col("borders").str.contains("nipple side").sum().alias("nipple_side"),
            (pl.col("warnings").fill_null("") != "").sum().alias("with_warnings"),
            _disagrees().sum().alias("disagreements"),
        )
        .to_dicts()
    )
    return sorted(rows, key=lambda row: in_order(row["machine_id"]))


def _worst_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return one image with what is wrong with it, in words."""
    names = ("image_id", "laterality", "view", "machine_id", "quality", "kept_fraction",
             "breast_fraction", "borders", "decoder")  # fmt: skip
    return {name: row[name] for name in names} | {"wrong": list(_wrong(row))}


def _wrong(row: dict[str, Any]) -> Iterator[str]:
    """Say by which factors of :func:`~mammoscope.preprocessing.quality.mask_quality` it is low."""
    breast, kept = row["breast_fraction"], row["kept_fraction"]
    low_kept = kept is not None and kept < _KEPT_STEPS[0]
    odd_area = breast is not None and not _LEAST_BREAST <= breast <= _MOST_BREAST
    if low_kept:
        yield f"the mask keeps {100 * kept:.1f} % of what is bright around it"
    if odd_area:
        yield f"the breast covers {100 * breast:.1f} % of the image"
    touched = [border for border in row["borders"].split(",") if border and border != "chest wall"]
    if touched:
        yield f"the breast touches {', '.join(touched)}"
    explained = low_kept or odd_area or "nipple side" in touched
    if row["quality"] is not None and row["quality"] < _SOUND and not explained:
        # The two factors that are left, of which no figure is kept.
        yield "the outline is ragged or the breast is hardly brighter than air"
    if row["warnings"]:
        yield row["warnings"]
