"""A detector's run finished: its graph, the candidates that the graph finds, and their tables."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from mammoscope.artefacts import write_atomically
from mammoscope.bundle import MODEL_FILE
from mammoscope.cohort.regions import regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, ViewMatching
from mammoscope.errors import RunError
from mammoscope.export.graph import PARITY_TOLERANCE, add_settings, by_engine
from mammoscope.export.record import settle_tables, tell_engine, tell_timings
from mammoscope.export.view_matching import ChosenMatching, choose_matching
from mammoscope.inference.detector import (
    DETECTOR_OUTPUTS,
    METADATA_KEY,
    Detector,
    DetectorContract,
    image_score,
    in_original,
)
from mammoscope.inference.fusion import Boxes, sides_of
from mammoscope.inference.matching import ViewCandidates, breast_depth, matched
from mammoscope.inference.tiles import cut, tile_corners
from mammoscope.models.detectors import Detector as Network
from mammoscope.predictions import table_of
from mammoscope.training import load_network
from mammoscope.training.detection.plan import kinds_of
from mammoscope.types import GreyImage

__all__ = ["CANDIDATES_SCHEMA", "check_boxes", "export_detector", "finish"]

#: Columns of ``candidates.parquet``; boxes in original pixels.
CANDIDATES_SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "patient_id": pl.String(),
    "exam_id": pl.String(),
    "laterality": pl.String(),
    "view": pl.String(),
    "fold": pl.Int64(),
    "split": pl.String(),
    "candidate": pl.Int64(),
    "x_min": pl.Float64(),
    "y_min": pl.Float64(),
    "x_max": pl.Float64(),
    "y_max": pl.Float64(),
    "score": pl.Float64(),
    "own_score": pl.Float64(),
    "kind": pl.String(),
    "matched": pl.String(),
}
_PARITY_IMAGES = 8
_OPSET = 20
# Largest distance, in pixels of the grid, between the sides of one box in both graphs.
_BOX_TOLERANCE_PX = 0.05

Progress = Callable[[int, int], None]


class _Graph(nn.Module):
    """The detector with its outputs as a plain tuple."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(image))


def export_detector(network: Network, contract: DetectorContract, path: Path) -> None:
    """Write a detector as ONNX: grey values in; boxes, scores and kinds out.

    Args:
        network: The detector.
        contract: What the graph's metadata are to say.
        path: The file to write.
    """
    with write_atomically(path) as temporary:
        _write(network, temporary)
        add_settings(temporary, METADATA_KEY, contract.as_dict())


def _write(network: Network, path: Path) -> None:
    """Write a graph for any number of images with the older exporter.

    The newer one takes twenty times as long over the arithmetic of anchors and suppression.
    """
    with warnings.catch_warnings():
        # The exporter warns of its age, and of numbers that it takes for constants.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(network).eval(),
            (torch.zeros(2, 1, *network.size),),
            path,
            input_names=["image"],
            output_names=list(DETECTOR_OUTPUTS),
            dynamic_axes={name: {0: "images"} for name in ("image", *DETECTOR_OUTPUTS)},
            opset_version=_OPSET,
            dynamo=False,
        )


def finish(
    run: Path,
    facts: dict[str, Any],
    store: PreparedStore,
    rows: pl.DataFrame,
    progress: Progress | None,
) -> None:
    """Finish the run of a detector."""
    begun = time.perf_counter()
    network, config, _ = load_network(run)
    if not isinstance(network, Network):
        raise RunError(f"{run} holds a {type(network).__name__}, not a detector")
    tiles = config.detect.tiles
    contract = DetectorContract(
        kinds=kinds_of(config),
        height=network.size[0],
        width=network.size[1],
        tile_px=tiles.size_px,
        overlap=tiles.overlap,
        fusion_iou=config.detect.fusion_iou,
        most=config.detect.most_candidates,
    )
    model = run / MODEL_FILE
    export_detector(network.float(), contract, model)
    shown = _shown(store, rows, contract)
    detector = Detector(model)
    check_boxes(network, detector, shown)
    detector, told = by_engine(
        model,
        config.export,
        detector,
        lambda made: np.array([image_score(made.whole(image).score)[0] for image in shown]),
    )
    if config.export.precision == "float32" and told:
        check_boxes(network, detector, shown)
    exported = time.perf_counter() - begun
    views = _looked_at(rows, store, detector, progress)
    chosen = _chosen_matching(rows, views, store, config)
    add_settings(model, METADATA_KEY, replace(contract, matching=chosen.matching).as_dict())
    earlier = [note for note in facts.get("notes", []) if not note.startswith("matching of views")]
    facts["notes"] = [*earlier, *([chosen.sentence] if chosen.lesions else [])]
    tell_engine(facts, told)
    candidates = _found(rows, views, store, chosen.matching, contract.kinds)
    predictions = _predictions(rows, candidates, config)
    tell_timings(facts, begun, exported)
    settle_tables(run, facts, {"predictions": predictions, "candidates": candidates})


