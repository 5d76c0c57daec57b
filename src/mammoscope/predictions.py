"""What a graph says of prepared images, as a table: the only way from pixels to predictions."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from mammoscope.bundle import OTHER_PROJECTION, PROJECTIONS, SIDES
from mammoscope.cohort.store import PreparedStore
from mammoscope.evaluation.pointing import HEAT_COLUMNS
from mammoscope.explain import hottest_point
from mammoscope.inference import ExamInput, Scorer
from mammoscope.training.units import Unit, group_units
from mammoscope.types import FloatImage

__all__ = ["exam_input", "heat_place", "predicted", "seen_place", "table_of"]

Progress = Callable[[int, int], None]


def predicted(
    rows: pl.DataFrame,
    store: PreparedStore,
    scorer: Scorer,
    label: str,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return a row per image with the graph's logits, as ``predictions.parquet`` has them.

    Args:
        rows: Which images, from the store's rows.
        store: Where they are.
        scorer: The graph.
        label: Column that is told as ``cancer``.
        progress: Called with (done, total) images.
    """
    if scorer.level != "image":
        return table_of(rows, _of_exams(rows, store, scorer, label, progress), label)
    made = []
    for done, image_id in enumerate(rows["image_id"], start=1):
        scored = scorer([store.read(image_id)])
        logit = {"logit": float(scored.logit[0])}
        made.append(logit | heat_place(store, image_id, scored.heatmap[0]))
        if progress is not None:
            progress(done, rows.height)
    return table_of(rows, made, label)


def _of_exams(
    rows: pl.DataFrame,
    store: PreparedStore,
    scorer: Scorer,
    label: str,
    progress: Progress | None,
) -> list[dict[str, float]]:
    """Score exam by exam; a row tells the logits of its image, its breast and its exam."""
    made: dict[str, dict[str, float]] = {}
    for exam in group_units(rows, "exam", label):
        scores = scorer.exam(exam_input(exam, store))
        for place, name in enumerate(exam.image_ids):
            made[name] = {
                "logit": float(scores.images.logit[place]),
                "breast_logit": scores.breasts[SIDES[exam.sides[place]]][0],
                **({"exam_logit": scores.exam[0]} if scores.exam else {}),
                **heat_place(store, name, scores.images.heatmap[place]),
            }
        if progress is not None:
            progress(len(made), rows.height)
    return [made[name] for name in rows["image_id"]]


def table_of(rows: pl.DataFrame, made: list[dict[str, float]], label: str) -> pl.DataFrame:
    """Return predictions: what each image is, its logits, its label, and where it is hottest.

    Args:
        rows: Which images.
        made: Of each, in order, its logits and what else is told; :data:`HEAT_COLUMNS` come last.
        label: Column that is told as ``cancer``.
    """
    names = list(made[0]) if made else ["logit", *HEAT_COLUMNS]
    told = pl.DataFrame(made, schema=dict.fromkeys(names, pl.Float64()))
    return rows.select(
        "image_id",
        "patient_id",
        "exam_id",
        "laterality",
        "view",
        "site_id",
        "fold",
        pl.when(pl.col("split") == "test")
        .then(pl.lit("test"))
        .otherwise(pl.lit("val"))
        .alias("split"),
        *(told[name] for name in names if name not in HEAT_COLUMNS),
        pl.col(label).alias("cancer"),
        *(told[name] for name in names if name in HEAT_COLUMNS),
    )


def heat_place(store: PreparedStore, image_id: str, heatmap: FloatImage) -> dict[str, float]:
    """Return where a heatmap is hottest and where it could have been, in original pixels."""
    x, y = hottest_point(heatmap, store.read_geometry(image_id))
    return {"heat_x": x, "heat_y": y, **seen_place(store, image_id)}


def seen_place(store: PreparedStore, image_id: str) -> dict[str, float]:
    """Return what the network saw of an image, in original pixels, and how many are breast."""
    crop = store.read_geometry(image_id).original_crop
    sides = {f"crop_{side}": getattr(crop, side) for side in ("x_min", "y_min", "x_max", "y_max")}
    return {**sides, "breast_px": store.read_breast_px(image_id)}


def exam_input(exam: Unit, store: PreparedStore) -> ExamInput:
    """Return the prepared images of an exam with what is said of them, as a graph takes them."""
    return ExamInput(
        images=[store.read(name) for name in exam.image_ids],
        lateralities=[SIDES[place] for place in exam.sides],
        views=[PROJECTIONS[p] if p != OTHER_PROJECTION else None for p in exam.projections],
        facts=exam.facts,
    )
