"""How like real mammograms synthetic ones are: galleries to look at, and figures beside real ones.

    python benchmarks/synthetic.py --real cbis-ddsm-mass --out results/synthetic

Writes ``density.png`` (an exam by density), ``lesions.png`` (every kind of lesion), ``views.png``
(rarer views, implants, metal), ``profiles.png`` (grey in the breast, and behind the skin) and
``figures.json``. The same code measures SYNTHETIC images, as
exposed and read back, and, where a folder of pictures is given, real ones: the slope of the power
spectrum inside the breast, the share of the image that is breast, the crop's height over its width,
quartiles of grey in the breast, and over how many millimetres from the skin grey reaches half of
what it is inside.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pydicom
from numpy.typing import NDArray

from mammoscope.cohort.synthetic import write_cohort
from mammoscope.cohort.synthetic.anatomy import draw_anatomy, pulled_forward
from mammoscope.cohort.synthetic.lesion_shapes import add_lesion
from mammoscope.cohort.synthetic.lesions import KINDS, Lesion
from mammoscope.cohort.synthetic.likeness import spectrum_slopes
from mammoscope.cohort.synthetic.phantom import project
from mammoscope.cohort.synthetic.surgery import Clip, draw_implant
from mammoscope.errors import MammoscopeError
from mammoscope.preprocessing import find_breast, read_pixels
from mammoscope.types import ByteImage, Density, FloatImage, View
from measure import leave

# Pixels of figures, in mm: those of the real pictures of CBIS-DDSM, 800 rows of a film of 240 mm.
_SPACING_MM = 0.3
# How far inside the mask's edge tissue is measured, in pixels.
_MARGIN = 15
# Of grey, and of depth behind the skin in steps of two pixels.
_BINS, _STEP_MM = 50, 2 * _SPACING_MM


def gallery_by_density(spacing_mm: float = 0.25) -> ByteImage:
    """Return a sheet with CC and MLO of two women for each density."""
    size = (round(268 / spacing_mm), round(130 / spacing_mm))
    rows = []
    for density in Density:
        views = []
        for seed in (5, 6):
            anatomy = draw_anatomy(np.random.default_rng([seed, 5]), density)
            views += [project(anatomy, v, size, spacing_mm).pixels for v in (View.CC, View.MLO)]
        rows.append(np.hstack(views))
    return _as_bytes(np.vstack(rows))


def gallery_of_lesions(spacing_mm: float = 0.1, half: int = 200) -> ByteImage:
    """Return a sheet with every kind of lesion, named: of middle size, and as clear as in fat."""
    cells = []
    for number, (kind, look) in enumerate(KINDS.items()):
        anatomy = draw_anatomy(np.random.default_rng([number, 6]), Density.B)
        rng = np.random.default_rng(number)
        radius = float(np.sqrt(np.prod(look.radius_mm)))
        contrast = max(look.draw_contrast(rng, radius) for _ in range(40))
        lesion = Lesion(
            kind=kind,
            malignant=look.malignant > look.benign,
            depth_mm=0.5 * anatomy.depth_mm,
            place=(0.1, 0.0),
            radius_mm=radius,
            contrast=contrast,
            seed=number,
        )
        projection = project(anatomy, View.CC, (2680, 1300), spacing_mm)
        truth = add_lesion(projection, anatomy, lesion, View.CC)
        row = round((truth.box.y_min + truth.box.y_max) / 2)
        column = max(half, round((truth.box.x_min + truth.box.x_max) / 2))
        cell = _as_bytes(projection.pixels[row - half : row + half, column - half : column + half])
        cv2.putText(cell, kind.replace("_", " "), (6, 16), 0, 0.45, (255,), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.vstack([np.hstack(cells[at : at + 4]) for at in range(0, len(cells), 4)])


def gallery_of_views(spacing_mm: float = 0.25) -> ByteImage:
    """Return a sheet: the rarer views, an implant in place and pushed back, clips, a marker."""
    size = (round(268 / spacing_mm), round(130 / spacing_mm))
    anatomy = draw_anatomy(np.random.default_rng([8, 5]), Density.C)
    augmented = replace(anatomy, implant=draw_implant(np.random.default_rng(4)))
    bed = tuple(Clip("clip", 45 + 4 * n, (0.1 * n, 0.05), 4.0, 1.3 * n) for n in range(4))
    operated = replace(anatomy, clips=(*bed, Clip("ribbon", 30.0, (-0.3, -0.2), 3.0, 0.4)))
    shown = {
        "ML": (anatomy, View.ML),
        "AT": (anatomy, View.AT),
        "CC, clips, marker": (operated, View.CC),
        "MLO, clips, marker": (operated, View.MLO),
        "CC, implant": (augmented, View.CC),
        "MLO, implant": (augmented, View.MLO),
        "CC, displaced": (pulled_forward(augmented), View.CC),
        "MLO, displaced": (pulled_forward(augmented), View.MLO),
    }
    cells = []
    for name, (breast, view) in shown.items():
        cell = _as_bytes(project(breast, view, size, spacing_mm).pixels)
        place = (size[1] - cv2.getTextSize(name, 0, 0.55, 1)[0][0] - 8, 24)
        cv2.putText(cell, name, place, 0, 0.55, (255,), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.vstack([np.hstack(cells[:4]), np.hstack(cells[4:])])


def _as_bytes(pixels: FloatImage) -> ByteImage:
    return np.ascontiguousarray(np.clip(pixels * 255, 0, 255).astype(np.uint8))


def synthetic_pictures(patients: int) -> Iterator[FloatImage]:
    """Yield SYNTHETIC images as a reader of their files sees them, at 0.3 mm a pixel."""
    with tempfile.TemporaryDirectory() as folder:
        write_cohort(Path(folder), patients=patients, seed=3, prevalence=0.2, profile="clinical")
        for path in sorted(Path(folder).rglob("*.dcm")):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            field_mm = header.Rows * float(header.ImagerPixelSpacing[0])
            yield _at_spacing(read_pixels(path).pixels, field_mm)


def real_pictures(folder: Path, most: int) -> Iterator[FloatImage]:
    """Yield pictures of real films of 240 mm, evenly drawn."""
    paths = sorted(path for path in folder.rglob("images/*") if path.is_file())
    for path in paths[:: max(1, -(-len(paths) // most))]:
        yield _at_spacing(read_pixels(path).pixels, 240.0)


def _at_spacing(pixels: FloatImage, field_mm: float) -> FloatImage:
    height = round(field_mm / _SPACING_MM)
    size = (max(1, round(pixels.shape[1] * height / pixels.shape[0])), height)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.float32)


@dataclass
class Measured:
    """What is found in pictures of one kind.

    Attributes:
        figures: By name, the values of all pictures.
        grey: (pictures, 50) share of the breast in each fiftieth of grey.
        edge: (pictures, 50) mean grey by steps from the skin, as a share of that of 15
            to 20 mm inside.
    """

    figures: dict[str, list[float]]
    grey: list[NDArray[np.float64]]
    edge: list[NDArray[np.float64]]


def measure(pictures: Iterator[FloatImage]) -> Measured:
    """Measure pictures; those without a breast are left out."""
    found: dict[str, list[float]] = {
        "slope of the power spectrum": [],
        "breast share of the image": [],
        "crop, height over width": [],
        "grey, lower quartile": [],
        "grey, median": [],
        "grey, upper quartile": [],
        "skin to half of the inner grey, mm": [],
    }
    measured = Measured(found, [], [])
    for pixels in pictures:
        try:
            region = find_breast(pixels)
        except MammoscopeError:
            continue
        mask = cv2.resize(region.mask, pixels.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        square = np.ones((2 * _MARGIN + 1,) * 2, np.uint8)
        inside = cv2.erode(mask.astype(np.uint8), square) > 0
        if not inside.any():
            continue
        x_min, y_min, x_max, y_max = region.box
        edge = _edge(pixels, mask)
        measured.grey.append(np.histogram(pixels[inside], _BINS, (0, 1))[0] / inside.sum())
        measured.edge.append(edge)
        values = [
            [float(slope) for slope in spectrum_slopes(pixels, inside)],
            [region.area_fraction],
            [(y_max - y_min) / (x_max - x_min)],
            *([float(value)] for value in np.quantile(pixels[inside], (0.25, 0.5, 0.75))),
            [float(np.argmax(edge >= 0.5) * _STEP_MM)],
        ]
        for name, more in zip(found, values, strict=True):
            found[name] += more
    return measured


def _edge(pixels: FloatImage, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return grey by steps from the skin, over that of 15 to 20 mm inside."""
    padded = mask.astype(np.uint8)
    # The chest wall and cut borders are no skin.
    padded = cv2.copyMakeBorder(padded, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1] * _SPACING_MM
    bins = np.minimum((depth / _STEP_MM).astype(int)[mask], _BINS)
    count = np.bincount(bins, minlength=_BINS + 1)
    mean = np.bincount(bins, pixels[mask], _BINS + 1) / np.maximum(1, count)
    # Of a breast that is nowhere so deep, its innermost.
    deep = np.s_[round(15 / _STEP_MM) : round(20 / _STEP_MM)]
    inner = mean[deep][count[deep] > 0]
    return np.asarray(mean[:_BINS] / (inner.mean() if inner.size else mean[count > 0][-1]))


