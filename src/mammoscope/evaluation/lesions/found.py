"""What the candidates of a split find: by lesion, image, breast and exam, and by kind and size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Draws, draw
from mammoscope.evaluation.lesions.froc import FalseMarks, Targets, cut_off, ratio, told_at
from mammoscope.evaluation.lesions.matching import Matching, Outcome, match
from mammoscope.evaluation.lesions.tables import UNNAMED, Scene
from mammoscope.types import Bools

__all__ = [
    "LEAST",
    "Found",
    "choose_cut_off",
    "counts",
    "find",
    "grouped",
    "measured",
    "target_groups",
]

#: Lesions below which a group's figures are kept back.
LEAST = 10
_UNITS: dict[str, tuple[str, ...]] = {
    "image": ("image",),
    "breast": ("patient_id", "exam_id", "laterality"),
    "exam": ("patient_id", "exam_id"),
}
_NATURE = {1: "malignant", 0: "benign", None: "nature unknown"}


@dataclass(frozen=True, slots=True)
class Found:
    """A split whose candidates were matched.

    Attributes:
        scene: The split.
        matching: Who met whom.
        marks: False positives.
        targets: What is to be found: ``lesion``, and ``image``, ``breast`` and ``exam`` with
            one, which are found where any of their lesions is, in any view.
    """

    scene: Scene
    matching: Matching
    marks: FalseMarks
    targets: dict[str, Targets]

    @property
    def wanted(self) -> Bools:
        """Which lesions are targets, (L,)."""
        return self.scene.lesions.target

    def draws(self, config: EvaluationConfig) -> Draws:
        """Return replicates of the split's patients; the same for the same images."""
        return draw(self.scene.patients, config.bootstrap, config.seed)


def find(scene: Scene, config: EvaluationConfig) -> Found:
    """Match the candidates of a split with its lesions."""
    matching = match(scene.candidates, scene.lesions, config)
    false = (matching.outcome == Outcome.FALSE) & scene.counted[scene.candidates.image]
    marks = FalseMarks(
        scene.candidates.score[false],
        scene.patient[scene.candidates.image[false]],
        np.bincount(scene.patient[scene.counted], minlength=scene.patients),
    )
    wanted = scene.lesions.target
    owner = scene.patient[scene.lesions.image[wanted]]
    lesions = pl.DataFrame(
        {
            "image": scene.lesions.image[wanted],
            "score": matching.score[wanted],
            "patient": owner,
        }
    )
    keys = scene.rows.select(pl.col("image").cast(pl.Int64), "patient_id", "exam_id", "laterality")
    joined = lesions.join(keys, on="image", maintain_order="left")
    targets = {"lesion": Targets(matching.score[wanted], owner)}
    for name, columns in _UNITS.items():
        units = joined.group_by(columns, maintain_order=True).agg(
            pl.col("score").max(), pl.col("patient").first()
        )
        targets[name] = Targets(units["score"].to_numpy(), units["patient"].to_numpy())
    return Found(scene, matching, marks, targets)


def counts(found: Found) -> dict[str, int]:
    """Count what a split holds."""
    scene, wanted = found.scene, found.wanted
    return {
        "images": scene.rows.height,
        "patients": scene.patients,
        "counted_images": int(scene.counted.sum()),
        "uncertain_images": int((~scene.certain).sum()),
        "lesions": int(wanted.sum()),
        "images_with_a_lesion": int(np.unique(scene.lesions.image[wanted]).size),
        "other_findings": int((~wanted).sum()),
        "candidates": int(scene.candidates.score.size),
        "false_positives": int(found.marks.score.size),
    }


def choose_cut_off(found: Found, config: EvaluationConfig) -> dict[str, Any]:
    """Choose the cut-off on candidates for the configured rate of false positives.

    Args:
        found: Validation images.
        config: ``candidate_false_positives``, replicates and confidence.

    Returns:
        A plain record: name, target, threshold, confidence, and what it gives on these images.
    """
    rate = config.candidate_false_positives
    threshold = cut_off(found.marks, found.scene.candidates.score, rate)
    return {
        "name": f"false_positives={rate:g}",
        "target": f"at most {rate:g} false positive{'' if rate == 1 else 's'} per image",
        "threshold": threshold,
        "confidence": config.confidence,
        **measured(found, threshold, config),
    }


