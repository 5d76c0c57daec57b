"""Candidates of a run beside the lesions of its cohort, as checked arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from mammoscope.artefacts import sha256_file
from mammoscope.config import EvaluationConfig, LesionsConfig
from mammoscope.errors import Reason, RunError
from mammoscope.evaluation.attributes import CohortTable, refused_images
from mammoscope.evaluation.lesions.matching import Candidates, Lesions
from mammoscope.types import Bools, Floats, Ints

__all__ = [
    "CANDIDATES_FILE",
    "SIDES",
    "UNNAMED",
    "Findings",
    "Scene",
    "Split",
    "is_target",
    "read_candidates",
    "read_findings",
    "read_table",
    "scene_of",
]

Split = Literal["val", "test"]

#: Boxes of a run with their scores, in original pixels.
CANDIDATES_FILE = "candidates.parquet"
SIDES = ("x_min", "y_min", "x_max", "y_max")
#: What a finding or a candidate of unknown kind is called.
UNNAMED = "unnamed"
_FINDING = ("finding_id", "image_id", "kind", "malignant", *SIDES)
_CANDIDATE = ("image_id", "split", *SIDES, "score", "kind", "matched")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a cohort says is in its images.

    Attributes:
        placed: finding_id, image_id, kind, malignant, target, the sides of each box in original
            pixels and ``side_px``, the longer one.
        uncertain: Images with a lesion of which nobody says where it is.
        known: Images of which anything is said to be in them, placed or not.
        notes: Sentences that a user should read.
        sha256: Of the table that was read.
    """

    placed: pl.DataFrame
    uncertain: frozenset[str]
    known: frozenset[str]
    notes: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Scene:
    """The images of one split, what is in them, and what was drawn on them.

    Attributes:
        rows: N predictions, by image_id.
        findings: L rows of :attr:`Findings.placed`, in the order of the lesions.
        lesions: Their boxes; images are numbered as the rows are.
        candidates: Boxes of the model.
        kind: (C,) of each candidate; ``None`` where the model knows no kinds.
        patient: (N,) the same number for the same patient, from 0.
        certain: (N,) whether all that is in it is known to have a place.
        counted: (N,) whether false positives are counted on it; none that is not certain.
    """

    rows: pl.DataFrame
    findings: pl.DataFrame
    lesions: Lesions
    candidates: Candidates
    kind: tuple[str, ...] | None
    patient: Ints
    certain: Bools
    counted: Bools

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(self.patient.max(initial=-1)) + 1


def read_findings(folder: Path, table: CohortTable, facts: dict[str, Any]) -> Findings:
    """Read the findings of a run's cohort, and which of them are targets.

    Boxes with sides in the wrong order are turned, and those that reach outside their image are
    cut, as they are for training; what has no area then has no place, and what training dropped
    as wrong (``lesions.faults``) has none either. Where an image with cancer has benign findings
    alone, nobody says where the cancer is.

    Args:
        folder: The cohort folder.
        table: Its manifest, or why it could not be read.
        facts: What ``run.json`` holds.

    Raises:
        RunError: If the cohort or its findings cannot be read, or none is a target.
    """
    path = Path(folder) / "findings.parquet"
    if table.rows is None:
        raise RunError(
            f"lesions cannot be judged without the cohort: {table.note.partition(', so ')[0]}; "
            "mammoscope evaluate --cohort says where the cohort lies"
        )
    if not path.is_file():
        raise RunError(f"{path} is missing: lesions cannot be judged without findings")
    digest = sha256_file(path)
    if facts["cohort"].get("findings_sha256", digest) != digest:
        raise RunError(f"{path} is not the one that the run was trained on")
    rows = read_table(path, _FINDING)
    images = table.rows.select(
        "image_id", "cancer", *(name for name in ("rows", "columns") if name in table.rows.columns)
    )
    joined = rows.join(images, on="image_id", how="inner", maintain_order="left")
    config = LesionsConfig.model_validate(facts["config"].get("lesions", {}))
    dropped = facts.get("lesions", {}).get("dropped", [])
    sound = joined.filter(~pl.col("finding_id").is_in(dropped))
    placed = _placed(sound).with_columns(is_target(config).alias("target"))
    nowhere = joined.join(placed, on="finding_id", how="anti")
    if not placed["target"].any():
        raise RunError(f"{path}: no finding with a place is a target (settings lesions.*)")
    sick = set(images.filter(pl.col("cancer") == 1)["image_id"])
    unmarked = sick - set(joined.filter(pl.col("malignant").fill_null(1) != 0)["image_id"])
    # A finding that ingest refused is in the image all the same; a second copy of it is none.
    rejects = refused_images(Path(folder), "ingest")
    refused = set(rejects.filter(pl.col("reason") != Reason.DUPLICATE)["image_id"])
    gone = joined.height - sound.height, sound.height - placed.height
    notes = _notes(*gone, config.faults)
    kept = ["finding_id", "image_id", "kind", "malignant", "target", *SIDES, "side_px"]
    return Findings(
        placed.select(kept),
        frozenset(set(nowhere["image_id"]) | unmarked | refused),
        frozenset(set(joined["image_id"]) | refused),
        tuple(notes),
        digest,
    )


def _notes(dropped: int, nowhere: int, faults: str) -> list[str]:
    """Say how many findings are not among the lesions, and why."""
    told = []
    if dropped:
        told.append(f"{dropped} that training dropped as wrong (lesions.faults={faults})")
    if nowhere:
        told.append(f"{nowhere} without a box, or with one of no area")
    if not told:
        return []
    return [
        f"Findings that are not among the lesions, of all splits together: {' and '.join(told)}. "
        "False positives are not counted on their images."
    ]


