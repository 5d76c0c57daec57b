"""How well a run's masks outline lesions: each in a window around it, and whole images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mammoscope.config import EvaluationConfig, LesionsConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.bootstrap import Draws
from mammoscope.evaluation.lesions.found import LEAST, target_groups
from mammoscope.evaluation.lesions.froc import ratio
from mammoscope.evaluation.lesions.overlap import compared, parts_found, window
from mammoscope.evaluation.lesions.tables import SIDES, Scene, Split, is_target, read_table
from mammoscope.masks import decode
from mammoscope.types import Bools, Floats, Ints

__all__ = ["Masks", "outlined", "read_masks"]

_MASK = (
    "image_id", "split", "height", "width", "spacing_y_mm", "spacing_x_mm", "predicted",
)  # fmt: skip
_LESION = ("image_id", "finding_id", "kind", "malignant", *SIDES, "truth")
_MEASURES = ("dice", "iou", "covered", "hausdorff_95")
#: Bins of the distribution of Dice, from 0 to 1.
_BINS = 10


@dataclass(frozen=True, slots=True)
class Masks:
    """Predicted and true masks of one split, as run lengths on the network's grid.

    Attributes:
        images: A row per image, with what was predicted.
        lesions: A row per lesion, with its truth and whether it is a target.
    """

    images: pl.DataFrame
    lesions: pl.DataFrame

    @property
    def unit(self) -> str:
        """Millimetres where the spacing of every image is known, else pixels of the grid."""
        spacing = self.images.select("spacing_y_mm", "spacing_x_mm")
        return "px" if sum(spacing.null_count().row(0)) else "mm"


def read_masks(masks: Path, lesions: Path, split: Split, facts: dict[str, Any]) -> Masks:
    """Read the masks of one split.

    Args:
        masks: ``masks.parquet``.
        lesions: ``lesion_masks.parquet``.
        split: Which images.
        facts: What ``run.json`` holds; its ``lesions`` say which are targets.

    Raises:
        RunError: If a table cannot be read or lacks a column.
    """
    images = read_table(masks, _MASK, split)
    config = LesionsConfig.model_validate(facts["config"].get("lesions", {}))
    there = read_table(lesions, _LESION).join(images.select("image_id"), on="image_id", how="semi")
    return Masks(images, there.with_columns(is_target(config).alias("target")))


def outlined(masks: Masks, scene: Scene, config: EvaluationConfig, draws: Draws) -> dict[str, Any]:
    """Measure the overlap of masks, by lesion and by image.

    In a window around a lesion the pixels of other lesions are left out; on a whole image those of
    lesions that are no targets. Parts of the mask are counted as false positives on the images on
    which candidates are, but for those with a finding that has no mask: a part may lie on it.

    Args:
        masks: Of one split.
        scene: Its images.
        config: ``patch_margin``, ``mask_iou``, replicates and confidence.
        draws: Replicates of the scene's patients.

    Returns:
        ``window`` and ``image`` with Dice, IoU, share covered and Hausdorff distance;
        ``sensitivity``, ``false_positives_per_image``, ``groups`` and ``histogram``.

    Raises:
        RunError: If an image has no mask, or a mask is not one of its image's size.
    """
    _check(masks, scene)
    patient = dict(zip(scene.rows["image_id"], scene.patient.tolist(), strict=True))
    judged = _judged(masks, scene)
    counted = dict(zip(scene.rows["image_id"], judged.tolist(), strict=True))
    by_image = {
        str(name): part for (name,), part in masks.lesions.group_by("image_id", maintain_order=True)
    }
    lesions: list[dict[str, Any]] = []
    whole: list[dict[str, Any]] = []
    false = np.zeros(scene.patients)
    for row in masks.images.iter_rows(named=True):
        name = row["image_id"]
        mine, image, parts = _image(row, by_image.get(name), masks.unit, config)
        owner = {"patient": patient[name]}
        lesions += [owner | lesion for lesion in mine]
        whole += [owner | image] if image else []
        false[patient[name]] += parts * counted[name]
    of = np.bincount(scene.patient[judged], minlength=scene.patients)
    told = _Told(pl.DataFrame(lesions, infer_schema_length=None), draws, config)
    return {
        "unit": masks.unit,
        "window_margin": config.patch_margin,
        "mask_iou": config.mask_iou,
        "lesions": len(lesions),
        "images": len(whole),
        "window": told.measures(),
        "image": _Told(pl.DataFrame(whole, infer_schema_length=None), draws, config).measures(),
        "sensitivity": told.mean("found", share=True),
        "false_positives_per_image": ratio(false, of, draws, config.confidence).as_dict(),
        "groups": told.groups(masks.unit),
        "histogram": _histogram(told.rows),
    }


class _Told:
    """Means of a table of lesions or images, with intervals over patients."""

    def __init__(self, rows: pl.DataFrame, draws: Draws, config: EvaluationConfig) -> None:
        self.rows, self._draws, self._config = rows, draws, config

    def mean(
        self, name: str, chosen: Bools | None = None, *, share: bool = False
    ) -> dict[str, float | None]:
        """Return the mean of a column where it is known."""
        rows = self.rows if chosen is None else self.rows.filter(chosen)
        known = rows.drop_nulls(name) if rows.height else rows
        people = self._draws.shape[1]
        if not known.height:
            return ratio(np.zeros(people), np.zeros(people, np.int64), self._draws, 0.5).as_dict()
        owner: Ints = known["patient"].to_numpy()
        value: Floats = known[name].cast(pl.Float64).to_numpy()
        total = np.asarray(np.bincount(owner, value, minlength=people), dtype=np.float64)
        of = np.bincount(owner, minlength=people)
        return ratio(total, of, self._draws, self._config.confidence, share=share).as_dict()

    def measures(self, chosen: Bools | None = None) -> dict[str, dict[str, Any]]:
        """Return mean, quartiles and count of every measure."""
        made: dict[str, dict[str, Any]] = {}
        rows = self.rows if chosen is None else self.rows.filter(chosen)
        for name in _MEASURES:
            known = rows[name].cast(pl.Float64) if rows.height else pl.Series([], dtype=pl.Float64)
            known = known.drop_nulls()
            quartiles = [known.quantile(q, "linear") for q in (0.25, 0.5, 0.75)]
            made[name] = {**self.mean(name, chosen), "n": known.len(), "quartiles": quartiles}
        return made

    def groups(self, unit: str) -> list[dict[str, Any]]:
        """Return the measures of lesions by kind, size and nature."""
        if not self.rows.height:
            return []
        made = []
        for attribute, name, chosen in target_groups(self.rows, "side", unit):
            row: dict[str, Any] = {
                "attribute": attribute,
                "group": name,
                "n": int(chosen.sum()),
                "patients": self.rows.filter(chosen)["patient"].n_unique(),
                "suppressed": bool(chosen.sum() < LEAST),
            }
            if not row["suppressed"]:
                row |= {key: self.mean(key, chosen) for key in _MEASURES}
                row["sensitivity"] = self.mean("found", chosen, share=True)
            made.append(row)
        return made


def _image(
    row: dict[str, Any], lesions: pl.DataFrame | None, unit: str, config: EvaluationConfig
) -> tuple[list[dict[str, Any]], dict[str, Any] | None, int]:
    """Compare one image: a record per target, one of the whole, and its false parts."""
    size = (int(row["height"]), int(row["width"]))
    predicted = _mask(row["predicted"], size, row["image_id"])
    if lesions is None:
        return [], None, parts_found(predicted, [], config.mask_iou)[1]
    spacing = (row["spacing_y_mm"], row["spacing_x_mm"]) if unit == "mm" else (1.0, 1.0)
    truths = [_mask(runs, size, row["image_id"]) for runs in lesions["truth"]]
    found, false = parts_found(predicted, truths, config.mask_iou)
    made = []
    for number, lesion in enumerate(lesions.iter_rows(named=True)):
        if not lesion["target"]:
            continue
        box = tuple(float(lesion[side]) for side in SIDES)
        place = window((box[0], box[1], box[2], box[3]), config.patch_margin, size)
        truth = truths[number]
        others = _union([t for k, t in enumerate(truths) if k != number], size) & ~truth
        overlap = compared((predicted & ~others)[place], truth[place], spacing)
        sides = ((box[2] - box[0]) * spacing[1], (box[3] - box[1]) * spacing[0])
        made.append(
            {
                **{name: getattr(overlap, name) for name in _MEASURES},
                "found": found[number],
                "side": max(sides),
                "kind": lesion["kind"],
                "malignant": lesion["malignant"],
            }
        )
    if not made:
        return [], None, false
    target = _union(
        [t for t, wanted in zip(truths, lesions["target"], strict=True) if wanted], size
    )
    beside = _union(truths, size) & ~target
    overlap = compared(predicted & ~beside, target, spacing)
    return made, {name: getattr(overlap, name) for name in _MEASURES}, false


def _union(masks: list[Bools], size: tuple[int, int]) -> Bools:
    covered = np.zeros(size, dtype=np.bool_)
    for mask in masks:
        covered |= mask
    return covered


def _mask(runs: Any, size: tuple[int, int], image_id: str) -> Bools:
    try:
        return decode(runs, size)
    except ValueError as error:
        raise RunError(f"a mask of image {image_id} cannot be read: {error}") from error


def _judged(masks: Masks, scene: Scene) -> Bools:
    """Return on which images parts of the mask can be called false, (N,)."""
    masked = set(masks.lesions["finding_id"])
    known = np.array([name in masked for name in scene.findings["finding_id"]], dtype=np.bool_)
    judged = scene.counted.copy()
    judged[scene.lesions.image[~known]] = False
    return judged


def _check(masks: Masks, scene: Scene) -> None:
    missing = scene.rows.join(masks.images, on="image_id", how="anti")["image_id"]
    strays = masks.images.join(scene.rows, on="image_id", how="anti")["image_id"]
    if len(missing) or len(strays) or masks.images["image_id"].n_unique() != masks.images.height:
        named = [*missing, *strays]
        raise RunError(
            f"masks.parquet and predictions.parquet are not of the same images: {len(missing)} "
            f"have no mask, {len(strays)} no prediction"
            + (f", such as {named[0]}" if named else "; one is there twice")
        )


def _histogram(lesions: pl.DataFrame) -> list[int]:
    known = lesions["dice"].drop_nulls().to_numpy() if lesions.height else np.empty(0)
    counted: list[int] = np.histogram(known, bins=_BINS, range=(0, 1))[0].tolist()
    return counted
