"""How many lesions of SYNTHETIC women could be found: an observer told what to look for.

    python benchmarks/findable.py dicom cohort --out results/findable

``dicom`` is a folder of ``mammoscope synth``, ``cohort`` the cohort made of it, whose held-out
women are drawn again, each image with its lesions and without. For each lesion the *observer* is
given its exact picture and looks for it, and for nothing else, everywhere in the breast: a
prewhitening matched filter (Hotelling's for noise whose statistics do not depend on the place),
with the spectrum of that machine's tissue, and the same divided by its local spread. The lesion
counts as found at a rate of false positives if images without lesions, that one's own among them,
have on average fewer peaks above what the filter gives at the true place, with either filter.

No detector is told the size, shape, contrast and kind of what it looks for, and all lesions must
share its false positives, so that what this observer finds is more than a linear one can. It sees
one view at a time, as stored, at the size of the files.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections import defaultdict
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import track
from scipy import fft

from mammoscope.cohort.synthetic.detector import expose
from mammoscope.cohort.synthetic.exposure import choose_exposure
from mammoscope.cohort.synthetic.lesion_shapes import Truth, add_lesion
from mammoscope.cohort.synthetic.lesions import Lesion
from mammoscope.cohort.synthetic.machines import Machine
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.cohort.synthetic.population import Breast, Exposed, draw_patient
from mammoscope.types import Box, Laterality
from measure import leave

RATES = (0.25, 0.5, 1.0, 2.0)
_FIRST_PATIENT = 10_000
# Side of the windows whose spectra are averaged.
_WINDOW = 96
# Images of the same machine in which false positives of a filter are counted, beside its own.
_OTHERS = 8
# Reach of the local spread, and of what fills the picture beyond the skin, in pixels.
_LOCAL_PX, _FILL_PX = 32, 24
# How far beside the true place the filter may answer, in pixels.
_BESIDE = 3

Picture = NDArray[np.float32]
Grid = tuple[int, int]


@dataclass
class Shown:
    """An image with its lesions and without, and what is known of it."""

    seen: Picture
    empty: Picture
    inside: NDArray[np.bool_]
    truths: list[Truth]


@dataclass
class Ground:
    """An image without its lesions."""

    picture: Picture
    tissue: NDArray[np.bool_]


@dataclass
class Signal:
    """A lesion in an image."""

    patient_id: str
    lesion: Lesion
    truth: Truth
    added: Picture
    picture: Picture
    ground: int


@dataclass
class Unit:
    """What one machine has taken."""

    grounds: list[Ground] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    power: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def grid(self) -> Grid:
        """Sides on which its images are quickly filtered."""
        rows, columns = self.grounds[0].picture.shape
        return fft.next_fast_len(rows), fft.next_fast_len(columns)


def draw_women(dicom: Path, held_out: set[str], most_rows: int) -> dict[int, Unit]:
    """Draw the held-out women of a folder again, with and without their lesions, by machine.

    Args:
        dicom: The folder of ``mammoscope synth``.
        held_out: Their patient numbers.
        most_rows: Images of more rows are reduced to as many.
    """
    told = json.loads((dicom / "synthetic.json").read_text())
    asked = {name: told[name] for name in ("prevalence", "conspicuity", "difficulty")}
    units: dict[int, Unit] = defaultdict(Unit)
    for name in track(sorted(held_out), description="draw"):
        rng = np.random.default_rng([told["seed"], int(name) - _FIRST_PATIENT])
        patient = draw_patient(rng, **asked)
        unit = units[patient.machine.machine_id]
        for breast in patient.breasts:
            for image in breast.images():
                shown = _exposed(patient.machine, breast, image, told["scale"], rng)
                _take_up(unit, name, breast, _reduced(shown, most_rows))
    return units


def _exposed(
    machine: Machine, breast: Breast, image: Exposed, scale: float, rng: np.random.Generator
) -> Shown:
    """Expose a view with its lesions and without, noise and all else alike."""
    height, width = (round(length * scale) for length in machine.size)
    spacing = machine.field_mm / height
    bare = project(image.anatomy, image.view, (height, width), spacing, image.take)
    full = copy.deepcopy(bare)
    truths = [add_lesion(full, image.anatomy, lesion, image.view) for lesion in breast.lesions]
    exposure = choose_exposure(machine, image.anatomy.thickness_mm + rng.normal(0, 2), rng)
    again = copy.deepcopy(rng)
    seen, empty = (
        expose(each.pixels, machine, Laterality.L, image.view, source, exposure)
        for each, source in ((full, rng), (bare, again))
    )
    return Shown(seen.astype(np.float32), empty.astype(np.float32), bare.inside, truths)


def _reduced(shown: Shown, most_rows: int) -> Shown:
    factor = most_rows / shown.seen.shape[0]
    if factor >= 1:
        return shown
    rows, columns = (round(side * factor) for side in shown.seen.shape)
    pictures = (shown.seen, shown.empty, shown.inside.astype(np.float32))
    seen, empty, inside = (
        cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA) for picture in pictures
    )
    truths = [
        replace(truth, box=Box(*(side * factor for side in astuple(truth.box))))
        for truth in shown.truths
    ]
    return Shown(seen, empty, inside > 0.5, truths)


def _take_up(unit: Unit, name: str, breast: Breast, shown: Shown) -> None:
    """Keep an image and its lesions, what lies beyond the skin filled."""
    tissue = cv2.erode(shown.inside.astype(np.uint8), np.ones((7, 7))) > 0
    if not tissue.any():
        return
    filled, empty = _filled(shown.seen, tissue), _filled(shown.empty, tissue)
    unit.power += _windows(empty, tissue)
    unit.grounds.append(Ground(empty, tissue))
    unit.signals += [
        Signal(name, lesion, truth, shown.seen - shown.empty, filled, len(unit.grounds) - 1)
        for lesion, truth in zip(breast.lesions, shown.truths, strict=True)
        if truth.patch.any()
    ]


def _filled(picture: Picture, tissue: NDArray[np.bool_]) -> Picture:
    """Go on beyond the skin with the tissue beside it, and take the mean away."""
    weight = tissue.astype(np.float32)
    mean = np.float32(picture[tissue].mean())
    less = (picture - mean) * weight
    near = cv2.GaussianBlur(weight, (0, 0), _FILL_PX)
    spread = cv2.GaussianBlur(less, (0, 0), _FILL_PX) / np.maximum(near, 1e-3)
    return np.where(tissue, less, spread * np.clip(near * 20, 0, 1)).astype(np.float32)


def _around(added: Picture, box: Box, grid: Grid) -> Picture:
    """Keep what a lesion adds near its box, with its middle at the origin of the grid."""
    rows, columns = added.shape
    room = 0.5 * max(box.x_max - box.x_min, box.y_max - box.y_min) + 6
    top, bottom = int(max(0, box.y_min - room)), int(min(rows, box.y_max + room))
    left, right = int(max(0, box.x_min - room)), int(min(columns, box.x_max + room))
    y, x = _middle(box)
    near = np.zeros_like(added)
    near[top:bottom, left:right] = added[top:bottom, left:right]
    whole = np.zeros(grid, np.float32)
    whole[:rows, :columns] = near
    return np.roll(whole, (-y, -x), axis=(0, 1))


def _middle(box: Box) -> tuple[int, int]:
    return int((box.y_min + box.y_max) / 2), int((box.x_min + box.x_max) / 2)


def _fft(picture: Picture, grid: Grid) -> NDArray[np.complex64]:
    return np.asarray(fft.rfft2(picture, grid), np.complex64)


def _windows(picture: Picture, tissue: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return spectra of windows that lie in the breast, half overlapping."""
    taper = np.outer(np.hanning(_WINDOW), np.hanning(_WINDOW))
    made = []
    for top in range(0, picture.shape[0] - _WINDOW, _WINDOW // 2):
        for left in range(0, picture.shape[1] - _WINDOW, _WINDOW // 2):
            where = slice(top, top + _WINDOW), slice(left, left + _WINDOW)
            if tissue[where].mean() > 0.97:
                part = picture[where]
                part = (part - np.average(part, weights=taper)) * taper
                made.append(np.abs(np.fft.fft2(part)) ** 2)
    return made


def _weights(power: list[NDArray[np.float64]], grid: Grid) -> NDArray[np.float32]:
    """Return one over the mean spectrum, by ring, on the half grid of :func:`_fft`."""
    mean = np.mean(power, axis=0)
    f = np.fft.fftfreq(_WINDOW) * _WINDOW
    ring = np.rint(np.hypot(f[:, None], f[None, :])).astype(int)
    rings = np.bincount(ring.ravel(), mean.ravel()) / np.bincount(ring.ravel())
    # The mean grey of a window was taken away: below one period it is that of one.
    rings[0] = rings[1]
    y, x = np.fft.fftfreq(grid[0]), np.fft.rfftfreq(grid[1])
    place = np.hypot(y[:, None], x[None, :]) * _WINDOW
    at = np.arange(len(rings))
    return (1 / np.exp(np.interp(place, at, np.log(rings)))).astype(np.float32)


def _answers(
    picture: Picture, wanted: NDArray[np.complex64], tissue: NDArray[np.bool_], grid: Grid
) -> tuple[Picture, Picture]:
    """Return the filter's answer at each place, as it is and divided by its local spread."""
    shape = tissue.shape
    plain = fft.irfft2(_fft(picture, grid) * wanted, grid)[: shape[0], : shape[1]]
    inside, side = tissue.astype(np.float32), (2 * _LOCAL_PX + 1, 2 * _LOCAL_PX + 1)
    power = cv2.blur(plain**2 * inside, side) / np.maximum(cv2.blur(inside, side), 1e-3)
    return plain, plain / np.sqrt(np.maximum(power, 1e-12))


def false_rate(
    unit: Unit, signal: Signal, weights: NDArray[np.float32], rng: np.random.Generator
) -> float:
    """Return false positives per image above what the filter gives at the true place."""
    grid = unit.grid
    wanted = np.conj(_fft(_around(signal.added, signal.truth.box, grid), grid)) * weights
    own = unit.grounds[signal.ground]
    y, x = _middle(signal.truth.box)
    beside = np.s_[max(0, y - _BESIDE) : y + _BESIDE + 1, max(0, x - _BESIDE) : x + _BESIDE + 1]
    answers = _answers(signal.picture, wanted, own.tissue, grid)
    at_place = [answer[beside].max() for answer in answers]
    others = [g for n, g in enumerate(unit.grounds) if n != signal.ground]
    chosen = rng.choice(len(others), min(_OTHERS, len(others)), replace=False) if others else []
    side = max(
        signal.truth.box.x_max - signal.truth.box.x_min,
        signal.truth.box.y_max - signal.truth.box.y_min,
    )
    apart = 2 * max(3, int(side / 2)) + 1
    counts = np.zeros((2, 1 + len(chosen)))
    for column, ground in enumerate([own, *(others[n] for n in chosen)]):
        for row, answer in enumerate(_answers(ground.picture, wanted, ground.tissue, grid)):
            peaks = (cv2.dilate(answer, np.ones((apart, apart))) == answer) & ground.tissue
            counts[row, column] = (answer[peaks] > at_place[row]).sum()
    return float(counts.mean(axis=1).min())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dicom", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument(
        "--rows", type=int, default=10_000, help="reduce images of more rows to as many"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/findable"))
    options = parser.parse_args()
    splits = pl.read_parquet(options.cohort / "splits.parquet").filter(pl.col("split") == "test")
    units = draw_women(options.dicom, set(splits["patient_id"]), options.rows)
    rng = np.random.default_rng(options.seed)
    found = []
    for at, unit in enumerate(units.values(), start=1):
        print(f"machine {at} of {len(units)}: {len(unit.signals)} lesions", flush=True)
        weights = _weights(unit.power, unit.grid)
        for signal in unit.signals:
            rate = false_rate(unit, signal, weights, rng)
            facts = (signal.lesion.kind, signal.lesion.malignant, signal.truth.conspicuity)
            found.append((signal.patient_id, *facts, rate))
    table = pl.DataFrame(
        found, ["patient_id", "kind", "malignant", "conspicuity", "rate"], orient="row"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    table.write_parquet(options.out / "lesions.parquet")
    groups = {
        "all lesions": table,
        "malignant": table.filter(pl.col("malignant")),
        "benign": table.filter(~pl.col("malignant")),
        "benign, conspicuity to 0.7": table.filter(
            ~pl.col("malignant") & (pl.col("conspicuity") <= 0.7)
        ),
    }
    rows = [
        {
            "lesions": name,
            "n": group.height,
            **{f"at {r:g}": round(float((group["rate"] < r).mean()), 3) for r in RATES},
        }
        for name, group in groups.items()
    ]
    leave("findable", "share found by false positives per image, SYNTHETIC", rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
