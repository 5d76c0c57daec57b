"""Where the heat lies: how often a heatmap's hottest cell is on the lesion, on synthetic images.

    python benchmarks/pointing.py demo/dicom demo/cohort demo/run

Of the validation and test images with a malignant lesion: the share whose hottest cell lies in
the lesion's box (widened by one cell), and how far it lies from the box's centre, in pixels of
the network's input.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import polars as pl

from mammoscope.cohort.store import PreparedStore
from mammoscope.inference import Scorer
from mammoscope.types import Box
from measure import Spread, leave

_SIDES = ("x_min", "y_min", "x_max", "y_max")


def lesions(source: Path) -> dict[str, Box]:
    """Return the box of the malignant lesion of each image that has one, in original pixels."""
    with (source / "synthetic_findings.csv").open(newline="") as stream:
        return {
            row["image_id"]: Box(*(float(row[side]) for side in _SIDES))
            for row in csv.DictReader(stream)
            if row["malignant"] == "1"
        }


def point(source: Path, cohort: Path, run: Path) -> dict[str, object]:
    """Measure one run."""
    store, scorer, truth = PreparedStore(cohort), Scorer(run / "model.onnx"), lesions(source)
    predicted = pl.read_parquet(run / "predictions.parquet")["image_id"]
    hits, across, down = [], [], []
    for image_id in sorted(set(predicted) & set(truth)):
        geometry = store.read_geometry(image_id)
        heatmap = scorer([store.read(image_id)]).heatmap[0]  # (h, w)
        cell = np.array([geometry.height, geometry.width]) / heatmap.shape
        hottest = np.array(np.unravel_index(heatmap.argmax(), heatmap.shape))
        y, x = (hottest + 0.5) * cell
        box = geometry.to_network(truth[image_id])
        hits.append(
            box.x_min - cell[1] <= x <= box.x_max + cell[1]
            and box.y_min - cell[0] <= y <= box.y_max + cell[0]
        )
        across.append(x - (box.x_min + box.x_max) / 2)
        down.append(y - (box.y_min + box.y_max) / 2)
    return {
        "run": run.name,
        "lesions": len(hits),
        "hottest cell on the lesion": round(float(np.mean(hits)), 3),
        "offset across, px": Spread.of(across),
        "offset down, px": Spread.of(down),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder that mammoscope synth wrote")
    parser.add_argument("cohort", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    rows = [point(options.source, options.cohort, run) for run in options.runs]
    leave("pointing", "Heat and lesions, SYNTHETIC images", rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
