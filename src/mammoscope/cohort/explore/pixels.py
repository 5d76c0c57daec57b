"""What a sample of the prepared images looks like: grey values and mean images by machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammoscope.cohort.explore.tables import in_order
from mammoscope.pages import data_uri
from mammoscope.types import ByteImage, GreyImage

__all__ = ["CLASSES", "Prepared", "draw_sample", "galleries", "look_at", "thumbnails"]

#: Classes of the galleries, with the images that belong to each.
CLASSES = {
    "cancer": pl.col("cancer") == 1,
    "difficult negative": (pl.col("cancer") == 0) & (pl.col("difficult_negative_case") == 1),
    "normal or benign": (pl.col("cancer") == 0)
    & (pl.col("difficult_negative_case").fill_null(0) == 0),
}
# Divides the grey levels of 8 and of 16 bits, so that every bin holds as many.
_BINS = 64
_THUMBNAIL_HEIGHT = 240
_SHOWN_PER_CLASS = 12
# Mean images are shown of the two views that every exam has.
_MEAN_VIEWS = ("CC", "MLO")
_LARGEST = 12

Progress = Callable[[int, int], None]


class Prepared(Protocol):
    """What is asked of a store of prepared images."""

    def read(self, image_id: str) -> GreyImage:
        """Return the pixels of one image."""
        ...


@dataclass(slots=True)
class _Group:
    """Sums over the images of one machine; memory does not grow with their number."""

    images: int = 0
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_BINS))
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    greys: list[float] = field(default_factory=list)
    tissue: list[float] = field(default_factory=list)


def draw_sample(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """Take at most so many images, dealt in turn to the machines, the same ones every time.

    The order within a machine is that of a hash of the image's name, which has nothing to do
    with what the image shows.

    Args:
        frame: Prepared images, with image_id and machine_id.
        most: Size of the sample.
    """
    digests = [sha256(name.encode()).hexdigest() for name in frame["image_id"]]
    turn = pl.int_range(pl.len()).over("machine_id")
    return (
        frame.with_columns(pl.Series("digest", digests, pl.String()))
        .sort("digest")
        .with_columns(turn.alias("turn"))
        .sort("turn", "digest")
        .head(most)
        .drop("turn", "digest")
    )


def look_at(
    store: Prepared, sample: pl.DataFrame, progress: Progress | None = None
) -> tuple[dict[str, Any], pl.DataFrame, dict[str, str]]:
    """Read a sample of prepared images once.

    Tissue is what is brighter than the blank around the breast: grey above 0.

    Args:
        store: The prepared images.
        sample: image_id, patient_id, machine_id, view and cancer of each.
        progress: Called with (done, total).

    Returns:
        The numbers by machine; ``measured`` (image_id, patient_id, machine_id, cancer,
        tissue_grey as a share of white) for tests; mean images as data URIs by
        ``mean/<number of machine>/<view>``.
    """
    groups: dict[str | None, _Group] = {}
    measured: list[dict[str, Any]] = []
    for done, row in enumerate(sample.iter_rows(named=True), start=1):
        pixels = store.read(row["image_id"])
        group = groups.setdefault(row["machine_id"], _Group())
        grey = _add(group, pixels, row["view"])
        measured.append({**row, "tissue_grey": grey})
        if progress is not None:
            progress(done, sample.height)
    order = sorted(groups, key=lambda name: (-groups[name].images, in_order(name)))[:_LARGEST]
    order.sort(key=in_order)
    pictures: dict[str, str] = {}
    machines = []
    for number, name in enumerate(order):
        group = groups[name]
        machines.append({"machine": name, "number": number, **_summary(group)})
        for view, total in group.sums.items():
            mean = np.asarray(total / group.seen[view], dtype=np.uint8)
            pictures[f"mean/{number}/{view}"] = data_uri(mean)
    everything = np.sum([group.counts for group in groups.values()], axis=0)
    numbers = {
        "sampled": sample.height,
        "bins": _BINS,
        "all": _shares(everything),
        "machines": machines,
        "machines_not_shown": len(groups) - len(order),
    }
    columns = {"image_id": pl.String(), "patient_id": pl.String(), "machine_id": pl.String()}
    schema = {**columns, "cancer": pl.Int8(), "tissue_grey": pl.Float64()}
    rows = [{name: row[name] for name in schema} for row in measured]
    return numbers, pl.DataFrame(rows, schema=schema), pictures


def _add(group: _Group, pixels: GreyImage, view: str) -> float | None:
    """Add one image to the sums; returns the mean grey of its tissue as a share of white."""
    white = int(np.iinfo(pixels.dtype).max)
    tissue = int(np.count_nonzero(pixels))
    group.images += 1
    group.tissue.append(tissue / pixels.size)
    if view in _MEAN_VIEWS:
        small = _shrunk(pixels)
        total = group.sums.setdefault(view, np.zeros(small.shape, np.float64))
        total += small
        group.seen[view] = group.seen.get(view, 0) + 1
    if not tissue:
        return None
    counts = np.bincount((pixels // ((white + 1) // _BINS)).ravel(), minlength=_BINS)
    counts[0] -= pixels.size - tissue
    group.counts += counts / tissue
    grey = float(pixels.sum(dtype=np.float64)) / tissue / white
    group.greys.append(grey)
    return grey


def _summary(group: _Group) -> dict[str, Any]:
    low, middle, high = (
        np.quantile(group.greys, (0.05, 0.5, 0.95)).tolist() if group.greys else (None,) * 3
    )
    return {
        "images": group.images,
        "histogram": _shares(group.counts),
        "tissue_grey": {"p05": low, "median": middle, "p95": high},
        "tissue_share": float(np.median(group.tissue)),
        "views": dict(sorted(group.seen.items())),
    }


def _shares(counts: NDArray[np.float64]) -> list[float]:
    whole = counts.sum()
    return [round(float(value), 6) for value in (counts / whole if whole else counts)]


def galleries(store: Prepared, frame: pl.DataFrame) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Choose a few images of each class, of as many patients as there are.

    Args:
        store: The prepared images.
        frame: Prepared images, with their labels.

    Returns:
        A row per class with its image names, and their thumbnails by image_id.
    """
    made: list[dict[str, Any]] = []
    pictures: dict[str, str] = {}
    for name, belongs in CLASSES.items():
        rows = draw_sample(frame.filter(belongs), frame.height)
        shown = rows.unique("patient_id", keep="first", maintain_order=True).head(_SHOWN_PER_CLASS)
        words = ("image_id", "laterality", "view", "density", "machine_id")
        made.append(
            {
                "class": name,
                "images": rows.height,
                "patients": rows["patient_id"].n_unique(),
                "shown": shown.select(words).to_dicts(),
            }
        )
        pictures |= thumbnails(store, shown["image_id"])
    return made, pictures


def thumbnails(store: Prepared, image_ids: Iterable[str]) -> dict[str, str]:
    """Return small pictures as data URIs by image_id."""
    return {name: data_uri(thumbnail(store.read(name))) for name in image_ids}


def thumbnail(pixels: GreyImage) -> ByteImage:
    """Return a small picture of prepared pixels, (h, w) uint8."""
    return np.asarray(_shrunk(pixels) + 0.5, dtype=np.uint8)


def _shrunk(pixels: GreyImage) -> NDArray[np.float32]:
    """Shrink to the height of thumbnails, (h, w) float32 in 0 to 255."""
    height, width = pixels.shape
    shown = min(height, _THUMBNAIL_HEIGHT)
    size = (max(1, round(width * shown / height)), shown)
    scale = np.float32(255 / np.iinfo(pixels.dtype).max)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32) * scale
