"""A segmenter's run finished: its graph, what that outlines, and the tables of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import torch

from mammoscope.bundle import MODEL_FILE
from mammoscope.cohort.regions import Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import CandidateScore, Config, EvaluationConfig, SegmentConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.pointing import mean_over_patients
from mammoscope.explain import clipped
from mammoscope.export.candidate_score import choose_candidate_score
from mammoscope.export.graph import add_settings, by_engine, write_graph
from mammoscope.export.mask_threshold import USUAL, choose_threshold
from mammoscope.export.record import settle_tables, tell_engine, tell_timings
from mammoscope.inference import MaskSettings, Outlined, Outliner, Segmenter, cut_out
from mammoscope.inference.scorer import sigmoid
from mammoscope.inference.segmenter import LOGITS, SETTINGS_KEY
from mammoscope.masks import encode
from mammoscope.models import Segmenter as Network
from mammoscope.predictions import heat_place, table_of
from mammoscope.preprocessing import Geometry
from mammoscope.training import load_network
from mammoscope.training.segmentation.plan import input_size
from mammoscope.types import Bools, Box, FloatImage, GreyImage

__all__ = ["export_segmenter", "finish"]

_PARITY_IMAGES = 4
# Largest difference of a score, and of its logit for each unit of its size.
_PARITY_TOLERANCE = 1e-3
_IN_A_WINDOW = "Dice in a window with the lesion in its middle, looked at by itself"
_OWN = ("image_id", "patient_id", "exam_id", "laterality", "view", "fold", "split")
_SPACING = ("image_id", "spacing_y_mm", "spacing_x_mm")
_SIDES = ("x_min", "y_min", "x_max", "y_max")

_CANDIDATES: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "candidate": pl.Int64(),
    **{side: pl.Float64() for side in _SIDES},
    "score": pl.Float64(),
    "kind": pl.String(),
    "matched": pl.String(),
}
_MASKS: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "height": pl.Int64(),
    "width": pl.Int64(),
    "spacing_y_mm": pl.Float64(),
    "spacing_x_mm": pl.Float64(),
    "predicted": pl.List(pl.UInt32()),
}
_LESIONS: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "finding_id": pl.String(),
    "kind": pl.String(),
    "malignant": pl.Int8(),
    **{side: pl.Float64() for side in _SIDES},
    "truth": pl.List(pl.UInt32()),
    "patch_dice": pl.Float64(),
}

Progress = Callable[[int, int], None]
Row = dict[str, Any]


def finish(
    run: Path,
    facts: dict[str, Any],
    store: PreparedStore,
    rows: pl.DataFrame,
    progress: Progress | None,
) -> None:
    """Finish the run of a segmenter."""
    begun = time.perf_counter()
    network, config, preprocess = load_network(run)
    if not isinstance(network, Network):
        raise RunError(f"{run} holds a {type(network).__name__}, no segmenter")
    regions = regions_of(store.cohort, store, config.lesions)
    model = run / MODEL_FILE
    export_segmenter(network, config.segment, input_size(config.segment, preprocess), model)
    names = _shown(rows, regions)
    segmenter = Segmenter(model)
    _check_parity(network, segmenter, store, names)
    shown = [store.read(name) for name in names]
    _, told = by_engine(
        model,
        config.export,
        segmenter,
        lambda made: np.stack([outlined.logits for outlined in made(shown)]),
    )
    notes = _settle_on_validation(model, rows, store, regions, config)
    segmenter = Segmenter(model)
    exported = time.perf_counter() - begun
    tables = _scored(rows, store, regions, segmenter, config, progress)
    tell_timings(facts, begun, exported)
    own = (_IN_A_WINDOW, "threshold ", "candidates score by")
    earlier = [note for note in facts.get("notes", []) if not note.startswith(own)]
    facts["mask_threshold"] = segmenter.settings.threshold
    facts["candidate_score"] = segmenter.settings.candidate_score
    facts["notes"] = [*earlier, *notes, *_told_of_patches(tables, config.evaluation)]
    tell_engine(facts, told)
    settle_tables(run, facts, tables)


def export_segmenter(
    network: Network, segment: SegmentConfig, size: tuple[int, int], path: Path
) -> None:
    """Write a segmenter as ONNX, with what its map is made into.

    Args:
        network: The network.
        segment: Thresholds, windows and how they are joined.
        size: (H, W) of what it looks at.
        path: The file to write.

    Raises:
        RunError: If the exporter gives no program.
    """
    write_graph(
        network,
        (torch.zeros(2, 1, *size),),
        path,
        inputs=["image"],
        outputs=[LOGITS],
        dynamic_shapes={"image": {0: torch.export.Dim("images")}},
    )
    add_settings(path, SETTINGS_KEY, _mask_settings(segment))


def _mask_settings(
    segment: SegmentConfig, threshold: float = USUAL, score: CandidateScore = "highest"
) -> dict[str, Any]:
    """Return what a map is made into, with what the configuration leaves to validation."""
    told = {field.name: getattr(segment, field.name) for field in fields(MaskSettings)}
    if segment.threshold == "validation":
        told["threshold"] = threshold
        # A mask has a candidate wherever it is.
        told["candidate_threshold"] = min(segment.candidate_threshold, threshold)
    if segment.candidate_score == "validation":
        told["candidate_score"] = score
    return told


def _settle_on_validation(
    model: Path, rows: pl.DataFrame, store: PreparedStore, regions: Regions, config: Config
) -> list[str]:
    """Choose on validation images what is left to them, write it into the graph, and say it."""
    segment, evaluation = config.segment, config.evaluation
    names = rows.filter(pl.col("split") != "test")["image_id"]
    threshold, notes = USUAL, []
    if segment.threshold == "validation":
        chosen = choose_threshold(names, store, regions, Segmenter(model), evaluation.patch_margin)
        if chosen is None:
            none = "no validation image has a lesion to choose it on"
            return [f"threshold {USUAL:g} of masks: {none}"]
        threshold = chosen.value
        add_settings(model, SETTINGS_KEY, _mask_settings(segment, threshold))
        notes.append(chosen.sentence)
    if segment.candidate_score == "validation":
        # Of the candidates that this threshold makes.
        scored = choose_candidate_score(names, store, regions, Segmenter(model), evaluation)
        if scored is not None:
            settings = _mask_settings(segment, threshold, scored.value)
            add_settings(model, SETTINGS_KEY, settings)
            notes.append(scored.sentence)
    return notes


def _shown(rows: pl.DataFrame, regions: Regions) -> list[str]:
    """Return images to compare graphs on, those with a lesion first."""
    names = sorted(rows["image_id"], key=lambda name: (not regions.of(name), name))
    return names[:_PARITY_IMAGES]


@torch.inference_mode()
def _check_parity(
    network: Network, segmenter: Segmenter, store: PreparedStore, image_ids: list[str]
) -> None:
    """Compare both graphs on real prepared images: logits, and the masks that come out.

    Raises:
        RunError: If they differ.
    """

    def look(images: Sequence[GreyImage]) -> FloatImage:
        batch = torch.from_numpy(np.stack(list(images))[:, None].astype(np.float32))
        logits: FloatImage = network.eval()(batch)[:, 0].numpy()
        return logits

    trained = Outliner(look, segmenter.size, segmenter.settings)
    for name in image_ids:
        pixels = store.read(name)
        expected, made = trained(pixels), segmenter([pixels])[0]
        apart = np.abs(made.logits - expected.logits) / np.maximum(1, np.abs(expected.logits))
        if not (largest := float(apart.max(initial=0))) <= _PARITY_TOLERANCE:
            raise RunError(
                f"the exported graph differs from the training graph by {largest:.2g} of a pixel's "
                f"logit on image {name}; at most {_PARITY_TOLERANCE} is accepted"
            )
        near = np.abs(expected.scores - segmenter.settings.threshold) <= _PARITY_TOLERANCE
        if wrong := differing_pixels(made.mask, expected.mask, near):
            raise RunError(
                f"the mask of image {name} differs in {wrong} pixels between the exported graph "
                "and the training graph"
            )


def differing_pixels(made: Bools, expected: Bools, near: Bools) -> int:
    """Count the pixels in which two masks differ, but for what rounding may change.

    A pixel whose score lies at the threshold may fall on either side of it, and the part of the
    mask that it belongs to may so be large enough or not; other parts may not.

    Args:
        made: (H, W) one mask.
        expected: (H, W) the other.
        near: (H, W) pixels whose score lies at the threshold.
    """
    count, labels = cv2.connectedComponents((made | expected | near).astype(np.uint8))
    touched = np.zeros(count, dtype=np.bool_)
    touched[labels[near]] = True
    return int(((made != expected) & ~touched[labels]).sum())


def _scored(
    rows: pl.DataFrame,
    store: PreparedStore,
    regions: Regions,
    segmenter: Segmenter,
    config: Config,
    progress: Progress | None,
) -> dict[str, pl.DataFrame]:
    """Outline every image; returns the tables by name."""
    told: list[Row] = []
    candidates: list[Row] = []
    masks: list[Row] = []
    lesions: list[Row] = []
    spacing = {name: own for name, *own in rows.select(_SPACING).iter_rows()}
    for done, name in enumerate(rows["image_id"], start=1):
        made = segmenter([store.read(name)])[0]
        rated = {"logit": made.logit, "score": sigmoid(made.logit)}
        told.append(rated | heat_place(store, name, made.scores))
        candidates += _candidate_rows(name, made, store.read_geometry(name))
        masks.append(_mask_row(name, made, store.read_geometry(name), spacing[name]))
        lesions += _lesion_rows(name, regions, store, segmenter)
        if progress is not None:
            progress(done, rows.height)
    predictions = table_of(rows, told, config.train.label)
    own = predictions.select(_OWN)
    return {
        "predictions": predictions.sort("image_id"),
        "candidates": _told(own, candidates, _CANDIDATES),
        "masks": _told(own, masks, _MASKS),
        "lesion_masks": pl.DataFrame(lesions, schema=_LESIONS).sort(
            "image_id", maintain_order=True
        ),
    }


def _told(own: pl.DataFrame, made: list[Row], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Put what an image is beside each row of it."""
    table = pl.DataFrame(made, schema=schema)
    joined = own.join(table, on="image_id", how="inner", maintain_order="left_right")
    return joined.sort("image_id", maintain_order=True)


