"""From trained weights to what is deployed: graph, predictions made with it, bundle.

The graph is exported at the end of training and every number of the report comes from
it, so that what is evaluated is what is deployed (``model.onnx`` has one hash in both).
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from mammoscope import __version__
from mammoscope.artefacts import (
    new_folder,
    read_json,
    sha256_file,
    write_atomically,
)
from mammoscope.bundle import (
    AGGREGATION,
    FACTS,
    GRAPH_INPUTS,
    MODEL_FILE,
    SIDES,
    Bundle,
    OutputContract,
    write_bundle,
)
from mammoscope.cohort.store import PreparedStore
from mammoscope.errors import RunError
from mammoscope.evaluation.run_folder import frozen_points
from mammoscope.inference import Scorer
from mammoscope.models import Classifier, MultiViewClassifier, MultiViewGraph
from mammoscope.predictions import exam_input, predicted
from mammoscope.results import INTENDED_USE
from mammoscope.scores import settle_scores
from mammoscope.training import load_classifier
from mammoscope.training.units import Unit, UnitDataset, collate, group_units
from mammoscope.types import GreyImage

__all__ = [
    "PARITY_TOLERANCE",
    "check_difference",
    "export_bundle",
    "export_graph",
    "finish_run",
]

#: Largest difference of logits between the training graph and ONNX Runtime.
PARITY_TOLERANCE = 1e-3
_GRAPHS = ("the exported graph", "the training graph")
_PARITY_IMAGES = 8
_PARITY_EXAMS = 3
_OPSET = 20

Progress = Callable[[int, int], None]


class _Graph(nn.Module):
    """The classifier with its outputs in the bundle's order and names."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.classifier(image)
        return output.logit, torch.sigmoid(output.logit), output.heatmap


def finish_run(run: Path, cohort: Path, progress: Progress | None = None) -> int:
    """Export the best weights and predict validation and test images with the graph.

    Args:
        run: The run folder, trained.
        cohort: Its cohort folder.
        progress: Called with (done, total) images.

    Returns:
        How many images were scored.

    Raises:
        RunError: If the cohort was prepared otherwise since training, or the graph's logits
            differ from the training graph's.
        BundleError: If the graph gives a score that is not finite.
    """
    run = Path(run)
    facts = read_json(run / "run.json", RunError)
    store = PreparedStore(cohort)
    _check_preprocess(run, facts, store)
    fold, label = int(facts["fold"]), str(facts["config"]["train"]["label"])
    rows = store.rows().filter(
        ((pl.col("split") == "test") | (pl.col("fold") == fold))
        & pl.col("laterality").is_not_null()
    )
    begun = time.perf_counter()
    network, _, _ = load_classifier(run)
    model = run / MODEL_FILE
    export_graph(network, (store.config.height, store.config.width), model)
    scorer = Scorer(model)
    if isinstance(network, MultiViewClassifier):
        _check_exam_parity(network, scorer, store, group_units(rows, "exam", label)[:_PARITY_EXAMS])
    else:
        _check_parity(
            network, scorer, [store.read(name) for name in rows["image_id"][:_PARITY_IMAGES]]
        )
    exported = time.perf_counter() - begun
    predictions = predicted(rows, store, scorer, label, progress)
    facts["timings_s"] = {
        **facts.get("timings_s", {}),
        "export": round(exported, 2),
        "score": round(time.perf_counter() - begun - exported, 2),
    }
    settle_scores(run, facts, predictions)
    return rows.height


def export_bundle(
    run: Path, folder: Path, *, name: str | None = None, overwrite: bool = False
) -> Bundle:
    """Write the bundle of an evaluated run.

    Args:
        run: The run folder, trained and evaluated.
        folder: The bundle folder.
        name: Name of the bundle; the run folder's by default.
        overwrite: Replace a bundle that is there.

    Raises:
        RunError: If the run is not finished, not evaluated, or a file of it was edited.
        OutputError: If the folder exists or cannot be written.
    """
    run = Path(run)
    facts = _finished(run)
    chosen, report = frozen_points(run)
    if report["run"]["hashes"] != facts["hashes"]:
        raise RunError(
            f"{run}/report is of other predictions: run mammoscope evaluate {run} --overwrite"
        )
    scorer = Scorer(run / MODEL_FILE, threads=1)
    level, taken = scorer.level, scorer.inputs
    predictions = pl.read_parquet(run / "predictions.parquet")
    with new_folder(folder, overwrite=overwrite, marker="bundle.json") as fresh:
        return write_bundle(
            fresh,
            run / MODEL_FILE,
            name=name or run.resolve().name,
            package_version=__version__,
            synthetic=bool(facts["synthetic"]),
            intended_use=INTENDED_USE,
            input={
                "level": level,
                "facts": facts["config"]["model"].get("facts", []) if "facts" in taken else [],
                "inputs": {k: v for k, v in GRAPH_INPUTS[level].items() if k in taken},
                "preprocess": facts["preprocess"],
            },
            output=OutputContract.of(level),
            aggregation=AGGREGATION[level],
            calibration=facts.get("calibration", {"method": "none"}),
            eligibility=facts["eligibility"],
            operating_points={
                **{key: chosen[key] for key in ("primary", "scored_by")},
                **chosen["points"],
            },
            reference=_reference(predictions, "test" if facts["fold"] is None else "val"),
            training=_training(facts, report),
        )