def _shown(store: PreparedStore, rows: pl.DataFrame, contract: DetectorContract) -> list[GreyImage]:
    """Return images, or tiles with most tissue, on which both graphs are compared."""
    images = [store.read(name) for name in rows["image_id"][:_PARITY_IMAGES]]
    if not (side := contract.tile_px):
        return images
    made = []
    for image in images:
        corners = tile_corners((image.shape[0], image.shape[1]), side, contract.overlap)
        tiles = [cut(image, corner, side) for corner in corners]
        made.append(max(tiles, key=lambda tile: int((tile > 0).sum())))
    return made


def check_boxes(network: Network, detector: Detector, images: Sequence[GreyImage]) -> None:
    """Compare the candidates that come out of both graphs, by their boxes and not by their order.

    Candidates of nearly one score may change places. Where a graph has filled all its places, the
    last may have gone to either of two near equals; and a candidate at the floor of scores may be
    above it in one graph alone. Those are not asked for. A detector that looks closer at its best
    places only (RT-DETR's queries, Faster R-CNN's proposals) takes another last one where two of
    them tie within rounding; its image is refused here like any that differs, for what that place
    would have been is not known.

    Raises:
        RunError: If a candidate of one has no counterpart of the same place, score and kind among
            those of the other.
    """
    for number, image in enumerate(images):
        with torch.inference_mode():
            made = network.eval()(torch.from_numpy(image[None, None].astype(np.float32)))
        there = made.scores[0].numpy() > 0
        boxes, scores, kinds = (part[0].numpy()[there] for part in made)
        ours, theirs = Boxes(boxes, scores, kinds), detector.whole(image)
        places, floor = made.scores.shape[1], network.config.score_floor
        lacking = [
            score
            for ones, others in ((ours, theirs), (theirs, ours))
            for score in _without_counterpart(ones, others, _asked_for(others, places, floor))
        ]
        if lacking:
            raise RunError(
                f"the exported detector differs from the training graph on image {number}: "
                f"{len(lacking)} of their {len(ours)} and {len(theirs)} candidates have no "
                f"counterpart within {_BOX_TOLERANCE_PX} pixels and {PARITY_TOLERANCE} of the "
                f"score; the highest of them has {max(lacking):.3f}"
            )


def _asked_for(found: Boxes, places: int, floor: float) -> float:
    """Return the score above which what the other graph finds must be among these, too."""
    full = len(found) == places > 0
    return max(floor, float(found.score.min()) if full else 0.0) + PARITY_TOLERANCE


def _without_counterpart(ones: Boxes, others: Boxes, above: float) -> list[float]:
    """Return the scores of candidates, above a least one, that the other graph has not found."""
    off_box = np.abs(ones.box[:, None] - others.box[None]).max(axis=2, initial=0.0)
    off_score = np.abs(ones.score[:, None] - others.score[None])
    same = (off_box <= _BOX_TOLERANCE_PX) & (off_score <= PARITY_TOLERANCE)
    same &= ones.kind[:, None] == others.kind[None]
    alone = ~same.any(axis=1) & (ones.score > above)
    return [float(score) for score in ones.score[alone]]


def _looked_at(
    rows: pl.DataFrame, store: PreparedStore, detector: Detector, progress: Progress | None = None
) -> dict[str, ViewCandidates]:
    """Return the candidates of each image, by its name, before views are matched.

    Args:
        rows: Which images, from the store's rows.
        store: Where they are.
        detector: The exported detector.
        progress: Called with (done, total) images.
    """
    views: dict[str, ViewCandidates] = {}
    for done, row in enumerate(rows.iter_rows(named=True), start=1):
        image = store.read(row["image_id"])
        boxes, depth = detector(image), breast_depth(image, store.config.max_value)
        views[row["image_id"]] = ViewCandidates(row["image_id"], row["view"], boxes, depth)
        if progress is not None:
            progress(done, rows.height)
    return views


