"""How well cancers of SYNTHETIC exams can be told, by contrast: an observer and a network.

    python benchmarks/psychometric.py --out results/psychometric

Each contrast is a cohort of the same women, drawn with another ``--conspicuity``: a factor on the
contrast of malignant lesions, 1 at the demo's setting, 0 where there is nothing to see. All is done
by the demo's commands and settings.

The *observer* is the prewhitening matched filter: Hotelling's for noise whose statistics do not
depend on the place. It knows each lesion, its picture and where it would lie, and must tell
whether it is there from the 64 x 64 prepared pixels around. The *network* is the demo's, trained on
the cohort of that contrast: it knows nothing, searches whole images, and is measured on patients
held out. What the table knows of cancer but the picture should not (machine, density) is no help
to the observer, and may be to the network: its AUROC at 0 says how much.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammoscope.cli import cohort, run
from mammoscope.cli.demo import PATIENTS, SETTINGS, SIZE
from mammoscope.cohort.manifest import read_manifest
from mammoscope.cohort.store import PreparedStore
from mammoscope.evaluation import read_report
from mammoscope.evaluation.metrics import auroc
from measure import leave

LEVELS = (0.0, 0.25, 0.5, 1.0, 1.5)
_SIDE_PX = 64


def make_cohort(home: Path, patients: int, level: float, seed: int) -> Path:
    """Draw, ingest and prepare the women at one contrast."""
    cohort.synth(home / "dicom", patients=patients, seed=seed, conspicuity=level)
    cohort.ingest(home / "dicom", home / "cohort")
    cohort.prepare(home / "cohort", size=f"{SIZE[0]}x{SIZE[1]}")
    cohort.split(home / "cohort", seed=seed)
    return home / "cohort"


def network(made: Path, seed: int) -> dict[str, float]:
    """Train the demo's network; AUROC by image of patients held out, with its interval."""
    where = made.parent
    run.train(made, where / "run", settings=[*SETTINGS, f"train.seed={seed}"])
    run.evaluate(where / "run")
    found = read_report(where / "run").report["levels"]["image"]["metrics"]["auroc"]
    return {name: float(found[name]) for name in ("value", "low", "high")}


def observer(levels: dict[float, Path]) -> dict[float, float]:
    """Return the observer's AUROC at each contrast, over all images with cancer."""
    largest = max(levels)
    stores = {level: PreparedStore(made) for level, made in levels.items()}
    rows = read_manifest(levels[largest]).filter(pl.col("cancer") == 1)
    taper = np.outer(np.hanning(_SIDE_PX + 2)[1:-1], np.hanning(_SIDE_PX + 2)[1:-1])
    signals, pictures = [], {level: [] for level in levels}
    for name in rows["image_id"]:
        if any(name not in store for store in stores.values()):
            continue
        read = {level: store.read(name).astype(float) for level, store in stores.items()}
        difference = read[largest] - read[0.0]
        if not np.abs(difference).max() > 0:
            continue
        where = _around(difference)
        signals.append(_spectrum(difference, where, taper) / largest)
        for level, picture in read.items():
            pictures[level].append(_spectrum(picture, where, taper))
    signal = np.array(signals)
    grounds = np.array(pictures[0.0])
    mean = grounds.mean(axis=0)
    power = _by_ring((np.abs(grounds - mean) ** 2).mean(axis=0))
    # The mean grey of a window was taken away.
    power[0, 0] = np.inf
    strength = (np.abs(signal) ** 2 / power).sum(axis=(1, 2))
    found = {}
    for level, seen in pictures.items():
        # Logarithm of the likelihood ratio, up to a factor that does not depend on the image.
        scores = [
            ((np.conj(signal) * (data - mean) / power).sum(axis=(1, 2)).real - level * strength / 2)
            * (level or 1.0)
            for data in (grounds, np.array(seen))
        ]
        truth = np.repeat([False, True], len(signal))
        found[level] = float(auroc(np.concatenate(scores), truth) or np.nan)
    return found


def _around(difference: NDArray[np.float64]) -> tuple[slice, slice]:
    """Return the window around a lesion's middle, moved into the image."""
    rows, columns = np.indices(difference.shape)
    weight = np.abs(difference) / np.abs(difference).sum()
    top, left = (
        int(np.clip(round(float((axis * weight).sum())) - _SIDE_PX // 2, 0, length - _SIDE_PX))
        for axis, length in zip((rows, columns), difference.shape, strict=True)
    )
    return slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX)


def _spectrum(
    picture: NDArray[np.float64], where: tuple[slice, slice], taper: NDArray[np.float64]
) -> NDArray[np.complex128]:
    part = picture[where]
    return np.fft.fft2((part - np.average(part, weights=taper)) * taper)


def _by_ring(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average a spectrum over directions, which leaves less chance in it."""
    f = np.fft.fftfreq(_SIDE_PX) * _SIDE_PX
    ring = np.rint(np.hypot(f[:, None], f[None, :])).astype(int)
    mean = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    return np.asarray(mean[ring])


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Plot both curves."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    level = [row["contrast"] for row in rows]
    axes.plot(level, [row["observer"] for row in rows], "o-", color="#0072B2", label="observer")
    value = np.array([row["network"] for row in rows])
    spread = np.abs(np.array([[row["low"], row["high"]] for row in rows]).T - value)
    axes.errorbar(
        level, value, spread, fmt="s-", color="#D55E00", capsize=3, label="network, held-out images"
    )
    axes.axhline(0.5, color="#7a7a7a", linewidth=0.8)
    axes.set(
        xlabel="contrast of cancers, as a share of the demo's",
        ylabel="AUROC",
        ylim=(0.3, 1.02),
        title="SYNTHETIC images",
    )
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/psychometric"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = {
            level: make_cohort(Path(folder) / str(level), options.patients, level, options.seed)
            for level in LEVELS
        }
        seen = observer(made)
        rows = []
        for level, where in made.items():
            found = network(where, options.seed)
            rows.append(
                {
                    "contrast": level,
                    "observer": round(seen[level], 3),
                    "network": round(found["value"], 3),
                    "low": round(found["low"], 3),
                    "high": round(found["high"], 3),
                }
            )
            leave("psychometric", "AUROC by contrast, SYNTHETIC images", rows, options.out)
            draw(rows, options.out / "psychometric.png")


if __name__ == "__main__":
    sys.exit(main())
