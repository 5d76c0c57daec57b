"""The pointing game: how often the hottest point of a heatmap lies on a lesion.

Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, who count a
point within 15 pixels of the object as a hit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammoscope.artefacts import sha256_file
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.attributes import CohortTable
from mammoscope.evaluation.bootstrap import Interval, draw, honest, interval_of, widened_share
from mammoscope.types import Bools, Floats, Ints

__all__ = [
    "HEAT_COLUMNS",
    "Lesions",
    "Played",
    "mean_over_patients",
    "play",
    "pointing",
    "read_lesions",
    "shares",
    "with_lesions",
]

#: Columns of the predictions on which the game is played, in original pixels: the hottest point
#: of the heatmap, what the network saw, and how many pixels of the original are breast.
HEAT_COLUMNS: dict[str, pl.DataType] = {
    "heat_x": pl.Float64(),
    "heat_y": pl.Float64(),
    "crop_x_min": pl.Float64(),
    "crop_y_min": pl.Float64(),
    "crop_x_max": pl.Float64(),
    "crop_y_max": pl.Float64(),
    "breast_px": pl.Float64(),
}
_SIDES = ("x_min", "y_min", "x_max", "y_max")
# Places at which chance is measured, down and across what the network saw.
_PLACES = (96, 64)
# Images below which a group's figures are kept back.
_LEAST = 10


@dataclass(frozen=True, slots=True)
class Lesions:
    """Boxes of a cohort's findings, or why there are none.

    Attributes:
        rows: image_id, kind, malignant and the sides of each box in original pixels.
        note: Why there are none; empty where there are.
        sha256: Of the table that was read.
    """

    rows: pl.DataFrame | None
    note: str = ""
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """The game on N images with a lesion.

    Attributes:
        hit: (N,) the point lies on a lesion.
        near: (N,) it lies within the tolerance of one.
        chance: (N,) how often a point drawn at random in the breast lies on a lesion.
        chance_near: (N,) the same within the tolerance.
        patient: (N,) the same number for the same patient, from 0 on.
    """

    hit: Bools
    near: Bools
    chance: Floats
    chance_near: Floats
    patient: Ints


def read_lesions(folder: Path, table: CohortTable) -> Lesions:
    """Read the boxes of a cohort's ``findings.parquet``.

    Args:
        folder: The cohort folder.
        table: Its manifest, or why it could not be read.

    Raises:
        RunError: If the table is damaged.
    """
    if table.rows is None:
        return Lesions(None, "the cohort's tables were not read")
    path = Path(folder) / "findings.parquet"
    if not path.is_file():
        return Lesions(None, "the cohort has no findings.parquet")
    needed = ["image_id", "kind", "malignant", *_SIDES]
    try:
        rows = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path} cannot be read as Parquet: {error}") from error
    if missing := [name for name in needed if name not in rows.columns]:
        return Lesions(None, f"findings.parquet lacks the columns {', '.join(missing)}")
    boxes = rows.select(needed).drop_nulls(list(_SIDES))
    if not boxes.height:
        return Lesions(None, "no finding of the cohort has a box")
    return Lesions(boxes, "", sha256_file(path))


def pointing(
    rows: pl.DataFrame,
    lesions: Lesions,
    facts: dict[str, Any],
    threshold: float,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Play the game on the positive images that have a box.

    Lesions known to be benign are left out where cancer is what was learnt.

    Args:
        rows: Predictions of the images that are measured.
        lesions: From :func:`read_lesions`.
        facts: What ``run.json`` holds.
        threshold: The primary operating point of images.
        config: Tolerance, replicates, confidence and seed.

    Returns:
        ``groups`` with shares and intervals, or none and a ``note`` that says why.
    """
    made: dict[str, Any] = {
        "tolerance_px": config.pointing_tolerance_px,
        "findings_sha256": lesions.sha256,
        "least": _LEAST,
        "images": 0,
        "groups": [],
    }
    if lesions.rows is None:
        return {**made, "note": f"The pointing game was not played: {lesions.note}."}
    if missing := [name for name in HEAT_COLUMNS if name not in rows.columns]:
        return {
            **made,
            "note": "The pointing game was not played: the predictions lack the columns "
            f"{', '.join(missing)}, as those of earlier versions do.",
        }
    positives = int((rows["cancer"] == 1).sum())
    played_rows, boxes = with_lesions(rows, lesions.rows, facts)
    made["positives_without_box"] = positives - played_rows.height
    pointed = pl.all_horizontal(pl.col(list(HEAT_COLUMNS)).is_finite().fill_null(value=False))
    without_heat = played_rows.height - played_rows.filter(pointed).height
    made["positives_without_heat"] = without_heat
    played_rows = played_rows.filter(pointed)
    made["images"] = played_rows.height
    if not played_rows.height:
        lacks = f"{positives} positive images has a box"
        if without_heat:
            lacks = f"{without_heat} positive images with a box has a hottest point"
        return {**made, "note": f"The pointing game was not played: none of the {lacks}."}
    played = play(played_rows, boxes, _size(facts), config.pointing_tolerance_px)
    made["groups"] = _groups(played_rows, played, threshold, config)
    return {**made, "note": "", "sentence": _sentence(made["groups"][0])}


