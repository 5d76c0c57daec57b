"""Cut patches around findings, and elsewhere in the breast, of a prepared cohort.

    python benchmarks/patches.py cbis patches --size 128

The patches are written as PNG files with a ``labels.csv``, which ``mammoscope ingest`` takes as it
does any folder: a patch around a malignant finding is positive, around a benign one or away from
all it is negative. A network that was trained on them is where one for whole images may begin
(``model.weights``), as Shen et al. did for CBIS-DDSM (Sci. Rep. 9, 2019): what is local is learnt
from a twentieth of the pixels.

With ``--positive any`` a patch around any finding is positive. Those away from all findings are
then the normal tissue that ``task=anomaly`` learns from, where a cohort has no normal images.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from mammoscope.cohort.store import PreparedStore
from mammoscope.types import Box, GreyImage

# Tries to place a patch in the breast and off every finding.
_TRIES = 30
_FIELDS = ("file", "patient_id", "image_id", "laterality", "view", "cancer", "split")


def around(box: Box, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Place a patch so that a finding's centre lies in its middle half; returns x, y."""
    away = rng.uniform(-0.25, 0.25, 2) * side
    x, y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    return round(x + away[0] - side / 2), round(y + away[1] - side / 2)


def elsewhere(
    pixels: GreyImage, boxes: list[Box], side: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    """Place a patch in the breast and off every finding; returns x, y, if there is a place."""
    for _ in range(_TRIES):
        x = int(rng.integers(0, max(1, pixels.shape[1] - side)))
        y = int(rng.integers(0, max(1, pixels.shape[0] - side)))
        off = all(
            x + side <= b.x_min or b.x_max <= x or y + side <= b.y_min or b.y_max <= y
            for b in boxes
        )
        if off and (pixels[y : y + side, x : x + side] > 0).mean() > 0.7:
            return x, y
    return None


def cut(pixels: GreyImage, x: int, y: int, side: int) -> GreyImage:
    """Cut a patch; beyond the image it is black."""
    padded = np.pad(pixels, side)
    return padded[y + side : y + 2 * side, x + side : x + 2 * side]


def places(
    pixels: GreyImage, found: list[tuple[Box, bool | None]], options: argparse.Namespace,
    rng: np.random.Generator,
) -> Iterator[tuple[int, int, int]]:  # fmt: skip
    """Yield x, y and label of the patches of one image."""
    boxes = [box for box, _ in found]
    for box, malignant in found:
        positive = True if options.positive == "any" else malignant
        if positive is not None:
            for _ in range(options.each):
                yield *around(box, options.size, rng), int(positive)
    for _ in range(options.background):
        place = elsewhere(pixels, boxes, options.size, rng)
        if place:
            yield *place, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cohort", type=Path, help="prepared and split")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--size", type=int, default=128, help="side of a patch, in pixels")
    parser.add_argument("--each", type=int, default=3, help="patches of a finding")
    parser.add_argument("--background", type=int, default=2, help="patches of an image off them")
    parser.add_argument(
        "--positive", choices=("malignant", "any"), default="malignant", help="which findings"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    store = PreparedStore(options.cohort)
    findings = pl.read_parquet(options.cohort / "findings.parquet")
    rows = pl.read_parquet(options.cohort / "manifest.parquet").join(
        pl.read_parquet(options.cohort / "splits.parquet").select("image_id", own_split="split"),
        on="image_id",
    )
    by_image = findings.partition_by("image_id", as_dict=True)
    options.out.mkdir(parents=True)
    with (options.out / "labels.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, _FIELDS)
        table.writeheader()
        for row in rows.sort("image_id").iter_rows(named=True):
            name = row["image_id"]
            if name not in store:
                continue
            rng = np.random.default_rng([options.seed, *name.encode()])
            geometry, pixels = store.read_geometry(name), store.read(name)
            own = by_image.get((name,), findings.head(0))
            found = [
                (
                    geometry.to_network(Box(f["x_min"], f["y_min"], f["x_max"], f["y_max"])),
                    f["malignant"],
                )
                for f in own.iter_rows(named=True)
                if f["x_min"] is not None
            ]
            for number, (x, y, label) in enumerate(places(pixels, found, options, rng)):
                patch = f"{name}-{number}"
                cv2.imwrite(str(options.out / f"{patch}.png"), cut(pixels, x, y, options.size))
                table.writerow(
                    {
                        "file": f"{patch}.png",
                        "patient_id": row["patient_id"],
                        "image_id": patch,
                        "laterality": row["laterality"],
                        "view": row["view"],
                        "cancer": label,
                        "split": row["own_split"],
                    }
                )


if __name__ == "__main__":
    sys.exit(main())
