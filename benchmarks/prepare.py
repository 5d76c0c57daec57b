"""Preparing an image: ours against pydicom's default decoding plus the same steps.

    python benchmarks/prepare.py --patients 4 --repeats 3

Full-size synthetic images, one thread. Also the floor (the codec alone), and the peak memory
of a worker for a small cohort and one four times as large.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

import cv2
import pydicom

from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.synthetic import write_cohort
from mammoscope.config import PreprocessConfig
from mammoscope.dicom import DecodedPixels, decode, present, read_dicom
from mammoscope.preprocessing import Preprocessor, read_pixels
from mammoscope.types import Laterality
from measure import Spread, in_turn, leave

CONFIG = PreprocessConfig(height=1024, width=512)


def compare(images: list[tuple[Path, Laterality]], repeats: int) -> list[dict[str, object]]:
    """Time each image both ways; a row per transfer syntax."""
    preprocessor = Preprocessor(CONFIG)
    taken: dict[str, list[dict[str, float]]] = {}
    for path, side in images:

        def ours(path: Path = path, side: Laterality = side) -> None:
            preprocessor(read_pixels(path).pixels, side)

        def theirs(path: Path = path, side: Laterality = side) -> None:
            dataset = pydicom.dcmread(path)
            decoded = DecodedPixels(dataset.pixel_array, "pydicom")
            preprocessor(present(read_dicom(path), decoded), side)

        def codec(path: Path = path) -> None:
            decode(read_dicom(path))

        times = in_turn({"ours": ours, "pydicom": theirs, "codec": codec}, repeats)
        syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID.name
        best = {name: min(values) for name, values in times.items()}
        taken.setdefault(syntax.partition(",")[0], []).append(best)
    return [
        {
            "transfer syntax": syntax,
            "images": len(times),
            "ours, ms": Spread.of([t["ours"] for t in times]),
            "pydicom, ms": Spread.of([t["pydicom"] for t in times]),
            "pydicom / ours": Spread.of([t["pydicom"] / t["ours"] for t in times]),
            "floor: codec, ms": Spread.of([t["codec"] for t in times]),
        }
        for syntax, times in sorted(taken.items())
    ]


def peak_memory(cohort: Path) -> float:
    """Return the peak resident memory, in MB, of a fresh process that prepares a cohort."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_prepare_and_report, args=(cohort, queue))
    worker.start()
    peak = float(queue.get())
    worker.join()
    return peak


def _prepare_and_report(cohort: Path, queue: multiprocessing.Queue[float]) -> None:
    prepare(cohort, CONFIG, workers=1)
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patients", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the detector's size")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        rows: list[dict[str, object]] = []
        for patients in (options.patients, 4 * options.patients):
            source = home / f"source{patients}"
            write_cohort(source, patients=patients, seed=0, scale=options.scale, workers=2)
            made = ingest(source, home / f"cohort{patients}")
            peak = peak_memory(home / f"cohort{patients}")
            rows.append({"cohort": f"{made.images} images", "peak memory, MB": round(peak)})
        source = home / f"source{options.patients}"
        with (source / "train.csv").open(newline="") as stream:
            images = [
                (
                    source / "train_images" / row["patient_id"] / f"{row['image_id']}.dcm",
                    Laterality(row["laterality"]),
                )
                for row in csv.DictReader(stream)
            ]
        title = f"Prepare to {CONFIG.height} x {CONFIG.width}, SYNTHETIC images, one thread"
        leave("prepare", title, compare(images, options.repeats), options.out)
        leave("prepare_memory", "Peak memory of one worker of prepare", rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
