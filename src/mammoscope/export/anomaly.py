"""An anomaly model's run finished: its units, its graph, and what that says of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from mammoscope.bundle import MODEL_FILE
from mammoscope.cohort.findings import FINDINGS_SCHEMA, read_findings
from mammoscope.cohort.store import PreparedStore
from mammoscope.errors import RunError
from mammoscope.evaluation.anomaly_maps import MAPS_FILE, MAPS_SCHEMA
from mammoscope.export.graph import PARITY_TOLERANCE, by_engine, check_difference, write_graph
from mammoscope.export.record import settle_tables, tell_engine, tell_timings
from mammoscope.inference import Anomalies, AnomalyScorer
from mammoscope.inference.anomaly import OUTPUTS
from mammoscope.inference.scorer import sigmoid
from mammoscope.models.anomaly import AnomalyModel
from mammoscope.predictions import heat_place, table_of
from mammoscope.preprocessing import Geometry
from mammoscope.training import load_network
from mammoscope.training.anomaly import condition_codes
from mammoscope.types import Box, FloatImage

__all__ = ["AnomalyGraph", "export_anomaly", "finish"]

_GRAPHS = ("the exported graph", "the training graph")
_PARITY_IMAGES = 8
_BATCH = 8
# Images of a split whose pictures the report shows, half of them with cancer.
_SHOWN = 12
_SIDES = ("x_min", "y_min", "x_max", "y_max")
_COLUMNS = {"projection": "view", "density": "density"}

Progress = Callable[[int, int], None]


class AnomalyGraph(nn.Module):
    """An anomaly model with its outputs in the graph's order: the raw score in units too.

    Args:
        model: The model, whose centre and spread are those of normal validation images.
        rebuilds: Whether it gives a reconstruction.
    """

    def __init__(self, model: AnomalyModel, *, rebuilds: bool) -> None:
        super().__init__()
        self.model = model
        self._rebuilds = rebuilds

    def forward(self, image: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
        """Return what :data:`OUTPUTS` names, and the reconstruction where there is one."""
        made = self.model(image, *conditions)
        logit = (made.score - self.model.centre) / self.model.spread
        local = torch.sigmoid((made.heatmap - self.model.centre) / self.model.spread)
        # Outside the breast nothing is anomalous.
        local = local * (made.heatmap > 0)
        told = (made.score, logit, torch.sigmoid(logit), made.heatmap, local)
        return (*told, made.reconstruction) if self._rebuilds else told


def export_anomaly(model: AnomalyModel, size: tuple[int, int], path: Path) -> None:
    """Write an anomaly model as ONNX; a memory of patches is a constant of the graph.

    Args:
        model: The model, with its units, centre and spread.
        size: (H, W) of its input.
        path: The file to write.

    Raises:
        RunError: If the exporter gives no program.
    """
    codes = [torch.zeros(2, dtype=torch.int64) for _ in model.conditions]
    image = torch.zeros(2, 1, *size)
    with torch.inference_mode():
        rebuilds = model.eval()(image, *codes).reconstruction is not None
    several = torch.export.Dim("images")
    shapes: dict[str, Any] = {"image": {0: several}}
    if codes:
        shapes["conditions"] = tuple({0: several} for _ in codes)
    write_graph(
        AnomalyGraph(model, rebuilds=rebuilds),
        (image, *codes),
        path,
        inputs=["image", *model.conditions],
        outputs=[*OUTPUTS, *(["reconstruction"] if rebuilds else [])],
        dynamic_shapes=shapes,
    )


def finish(
    run: Path,
    facts: dict[str, Any],
    store: PreparedStore,
    rows: pl.DataFrame,
    progress: Progress | None,
) -> None:
    """Finish the run of an anomaly model.

    Its units, and the centre and spread that a logit is told in, are taken from the normal images
    of the fold that validates; cancers of that fold are scored for the report and for nothing else.
    """
    label = str(facts["config"]["train"]["label"])
    begun = time.perf_counter()
    model, config, _ = load_network(run)
    if not isinstance(model, AnomalyModel):
        raise RunError(f"{run} holds a {type(model).__name__}, no anomaly model")
    normal = rows.filter((pl.col("split") == "train") & (pl.col(label) == 0))
    _settle(model, store, normal)
    path = run / MODEL_FILE
    export_anomaly(model, (store.config.height, store.config.width), path)
    scorer = AnomalyScorer(path)
    shown = rows[:_PARITY_IMAGES]
    _check_parity(model, scorer, store, shown)
    scorer, told = by_engine(
        path,
        config.export,
        scorer,
        lambda made: _judged(made, store, shown).logit if shown.height else np.zeros(0),
    )
    tell_engine(facts, told)
    exported = time.perf_counter() - begun
    predictions, maps = _scored(rows, store, scorer, label, progress)
    tell_timings(facts, begun, exported)
    facts["normal"] = {
        "images": normal.height,
        "centre": float(model.centre),
        "spread": float(model.spread),
    }
    settle_tables(run, facts, {"predictions": predictions, Path(MAPS_FILE).stem: maps})


@torch.inference_mode()
def _settle(model: AnomalyModel, store: PreparedStore, normal: pl.DataFrame) -> None:
    """Take units, centre and spread from normal validation images."""
    if not normal.height:
        raise RunError("the fold that validates has no normal image left: train a new run")
    model.eval()
    model.set_units(
        torch.cat([model.terms(*given) for given in _batches(model, store, normal)]).mean(dim=0)
    )
    model.standardise(torch.cat([model(*given).score for given in _batches(model, store, normal)]))


def _batches(
    model: AnomalyModel, store: PreparedStore, rows: pl.DataFrame
) -> Iterator[tuple[Tensor, ...]]:
    """Yield prepared images (B, 1, H, W) with the codes (B,) of what the model is told."""
    for part in rows.iter_slices(_BATCH):
        pixels = np.stack([store.read(name) for name in part["image_id"]])
        codes = condition_codes(part, [_COLUMNS[name] for name in model.conditions])
        yield torch.from_numpy(pixels[:, None].astype(np.float32)), *codes.T


@torch.inference_mode()
def _check_parity(
    model: AnomalyModel, scorer: AnomalyScorer, store: PreparedStore, rows: pl.DataFrame
) -> None:
    """Compare both graphs on real prepared images: score, map and reconstruction."""
    if not rows.height:
        return
    for part, given in zip(rows.iter_slices(_BATCH), _batches(model, store, rows), strict=True):
        expected = model(*given)
        made = _judged(scorer, store, part)
        logit = (expected.score - model.centre) / model.spread
        check_difference(made.logit - logit.numpy(), *_GRAPHS)
        maps = [("map", made.heatmap - expected.heatmap.numpy(), float(model.spread))]
        if expected.reconstruction is not None and made.reconstruction is not None:
            apart = made.reconstruction - expected.reconstruction.numpy()[:, 0]
            maps.append(("reconstruction", apart, model.max_value))
        for name, difference, unit in maps:
            largest = float(np.abs(difference).max()) / unit
            # A cell's own rounding is larger than that of a mean of many.
            if not largest <= 10 * PARITY_TOLERANCE:
                raise RunError(
                    f"{_GRAPHS[0]} differs from {_GRAPHS[1]} by {largest:.2g} in the {name}; at "
                    f"most {10 * PARITY_TOLERANCE} is accepted"
                )


def _judged(scorer: AnomalyScorer, store: PreparedStore, rows: pl.DataFrame) -> Anomalies:
    """Judge images with the exported graph, which is told what the manifest says of them."""
    return scorer(
        [store.read(name) for name in rows["image_id"]],
        rows["view"].to_list(),
        rows["density"].to_list(),
    )


def _scored(
    rows: pl.DataFrame,
    store: PreparedStore,
    scorer: AnomalyScorer,
    label: str,
    progress: Progress | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a row per image of predictions, and one of maps."""
    told: list[dict[str, float]] = []
    maps: list[dict[str, Any]] = []
    for done, part in enumerate(rows.iter_slices(1), start=1):
        made = _judged(scorer, store, part)
        name, heat = part["image_id"][0], made.heatmap[0]
        told.append(
            {
                "logit": float(made.logit[0]),
                "score": sigmoid(float(made.logit[0])),
                "anomaly": float(made.anomaly[0]),
                **heat_place(store, name, heat),
            }
        )
        maps.append({"image_id": name, **_map_row(heat)})
        if progress is not None:
            progress(done, rows.height)
    predictions = table_of(rows, told, label)
    kept = ("image_id", "height", "width", "heatmap")
    table = pl.DataFrame(maps, schema={name: MAPS_SCHEMA[name] for name in kept})
    return predictions, _with_pictures(table, predictions, rows, store, scorer)


