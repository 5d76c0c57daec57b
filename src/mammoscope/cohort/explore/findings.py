"""How far the annotations can be trusted: boxes against images, findings against labels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Protocol

import polars as pl

from mammoscope.errors import CohortError
from mammoscope.preprocessing import Geometry

__all__ = ["crops_of", "judge_findings"]

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_COLUMNS = ("finding_id", "image_id", "kind", "malignant", *_CORNERS, "mask")
_EXAMPLES = 10
#: Share of a box that the crop keeps, below which it counts as cut.
_CUT = 0.99
#: Shares of the image's area between which boxes are counted.
_AREA_STEPS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


class Cropped(Protocol):
    """What is asked of a store of prepared images."""

    def read_geometry(self, image_id: str) -> Geometry:
        """Return where the crop of one image lies."""
        ...


def crops_of(store: Cropped, image_ids: Iterable[str]) -> pl.DataFrame:
    """Return the crop of prepared images as boxes in pixels of the original."""
    rows = []
    for name in image_ids:
        geometry = store.read_geometry(name)
        x_min, y_min, x_max, y_max = geometry.crop
        if geometry.mirrored:
            x_min, x_max = geometry.original_width - x_max, geometry.original_width - x_min
        rows.append((name, x_min, y_min, x_max, y_max))
    schema = {"image_id": pl.String()} | {f"crop_{n}": pl.Float64() for n in _CORNERS}
    return pl.DataFrame(rows, schema=schema, orient="row")


def judge_findings(
    findings: pl.DataFrame, frame: pl.DataFrame, crops: pl.DataFrame | None = None
) -> dict[str, Any]:
    """Count findings by kind, boxes by size, and what contradicts images or labels.

    Args:
        findings: ``findings.parquet``: boxes half-open, in pixels of the original image.
        frame: The manifest.
        crops: From :func:`crops_of`, if images are prepared.

    Raises:
        CohortError: If a column is missing.
    """
    lost = [name for name in _COLUMNS if name not in findings.columns]
    if lost:
        raise CohortError(f"findings.parquet lacks the columns {', '.join(lost)}")
    words = frame.select("image_id", "patient_id", "rows", "columns", "cancer")
    joined = findings.select(_COLUMNS).join(words, on="image_id", how="left")
    strays = joined.filter(pl.col("patient_id").is_null())
    known = joined.filter(pl.col("patient_id").is_not_null())
    boxed = _boxed(known)
    faults = {
        "findings of images that the cohort does not hold": strays,
        "findings with neither box nor mask": _shapeless(known),
        "boxes with no area": boxed.filter(pl.col("area") <= 0),
        "boxes that reach outside their image": boxed.filter("outside"),
        **_against_labels(known, frame),
        **({} if crops is None else _against_crops(boxed, crops)),
    }
    return {
        "findings": findings.height,
        "images": known["image_id"].n_unique(),
        "patients": known["patient_id"].n_unique(),
        "kinds": _kinds(known),
        "per_image": _per_image(known, frame),
        "with_box": boxed.height,
        "with_mask": known.height - known["mask"].null_count(),
        "areas": _areas(boxed.filter(pl.col("area") > 0)),
        "faults": [
            {
                "what": what,
                "count": rows.height,
                "examples": rows["image_id"].unique().sort().head(_EXAMPLES).to_list(),
            }
            for what, rows in faults.items()
        ],
    }


def _boxed(known: pl.DataFrame) -> pl.DataFrame:
    """Return findings with a box, its area in pixels, and whether it leaves its image."""
    width, height = pl.col("x_max") - pl.col("x_min"), pl.col("y_max") - pl.col("y_min")
    left = (pl.col("x_min") < 0) | (pl.col("x_max") > pl.col("columns"))
    above = (pl.col("y_min") < 0) | (pl.col("y_max") > pl.col("rows"))
    return known.drop_nulls(list(_CORNERS)).with_columns(
        # Two negative sides are no area.
        (width.clip(lower_bound=0) * height.clip(lower_bound=0)).alias("area"),
        (left | above).alias("outside"),
    )


def _against_labels(known: pl.DataFrame, frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    malignant, cancer = pl.col("malignant") == 1, pl.col("cancer")
    positive = frame.filter(cancer == 1)
    # Of a finding whose nature is unknown nothing can be said.
    benign = known.group_by("image_id").agg((pl.col("malignant") == 0).fill_null(value=False).all())
    return {
        "malignant findings on images labelled negative": known.filter(malignant & (cancer == 0)),
        "positive images without a finding": positive.join(known, on="image_id", how="anti"),
        "positive images whose findings are all benign": positive.join(
            benign.filter("malignant"), on="image_id", how="semi"
        ),
    }


def _against_crops(boxed: pl.DataFrame, crops: pl.DataFrame) -> dict[str, pl.DataFrame]:
    joined = boxed.filter(pl.col("area") > 0).join(crops, on="image_id", how="inner")
    sides = [
        pl.min_horizontal(f"{axis}_max", f"crop_{axis}_max")
        - pl.max_horizontal(f"{axis}_min", f"crop_{axis}_min")
        for axis in ("x", "y")
    ]
    width, height = (side.clip(lower_bound=0) for side in sides)
    kept = joined.with_columns((width * height / pl.col("area")).alias("kept"))
    return {
        "boxes of which the crop cuts over 1 %": kept.filter(pl.col("kept") < _CUT),
        "boxes that the crop loses whole": kept.filter(pl.col("kept") == 0),
    }


def _shapeless(known: pl.DataFrame) -> pl.DataFrame:
    corners = pl.any_horizontal(pl.col(_CORNERS).is_null())
    return known.filter(corners & pl.col("mask").is_null())


def _kinds(known: pl.DataFrame) -> list[dict[str, Any]]:
    return (
        known.group_by("kind")
        .agg(
            pl.len().alias("findings"),
            pl.col("image_id").n_unique().alias("images"),
            pl.col("patient_id").n_unique().alias("patients"),
            (pl.col("malignant") == 1).sum().alias("malignant"),
            (pl.col("malignant") == 0).sum().alias("benign"),
            pl.col("malignant").null_count().alias("unknown"),
        )
        .sort("findings", "kind", descending=[True, False])
        .to_dicts()
    )


def _per_image(known: pl.DataFrame, frame: pl.DataFrame) -> dict[str, int]:
    counts = known.group_by("image_id").len()["len"].value_counts().sort("len")
    none = frame.height - known["image_id"].n_unique()
    return {"0": none, **{str(n): images for n, images in counts.iter_rows()}}


def _areas(boxed: pl.DataFrame) -> dict[str, Any]:
    area = boxed.select(pl.col("area") / (pl.col("rows") * pl.col("columns"))).to_series()
    steps = list(pairwise(_AREA_STEPS))
    inside = [int(((area >= low) & (area < high)).sum()) for low, high in steps]
    inside[-1] += int((area >= _AREA_STEPS[-1]).sum())
    names = {"p05": 0.05, "median": 0.5, "p95": 0.95}
    return {
        "quantiles": {name: area.quantile(share, "linear") for name, share in names.items()},
        "counts": [
            {"from": low, "to": high, "boxes": boxes}
            for (low, high), boxes in zip(steps, inside, strict=True)
        ],
    }
