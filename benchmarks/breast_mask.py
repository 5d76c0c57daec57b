"""The breast mask on real films: masses cut off, negatives told, time, and sheets to look at.

    python benchmarks/breast_mask.py cbis-ddsm-mass --sheets sheets --seed 2

The data set is a folder of pictures with ``boxes.coco.json`` and, for some, ``masks/NAME.png``, as
the ``folder`` source reads it. Counted over all annotated masses, for the crop and for the mask
outside of which the preprocessor blanks:

- lost: the box's centre lies outside;
- clipped: any part of the box does. A box of a mass at the skin has corners in air, so for
  the mask the drawn contour is counted as well, less the error that the data set gives for it.

Every picture is also tried as its negative. Sheets show a random sample: mask in green, crop in
yellow, masses in red. Whether tape and labels are gone is for eyes to say.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.config import PreprocessConfig
from mammoscope.errors import IneligibleImageError
from mammoscope.preprocessing import BreastRegion, Preprocessor, find_breast
from mammoscope.preprocessing.preprocessor import _spread_mask
from mammoscope.preprocessing.reading import read_picture
from mammoscope.types import Box, FloatImage, Laterality
from measure import Spread, in_turn, leave

# Contours of the data set are good to this many pixels.
_CONTOUR_ERROR_PX = 4
# Sizes of image for which the time is taken, (H, W): an eighth and all of a large detector.
_SIZES = ((1339, 1229), (5355, 4915))
_TILE_PX, _ACROSS, _DOWN = 320, 5, 4


@dataclass
class Count:
    """Faults over all pictures, and the names of the pictures with any."""

    masses: int = 0
    contours: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    qualities: list[float] = field(default_factory=list)

    def add(self, fault: str, name: str) -> None:
        """Note that a picture has a fault."""
        self.faults.setdefault(fault, []).append(name)


def boxes_by_file(folder: Path) -> dict[str, list[Box]]:
    """Return the annotated boxes of each picture."""
    coco = json.loads((folder / "boxes.coco.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    boxes: dict[str, list[Box]] = {name: [] for name in names.values()}
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        boxes[names[annotation["image_id"]]].append(Box(x, y, x + width, y + height))
    return boxes


def examine(folder: Path, name: str, boxes: list[Box], count: Count) -> None:
    """Find the breast in one picture and in its negative, and count what is wrong."""
    pixels = read_picture(folder / name)
    count.masses += len(boxes)
    try:
        region = find_breast(pixels)
    except IneligibleImageError:
        count.add("refused", name)
        return
    count.qualities.append(region.quality)
    if region.inverted:
        count.add("taken for a negative", name)
    if not find_breast(1 - pixels).inverted:
        count.add("negative not told", name)
    kept = keep(pixels, region)
    for box in boxes:
        for part, inside in kept.items():
            fate = _fate(box, inside)
            if fate:
                count.add(f"{fate} by the {part}, box", name)
    drawn = cv2.imread(str(folder / "masks" / f"{Path(name).stem}.png"), cv2.IMREAD_GRAYSCALE)
    if drawn is not None:
        count.contours += 1
        side = 2 * _CONTOUR_ERROR_PX + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        if (cv2.erode(drawn, disc)[~kept["mask"]] > 0).any():
            count.add("clipped by the mask, contour", name)


def keep(pixels: FloatImage, region: BreastRegion) -> dict[str, NDArray[np.bool_]]:
    """Return what crop and mask leave of a picture, (H, W) each."""
    height, width = pixels.shape
    x_min, y_min, x_max, y_max = crop_of(pixels)
    crop = np.zeros((height, width), bool)
    crop[y_min:y_max, x_min:x_max] = True
    return {"crop": crop, "mask": cv2.resize(_spread_mask(region), (width, height)) >= 0.5}


def crop_of(pixels: FloatImage) -> tuple[int, int, int, int]:
    """Return the preprocessor's crop in pixels of the picture."""
    geometry = Preprocessor(PreprocessConfig(orient=False))(pixels).geometry
    x_min, y_min, x_max, y_max = (round(edge) for edge in geometry.crop)
    return x_min, y_min, x_max, y_max


def _fate(box: Box, inside: NDArray[np.bool_]) -> str:
    height, width = inside.shape
    x, y = int((box.x_min + box.x_max) / 2), int((box.y_min + box.y_max) / 2)
    if not inside[min(height - 1, y), min(width - 1, x)]:
        return "lost"
    # Boxes were rounded: their outermost pixels do not count.
    rows = slice(max(0, round(box.y_min) + 1), max(1, round(box.y_max) - 1))
    columns = slice(max(0, round(box.x_min) + 1), max(1, round(box.x_max) - 1))
    return "" if inside[rows, columns].all() else "clipped"