def _finished(run: Path) -> dict[str, Any]:
    """Return the record of a finished run whose files are those that it made."""
    facts = read_json(run / "run.json", RunError)
    if facts.get("status") != "finished":
        raise RunError(
            f"{run} is {facts.get('status')}, not finished: run mammoscope train --resume"
        )
    for file, expected in facts["hashes"].items():
        if sha256_file(run / file) != expected:
            raise RunError(f"{run / file} was edited: its SHA-256 is not {expected}")
    if "eligibility" not in facts:
        raise RunError(
            f"{run}/run.json names no eligibility rules: train on a cohort that has some"
        )
    return dict(facts)


def _training(facts: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Return what a bundle says of how it came about."""
    return {
        "backbone": facts["config"]["model"]["backbone"],
        "fold": facts["fold"],
        **({"ensemble": facts["ensemble"]} if "ensemble" in facts else {}),
        "counts": facts["counts"],
        "cohort": {k: v for k, v in facts["cohort"].items() if k != "path"},
        "run_hashes": facts["hashes"],
        "operating_points_sha256": report["operating_points_sha256"],
        "measured_on": report["measured_on"],
        "measured": report["levels"],
    }


def export_graph(
    network: Classifier | MultiViewClassifier, size: tuple[int, int], path: Path
) -> None:
    """Write a network as ONNX: grey values in; logit, score and heatmap out.

    Args:
        network: An image model, whose graph takes any number of images; or a breast or exam
            model, whose graph takes the images of one exam.
        size: (H, W) of its input.
        path: The file to write.

    Raises:
        RunError: If the exporter gives no program.
    """
    graph: nn.Module
    if isinstance(network, MultiViewClassifier):
        graph, example = MultiViewGraph(network), _example(network, size)
        inputs, outputs = graph.inputs, graph.outputs
    else:
        graph, example = _Graph(network), (torch.zeros(2, 1, *size),)
        inputs, outputs = ["image"], ["logit", "score", "heatmap"]
    several = torch.export.Dim("images")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with write_atomically(path) as temporary, warnings.catch_warnings():
        # The exporter warns of its own internals on every call.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            example,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes={name: None if name == "facts" else {0: several} for name in inputs},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise RunError("the ONNX exporter gave no program")
        program.save(str(temporary), external_data=False)


def _example(network: MultiViewClassifier, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return an exam of four views, by which the graph is traced."""
    exam = (torch.zeros(4, 1, *size), torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    return (*exam, torch.zeros(len(FACTS))) if network.facts else exam


def _check_preprocess(run: Path, facts: dict[str, Any], store: PreparedStore) -> None:
    """Refuse images that were prepared otherwise than those that the weights have seen."""
    learnt, found = facts["preprocess"], store.config.model_dump(mode="json")
    changed = [
        f"{name} is {found.get(name)!r} and was {learnt.get(name)!r}"
        for name in {**found, **learnt}
        if found.get(name) != learnt.get(name)
    ]
    if changed:
        raise RunError(
            f"{store.cohort} is prepared otherwise than when {run} was trained: "
            f"{', '.join(changed)}. Prepare it as it was, or train a new run"
        )


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
    dataset = UnitDataset(store, exams, max_value=store.config.max_value)
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


def check_difference(difference: Any, graph: str, other: str) -> None:
    """Refuse a graph whose logits are not those of what it was made from.

    Raises:
        RunError: If one differs by more than :data:`PARITY_TOLERANCE`, or is no number.
    """
    largest = float(np.max(np.abs(difference), initial=0.0))
    if not largest <= PARITY_TOLERANCE:
        raise RunError(
            f"{graph} differs from {other} by {largest:.2g} in the logit; at most "
            f"{PARITY_TOLERANCE} is accepted"
        )


def _reference(predictions: pl.DataFrame, split: str) -> dict[str, Any]:
    """Distribution of scores, against which a service can watch for drift.

    They must be scores of the graph that is deployed: of a run of all folds it has scored the
    test split alone. Without one there is no reference.
    """
    rows = predictions.filter(pl.col("split") == split)
    if not rows.height:
        return {}
    shares = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    scores = rows["score"].to_numpy()
    views = rows["view"].value_counts().sort("view")
    return {
        "split": split,
        "images": rows.height,
        "score_quantiles": {str(share): float(np.quantile(scores, share)) for share in shares},
        "views": {str(view): int(count) for view, count in views.iter_rows()},
    }
