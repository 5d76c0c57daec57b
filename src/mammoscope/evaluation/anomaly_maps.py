"""What an anomaly model's run keeps by place: ``anomaly_maps.parquet``, a map per image.

Some images have their pictures and lesions beside it, for the report's page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from mammoscope.errors import RunError
from mammoscope.types import ByteImage, FloatImage

__all__ = ["MAPS_FILE", "MAPS_SCHEMA", "ShownAnomaly", "shown_anomalies"]

MAPS_FILE = "anomaly_maps.parquet"
#: A row per scored image: the map's cells, half-precision floats row by row; and, where the image
#: is for show, the prepared image and its reconstruction as PNG, and the sides of its lesions
#: (x_min, y_min, x_max, y_max, one after the other) on the network's grid.
MAPS_SCHEMA: dict[str, pl.DataType] = {
    "image_id": pl.String(),
    "height": pl.Int64(),
    "width": pl.Int64(),
    "heatmap": pl.Binary(),
    "original": pl.Binary(),
    "reconstruction": pl.Binary(),
    "lesions": pl.List(pl.Float64()),
}


@dataclass(frozen=True, slots=True)
class ShownAnomaly:
    """An image with what the model made of it.

    Attributes:
        image_id: Which.
        original: (H, W) as the network saw it, 8 bits.
        reconstruction: The same as the model expects it, 8 bits; ``None`` where it makes none.
        heatmap: (h, w) float32, the anomaly by place.
        lesions: (N, 4) sides of boxes on the network's grid.
    """

    image_id: str
    original: ByteImage
    reconstruction: ByteImage | None
    heatmap: FloatImage
    lesions: FloatImage


def shown_anomalies(path: Path, image_ids: list[str]) -> Iterator[ShownAnomaly]:
    """Yield those of some images that have a picture, in the order of the names."""
    rows = pl.read_parquet(path).filter(
        pl.col("original").is_not_null() & pl.col("image_id").is_in(image_ids)
    )
    by_name = {str(row["image_id"]): row for row in rows.iter_rows(named=True)}
    for name in image_ids:
        if name not in by_name:
            continue
        row = by_name[name]
        cells = np.frombuffer(row["heatmap"], "<f2").astype(np.float32)
        rebuilt = row["reconstruction"]
        yield ShownAnomaly(
            name,
            _decoded(row["original"]),
            None if rebuilt is None else _decoded(rebuilt),
            cells.reshape(row["height"], row["width"]),
            np.array(row["lesions"] or [], np.float32).reshape(-1, 4),
        )


def _decoded(png: bytes) -> ByteImage:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise RunError(f"a picture of {MAPS_FILE} is no PNG")
    if pixels.dtype == np.uint16:
        return np.asarray(pixels // 256, dtype=np.uint8)
    return np.asarray(pixels, dtype=np.uint8)
