"""A run of two stages finished: the second stage's graph, and what it says of every cut-out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from mammoscope.artefacts import sha256_file, write_atomically, write_json
from mammoscope.bundle import MODEL_FILE
from mammoscope.cohort.regions import Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, StagesConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.stages import CUTOUTS_FILE, IMAGES_FILE
from mammoscope.export.graph import add_settings, by_engine, check_difference, write_graph
from mammoscope.export.record import tell_engine, tell_timings
from mammoscope.inference import CutoutScorer, CutoutSettings, Outlined, Segmenter, cut_square
from mammoscope.inference.cutouts import CUTOUT_KEY
from mammoscope.models import CutoutClassifier, CutoutGraph
from mammoscope.training import load_network
from mammoscope.training.cutouts.listing import Cutout, annotated, predicted, tissue
from mammoscope.training.cutouts.plan import first_stage
from mammoscope.training.segmentation.task import dice_around

__all__ = ["SEGMENTER_FILE", "finish"]

#: The first stage's graph, copied into the run.
SEGMENTER_FILE = "segmenter.onnx"
_GRAPHS = ("the exported graph", "the training graph")
_PARITY_CUTOUTS = 16

Progress = Callable[[int, int], None]
Row = dict[str, Any]


def finish(
    run: Path,
    facts: dict[str, Any],
    store: PreparedStore,
    rows: pl.DataFrame,
    progress: Progress | None,
) -> None:
    """Finish a run of two stages."""
    begun = time.perf_counter()
    network, config, _ = load_network(run)
    if not isinstance(network, CutoutClassifier):
        raise RunError(f"{run} holds a {type(network).__name__}, no classifier of cut-outs")
    first = first_stage(config, store, int(facts["fold"]))
    if sha256_file(first) != facts["first_stage"]["model_sha256"]:
        raise RunError(f"{first} is not the first stage that {run} was trained with")
    shutil.copyfile(first, run / SEGMENTER_FILE)
    _export(network, config.stages, run / MODEL_FILE)
    regions = regions_of(store.cohort, store, config.lesions)
    scorer, segmenter = CutoutScorer(run / MODEL_FILE), Segmenter(run / SEGMENTER_FILE)
    shown = annotated(rows["image_id"], regions)[:_PARITY_CUTOUTS]
    _check_parity(network, scorer, store, shown)
    scorer, told = by_engine(
        run / MODEL_FILE,
        config.export,
        scorer,
        lambda made: np.array([made(store.read(c.image_id), [c.box]).logit for c in shown]),
    )
    tell_engine(facts, told)
    exported = time.perf_counter() - begun
    made = _told(rows, store, regions, segmenter, scorer, config, progress)
    tell_timings(facts, begun, exported)
    images = rows.select(
        "image_id",
        "patient_id",
        split=pl.when(pl.col("split") == "test").then(pl.lit("test")).otherwise(pl.lit("val")),
        counted=~pl.col("image_id").is_in(list(regions.uncertain)),
    )
    for name, table in ((CUTOUTS_FILE, made), (IMAGES_FILE, images)):
        with write_atomically(run / name) as temporary:
            table.write_parquet(temporary)
    files = (MODEL_FILE, SEGMENTER_FILE, CUTOUTS_FILE, IMAGES_FILE)
    facts |= {
        "status": "finished",
        "classes": list(config.stages.names),
        "calibration": {"method": "none"},
        "predicted": {split: int((images["split"] == split).sum()) for split in ("val", "test")},
        "hashes": {name: sha256_file(run / name) for name in files},
    }
    write_json(run / "run.json", facts)


def _export(network: CutoutClassifier, stages: StagesConfig, path: Path) -> None:
    side = stages.cutout_px
    write_graph(
        CutoutGraph(network),
        (torch.zeros(2, 1, side, side),),
        path,
        inputs=["image"],
        outputs=["logit", "score"],
        dynamic_shapes={"image": {0: torch.export.Dim("cutouts")}},
    )
    settings = CutoutSettings(stages.margin, side, stages.names)
    add_settings(path, CUTOUT_KEY, {**asdict(settings), "classes": list(stages.names)})


@torch.inference_mode()
def _check_parity(
    network: CutoutClassifier, scorer: CutoutScorer, store: PreparedStore, cutouts: list[Cutout]
) -> None:
    """Compare both graphs on real cut-outs."""
    settings = scorer.settings
    for cutout in cutouts:
        pixels = store.read(cutout.image_id)
        square = cut_square(pixels, cutout.box, settings.margin, settings.cutout_px)
        expected = network.eval()(torch.from_numpy(square)[None, None]).numpy()
        check_difference(scorer(pixels, [cutout.box]).logit - expected, *_GRAPHS)


def _told(
    rows: pl.DataFrame,
    store: PreparedStore,
    regions: Regions,
    segmenter: Segmenter,
    scorer: CutoutScorer,
    config: Config,
    progress: Progress | None,
) -> pl.DataFrame:
    """Return a row per cut-out of every image: true, of tissue, and predicted."""
    made: list[Row] = []
    told = rows.select("image_id", "patient_id", "split").sort("image_id")
    for done, (name, patient, split) in enumerate(told.iter_rows(), start=1):
        cutouts = annotated([name], regions)
        if "normal" in config.stages.names:
            cutouts += tissue([name], regions, store, config.stages.margin, config.train.seed)
        outlined = segmenter([store.read(name)])[0]
        cutouts += predicted(name, outlined, regions, config.evaluation.mask_iou)
        scores = scorer(store.read(name), [cutout.box for cutout in cutouts]).score
        dice = _dice(name, outlined, regions, config.evaluation.patch_margin)
        for cutout, score in zip(cutouts, scores, strict=True):
            named = dict(zip(config.stages.names, score.tolist(), strict=True))
            own = dice.get(cutout.finding_id) if cutout.origin == "annotated" else None
            made.append(
                {
                    "image_id": name,
                    "patient_id": patient,
                    "split": "test" if split == "test" else "val",
                    "finding_id": cutout.finding_id,
                    "shows": cutout.shows,
                    "origin": cutout.origin,
                    "called": config.stages.names[int(np.argmax(score))],
                    "dice": own,
                    **{side: getattr(cutout.box, side) for side in cutout.box.__slots__},
                    **{f"score_{shows}": value for shows, value in named.items()},
                }
            )
        if progress is not None:
            progress(done, rows.height)
    return pl.DataFrame(made, infer_schema_length=None)


def _dice(
    name: str, outlined: Outlined, regions: Regions, margin: float
) -> dict[str | None, float]:
    """Return how well the first stage outlines each lesion of an image."""
    union = regions.union(name)
    made: dict[str | None, float] = {}
    for region in regions.of(name):
        truth = regions.mask(region)
        # What is marked of another lesion says nothing of this one.
        made[region.finding_id] = dice_around(outlined.mask & (truth | ~union), truth, margin)
    return made
