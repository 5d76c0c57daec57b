"""Preparing images: ours against a public notebook's steps, the codec alone, one worker, PNG files.

    python benchmarks/prepare.py --repeats 5

SYNTHETIC images of full detector size whose breast is as high as 88 % of the detector. Single
images are timed on one core, as pydicom's default decoder would take all. The notebook's steps are
those that public solutions of the RSNA challenge share (notebook.py). Ours and the notebook's run
in turn in a process each, ours as ``mammoscope prepare`` sets it up: what one does to memory is not
the other's gain.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import polars as pl
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.uid import JPEGLosslessSV1

from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.store import PreparedStore
from mammoscope.cohort.synthetic.acquisition import write_dicom
from mammoscope.cohort.synthetic.anatomy import draw_anatomy
from mammoscope.cohort.synthetic.detector import expose
from mammoscope.cohort.synthetic.exposure import choose_exposure
from mammoscope.cohort.synthetic.headers import ImageFacts
from mammoscope.cohort.synthetic.machines import MACHINES, Machine
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.config import PreprocessConfig
from mammoscope.preprocessing import PreparedImage, Preprocessor, SourceImage
from mammoscope.processes import keep_memory
from mammoscope.types import Density, Laterality, View
from measure import Spread, in_turn, leave, peak_memory_mb
from notebook import notebook

CONFIG = PreprocessConfig(height=1024, width=512)
BREAST_MM, DEPTH_MM = 190.0, 88.0
FIELD_MM = BREAST_MM / 0.88
# JPEG lossless and MONOCHROME2, or JPEG 2000 lossless, 16 bits, MONOCHROME1, SIGMOID.
KINDS = {
    "JPEG lossless, 4664 x 3064": replace(MACHINES[49], size=(4664, 3064), field_mm=FIELD_MM),
    "JPEG 2000 lossless, 5355 x 4915": replace(MACHINES[29], field_mm=FIELD_MM),
    "JPEG 2000 lossless, 2776 x 2082": replace(MACHINES[29], size=(2776, 2082), field_mm=FIELD_MM),
}


def write_images(folder: Path, machine: Machine, count: int) -> list[Path]:
    """Write full-size images in the challenge's layout, and their table."""
    lines = ["patient_id,image_id,laterality,view,cancer"]
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        anatomy = replace(draw_anatomy(rng, Density.B), depth_mm=DEPTH_MM, height_mm=BREAST_MM)
        side = Laterality.L if number % 2 else Laterality.R
        spacing = FIELD_MM / machine.size[0]
        breast = project(anatomy, View.CC, machine.size, spacing)
        stored = expose(breast.pixels, machine, side, View.CC, rng)
        exposure = choose_exposure(machine, anatomy.thickness_mm, rng)
        facts = ImageFacts(str(number), number, "b", side, View.CC, spacing, exposure)
        path = folder / "train_images" / str(number) / f"{number}.dcm"
        path.parent.mkdir(parents=True)
        write_dicom(path, stored, machine, facts, "rsna")
        lines.append(f"{number},{number},{side},CC,0")
        paths.append(path)
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return paths


def as_notebooks(path: Path) -> NDArray[np.uint8]:
    """Prepare one image as public notebooks do."""
    return notebook(path, (CONFIG.height, CONFIG.width))


def codec(path: Path) -> NDArray[np.uint16]:
    """Decode by the fastest decoder alone, of what our reader and checks add nothing."""
    dataset = pydicom.dcmread(path)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if dataset.file_meta.TransferSyntaxUID == JPEGLosslessSV1:
        return imagecodecs.jpeg8_decode(frame)
    return imagecodecs.jpeg2k_decode(frame)


def ours(path: Path) -> PreparedImage:
    """Prepare one image."""
    return Preprocessor(CONFIG).prepare(SourceImage(path, CONFIG))