def is_target(config: LesionsConfig) -> pl.Expr:
    """Return whether a finding is to be found; one of unknown nature is, as for training."""
    target = pl.lit(value=True)
    if config.kinds:
        target &= pl.col("kind").is_in(config.kinds).fill_null(value=False)
    if config.malignant_only:
        target &= pl.col("malignant").fill_null(1) != 0
    return target


def read_candidates(path: Path, split: Split) -> pl.DataFrame:
    """Read the candidates of one split, by image and falling score.

    Raises:
        RunError: If columns are missing, or a box or score is not a number as it must be.
    """
    rows = read_table(path, _CANDIDATE, split)
    finite = pl.all_horizontal(pl.col([*SIDES, "score"]).is_finite().fill_null(value=False))
    within = pl.col("score").is_between(0, 1)
    sound = (pl.col("x_max") > pl.col("x_min")) & (pl.col("y_max") > pl.col("y_min"))
    broken = rows.filter(~(finite & within & sound))
    if broken.height:
        raise RunError(
            f"{path}: {broken.height} {split} candidates have no box with an area or no score in "
            f"[0, 1], the first on image {broken['image_id'][0]}"
        )
    return rows.sort("image_id", "score", descending=[False, True], maintain_order=True)


def scene_of(
    rows: pl.DataFrame, candidates: pl.DataFrame, findings: Findings, config: EvaluationConfig
) -> Scene:
    """Put images, lesions and candidates of one split together.

    False positives are not counted on images with a lesion that nobody placed: a mark there may
    be right.

    Args:
        rows: Predictions, a row per image.
        candidates: Of these images.
        findings: Of the cohort.
        config: ``false_positives_on``.

    Raises:
        RunError: If a candidate is of another image, or false positives can be counted on none.
    """
    rows = rows.sort("image_id").with_row_index("image")
    number = rows.select("image_id", pl.col("image").cast(pl.Int64))
    strays = candidates.join(number, on="image_id", how="anti")
    if strays.height:
        raise RunError(
            f"{strays.height} candidates are of images without a prediction, such as "
            f"{strays['image_id'][0]}"
        )
    drawn = candidates.join(number, on="image_id", maintain_order="left")
    there = findings.placed.join(number, on="image_id", maintain_order="left")
    names = rows["image_id"].to_list()
    certain = np.array([name not in findings.uncertain for name in names], dtype=np.bool_)
    counted = certain
    if config.false_positives_on == "normal":
        healthy = (rows["cancer"] == 0).fill_null(value=False).to_numpy()
        counted = certain & healthy & np.array([name not in findings.known for name in names])
    if not counted.any():
        raise RunError(
            "there is no image on which false positives could be counted: none of "
            f"{len(names)} is {'normal' if config.false_positives_on == 'normal' else 'certain'}; "
            "set evaluation.false_positives_on to all, or use a cohort that says where lesions are"
        )
    kind = None
    if drawn["kind"].is_not_null().any():
        kind = tuple(drawn["kind"].fill_null(UNNAMED).to_list())
    return Scene(
        rows,
        there,
        Lesions(_ints(there["image"]), _boxes(there), there["target"].to_numpy()),
        Candidates(_ints(drawn["image"]), _boxes(drawn), drawn["score"].to_numpy()),
        kind,
        rows["patient_id"].rank("dense").to_numpy().astype(np.int64) - 1,
        certain,
        counted,
    )


def _placed(rows: pl.DataFrame) -> pl.DataFrame:
    """Return findings with a box, turned and cut, and its longer side."""
    known = rows.drop_nulls(list(SIDES))
    turned = known.with_columns(
        pl.min_horizontal("x_min", "x_max").clip(lower_bound=0).alias("x_min"),
        pl.min_horizontal("y_min", "y_max").clip(lower_bound=0).alias("y_min"),
        pl.max_horizontal("x_min", "x_max").alias("x_max"),
        pl.max_horizontal("y_min", "y_max").alias("y_max"),
    )
    if "rows" in turned.columns:
        # Where the size is unknown, the border is too.
        turned = turned.with_columns(
            pl.min_horizontal("x_max", "columns").alias("x_max"),
            pl.min_horizontal("y_max", "rows").alias("y_max"),
        )
    width, height = (pl.col(f"{axis}_max") - pl.col(f"{axis}_min") for axis in "xy")
    return turned.filter((width > 0) & (height > 0)).with_columns(
        pl.max_horizontal(width, height).alias("side_px")
    )


def read_table(path: Path, needed: tuple[str, ...], split: Split | None = None) -> pl.DataFrame:
    """Read a table, or the rows of one split.

    Raises:
        RunError: If it cannot be read or lacks a column.
    """
    try:
        frame = pl.scan_parquet(path)
        missing = [name for name in needed if name not in frame.collect_schema().names()]
        if missing:
            raise RunError(f"{path} lacks the columns {', '.join(missing)}")
        return (frame if split is None else frame.filter(pl.col("split") == split)).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"{path} cannot be read as Parquet: {error}") from error


def _ints(column: pl.Series) -> Ints:
    return column.to_numpy().astype(np.int64)


def _boxes(rows: pl.DataFrame) -> Floats:
    return rows.select(SIDES).to_numpy().astype(np.float64)
