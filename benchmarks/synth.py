"""Drawing SYNTHETIC exams: time and memory of one on one core, and two workers against one.

    python benchmarks/synth.py --exams 12

Exams are of every unit as often as it occurs, four views each, drawn, exposed, compressed and
written. The floor beside them is what nobody who writes such files is spared: a normal deviate of
noise for each pixel, and the unit's codec.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom

from mammoscope.cohort.synthetic import write_cohort, write_exam
from mammoscope.cohort.synthetic.acquisition import compress
from mammoscope.dicom import decode, read_dicom
from measure import Spread, in_turn, leave, peak_memory_mb


def exams(scale: float, count: int, home: Path) -> dict[str, Any]:
    """Time exams of one scale, each by itself and beside its floor."""
    whole, floor, largest = [], [], 0
    for seed in range(count):
        begun = time.perf_counter()
        paths = write_exam(home / f"{scale}-{seed}", seed=seed, cancer=True, scale=scale)
        whole.append(time.perf_counter() - begun)
        floor.append(_floor(paths))
        largest = max(largest, pydicom.dcmread(paths[0], stop_before_pixels=True).Rows)
    return {
        "exam of four views": f"scale {scale:g}, up to {largest} rows",
        "s": Spread.of(whole),
        "slowest, s": round(max(whole), 2),
        "noise and codec alone, s": Spread.of(floor),
        "ours / floor": Spread.of([a / b for a, b in zip(whole, floor, strict=True)]),
        "peak memory, MB": round(peak_memory_mb(_write, scale, whole.index(max(whole)))),
    }


def _floor(paths: list[Path]) -> float:
    """Time noise and compression of an exam's stored values."""
    stored = [(decode(read_dicom(path)), pydicom.dcmread(path)) for path in paths]
    begun = time.perf_counter()
    for decoded, dataset in stored:
        np.random.default_rng(0).standard_normal(decoded.stored.shape, dtype=np.float32)
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated:
            compress(decoded.stored, syntax, dataset.BitsStored)
    return time.perf_counter() - begun


def _write(scale: float, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_exam(Path(folder), seed=seed, cancer=True, scale=scale)


def workers(patients: int, home: Path) -> dict[str, Any]:
    """Time a cohort at quarter scale by one worker and by two, their start included."""

    def run(number: int) -> None:
        write_cohort(home / f"workers{number}", patients=patients, workers=number)

    times = in_turn({"one": lambda: run(1), "two": lambda: run(2)}, 3)
    return {
        "cohort": f"{patients} women, scale 0.25",
        "one worker, s": Spread.of([value / 1000 for value in times["one"]]),
        "two, s": Spread.of([value / 1000 for value in times["two"]]),
        "one / two": Spread.of([a / b for a, b in zip(times["one"], times["two"], strict=True)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--exams", type=int, default=12, help="exams of each scale")
    parser.add_argument("--patients", type=int, default=80, help="women of the workers' cohort")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        write_exam(home / "warm", seed=0, cancer=True, scale=0.25)
        rows = [exams(scale, options.exams, home) for scale in (1.0, 0.25)]
        leave("synth", "SYNTHETIC exams, one core", rows, options.out)
        os.sched_setaffinity(0, cores)
        leave("synth_workers", "SYNTHETIC cohort", [workers(options.patients, home)], options.out)


if __name__ == "__main__":
    sys.exit(main())