def against_notebook(kind: str, paths: list[Path], repeats: int) -> dict[str, Any]:
    """Time each image by us and by the notebook's steps; the row of one kind."""
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, context, _as_prepare_does) as own,
        ProcessPoolExecutor(1, context, cv2.setNumThreads, (1,)) as theirs,
    ):
        taken = []
        for path in paths:
            times: dict[str, list[float]] = {"ours": [], "notebook": []}
            for turn in range(repeats + 1):
                for name, pool, way in (("ours", own, ours), ("notebook", theirs, as_notebooks)):
                    one = pool.submit(_timed, way, path).result()
                    times[name] += [one] if turn else []
            taken.append({name: min(values) for name, values in times.items()})
    made = ours(paths[0])
    return {
        "image": kind,
        "decoded at": f"1/{1 << made.reduction}",
        "ours, ms": Spread.of([t["ours"] for t in taken]),
        "notebook, ms": Spread.of([t["notebook"] for t in taken]),
        "notebook / ours": Spread.of([t["notebook"] / t["ours"] for t in taken]),
        "off full decode, of 255": _difference(paths[0]),
    }


def against_codec(kind: str, paths: list[Path], repeats: int) -> dict[str, Any]:
    """Time each image by us, memory kept as workers keep it, and by the codec alone."""
    taken = _best({"ours": ours, "codec": codec}, paths, repeats)
    return {
        "image": kind,
        "ours, ms": Spread.of([t["ours"] for t in taken]),
        "full decode alone, ms": Spread.of([t["codec"] for t in taken]),
        "ours / full decode": Spread.of([t["ours"] / t["codec"] for t in taken]),
    }


def _as_prepare_does() -> None:
    cv2.setNumThreads(1)
    keep_memory()


def _timed(way: Callable[[Path], object], path: Path) -> float:
    """Return the milliseconds that one image takes."""
    begun = time.perf_counter()
    way(path)
    return 1000 * (time.perf_counter() - begun)


def _best(
    ways: dict[str, Callable[[Path], object]], paths: list[Path], repeats: int
) -> list[dict[str, float]]:
    """Return the least time of each image by each way, in ms."""
    taken = []
    for path in paths:
        times = in_turn({name: partial(way, path) for name, way in ways.items()}, repeats)
        taken.append({name: min(values) for name, values in times.items()})
    return taken


def _difference(path: Path) -> str:
    """Mean and 99th percentile of the difference that decoding at less resolution makes."""
    reduced = ours(path)
    if not reduced.reduction:
        return "0"
    source = SourceImage(path, CONFIG).read()
    geometry = reduced.geometry
    x_min, y_min, x_max, y_max = geometry.crop
    image = source.pixels[:, ::-1] if geometry.mirrored else source.pixels
    # The same crop, on whole pixels, averaged by area.
    part = image[max(0, round(y_min)) : round(y_max), max(0, round(x_min)) : round(x_max)]
    size = (geometry.fitted_width, geometry.fitted_height)
    full = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA) * 255
    top = geometry.top
    shown = reduced.pixels[top : top + size[1], : size[0]]
    inside = shown > 0
    difference = np.abs(shown.astype(float) - full)[inside]
    return f"{difference.mean():.2f}, {np.percentile(difference, 99):.1f}"