def _by_breast(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the rows of each breast; an image without an exam stands for itself."""
    exam = pl.coalesce("exam_id", "image_id").alias("_exam")
    by = ["patient_id", "_exam", "laterality"]
    return rows.with_columns(exam).partition_by(by, maintain_order=True)


def _chosen_matching(
    rows: pl.DataFrame, views: dict[str, ViewCandidates], store: PreparedStore, config: Config
) -> ChosenMatching:
    """Settle on validation images how views are matched."""
    regions = regions_of(store.cohort, store, config.lesions)
    judged = rows.filter(pl.col("split") != "test")
    lesions = {
        name: sides_of(regions.boxes(name))
        for name in judged["image_id"]
        if name not in regions.uncertain
    }
    breasts = [[views[name] for name in part["image_id"]] for part in _by_breast(judged)]
    return choose_matching(breasts, lesions, config.detect.matching, config.evaluation)


def _found(
    rows: pl.DataFrame,
    views: dict[str, ViewCandidates],
    store: PreparedStore,
    matching: ViewMatching,
    kinds: tuple[str, ...],
) -> pl.DataFrame:
    """Return a row per candidate, as ``candidates.parquet`` has them.

    Args:
        rows: Which images, from the store's rows.
        views: Their candidates, from :func:`_looked_at`.
        store: Where the images are.
        matching: How candidates of a breast's views are matched.
        kinds: Names of the kinds of lesion; none where none are told.
    """
    made: list[dict[str, Any]] = []
    for part in _by_breast(rows):
        breast = [views[name] for name in part["image_id"]]
        if matching.enabled:
            moved = matched(breast, matching)
        else:
            moved = [(view.boxes.score, [None] * len(view.boxes)) for view in breast]
        ranks = {
            view.image_id: np.argsort(-score, kind="stable").argsort(kind="stable")
            for view, (score, _) in zip(breast, moved, strict=True)
        }
        for row, view, (score, partner) in zip(
            part.iter_rows(named=True), breast, moved, strict=True
        ):
            made += _rows_of(row, view, score, partner, ranks, store, kinds)
    table = pl.DataFrame(made, schema=CANDIDATES_SCHEMA, orient="row")
    return table.sort("image_id", "candidate")


def _rows_of(
    row: dict[str, Any],
    view: ViewCandidates,
    score: Any,
    partner: Sequence[tuple[str, int] | None],
    ranks: dict[str, Any],
    store: PreparedStore,
    kinds: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Return the rows of one image's candidates, numbered by their moved scores."""
    geometry = store.read_geometry(view.image_id)
    made = []
    for place in range(len(view.boxes)):
        own = Boxes(*(part[place : place + 1] for part in _parts(view.boxes)))
        places = in_original(own, geometry, kinds)
        if not places:
            continue
        box, other = places[0].box, partner[place]
        made.append(
            {
                **{key: row[key] for key in ("image_id", "patient_id", "exam_id")},
                **{key: row[key] for key in ("laterality", "view", "fold")},
                "split": "test" if row["split"] == "test" else "val",
                "candidate": int(ranks[view.image_id][place]),
                "x_min": box.x_min,
                "y_min": box.y_min,
                "x_max": box.x_max,
                "y_max": box.y_max,
                "score": float(score[place]),
                "own_score": float(view.boxes.score[place]),
                "kind": places[0].kind if kinds else None,
                "matched": None if other is None else f"{other[0]}/{ranks[other[0]][other[1]]}",
            }
        )
    return made


def _parts(boxes: Boxes) -> tuple[Any, Any, Any]:
    return boxes.box, boxes.score, boxes.kind


def _predictions(rows: pl.DataFrame, candidates: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Return a row per image: its highest candidate is its score."""
    found: dict[str, list[float]] = {name: [] for name in rows["image_id"]}
    for name, score in candidates.select("image_id", "score").iter_rows():
        found[name].append(score)
    told = [dict(zip(("logit", "score"), image_score(own), strict=True)) for own in found.values()]
    return table_of(rows, told, config.train.label).sort("image_id")
