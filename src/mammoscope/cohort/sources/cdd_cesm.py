"""CDD-CESM: contrast-enhanced mammography; its low-energy images are mammograms.

Khaled et al. 2022, https://doi.org/10.1038/s41597-022-01238-0.

- Only low-energy images (DM) are read. Each subtracted image (CM) is refused by name: it shows
  contrast agent, not tissue.
- ``cancer`` is the image's pathology or follow-up: Malignant 1, Benign and Normal 0.
- ``age``, ``density``, ``birads`` (of several the highest) and the machine are the table's; ``_``
  is unknown. The patient is Patient_ID.
- A finding is a region of ``Radiology_hand_drawn_segmentations_v2.csv`` (VGG Image Annotator).
  Its kind is the image's, where the image has but one; ``malignant`` is 0 in an image without
  cancer, 1 where an image with cancer has but one region, else unknown. Ellipses become
  contours of 64 points.

Quirks: image names come with and without ``.jpg``, and with a blank before it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammoscope.cohort.findings import KINDS, kind_of
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.listing import (
    ListedFinding,
    ListedImage,
    Listing,
    bad_row,
    files_below,
    first_below,
    malignant_by_image,
    needed_below,
    of_no_image,
    without_row,
)
from mammoscope.cohort.sources.tables import density_letter, read_csv_rows, read_xlsx_rows
from mammoscope.errors import Reason
from mammoscope.preprocessing.reading import PICTURE_SUFFIXES

__all__ = ["CddCesmSource"]

_TABLE = "Radiology?manual?annotations*.xlsx"
_REGIONS = "Radiology_hand_drawn_segmentations*.csv"
_PATHOLOGY = "Pathology Classification/ Follow up"
_REQUIRED = ("Image_name", "Patient_ID", "Side", "Type", "View", _PATHOLOGY)
_CANCER = {"malignant": "1", "benign": "0", "normal": "0"}
_ELLIPSE_POINTS = 64


class CddCesmSource:
    """The TCIA download: two folders of JPEG files, a workbook, a table of regions."""

    name = "cdd-cesm"

    def recognises(self, root: Path) -> bool:
        """A folder with ``Radiology manual annotations.xlsx``, or one that holds such."""
        return first_below(root, [_TABLE]) is not None

    def list_images(self, root: Path) -> Listing:
        """List the workbook against the pictures; subtracted images are refused."""
        table = needed_below(root, _TABLE)
        origin = table.relative_to(root).as_posix()
        pictures = files_below(root, PICTURE_SUFFIXES)
        files = {_name(path.name): path for path in reversed(pictures)}
        regions, rejects = _read_regions(root)
        images: list[ListedImage] = []
        named: set[str] = set()
        for number, row in enumerate(read_xlsx_rows(table, _REQUIRED), start=2):
            name = _name(row["Image_name"])
            file = files.get(name)
            mine = regions.pop(name, [])
            if not name or name in named:
                message = "an earlier row names it" if name else "it has no Image_name"
                rejects.append(bad_row(origin, number, message, image_id=name))
                continue
            named.add(name)
            path = file.relative_to(root).as_posix() if file else f"{name}.jpg"
            if row["Type"] != "DM":
                message = f"{path} is a subtracted image (Type {row['Type']}), not a mammogram"
                rejects.append(Reject("ingest", path, name, Reason.NOT_A_MAMMOGRAM, message))
            elif file is None:
                message = f"row {number} of {origin} names {name}, which does not exist"
                rejects.append(Reject("ingest", path, name, Reason.MISSING_FILE, message))
            else:
                words = _words(row, name)
                malignant = malignant_by_image(words["cancer"], len(mine))
                findings = tuple(_described(finding, row, malignant) for finding in mine)
                images.append(ListedImage(file, words, findings))
        rejects += of_no_image(regions, origin)
        used = {files[name] for name in named & files.keys()}
        rejects += [without_row(root, path, origin) for path in pictures if path not in used]
        return Listing(images, rejects)


def _name(word: str) -> str:
    """Return an image's name without suffix and stray blanks."""
    return re.sub(r"\.jpe?g$", "", word.strip(), flags=re.IGNORECASE).strip()


def _known(row: dict[str, str], column: str) -> str:
    word = row.get(column, "")
    return "" if word == "_" else word