def repeated_cohort(home: Path, source: Path, images: int) -> Path:
    """Make a cohort of many rows over a few files, so that no disk holds them all."""
    cohort = home / f"cohort{images}"
    ingest(source, cohort)
    rows = pl.read_parquet(cohort / "manifest.parquet")
    many = pl.concat(
        [
            rows.with_columns(image_id=pl.lit(f"{turn}-") + pl.col("image_id"))
            for turn in range(-(-images // rows.height))
        ]
    ).head(images)
    many.write_parquet(cohort / "manifest.parquet")
    return cohort


def _prepare_alone(cohort: Path) -> None:
    keep_memory()  # As workers do.
    prepare(cohort, CONFIG, workers=1)


def workers(cohort: Path, repeats: int) -> dict[str, object]:
    """Time one worker against two, start-up of both included; memory is kept by all."""

    def run(number: int) -> None:
        shutil.rmtree(cohort / "images", ignore_errors=True)
        prepare(cohort, CONFIG, workers=number)

    times = in_turn({"one": lambda: run(1), "two": lambda: run(2)}, repeats)
    ratios = [one / two for one, two in zip(times["one"], times["two"], strict=True)]
    return {
        "task": f"prepare {len(PreparedStore(cohort).facts())} images, two workers",
        "ours": f"{Spread.of(times['two'])} ms",
        "against": "one worker",
        "theirs": f"{Spread.of(times['one'])} ms",
        "ratio": Spread.of(ratios),
    }


def reading(cohort: Path) -> dict[str, object]:
    """Time reading prepared samples in random order, against PNG files of the same pixels."""
    prepare(cohort, CONFIG, workers=2)
    prepare(cohort, CONFIG, workers=2, file_format="png")
    store = PreparedStore(cohort)
    names = sorted(store)
    order = [names[i] for i in np.random.default_rng(0).permutation(len(names))][:200]
    ours, theirs = [], []
    for name in order:
        times = in_turn(
            {
                "store": lambda name=name: store.read(name),
                "png": lambda name=name: cv2.imread(
                    str(cohort / "images-png" / f"{name}.png"), cv2.IMREAD_UNCHANGED
                ),
            },
            1,
        )
        ours += times["store"]
        theirs += times["png"]
    return {
        "task": "read one prepared 1024 x 512 sample, random order",
        "ours": f"{Spread.of(ours)} ms",
        "against": "PNG, OpenCV",
        "theirs": f"{Spread.of(theirs)} ms",
        "ratio": Spread.of([b / a for a, b in zip(ours, theirs, strict=True)]),
    }


def rerun(cohort: Path) -> dict[str, object]:
    """Time the command that finds a finished cohort finished, Python's start included."""
    count = len(list((cohort / "images").glob("*.safetensors")))
    begun = time.perf_counter()
    command = [sys.executable, "-m", "mammoscope.cli", "prepare", str(cohort), "--size", "1024x512"]
    subprocess.run(command, check=True, capture_output=True)
    return {
        "task": f"rerun of a finished prepare of {count} images",
        "ours": f"{time.perf_counter() - begun:.2f} s",
        "against": "",
        "theirs": "",
        "ratio": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=3, help="images of each kind")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="single images only")
    parser.add_argument("--long", type=int, default=1000, help="images of the memory run")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        sources = {
            kind: write_images(home / f"source{number}", machine, options.images)
            for number, (kind, machine) in enumerate(KINDS.items())
        }
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        title = f"Prepare to {CONFIG.height} x {CONFIG.width}, SYNTHETIC images, one core"
        rows = [against_notebook(kind, paths, options.repeats) for kind, paths in sources.items()]
        leave("prepare", f"{title}, against a notebook", rows, options.out)
        keep_memory()
        rows = [against_codec(kind, paths, options.repeats) for kind, paths in sources.items()]
        leave("prepare_codec", f"{title}, against the codec alone", rows, options.out)
        if options.quick:
            return
        os.sched_setaffinity(0, cores)
        large = home / "source1"
        memory = [
            {
                "cohort": f"{images} images of 5355 x 4915, 16 bits",
                "peak memory, MB": round(
                    peak_memory_mb(_prepare_alone, repeated_cohort(home, large, images))
                ),
            }
            for images in (options.long // 10, options.long)
        ]
        leave("prepare_memory", "Peak memory of one worker of prepare", memory, options.out)
        whole = home / f"cohort{options.long}"
        tasks = [rerun(whole), reading(whole), workers(whole, 2)]
        leave("prepare_cohort", "Prepare as a whole, SYNTHETIC images", tasks, options.out)


if __name__ == "__main__":
    sys.exit(main())
