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
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import track
from scipy import fft

from mammoscope.cohort.synthetic.detector import expose
from mammoscope.cohort.synthetic.exposure import choose_exposure
from mammoscope.cohort.synthetic.lesion_shapes import add_lesion
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.cohort.synthetic.population import draw_patient
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
class Ground:
    """An image without its lesions."""

    picture: Picture
    tissue: NDArray[np.bool_]


@dataclass
class Signal:
    """A lesion in an image."""

    image_id: str
    kind: str
    malignant: bool
    conspicuity: float
    box: Box
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


def draw_women(dicom: Path, held_out: set[str]) -> dict[int, Unit]:
    """Draw the held-out women of a folder again, with and without their lesions, by machine."""
    told = json.loads((dicom / "synthetic.json").read_text())
    units: dict[int, Unit] = defaultdict(Unit)
    for name in track(sorted(held_out), description="draw"):
        number = int(name) - _FIRST_PATIENT
        rng = np.random.default_rng([told["seed"], number])
        patient = draw_patient(
            rng,
            prevalence=told["prevalence"],
            conspicuity=told["conspicuity"],
            difficulty=told["difficulty"],
        )
        machine = patient.machine
        unit = units[machine.machine_id]
        height, width = (round(length * told["scale"]) for length in machine.size)
        spacing = machine.field_mm / height
        at = 0
        for breast in patient.breasts:
            for image in breast.images():
                bare = project(image.anatomy, image.view, (height, width), spacing, image.take)
                full = copy.deepcopy(bare)
                truths = [
                    add_lesion(full, image.anatomy, lesion, image.view) for lesion in breast.lesions
                ]
                exposure = choose_exposure(
                    machine, image.anatomy.thickness_mm + rng.normal(0, 2), rng
                )
                # The same noise with and without, and then the next image's.
                again = copy.deepcopy(rng)
                seen = expose(full.pixels, machine, Laterality.L, image.view, rng, exposure).astype(
                    np.float32
                )
                empty = expose(
                    bare.pixels, machine, Laterality.L, image.view, again, exposure
                ).astype(np.float32)
                tissue = cv2.erode(bare.inside.astype(np.uint8), np.ones((7, 7))) > 0
                if not tissue.any():
                    continue
                filled, filled_empty = _filled(seen, tissue), _filled(empty, tissue)
                unit.power += _windows(filled_empty, tissue)
                unit.grounds.append(Ground(filled_empty, tissue))
                for lesion, truth in zip(breast.lesions, truths, strict=True):
                    if not truth.patch.any():
                        continue
                    unit.signals.append(
                        Signal(
                            f"{name}{at:02d}",
                            lesion.kind,
                            lesion.malignant,
                            truth.conspicuity,
                            truth.box,
                            seen - empty,
                            filled,
                            len(unit.grounds) - 1,
                        )
                    )
                at += 1
    return units


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
    inside = tissue.astype(np.float32)
    near = np.maximum(cv2.GaussianBlur(inside, (0, 0), _LOCAL_PX), 1e-3)
    power = cv2.GaussianBlur(plain**2 * inside, (0, 0), _LOCAL_PX) / near
    return plain, plain / np.sqrt(np.maximum(power, 1e-12))


def false_rate(
    unit: Unit, signal: Signal, weights: NDArray[np.float32], rng: np.random.Generator
) -> float:
    """Return false positives per image above what the filter gives at the true place."""
    grid = unit.grid
    wanted = np.conj(_fft(_around(signal.added, signal.box, grid), grid)) * weights
    own = unit.grounds[signal.ground]
    y, x = _middle(signal.box)
    beside = np.s_[max(0, y - _BESIDE) : y + _BESIDE + 1, max(0, x - _BESIDE) : x + _BESIDE + 1]
    answers = _answers(signal.picture, wanted, own.tissue, grid)
    at_place = [answer[beside].max() for answer in answers]
    others = [g for n, g in enumerate(unit.grounds) if n != signal.ground]
    chosen = rng.choice(len(others), min(_OTHERS, len(others)), replace=False) if others else []
    side = max(signal.box.x_max - signal.box.x_min, signal.box.y_max - signal.box.y_min)
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/findable"))
    options = parser.parse_args()
    splits = pl.read_parquet(options.cohort / "splits.parquet").filter(pl.col("split") == "test")
    units = draw_women(options.dicom, set(splits["patient_id"]))
    rng = np.random.default_rng(options.seed)
    found = []
    for unit in track(units.values(), description="look"):
        weights = _weights(unit.power, unit.grid)
        for signal in unit.signals:
            rate = false_rate(unit, signal, weights, rng)
            facts = (signal.image_id, signal.kind, signal.malignant, signal.conspicuity)
            found.append((*facts, rate))
    table = pl.DataFrame(
        found, ["image_id", "kind", "malignant", "conspicuity", "rate"], orient="row"
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
