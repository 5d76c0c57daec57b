"""Two stages: what a segmenter outlines, told apart by a second network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import torch

from mammoscope.artefacts import sha256_file
from mammoscope.bundle import MODEL_FILE
from mammoscope.cohort.regions import Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, PreprocessConfig
from mammoscope.errors import CohortError, ConfigError, RunError
from mammoscope.inference import Segmenter
from mammoscope.models import CutoutClassifier, build_backbone, check_backbone
from mammoscope.training.cutouts.listing import Cutout, annotated, predicted, tissue
from mammoscope.training.cutouts.task import CutoutDataset, CutoutTask
from mammoscope.training.loading import Loader
from mammoscope.training.run_folder import read_run
from mammoscope.training.sampling import EpochSampler, draw_rates
from mammoscope.training.tasks import (
    CLASSIFIERS_ONLY,
    Made,
    Parts,
    TaskPlan,
    refuse_settings,
    split_parts,
)

__all__ = ["PLAN", "first_stage"]


def first_stage(config: Config, store: PreparedStore, fold: int) -> Path:
    """Return the graph of the first stage, if it may be used with this cohort and fold.

    Raises:
        ConfigError: If none is named.
        RunError: If it is of another task, cohort, preparation or fold, or is not finished: one
            that has learnt from the images which are to be measured would flatter both stages.
    """
    run = config.stages.segmenter
    if run is None:
        raise ConfigError(
            "stages.segmenter is not set: name the run folder of a finished run of task segment"
        )
    facts = read_run(run)
    task = facts["config"].get("task")
    if task != "segment" or facts["status"] != "finished":
        raise RunError(
            f"stages.segmenter={run} is of task {task} and {facts['status']}; a finished run of "
            "task segment is needed"
        )
    told = {
        "cohort.splits_sha256": (
            facts["cohort"]["splits_sha256"],
            sha256_file(store.cohort / "splits.parquet"),
        ),
        "preprocess": (facts["preprocess"], store.config.model_dump(mode="json")),
        "fold": (facts["fold"], fold),
    }
    other = [name for name, (theirs, ours) in told.items() if theirs != ours]
    if other:
        raise RunError(
            f"stages.segmenter={run} was trained with another {', '.join(other)}: it may have "
            "learnt from images that this run holds out"
        )
    graph = Path(run) / MODEL_FILE
    if sha256_file(graph) != facts["hashes"][MODEL_FILE]:
        raise RunError(f"{graph} was edited: its SHA-256 is not that of run.json")
    return graph


def _check(store: PreparedStore, rows: pl.DataFrame, fold: int, config: Config) -> Parts:
    check_backbone(config.model.backbone)
    refuse_settings(config, *CLASSIFIERS_ONLY)
    first_stage(config, store, fold)
    regions = regions_of(store.cohort, store, config.lesions)
    parts = split_parts(rows, fold)
    for name, title in (("train", "training"), ("val", "validation")):
        _check_classes(
            _true(store, parts[name], regions, config),
            config,
            f"the {title} images of fold {fold} hold",
        )
    return parts


def _check_classes(cutouts: list[Cutout], config: Config, where: str) -> None:
    there = Counter(cutout.shows for cutout in cutouts)
    lacking = [shows for shows in config.stages.names if not there[shows]]
    if lacking:
        raise CohortError(
            f"{where} no {' and no '.join(lacking)} cut-out; {', '.join(config.stages.names)} are "
            "to be told apart (stages.classes)"
        )


def _true(
    store: PreparedStore, rows: pl.DataFrame, regions: Regions, config: Config
) -> list[Cutout]:
    """Return cut-outs around true masks, and of tissue where that is a class."""
    names = rows["image_id"].to_list()
    return annotated(names, regions) + _tissue(store, names, regions, config)


def _outlined(
    store: PreparedStore, rows: pl.DataFrame, regions: Regions, config: Config, graph: Path
) -> list[Cutout]:
    """Return cut-outs around what the first stage outlines, and of tissue likewise."""
    names, segmenter = rows["image_id"].to_list(), Segmenter(graph)
    made = [
        cutout
        for name in names
        for cutout in predicted(
            name, segmenter([store.read(name)])[0], regions, config.evaluation.mask_iou
        )
        if cutout.shows in config.stages.names
    ]
    return made + _tissue(store, names, regions, config)


def _tissue(
    store: PreparedStore, image_ids: list[str], regions: Regions, config: Config
) -> list[Cutout]:
    if "normal" not in config.stages.names:
        return []
    return tissue(image_ids, regions, store, config.stages.margin, config.train.seed)


def _make(store: PreparedStore, parts: Parts, config: Config, *, fresh: bool) -> Made:
    network, notes = _network(config, store.config, fresh=fresh)
    regions = regions_of(store.cohort, store, config.lesions)
    graph = first_stage(config, store, int(parts["val"]["fold"][0]))
    if config.stages.learn_from == "predicted":
        train = _outlined(store, parts["train"], regions, config, graph)
        _check_classes(train, config, f"what {graph.parent} outlines on training images holds")
    else:
        train = _true(store, parts["train"], regions, config)
    val = _true(store, parts["val"], regions, config)
    return Made(
        CutoutTask(network, config.train, _drawn(train, config)),
        (_loader(store, train, config, train=True), _loader(store, val, config, train=False)),
        notes=(*notes, *regions.notes),
        facts={
            "cutouts": dict(Counter(cutout.shows for cutout in train)),
            "first_stage": {"run": str(graph.parent), "model_sha256": sha256_file(graph)},
            "lesions": {"used": len(regions), "faults": regions.counts, "dropped": regions.dropped},
        },
    )


def _drawn(cutouts: list[Cutout], config: Config) -> list[float]:
    """Return how many cut-outs of each class an epoch shows, on average."""
    rates = draw_rates(_labels(cutouts), config.train)
    shown = [cutout.shows for cutout in cutouts]
    return [
        sum(rate for rate, shows in zip(rates, shown, strict=True) if shows == name)
        for name in config.stages.names
    ]


def _labels(cutouts: list[Cutout]) -> list[float]:
    """Say of each cut-out whether it is malignant, for the sampler."""
    return [float(cutout.shows == "malignant") for cutout in cutouts]


def _rebuild(config: Config, preprocess: PreprocessConfig) -> CutoutClassifier:
    return _network(config, preprocess, fresh=False)[0]


def _network(
    config: Config, preprocess: PreprocessConfig, *, fresh: bool
) -> tuple[CutoutClassifier, list[str]]:
    model = config.model
    if not fresh:
        model = model.model_copy(update={"pretrained": False, "weights": None})
    side = config.stages.cutout_px
    backbone, notes = build_backbone(model, (side, side))
    network = CutoutClassifier(
        backbone,
        len(config.stages.names),
        max_value=preprocess.max_value,
        dropout=model.dropout,
    )
    # Convolutions on a CPU are quicker in this order of memory.
    return network.to(memory_format=torch.channels_last), notes  # type: ignore[call-overload]


def _loader(store: PreparedStore, cutouts: list[Cutout], config: Config, *, train: bool) -> Loader:
    settings = config.train
    images = CutoutDataset(
        store,
        cutouts,
        config.stages,
        max_value=store.config.max_value,
        augment=config.augment if train else None,
        seed=settings.seed,
    )
    sampler = EpochSampler(_labels(cutouts), settings) if train else None
    return Loader(images, settings, sampler)


#: How classifiers of cut-outs are learnt.
PLAN = TaskPlan(_check, _make, _rebuild)
