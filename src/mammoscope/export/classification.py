"""A classifier's run finished: its graph, what that says of images, and its scores."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from mammoscope.bundle import MODEL_FILE, SIDES
from mammoscope.cohort.store import PreparedStore
from mammoscope.export.graph import by_engine, check_difference, export_graph
from mammoscope.export.record import tell_engine, tell_timings
from mammoscope.inference import Scorer
from mammoscope.models import Classifier, MultiViewClassifier
from mammoscope.predictions import exam_input, predicted
from mammoscope.scores import settle_scores
from mammoscope.training import load_classifier
from mammoscope.training.dataset import Reader
from mammoscope.training.units import Unit, UnitDataset, collate, group_units
from mammoscope.types import Floats, GreyImage

__all__ = ["finish"]

_GRAPHS = ("the exported graph", "the training graph")
_PARITY_IMAGES = 8
_PARITY_EXAMS = 3

Progress = Callable[[int, int], None]


def finish(
    run: Path,
    facts: dict[str, Any],
    store: PreparedStore,
    rows: pl.DataFrame,
    progress: Progress | None,
) -> None:
    """Finish the run of a classifier of images, breasts or exams."""
    label = str(facts["config"]["train"]["label"])
    begun = time.perf_counter()
    network, config, _ = load_classifier(run)
    model = run / MODEL_FILE
    export_graph(network, (store.config.height, store.config.width), model)
    scorer = Scorer(model)
    look: Callable[[Scorer], Floats]
    if isinstance(network, MultiViewClassifier):
        exams = group_units(rows, "exam", label)[:_PARITY_EXAMS]
        _check_exam_parity(network, scorer, store, exams)
        look = partial(_exam_logits, store=store, exams=exams)
    else:
        images = [store.read(name) for name in rows["image_id"][:_PARITY_IMAGES]]
        _check_parity(network, scorer, images)
        look = partial(_image_logits, images=images)
    scorer, told = by_engine(model, config.export, scorer, look)
    tell_engine(facts, told)
    exported = time.perf_counter() - begun
    predictions = predicted(rows, store, scorer, label, progress)
    tell_timings(facts, begun, exported)
    settle_scores(run, facts, predictions)


def _image_logits(scorer: Scorer, images: list[GreyImage]) -> Floats:
    return np.asarray(scorer(images).logit, np.float64)


def _exam_logits(scorer: Scorer, store: PreparedStore, exams: list[Unit]) -> Floats:
    """Return the logits of exams: of their images, breasts and, where they are scored, exams."""
    made: list[float] = []
    for exam in exams:
        scores = scorer.exam(exam_input(exam, store))
        own = [scores.exam] if scores.exam is not None else []
        made += [*scores.images.logit.tolist(), *(k for k, _ in [*scores.breasts.values(), *own])]
    return np.array(made)


def _check_parity(classifier: Classifier, scorer: Scorer, images: list[GreyImage]) -> None:
    """Compare both graphs on real prepared images."""
    batch = torch.from_numpy(np.stack(images)[:, None].astype(np.float32))
    with torch.inference_mode():
        expected = classifier.eval()(batch).logit.numpy()
    check_difference(scorer(images).logit - expected, *_GRAPHS)


def _check_exam_parity(
    network: MultiViewClassifier, scorer: Scorer, store: PreparedStore, exams: list[Unit]
) -> None:
    """Compare both graphs on real exams, which the training graph sees padded, in one batch."""
    dataset = UnitDataset(Reader(store, max_value=store.config.max_value), exams)
    given = collate([dataset[number] for number in range(len(exams))]).given
    with torch.inference_mode():
        expected = network.eval()(given)
    for row, exam in enumerate(exams):
        made = scorer.exam(exam_input(exam, store))
        own = expected.image_logit[row][given.mask[row]].numpy()
        check_difference(made.images.logit - own, *_GRAPHS)
        for side, (logit, _) in made.breasts.items():
            both = float(expected.breast_logit[row, SIDES.index(side)])
            check_difference(logit - both, *_GRAPHS)
        if made.exam is not None:
            check_difference(made.exam[0] - float(expected.exam_logit[row]), *_GRAPHS)
