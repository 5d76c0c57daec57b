"""The predictions of a run as checked arrays, by image, by breast and by exam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammoscope.errors import RunError
from mammoscope.types import Bools, Floats, Ints, Level

__all__ = [
    "Level",
    "Scored",
    "labelled",
    "named_images",
    "read_predictions",
    "scored",
    "uncalibrated",
    "units",
    "with_breast_score",
]

_COLUMNS = (
    "image_id", "patient_id", "exam_id", "laterality", "view", "split", "logit", "score", "cancer",
)  # fmt: skip

_BREAST = ("patient_id", "exam_id", "laterality")


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores with known labels.

    Attributes:
        score: (N,) float64 in [0, 1].
        label: (N,) bool.
        patient: (N,) int64, the same number for the same patient.
        unlabelled: How many were left out because their label is unknown.
        prevalence: Share of positives that measures are to speak of; ``None`` for that of these.
    """

    score: NDArray[np.float64]
    label: NDArray[np.bool_]
    patient: NDArray[np.int64]
    unlabelled: int = 0
    prevalence: float | None = None

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(np.unique(self.patient))

    @property
    def positives(self) -> int:
        """Number of positives."""
        return int(self.label.sum())

    @property
    def weight(self) -> Floats:
        """What each counts, (N,), so that positives have their prevalence; needs both classes."""
        if self.prevalence is None:
            return np.ones_like(self.score)
        share, q = self.positives / self.label.size, self.prevalence
        return np.where(self.label, q / share, (1 - q) / (1 - share))


def read_predictions(path: Path, split: Literal["val", "test"]) -> pl.DataFrame:
    """Read the rows of one split; the other split is not looked at.

    Raises:
        RunError: If columns are missing, an image is there twice, or a score is not finite.
    """
    try:
        frame = pl.scan_parquet(path)
        missing = [name for name in _COLUMNS if name not in frame.collect_schema().names()]
        if missing:
            raise RunError(f"{path} lacks the columns {', '.join(missing)}")
        rows = frame.filter(pl.col("split") == split).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path} cannot be read as Parquet: {error}") from error
    broken = rows.filter(
        ~(pl.col("score").is_finite() & pl.col("logit").is_finite()).fill_null(value=False)
        | ~pl.col("score").is_between(0, 1).fill_null(value=False)
    )
    if broken.height:
        raise RunError(
            f"{path}: {broken.height} {split} images have no finite score in [0, 1], "
            f"{broken['image_id'][0]} first; no score is never 'no cancer'"
        )
    if rows["image_id"].n_unique() != rows.height:
        raise RunError(f"{path} holds an image more than once")
    for name in ("breast_score", "exam_score"):
        if name in rows.columns and not rows[name].is_between(0, 1).fill_null(value=False).all():
            raise RunError(f"{path}: a {split} row has no finite {name} in [0, 1]")
    return rows


def named_images(path: Path, split: Literal["val", "test"]) -> pl.DataFrame:
    """Check the rows of one split, and return which images they are: nothing to choose by.

    Raises:
        RunError: As :func:`read_predictions`.
    """
    return read_predictions(path, split).select("image_id")


def scored(rows: pl.DataFrame, level: Level) -> Scored:
    """Return scores and labels of a level.

    A breast's score is the mean of its images' scores, an exam's the highest of its breasts',
    unless the rows have ``breast_score`` or ``exam_score``. A breast or exam is positive if any
    image is, negative if all are, and unknown otherwise.

    Args:
        rows: From :func:`read_predictions`.
        level: Image, breast or exam.
    """
    return labelled(units(rows, level))[0]


def uncalibrated(rows: pl.DataFrame) -> pl.DataFrame:
    """Return predictions whose scores are the plain sigmoids of their logits."""
    names = [name for name in ("logit", "breast_logit", "exam_logit") if name in rows.columns]
    plain = rows.with_columns(
        (1 / (1 + (-pl.col(name)).exp())).alias(name.replace("logit", "score")) for name in names
    )
    if "breast_score" in rows.columns and "breast_logit" not in rows.columns:
        # No model's own, but the highest of its images'.
        return with_breast_score(plain, "max")
    return plain


def with_breast_score(rows: pl.DataFrame, how: Literal["mean", "max"]) -> pl.DataFrame:
    """Write down how an image model's scores become those of breasts.

    Args:
        rows: Predictions of an image model, with scores.
        how: ``max`` puts a column ``breast_score`` behind ``score``; without one it is the mean.
    """
    rows = rows.drop("breast_score", strict=False)
    if how == "mean":
        return rows
    highest = rows.select(pl.col("score").max().over(_BREAST)).to_series().alias("breast_score")
    return rows.insert_column(rows.columns.index("score") + 1, highest)


def own_logits(rows: pl.DataFrame, level: Level) -> tuple[Floats, Bools, Ints]:
    """Return the model's own logits of a level, their labels, those that are known, and patients.

    Args:
        rows: Predictions, with or without scores.
        level: Image, or another for which the rows have ``breast_logit`` or ``exam_logit``.
    """
    name = "logit" if level == "image" else f"{level}_logit"
    # Scores may not be there yet; the rows of a breast or exam agree on its logit.
    found = units(rows.with_columns(score=pl.lit(0.0)), level, (name,))
    known = found.filter(pl.col("cancer").is_not_null())
    patient = known["patient_id"].rank("dense").to_numpy().astype(np.int64) - 1
    return known[name].to_numpy().astype(np.float64), known["cancer"].to_numpy() == 1, patient


def units(rows: pl.DataFrame, level: Level, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return a row per image, breast or exam: patient_id, score, cancer and further columns.

    Args:
        rows: From :func:`read_predictions`, with the columns.
        level: Image, breast or exam.
        columns: What else to keep; of a breast or exam what its images agree on, else null.
    """
    if level == "image":
        return rows.select("patient_id", "score", "cancer", *columns)
    breast = _BREAST
    own = "breast_score" if "breast_score" in rows.columns else "score"
    rows = rows.with_columns(score=pl.col(own).mean().over(breast))
    if level == "exam" and "exam_score" in rows.columns:
        rows = rows.with_columns(score=pl.col("exam_score"))
    keys = breast if level == "breast" else breast[:2]
    return rows.group_by(keys, maintain_order=True).agg(
        # A breast has one score by now, and an exam one for each breast.
        pl.col("score").max(),
        # One positive image settles it; without one, every image must be known.
        pl.when(pl.col("cancer").max() == 1)
        .then(1)
        .otherwise(pl.when(pl.col("cancer").null_count() == 0).then(0))
        .alias("cancer"),
        *(
            pl.when(pl.col(name).drop_nulls().n_unique() == 1)
            .then(pl.col(name).drop_nulls().first())
            .alias(name)
            for name in columns
            if name not in keys
        ),
    )


def labelled(frame: pl.DataFrame) -> tuple[Scored, pl.DataFrame]:
    """Return the rows of :func:`units` whose label is known, as arrays and as they were."""
    known = frame.filter(pl.col("cancer").is_not_null())
    data = Scored(
        score=known["score"].to_numpy().astype(np.float64),
        label=known["cancer"].to_numpy() == 1,
        patient=known["patient_id"].rank("dense").to_numpy().astype(np.int64) - 1,
        unlabelled=frame.height - known.height,
    )
    return data, known