def _candidate_rows(name: str, made: Outlined, geometry: Geometry) -> list[Row]:
    """Return the candidates of one image in original pixels, the highest first."""
    rows: list[Row] = []
    for candidate in made.candidates:
        box = clipped(geometry.to_original(candidate.box), geometry)
        if box is not None:
            sides = {side: getattr(box, side) for side in _SIDES}
            row = {"image_id": name, "candidate": len(rows), "score": candidate.score}
            rows.append({**row, **sides, "kind": None, "matched": None})
    return rows


def _mask_row(
    name: str, made: Outlined, geometry: Geometry, spacing: Sequence[float | None]
) -> Row:
    """Return a mask with the size of the grid's pixels.

    Args:
        name: The image.
        made: What was outlined.
        geometry: How the grid lies on the original.
        spacing: Height and width of the original's pixels in mm, none where unknown.
    """
    height, width = made.mask.shape
    # One pixel of the grid, in pixels of the original.
    pixel = geometry.to_original(Box(0, 0, 1, 1))
    sides = (pixel.y_max - pixel.y_min, pixel.x_max - pixel.x_min)
    own = (None if of is None else of * side for of, side in zip(spacing, sides, strict=True))
    grid = {"image_id": name, "height": height, "width": width}
    return {**grid, **dict(zip(_SPACING[1:], own, strict=True)), "predicted": encode(made.mask)}