def _map_row(heat: FloatImage) -> dict[str, Any]:
    """Return a map as a table keeps it: half precision, row by row."""
    height, width = heat.shape
    return {
        "height": height,
        "width": width,
        "heatmap": heat.astype("<f2").tobytes(),
    }


def _with_pictures(
    maps: pl.DataFrame,
    predictions: pl.DataFrame,
    rows: pl.DataFrame,
    store: PreparedStore,
    scorer: AnomalyScorer,
) -> pl.DataFrame:
    """Put the pictures of images over the whole range of scores beside their maps."""
    made: list[dict[str, Any]] = []
    lesions = _lesions(store)
    for name in _for_show(predictions):
        pixels = store.read(name)
        picture: dict[str, Any] = {"image_id": name, "original": _png(pixels)}
        picture["reconstruction"] = None
        picture["lesions"] = _on_grid(lesions, name, store.read_geometry(name))
        if scorer.rebuilds:
            rebuilt = _judged(scorer, store, rows.filter(pl.col("image_id") == name))
            if rebuilt.reconstruction is not None:
                picture["reconstruction"] = _png(rebuilt.reconstruction[0].astype(pixels.dtype))
        made.append(picture)
    kept = ("image_id", "original", "reconstruction", "lesions")
    schema = {name: MAPS_SCHEMA[name] for name in kept}
    return maps.join(
        pl.DataFrame(made, schema=schema), on="image_id", how="left", maintain_order="left"
    )


