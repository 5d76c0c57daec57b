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
from mammoscope.bundle import MODEL_FILE, Bundle, write_bundle
from mammoscope.cohort.store import PreparedStore
from mammoscope.errors import RunError
from mammoscope.evaluation.pointing import HEAT_COLUMNS
from mammoscope.explain import hottest_point
from mammoscope.inference import Scorer
from mammoscope.models import Classifier
from mammoscope.results import INTENDED_USE
from mammoscope.scores import settle_scores
from mammoscope.training import load_classifier
from mammoscope.types import FloatImage, GreyImage

__all__ = [
    "PARITY_TOLERANCE",
    "export_bundle",
    "export_graph",
    "finish_run",
    "heat_place",
    "predicted",
]

#: Largest difference of logits between the training graph and ONNX Runtime.
PARITY_TOLERANCE = 1e-3
_PARITY_IMAGES = 8
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
    fold = int(facts["fold"])
    rows = store.rows().filter(
        ((pl.col("split") == "test") | (pl.col("fold") == fold))
        & pl.col("laterality").is_not_null()
    )
    begun = time.perf_counter()
    classifier, _, _ = load_classifier(run)
    model = run / MODEL_FILE
    export_graph(classifier, (store.config.height, store.config.width), model)
    scorer = Scorer(model)
    _check_parity(
        classifier, scorer, [store.read(name) for name in rows["image_id"][:_PARITY_IMAGES]]
    )
    exported = time.perf_counter() - begun
    predictions = predicted(rows, store, scorer, str(facts["config"]["train"]["label"]), progress)
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
    if not (run / "operating_points.json").is_file():
        raise RunError(f"{run} has no operating points: run mammoscope evaluate {run} first")
    chosen = read_json(run / "operating_points.json", RunError)
    report = read_json(run / "report" / "report.json", RunError)
    if report["run"]["hashes"] != facts["hashes"]:
        raise RunError(
            f"{run}/report is of other predictions: run mammoscope evaluate {run} --overwrite"
        )
    validation = pl.read_parquet(run / "predictions.parquet").filter(pl.col("split") == "val")
    with new_folder(folder, overwrite=overwrite, marker="bundle.json") as fresh:
        return write_bundle(
            fresh,
            run / MODEL_FILE,
            name=name or run.resolve().name,
            package_version=__version__,
            synthetic=bool(facts["synthetic"]),
            intended_use=INTENDED_USE,
            input={"preprocess": facts["preprocess"]},
            calibration=facts.get("calibration", {"method": "none"}),
            eligibility=facts["eligibility"],
            operating_points={"primary": chosen["primary"], **chosen["points"]},
            reference=_reference(validation),
            training=_training(facts, report),
        )


def _training(facts: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Return what a bundle says of how it came about."""
    return {
        "backbone": facts["config"]["model"]["backbone"],
        "fold": facts["fold"],
        **({"ensemble": facts["ensemble"]} if "ensemble" in facts else {}),
        "counts": facts["counts"],
        "cohort": {k: v for k, v in facts["cohort"].items() if k != "path"},
        "run_hashes": facts["hashes"],
        "measured_on": report["measured_on"],
        "measured": report["levels"],
    }


def export_graph(classifier: Classifier, size: tuple[int, int], path: Path) -> None:
    """Write a classifier as ONNX: grey values in; logit, score and heatmap out.

    Args:
        classifier: The network; scaling and sigmoid become part of the graph.
        size: (H, W) of its input; the batch is free.
        path: The file to write.

    Raises:
        RunError: If the exporter gives no program.
    """
    example = torch.zeros(2, 1, *size)
    graph = _Graph(classifier).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with write_atomically(path) as temporary, warnings.catch_warnings():
        # The exporter warns of its own internals on every call.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (example,),
            input_names=["image"],
            output_names=["logit", "score", "heatmap"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise RunError("the ONNX exporter gave no program")
        program.save(str(temporary), external_data=False)


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
    difference = float(np.abs(scorer(images).logit - expected).max())
    if not difference <= PARITY_TOLERANCE:
        raise RunError(
            f"the exported graph differs from the training graph by {difference:.2g} in the "
            f"logit; at most {PARITY_TOLERANCE} is accepted"
        )


def predicted(
    rows: pl.DataFrame,
    store: PreparedStore,
    scorer: Scorer,
    label: str,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return a row per image with the graph's logit, as ``predictions.parquet`` has them.

    Args:
        rows: Which images, from the store's rows.
        store: Where they are.
        scorer: The graph.
        label: Column that is told as ``cancer``.
        progress: Called with (done, total) images.
    """
    logits, places = [], []
    for done, image_id in enumerate(rows["image_id"], start=1):
        scored = scorer([store.read(image_id)])
        logits.append(float(scored.logit[0]))
        places.append(heat_place(store, image_id, scored.heatmap[0]))
        if progress is not None:
            progress(done, rows.height)
    return rows.select(
        "image_id",
        "patient_id",
        "exam_id",
        "laterality",
        "view",
        "site_id",
        "fold",
        pl.when(pl.col("split") == "test")
        .then(pl.lit("test"))
        .otherwise(pl.lit("val"))
        .alias("split"),
        pl.Series("logit", logits, pl.Float64),
        pl.col(label).alias("cancer"),
        *pl.DataFrame(places, schema=HEAT_COLUMNS).get_columns(),
    )


def heat_place(store: PreparedStore, image_id: str, heatmap: FloatImage) -> dict[str, float]:
    """Return where a heatmap is hottest and where it could have been, in original pixels."""
    geometry = store.read_geometry(image_id)
    crop = geometry.original_crop
    x, y = hottest_point(heatmap, geometry)
    sides = {f"crop_{side}": getattr(crop, side) for side in ("x_min", "y_min", "x_max", "y_max")}
    return {"heat_x": x, "heat_y": y, **sides, "breast_px": store.read_breast_px(image_id)}


def _reference(validation: pl.DataFrame) -> dict[str, Any]:
    """Distribution of validation scores, against which a service can watch for drift."""
    shares = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    scores = validation["score"].to_numpy()
    views = validation["view"].value_counts().sort("view")
    return {
        "images": validation.height,
        "score_quantiles": {str(share): float(np.quantile(scores, share)) for share in shares},
        "views": {str(view): int(count) for view, count in views.iter_rows()},
    }
