"""``mammoscope explain``: on the positive images with a box, what the heat is worth.

The heatmap is the exported graph's own. Beside it stand Grad-CAM of the training graph and the
centre of the breast, which a method that explains something has to beat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from mammoscope import __version__
from mammoscope.artefacts import check_output, new_folder, write_json
from mammoscope.attribution.gallery import Shown, chosen_for_show
from mammoscope.attribution.occlusion import Occluded, occlude
from mammoscope.attribution.page import METHODS, render_page
from mammoscope.bundle import MODEL_FILE
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import run_evaluation_config
from mammoscope.evaluation.attributes import cohort_folder, read_cohort_table
from mammoscope.evaluation.pointing import (
    mean_over_patients,
    play,
    read_lesions,
    shares,
    with_lesions,
)
from mammoscope.evaluation.run_folder import check_preprocess, checked_predictions, read_run
from mammoscope.evaluation.tables import read_predictions
from mammoscope.explain import hottest_point, is_flat
from mammoscope.inference import Scorer
from mammoscope.models import Classifier
from mammoscope.models.grad_cam import grad_cam
from mammoscope.predictions import seen_place
from mammoscope.training import load_classifier
from mammoscope.types import FloatImage, Floats, GreyImage, Level

__all__ = ["Explanation", "explain_run"]

_FOLDER = "explanation"
# Side of a hidden patch, as a share of the input's height: near that of a lesion of 2 cm.
_PATCH_SHARE = 0.1
_OTHER_PATCHES = 8

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Explanation:
    """An explanation on disk: its page, and what ``explanation.json`` holds."""

    path: Path
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Looked:
    """What one image gave.

    Attributes:
        points: (x, y) by method, in original pixels.
        flat: Methods whose map is the same everywhere, and so points nowhere.
        occluded: What hiding did; ``None`` where there was no room for it.
    """

    points: dict[str, tuple[float, float]]
    flat: tuple[str, ...]
    occluded: Occluded | None


def explain_run(
    run: Path,
    *,
    cohort: Path | None = None,
    images: int = 200,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """Compare heatmaps with lesions, and hide what they point at.

    A model of breasts or exams is asked about each image by itself: heatmap and logit are those of
    the image, before the model joins views.

    Args:
        run: The run folder, finished.
        cohort: Where the run's cohort lies, if it was moved since training.
        images: Most images to look at; of more, a random part.
        overwrite: Replace an explanation that is there.
        progress: Called with (done, total) images.

    Raises:
        RunError: If the run is not finished, its cohort is not found or prepared otherwise than
            when it was trained, or no positive image has a box.
        OutputError: If there is an explanation already.
    """
    run = Path(run)
    facts = read_run(run)
    folder = run / _FOLDER
    check_output(folder, overwrite=overwrite, marker="explanation.json")
    config = run_evaluation_config(run)
    rows, boxes, split = _rows(run, facts, cohort)
    rows = rows.sample(min(images, rows.height), seed=config.seed).sort("image_id")
    store = PreparedStore(cohort_folder(facts, cohort))
    check_preprocess(run, facts, store.cohort, store.config)
    scorer = Scorer(run / MODEL_FILE)
    classifier, notes = _classifier(run, scorer.level)
    shown = set(chosen_for_show(rows))
    looked, gallery = [], []
    for done, row in enumerate(rows.iter_rows(named=True), start=1):
        image_id = str(row["image_id"])
        pixels = store.read(image_id)
        maps = _maps(pixels, scorer, classifier)
        looked.append(_look(image_id, pixels, maps, store, scorer, seed=config.seed + done))
        if image_id in shown:
            sides = boxes.filter(pl.col("image_id") == image_id)
            gallery.append(Shown.of(row, pixels, maps, sides, store.read_geometry(image_id)))
        if progress is not None:
            progress(done, rows.height)
    report = {
        **_head(facts, rows, config),
        "measured_on": split,
        "methods": _methods(rows, boxes, store, looked, facts, config),
        "occlusion": _occlusion(rows, looked, store, config),
        "notes": [*notes, *_flat_notes(looked)],
    }
    with new_folder(folder, overwrite=overwrite, marker="explanation.json") as fresh:
        _points_table(rows, looked).write_parquet(fresh / "points.parquet")
        (fresh / "index.html").write_text(render_page(report, gallery), encoding="utf-8")
        write_json(fresh / "explanation.json", report)
    return Explanation(folder / "index.html", report)


def _head(facts: dict[str, Any], rows: pl.DataFrame, config: EvaluationConfig) -> dict[str, Any]:
    """Return what the record says of itself and of the images."""
    return {
        "format_version": 1,
        "kind": "explanation",
        "package_version": __version__,
        "synthetic": bool(facts["synthetic"]),
        "images": rows.height,
        "patients": rows["patient_id"].n_unique(),
        "predictions_sha256": facts["hashes"]["predictions.parquet"],
        "tolerance_px": config.pointing_tolerance_px,
    }


def _rows(
    run: Path, facts: dict[str, Any], cohort: Path | None
) -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """Return the positive images with a box, the boxes, and which split they are of."""
    predictions = checked_predictions(run, facts)
    table = read_cohort_table(facts, cohort)
    if table.rows is None:
        raise RunError(f"the run's images are not to be had: {table.note}")
    lesions = read_lesions(cohort_folder(facts, cohort), table)
    if lesions.rows is None:
        raise RunError(f"there is no lesion to compare heatmaps with: {lesions.note}")
    test = read_predictions(predictions, "test")
    measured = test if test.height else read_predictions(predictions, "val")
    rows, boxes = with_lesions(measured, lesions.rows, facts)
    split = "test" if test.height else "val"
    if not rows.height:
        raise RunError(
            f"there is no lesion to compare heatmaps with: no positive {split} image has a box"
        )
    return rows, boxes, split


def _classifier(run: Path, level: Level) -> tuple[Classifier | None, list[str]]:
    """Load the training graph for Grad-CAM; with what a reader must know, or why there is none."""
    notes = []
    if level != "image":
        notes.append(
            f"The model joins the images of {level}s; maps and logits here are those of each "
            "image, before it does."
        )
    try:
        loaded = load_classifier(run)[0]
    except RunError as error:
        return None, [f"Grad-CAM was left out: {error}", *notes]
    return (loaded if isinstance(loaded, Classifier) else loaded.classifier), notes


def _maps(
    pixels: GreyImage, scorer: Scorer, classifier: Classifier | None
) -> dict[str, FloatImage]:
    """Return each method's map (h, w) of one image."""
    maps: dict[str, FloatImage] = {"heatmap": scorer([pixels]).heatmap[0]}
    if classifier is not None:
        batch = torch.from_numpy(pixels.astype(np.float32))[None, None]

        def logit(_model: nn.Module, images: Tensor) -> Tensor:
            # One look, where the score is the mean of several (model.test_flips).
            return classifier.read(classifier.features(images)).logit

        cam = grad_cam(classifier, classifier.backbone, batch, logit)
        maps["grad_cam"] = cam[0].numpy()
    return maps