def with_lesions(
    rows: pl.DataFrame, boxes: pl.DataFrame, facts: dict[str, Any]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the positive images that have a box, with its kind as ``lesion``, and the boxes.

    Args:
        rows: Predictions.
        boxes: Of a cohort's findings; those known to be benign are left out where cancer is
            what was learnt.
        facts: What ``run.json`` holds.
    """
    if facts["config"]["train"]["label"] in ("cancer", "invasive"):
        boxes = boxes.filter(pl.col("malignant").fill_null(1) != 0)
    kinds = boxes.group_by("image_id").agg(
        pl.when(pl.col("kind").n_unique() == 1)
        .then(pl.col("kind").first().fill_null("unnamed"))
        .otherwise(pl.lit("several kinds"))
        .alias("lesion")
    )
    positive = rows.filter(pl.col("cancer") == 1)
    return positive.join(kinds, on="image_id", how="inner", maintain_order="left"), boxes


def play(
    rows: pl.DataFrame, boxes: pl.DataFrame, size: tuple[int, int], tolerance_px: float
) -> Played:
    """Play the game on rows that all have a box.

    Args:
        rows: image_id, patient_id and :data:`HEAT_COLUMNS`.
        boxes: image_id and the sides of each box, in original pixels.
        size: (H, W) of the network's input.
        tolerance_px: How far off a point may be, in pixels of that input.
    """
    by_image = {
        str(name): part.select(_SIDES).to_numpy()
        for (name,), part in boxes.group_by("image_id", maintain_order=True)
    }
    columns: list[list[float]] = [[], [], [], []]
    for row in rows.iter_rows(named=True):
        sides = by_image[row["image_id"]]
        crop = [row[f"crop_{side}"] for side in _SIDES]
        # The crop fills one axis of the input; the other has room left.
        pixel = max((crop[3] - crop[1]) / size[0], (crop[2] - crop[0]) / size[1])
        reach = tolerance_px * pixel
        away = _distance(np.array([[row["heat_x"], row["heat_y"]]]), sides)[0]
        anywhere = _distance(_places(crop), sides)
        # Places are spread over the crop, of which the breast is a part.
        area = (crop[3] - crop[1]) * (crop[2] - crop[0])
        scale = area / row["breast_px"] if row["breast_px"] > 0 else 1.0
        values = (
            away <= 0,
            away <= reach,
            min(1.0, float((anywhere <= 0).mean()) * scale),
            min(1.0, float((anywhere <= reach).mean()) * scale),
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return Played(
        np.array(columns[0], dtype=np.bool_),
        np.array(columns[1], dtype=np.bool_),
        np.array(columns[2]),
        np.array(columns[3]),
        rows["patient_id"].rank("dense").to_numpy().astype(np.int64) - 1,
    )


def shares(played: Played, chosen: Bools, config: EvaluationConfig) -> dict[str, Any]:
    """Return the shares of some images, each with its interval over patients.

    Returns:
        For ``exact`` and ``tolerant``: ``hit``, ``chance``, and ``above_chance``, their
        difference, each with value, low and high.
    """
    patient = played.patient[chosen]
    made = {}
    for name, hit, chance in (
        ("exact", played.hit, played.chance),
        ("tolerant", played.near, played.chance_near),
    ):
        hits, by_chance = hit[chosen].astype(np.float64), chance[chosen]
        made[name] = {
            "hit": mean_over_patients(hits, patient, config, share=True).as_dict(),
            "chance": Interval(float(by_chance.mean()), None, None).as_dict(),
            "above_chance": mean_over_patients(hits - by_chance, patient, config).as_dict(),
        }
    return made


def mean_over_patients(
    values: Floats, patient: Ints, config: EvaluationConfig, *, share: bool = False
) -> Interval:
    """Return the mean of a value per image, with its interval over patients.

    Args:
        values: (N,).
        patient: (N,) the same number for the same patient.
        config: Replicates, confidence and seed.
        share: The values are 0 and 1; a mean of 0 or 1 then has the exact interval.
    """
    owner = np.unique(patient, return_inverse=True)[1]
    draws = draw(int(owner.max()) + 1, config.bootstrap, config.seed).astype(np.float64)
    sample = (draws @ np.bincount(owner, values)) / (draws @ np.bincount(owner))
    found = interval_of(float(values.mean()), sample, config.confidence)
    return honest(widened_share(found, draws.shape[1], config.confidence) if share else found)


def _groups(
    rows: pl.DataFrame, played: Played, threshold: float, config: EvaluationConfig
) -> list[dict[str, Any]]:
    called = rows["score"].to_numpy() >= threshold
    everyone = np.ones(rows.height, dtype=np.bool_)
    parts: list[tuple[str, str, Bools]] = [("all", "all", everyone)]
    parts += [("call", "called", called), ("call", "missed", ~called)]
    lesion = rows["lesion"].to_numpy()
    parts += [("lesion", str(kind), lesion == kind) for kind in sorted(set(lesion))]
    return [_group(*part, played, config) for part in parts if part[2].any()]


def _group(
    attribute: str, name: str, chosen: Bools, played: Played, config: EvaluationConfig
) -> dict[str, Any]:
    images = int(chosen.sum())
    # All together are shown however few: their interval says how few they are.
    suppressed = attribute != "all" and images < _LEAST
    return {
        "attribute": attribute,
        "group": name,
        "n": images,
        "patients": int(np.unique(played.patient[chosen]).size),
        "suppressed": suppressed,
        **({} if suppressed else shares(played, chosen, config)),
    }


def _distance(points: Floats, boxes: Floats) -> Floats:
    """Return how far each of (P, 2) points lies from the nearest of (K, 4) boxes; 0 within."""
    x, y = points[:, :1], points[:, 1:]
    across = np.maximum(np.maximum(boxes[:, 0] - x, x - boxes[:, 2]), 0.0)
    down = np.maximum(np.maximum(boxes[:, 1] - y, y - boxes[:, 3]), 0.0)
    nearest: Floats = np.hypot(across, down).min(axis=1)
    return nearest


def _places(crop: Iterable[float]) -> Floats:
    """Return the centres of a grid over a crop, (P, 2)."""
    left, top, right, bottom = crop
    y = top + (np.arange(_PLACES[0]) + 0.5) / _PLACES[0] * (bottom - top)
    x = left + (np.arange(_PLACES[1]) + 0.5) / _PLACES[1] * (right - left)
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _size(facts: dict[str, Any]) -> tuple[int, int]:
    return int(facts["preprocess"]["height"]), int(facts["preprocess"]["width"])


def _sentence(everyone: dict[str, Any]) -> str:
    found, chance = everyone["exact"]["hit"], everyone["exact"]["chance"]["value"]
    ends = "" if found["low"] is None else f" ({found['low']:.0%} to {found['high']:.0%})"
    return (
        f"The heatmap's hottest point lies on a lesion in {found['value']:.0%}{ends} of "
        f"{everyone['n']} positive images with a box; a point drawn at random in the breast "
        f"would in {chance:.1%}."
    )