def _lesion_rows(
    name: str, regions: Regions, store: PreparedStore, segmenter: Segmenter
) -> list[Row]:
    rows = []
    for region, box in zip(regions.of(name), regions.boxes(name), strict=True):
        truth = regions.mask(region)
        others = regions.union(name) & ~truth
        rows.append(
            {
                "image_id": name,
                "finding_id": region.finding_id,
                "kind": region.kind,
                "malignant": region.malignant,
                **{side: getattr(box, side) for side in _SIDES},
                "truth": encode(truth),
                "patch_dice": _patch_dice(store.read(name), box, truth, others, segmenter),
            }
        )
    return rows


def _patch_dice(
    pixels: GreyImage, box: Box, truth: Bools, others: Bools, segmenter: Segmenter
) -> float | None:
    """Return the Dice of one window with the lesion in its middle, looked at by itself.

    This is what is told where masks are made of lesions that somebody has found already. None
    where the network looks at whole images.
    """
    side = segmenter.size[0]
    if side != segmenter.size[1] or pixels.shape == segmenter.size:
        return None
    top = round((box.y_min + box.y_max - side) / 2)
    left = round((box.x_min + box.x_max - side) / 2)
    there, beside = (cut_out(mask, top, left, side) for mask in (truth, others))
    (made,) = segmenter([cut_out(pixels, top, left, side)])
    drawn = made.mask & ~beside
    return float(2 * (drawn & there).sum() / (drawn.sum() + there.sum()))


def _told_of_patches(tables: dict[str, pl.DataFrame], config: EvaluationConfig) -> list[str]:
    """Say how well lesions are outlined in a window of their own, by split."""
    split = tables["predictions"].select("image_id", "patient_id", "split")
    rows = tables["lesion_masks"].join(split, on="image_id").drop_nulls("patch_dice")
    said = []
    for name in ("val", "test"):
        part = rows.filter(pl.col("split") == name)
        if part.height:
            patient = part["patient_id"].rank("dense").to_numpy().astype(np.int64) - 1
            made = mean_over_patients(part["patch_dice"].to_numpy(), patient, config)
            ends = "" if made.low is None else f" ({made.low:.3f} to {made.high:.3f})"
            said.append(f"{_IN_A_WINDOW}: {made.value:.3f}{ends} over {part.height} {name} lesions")
    return said