def measured(found: Found, threshold: float, config: EvaluationConfig) -> dict[str, Any]:
    """Measure a frozen cut-off: every candidate at or above it is shown.

    Returns:
        ``false_positives_per_image``, ``duplicates_per_image``, ``sensitivity`` by lesion, image,
        breast and exam, each with an interval.
    """
    draws, scene = found.draws(config), found.scene
    people = scene.patients

    def per_image(chosen: Bools) -> dict[str, float | None]:
        chosen = chosen & scene.counted[scene.candidates.image]
        chosen = chosen & (scene.candidates.score >= threshold)
        owner = scene.patient[scene.candidates.image[chosen]]
        counted = np.bincount(owner, minlength=people).astype(np.float64)
        return ratio(counted, found.marks.images, draws, config.confidence).as_dict()

    outcome = found.matching.outcome
    return {
        "false_positives_per_image": per_image(outcome == Outcome.FALSE),
        "duplicates_per_image": per_image(outcome == Outcome.DUPLICATE),
        "sensitivity": {
            name: _share(targets, threshold, draws, config)
            for name, targets in found.targets.items()
        },
    }


def grouped(found: Found, threshold: float, config: EvaluationConfig) -> list[dict[str, Any]]:
    """Measure lesions by kind, by size and by nature, at the false positives of all.

    Returns:
        For each group attribute, group, n, patients and whether its figures are kept back; else
        sensitivity at the configured rates, their mean, and ``at_cut_off``.
    """
    score, patient = found.targets["lesion"].score, found.targets["lesion"].patient
    parts = list(target_groups(found.scene.findings.filter("target"), "side_px", "px"))
    chosen = {
        f"{attribute}/{name}": Targets(score[mask], patient[mask])
        for attribute, name, mask in parts
        if mask.sum() >= LEAST
    }
    draws = found.draws(config)
    told = told_at(found.marks, chosen, draws, config)
    made = []
    for attribute, name, mask in parts:
        key = f"{attribute}/{name}"
        row: dict[str, Any] = {
            "attribute": attribute,
            "group": name,
            "n": int(mask.sum()),
            "patients": int(np.unique(patient[mask]).size),
            "suppressed": key not in chosen,
        }
        if key in chosen:
            row |= {measure: value.as_dict() for measure, value in told[key].items()}
            row["at_cut_off"] = _share(chosen[key], threshold, draws, config)
        made.append(row)
    return made


def _share(
    targets: Targets, threshold: float, draws: Draws, config: EvaluationConfig
) -> dict[str, float | None]:
    people = draws.shape[1]
    reached = (targets.score >= threshold).astype(np.float64)
    hits = np.asarray(np.bincount(targets.patient, reached, minlength=people), dtype=np.float64)
    all_of_her = np.bincount(targets.patient, minlength=people)
    return ratio(hits, all_of_her, draws, config.confidence, share=True).as_dict()


def target_groups(targets: pl.DataFrame, size: str, unit: str) -> Iterator[tuple[str, str, Bools]]:
    """Yield attribute, group and which targets are of it.

    Args:
        targets: A row per target with ``kind`` and ``malignant``.
        size: The column that holds how long each is.
        unit: Of that column.
    """
    kinds = targets["kind"].fill_null(UNNAMED).to_numpy()
    for kind in sorted(set(kinds)):
        yield "kind", str(kind).replace("_", " "), kinds == kind
    for name, chosen in thirds(targets[size], unit).items():
        yield "size", name, chosen
    nature = np.array([_NATURE[value] for value in targets["malignant"]])
    names = set(nature.tolist())
    if len(names) > 1:
        for name in _NATURE.values():
            if name in names:
                yield "nature", name, nature == name


def thirds(size: pl.Series, unit: str) -> Mapping[str, Bools]:
    """Part lesions into thirds by the longer side of their box; fewer where sizes are equal."""
    values = size.to_numpy()
    if not values.size:
        return {}
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    made = {
        f"to {low:.0f} {unit}": values <= low,
        f"{low:.0f} to {high:.0f} {unit}": (values > low) & (values <= high),
        f"over {high:.0f} {unit}": values > high,
    }
    return {name: chosen for name, chosen in made.items() if chosen.any()}