def _lesions(store: PreparedStore) -> pl.DataFrame:
    """Return the findings that have a box; none where the cohort has none."""
    if not (store.cohort / "findings.parquet").is_file():
        return pl.DataFrame(schema=FINDINGS_SCHEMA)
    return read_findings(store.cohort).drop_nulls(list(_SIDES))


def _on_grid(lesions: pl.DataFrame, image_id: str, geometry: Geometry) -> list[float]:
    """Return the sides of an image's lesions on the network's grid, one after the other."""
    own = lesions.filter(pl.col("image_id") == image_id).select(_SIDES)
    boxes = [geometry.to_network(Box(*sides)) for sides in own.iter_rows()]
    return [float(getattr(box, side)) for box in boxes for side in _SIDES]


def _for_show(predictions: pl.DataFrame) -> list[str]:
    """Choose images of each split and class, from the highest score to the lowest."""
    chosen: list[str] = []
    for split in ("val", "test"):
        part = predictions.filter(pl.col("split") == split).sort("logit", "image_id")
        for positive in (True, False):
            ordered = part.filter((pl.col("cancer") == 1) == positive)["image_id"].to_list()
            places = np.linspace(0, len(ordered) - 1, min(_SHOWN // 2, len(ordered)))
            chosen += [ordered[round(place)] for place in places]
    return chosen


def _png(pixels: Any) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())