def draw_profiles(measured: dict[str, Measured], path: Path) -> None:
    """Plot medians over pictures, and where the middle half of them lies."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    grey, depth_mm = (np.arange(_BINS) + 0.5) / _BINS, (np.arange(_BINS) + 0.5) * _STEP_MM
    for (name, found), colour in zip(measured.items(), ("#0072B2", "#D55E00"), strict=False):
        for axes, x, values in (
            (left, grey, np.array(found.grey)),
            (right, depth_mm, np.array(found.edge)),
        ):
            low, middle, high = np.percentile(values, (25, 50, 75), axis=0)
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(x, middle, color=colour, label=name)
    left.set(xlabel="grey in the breast, 0 black to 1 white", ylabel="share of the breast")
    right.set(xlabel="distance from the skin, mm", ylabel="grey, as a share of the inner")
    left.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--real", type=Path, help="a folder of real pictures")
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--films", type=int, default=160)
    parser.add_argument("--out", type=Path, default=Path("results/synthetic"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(options.out / "density.png"), gallery_by_density())
    cv2.imwrite(str(options.out / "lesions.png"), gallery_of_lesions())
    cv2.imwrite(str(options.out / "views.png"), gallery_of_views())
    measured = {"SYNTHETIC": measure(synthetic_pictures(options.patients))}
    if options.real:
        measured["real films"] = measure(real_pictures(options.real, options.films))
    draw_profiles(measured, options.out / "profiles.png")
    rows = [
        {"figure": name}
        | {
            kind: "{1:.2f} ({0:.2f} to {2:.2f})".format(
                *np.percentile(found.figures[name], (5, 50, 95))
            )
            for kind, found in measured.items()
        }
        for name in measured["SYNTHETIC"].figures
    ]
    leave("figures", "Median, 5 and 95 %", rows, options.out)


if __name__ == "__main__":
    sys.exit(main())