def _words(row: dict[str, str], name: str) -> dict[str, str]:
    birads = re.findall(r"\d", _known(row, "BIRADS"))
    return {
        "image_id": name,
        "patient_id": _known(row, "Patient_ID"),
        "exam_id": _known(row, "Patient_ID"),
        "laterality": row["Side"],
        "view": row["View"],
        "cancer": _CANCER.get(_known(row, _PATHOLOGY).lower(), _known(row, _PATHOLOGY)),
        "age": _known(row, "Age"),
        "density": density_letter(_known(row, "Breast density (ACR)")),
        "birads": max(birads, default=""),
        "machine_id": _known(row, "Machine"),
    }


def _described(finding: ListedFinding, row: dict[str, str], malignant: int | None) -> ListedFinding:
    """Give a region what the workbook says of its whole image, as far as that can be said."""
    words = _known(row, "Findings")
    kinds = {kind_of(word) for word in re.split(r"[$,;]", words)} & {*KINDS}
    kind = kinds.pop() if len(kinds) == 1 else None
    return replace(finding, kind=kind, malignant=malignant, description=words)


def _read_regions(root: Path) -> tuple[dict[str, list[ListedFinding]], list[Reject]]:
    """Read the regions by image; the table is optional."""
    regions: dict[str, list[ListedFinding]] = {}
    rejects: list[Reject] = []
    table = first_below(root, [_REGIONS])
    if table is None:
        return regions, rejects
    origin = table.relative_to(root).as_posix()
    rows = read_csv_rows(table, ("#filename", "region_shape_attributes"))
    for number, row in enumerate(rows, start=2):
        name = _name(row["#filename"])
        try:
            finding = _region(origin, number, row["region_shape_attributes"])
        except (ValueError, LookupError, TypeError) as error:
            message = f"region_shape_attributes cannot be read: {error}"
            reason = Reason.INVALID_FINDING
            rejects.append(bad_row(origin, number, message, image_id=name, reason=reason))
            continue
        if finding is not None:
            regions.setdefault(name, []).append(finding)
    return regions, rejects


def _region(origin: str, number: int, text: str) -> ListedFinding | None:
    """Read one region in the annotator's format; an image without a region has an empty one.

    See https://www.robots.ox.ac.uk/~vgg/software/via/ (version 2, CSV export).
    """
    shape = json.loads(text or "{}")
    if not isinstance(shape, dict):
        raise TypeError(f"{text!r} is not an object")
    if not shape:
        return None
    value = {key: _floats(item) for key, item in shape.items() if key != "name"}
    match shape.get("name"):
        case "polygon" | "polyline":
            xs, ys = value["all_points_x"], value["all_points_y"]
            pairs = zip(xs, ys, strict=True)
            contour = tuple(number for pair in pairs for number in pair)
        case "ellipse":
            turn = value.get("theta", [0.0])[0]
            centre, axes = (value["cx"][0], value["cy"][0]), (value["rx"][0], value["ry"][0])
            contour = _ellipse(centre, axes, turn)
        case "point":
            contour = (value["cx"][0], value["cy"][0])
        case "circle":
            circle = (value["cx"][0], value["cy"][0], value["r"][0])
            return ListedFinding(origin, number, circle=circle)
        case "rect":
            x, y, width, height = (value[key][0] for key in ("x", "y", "width", "height"))
            return ListedFinding(origin, number, box=(x, y, x + width, y + height))
        case other:
            raise ValueError(f"unknown shape {other!r}")
    return ListedFinding(origin, number, contour=contour)


def _floats(item: Any) -> list[float]:
    values = item if isinstance(item, list) else [item]
    return [float(value) for value in values]


def _ellipse(
    centre: tuple[float, float], axes: tuple[float, float], turn: float
) -> tuple[float, ...]:
    values: list[float] = []
    for step in range(_ELLIPSE_POINTS):
        angle = 2 * math.pi * step / _ELLIPSE_POINTS
        u, v = axes[0] * math.cos(angle), axes[1] * math.sin(angle)
        values += [
            centre[0] + u * math.cos(turn) - v * math.sin(turn),
            centre[1] + u * math.sin(turn) + v * math.cos(turn),
        ]
    return tuple(values)