def _look(
    image_id: str,
    pixels: GreyImage,
    maps: dict[str, FloatImage],
    store: PreparedStore,
    scorer: Scorer,
    *,
    seed: int,
) -> _Looked:
    geometry = store.read_geometry(image_id)
    points = {name: hottest_point(heat, geometry) for name, heat in maps.items()}
    # A map as fine as the image itself that is hot at one pixel: the centre of the breast.
    y, x = (round(float(place.mean())) for place in np.nonzero(pixels))
    centre = np.zeros(pixels.shape, np.float32)
    centre[y, x] = 1.0
    points["breast_centre"] = hottest_point(centre, geometry)
    occluded = occlude(
        pixels,
        maps["heatmap"],
        lambda batch: scorer(batch).logit.astype(np.float64),
        side_px=_patch_px(store),
        others=_OTHER_PATCHES,
        seed=seed,
    )
    flat = tuple(name for name, heat in maps.items() if is_flat(heat))
    return _Looked(points, flat, occluded)


def _flat_notes(looked: list[_Looked]) -> list[str]:
    """Say how often a method pointed nowhere."""
    times = Counter(name for found in looked for name in found.flat)
    return [
        f"{METHODS[name]}: the same everywhere in {count} of {len(looked)} images; "
        "it points nowhere there, a corner stands for its point, and no cross is drawn."
        for name, count in times.items()
    ]


def _patch_px(store: PreparedStore) -> int:
    return max(8, round(_PATCH_SHARE * store.config.height))


def _points_table(rows: pl.DataFrame, looked: list[_Looked]) -> pl.DataFrame:
    """Return a row per image and method with its point in original pixels."""
    return pl.DataFrame(
        [
            {"image_id": image_id, "method": method, "x": x, "y": y}
            for image_id, found in zip(rows["image_id"], looked, strict=True)
            for method, (x, y) in found.points.items()
        ]
    )


def _methods(
    rows: pl.DataFrame,
    boxes: pl.DataFrame,
    store: PreparedStore,
    looked: list[_Looked],
    facts: dict[str, Any],
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Play the pointing game with each method's points on the same images."""
    where = pl.DataFrame([seen_place(store, str(name)) for name in rows["image_id"]])
    seen = pl.concat([rows.select("image_id", "patient_id"), where], how="horizontal")
    size = (int(facts["preprocess"]["height"]), int(facts["preprocess"]["width"]))
    everyone = np.ones(rows.height, dtype=np.bool_)
    made: dict[str, Any] = {}
    own: Floats | None = None
    for method in looked[0].points:
        points = np.array([found.points[method] for found in looked])
        placed = seen.with_columns(
            pl.Series("heat_x", points[:, 0]), pl.Series("heat_y", points[:, 1])
        )
        played = play(placed, boxes, size, config.pointing_tolerance_px)
        made[method] = shares(played, everyone, config)
        hit = played.hit.astype(np.float64)
        if own is None:
            own = hit
        else:
            difference = mean_over_patients(own - hit, played.patient, config)
            made[method]["heatmap_minus_this"] = difference.as_dict()
    return made


def _occlusion(
    rows: pl.DataFrame, looked: list[_Looked], store: PreparedStore, config: EvaluationConfig
) -> dict[str, Any]:
    """Summarise what hiding did, over patients."""
    able = np.array([found.occluded is not None for found in looked])
    patches = {"patch_px": _patch_px(store), "other_patches": _OTHER_PATCHES}
    if not able.any():
        return {**patches, "images": 0}
    done = [found.occluded for found in looked if found.occluded is not None]
    patient = rows["patient_id"].rank("dense").to_numpy().astype(np.int64)[able]
    hottest = np.array([one.hottest for one in done])
    others = np.array([one.others.mean() for one in done])
    largest = np.array([one.hottest > one.others.max() for one in done], dtype=np.float64)
    return {
        **patches,
        "images": len(done),
        "hottest": mean_over_patients(hottest, patient, config).as_dict(),
        "others": mean_over_patients(others, patient, config).as_dict(),
        "difference": mean_over_patients(hottest - others, patient, config).as_dict(),
        "hottest_is_largest": mean_over_patients(largest, patient, config, share=True).as_dict(),
        # Of this many patches, the hottest would be the largest so often by chance.
        "largest_by_chance": float(np.mean([1 / (1 + one.others.size) for one in done])),
    }