def time_it(folder: Path, names: list[str], repeats: int) -> list[dict[str, object]]:
    """Time the mask against the reduction that it begins with, in turn, on one thread."""
    rows = []
    for height, width in _SIZES:
        taken: dict[str, list[float]] = {"mask": [], "reduction": []}
        for name in names:
            pixels = cv2.resize(read_picture(folder / name), (width, height))
            small = (round(width * 512 / height), 512)
            ways = {
                "mask": lambda pixels=pixels: find_breast(pixels),
                "reduction": lambda pixels=pixels, small=small: cv2.resize(
                    pixels, small, interpolation=cv2.INTER_AREA
                ),
            }
            for way, times in in_turn(ways, repeats).items():
                taken[way].append(min(times))
        rows.append(
            {
                "image": f"{height} x {width}",
                "mask, ms": Spread.of(taken["mask"]),
                "its reduction to 512 rows alone, ms": Spread.of(taken["reduction"]),
            }
        )
    return rows


def draw_sheets(folder: Path, names: list[str], boxes: dict[str, list[Box]], out: Path) -> None:
    """Draw the pictures, twenty to a sheet."""
    out.mkdir(parents=True, exist_ok=True)
    page = _ACROSS * _DOWN
    for start in range(0, len(names), page):
        tiles = [_tile(folder, name, boxes[name]) for name in names[start : start + page]]
        tiles += [np.zeros_like(tiles[0])] * (page - len(tiles))
        rows = [np.hstack(tiles[i : i + _ACROSS]) for i in range(0, page, _ACROSS)]
        cv2.imwrite(str(out / f"sheet-{start // page + 1:02d}.png"), np.vstack(rows))


def _tile(folder: Path, name: str, boxes: list[Box]) -> NDArray[np.uint8]:
    pixels = read_picture(folder / name)
    size = (_TILE_PX * 4 // 5, _TILE_PX)
    grey = cv2.resize((255 * pixels).astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    tile = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    scale = np.array([size[0] / pixels.shape[1], size[1] / pixels.shape[0]] * 2)
    caption = Path(name).stem
    try:
        region = find_breast(pixels)
    except IneligibleImageError as error:
        caption += f" {error.reason}"
    else:
        mask = cv2.resize(region.mask, size, interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outline, -1, (0, 255, 0), 1)
        _rectangle(tile, crop_of(pixels) * scale, (0, 255, 255))
        wall = "left" if region.chest_wall is Laterality.L else "right"
        caption += f" {wall} {region.quality:.2f}"
    for box in boxes:
        _rectangle(
            tile, np.array([box.x_min, box.y_min, box.x_max, box.y_max]) * scale, (0, 0, 255)
        )
    cv2.rectangle(tile, (0, 0), (size[0], 14), (60, 0, 0), cv2.FILLED)
    cv2.putText(tile, caption, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1)
    return cv2.copyMakeBorder(tile, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 0, 255))


def _rectangle(
    tile: NDArray[np.uint8], corners: NDArray[np.float64], colour: tuple[int, int, int]
) -> None:
    x_min, y_min, x_max, y_max = (round(value) for value in corners)
    cv2.rectangle(tile, (x_min, y_min), (x_max - 1, y_max - 1), colour, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="data set of pictures with boxes.coco.json")
    parser.add_argument("--sheets", type=Path, help="folder for the sheets")
    parser.add_argument("--sample", type=int, default=100, help="pictures on the sheets")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--sheets-only", action="store_true", help="count and time nothing")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    boxes = boxes_by_file(arguments.folder)
    names = sorted(boxes)
    rng = np.random.default_rng(arguments.seed)
    drawn = sorted(rng.choice(names, min(arguments.sample, len(names)), replace=False).tolist())
    if arguments.sheets:
        draw_sheets(arguments.folder, drawn, boxes, arguments.sheets)
    if arguments.sheets_only:
        return
    count = Count()
    for name in names:
        examine(arguments.folder, name, boxes[name], count)
    wrong = [
        {"fault": fault, "count": len(found), "pictures": " ".join(Path(n).stem for n in found[:6])}
        for fault, found in sorted(count.faults.items())
    ]
    low = sum(quality < 0.7 for quality in count.qualities)
    wrong.append({"fault": "quality below 0.7", "count": low, "pictures": ""})
    title = f"{len(names)} pictures, {count.masses} masses, {count.contours} contours"
    leave("breast_mask", title, wrong, arguments.out)
    leave(
        "breast_mask_time",
        "Time on one thread",
        time_it(arguments.folder, drawn[:8], arguments.repeats),
        arguments.out,
    )


if __name__ == "__main__":
    sys.exit(main())
