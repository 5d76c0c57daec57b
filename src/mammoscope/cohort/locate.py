"""From what a source says of a finding to a box in the image's own pixels, or a refusal.

Annotations are drawn by hand and come in every form; a training set is silently wrong
where one of them is. So each is checked against the image that it belongs to, what runs
a little over the border is clipped and noted, and what cannot be is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.mask_files import fits_image, read_mask
from mammoscope.cohort.sources.listing import ListedFinding
from mammoscope.errors import DicomError, Reason
from mammoscope.types import Bools

__all__ = ["Located", "locate"]

_Box = tuple[float, float, float, float]

# A resized copy keeps its proportions, give or take the rounding of its sides.
_PROPORTION_SLACK = 0.02
# Hand-drawn regions run over the border; one that lies mostly outside belongs elsewhere.
_LEAST_INSIDE = 0.5
# Intersection over union from which a box and a mask are one finding.
_SAME_FINDING = 0.5


@dataclass(frozen=True, slots=True)
class Located:
    """The findings of one image, checked against its size.

    Attributes:
        rows: Rows of ``findings.parquet``.
        rejects: Findings that cannot be.
        notes: A sentence for each finding that was clipped to the image.
    """

    rows: tuple[dict[str, Any], ...] = ()
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a finding is: a box before clipping, how it was drawn, the contour, the mask."""

    box: _Box
    shape: str
    contour: tuple[float, ...] | None = None
    mask: Path | None = None


def locate(
    findings: Iterable[ListedFinding], root: Path, image_id: str, size: tuple[int, int]
) -> Located:
    """Place the findings of one accepted image.

    Args:
        findings: What the source says.
        root: The source's folder, below which masks lie.
        image_id: The image's name.
        size: Its (rows, columns).
    """
    placed: list[tuple[ListedFinding, _Place | None]] = []
    rejects: list[Reject] = []
    for finding in findings:
        try:
            placed.append((finding, _check_inside(_place(finding, root, size), size)))
        except DicomError as error:
            rejects.append(_refuse(finding, image_id, error.reason, str(error)))
        except OSError as error:
            message = f"its mask cannot be opened: {error.strerror or error}"
            rejects.append(_refuse(finding, image_id, Reason.UNREADABLE_FILE, message))
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for number, (finding, place) in enumerate(_join(placed), start=1):
        row, over = _row(finding, place, root, size)
        rows.append({"finding_id": f"{image_id}-{number}", "image_id": image_id, **row})
        if over > 0:
            where = f"({row['x_min']:g}, {row['y_min']:g})"
            notes.append(f"the finding at {where} ran {over:g} px over the border: clipped")
    return Located(tuple(rows), tuple(rejects), tuple(notes))


def _refuse(finding: ListedFinding, image_id: str, reason: Reason | None, message: str) -> Reject:
    where = f"row {finding.row} of {finding.origin}: " if finding.row else ""
    reason = reason or Reason.INVALID_FINDING
    return Reject("ingest", finding.origin, image_id, reason, where + message)


def _place(finding: ListedFinding, root: Path, size: tuple[int, int]) -> _Place | None:
    if finding.masks:
        return _place_mask(finding.masks, root, size)
    x, y = _scale(finding.drawn_on, size)
    if finding.contour is not None:
        contour = _checked_contour(finding.contour)
        scaled = tuple(v * (y if i % 2 else x) for i, v in enumerate(contour))
        return _Place(_contour_box(scaled), "polygon", scaled)
    if finding.circle is not None:
        centre_x, centre_y, radius = finding.circle
        box = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
        return _Place(_scaled(box, x, y), "circle")
    if finding.box is not None:
        return _Place(_scaled(finding.box, x, y), "box")
    return None


def _scale(drawn_on: tuple[int, int] | None, size: tuple[int, int]) -> tuple[float, float]:
    """Return the factors (x, y) from the pixels drawn on to the file's."""
    if drawn_on is None or drawn_on == size:
        return 1.0, 1.0
    if min(drawn_on) < 1:
        raise _impossible(f"it was drawn on an image of {drawn_on[0]} x {drawn_on[1]}")
    x, y = size[1] / drawn_on[1], size[0] / drawn_on[0]
    if abs(x / y - 1) > _PROPORTION_SLACK:
        raise _impossible(
            f"it was drawn on an image of {drawn_on[0]} x {drawn_on[1]}, and the file is of "
            f"other proportions: {size[0]} x {size[1]}"
        )
    return x, y


def _scaled(box: _Box, x: float, y: float) -> _Box:
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _checked_contour(contour: tuple[float, ...]) -> tuple[float, ...]:
    if not contour or len(contour) % 2:
        raise _impossible(f"its contour has {len(contour)} numbers, which are not points")
    if not all(math.isfinite(value) for value in contour):
        raise _impossible("its contour has a coordinate that is not a finite number")
    return contour


def _contour_box(contour: tuple[float, ...]) -> _Box:
    """Return the box around a contour; one or two points mark the pixels they lie in."""
    xs, ys = contour[::2], contour[1::2]
    if len(xs) < 3:
        x_min, y_min, x_max, y_max = (
            float(np.floor(value)) for value in (min(xs), min(ys), max(xs), max(ys))
        )
        return x_min, y_min, x_max + 1, y_max + 1
    return min(xs), min(ys), max(xs), max(ys)


def _place_mask(candidates: tuple[Path, ...], root: Path, size: tuple[int, int]) -> _Place:
    """Find the mask among files by the image's size, and the box around its bright pixels."""
    there = [path for path in candidates if path.is_file()]
    if not there:
        names = ", ".join(_below(root, path) for path in candidates)
        raise DicomError(f"the mask {names} does not exist", Reason.MISSING_FILE)
    sizes: list[str] = []
    for path in there:
        marked = read_mask(path)
        height, width = marked.shape
        if fits_image((height, width), size):
            return _Place(_mask_box(path.name, marked), "mask", mask=path)
        sizes.append(f"{_below(root, path)} is {height} x {width}")
    raise _impossible(f"no mask has the image's size of {size[0]} x {size[1]}: {', '.join(sizes)}")


def _mask_box(name: str, marked: Bools) -> _Box:
    if not marked.any():
        raise _impossible(f"the mask {name} marks no pixel")
    if marked.all():
        raise _impossible(f"the mask {name} marks every pixel")
    ys, xs = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)


def _check_inside(place: _Place | None, size: tuple[int, int]) -> _Place | None:
    if place is None:
        return None
    box = place.box
    named = f"({', '.join(f'{value:g}' for value in box)})"
    if not all(math.isfinite(value) for value in box):
        raise _impossible(f"its box {named} has a side that is not a finite number")
    if _area(box) <= 0:
        raise _impossible(f"its box {named} has no area")
    inside = _area(_clip(box, size)) / _area(box)
    if inside < _LEAST_INSIDE:
        raise _impossible(
            f"{1 - inside:.0%} of its box {named} lies outside the image of {size[0]} x {size[1]}"
        )
    return place


def _join(
    placed: list[tuple[ListedFinding, _Place | None]],
) -> list[tuple[ListedFinding, _Place | None]]:
    """Give a mask without words of its own to the finding that it agrees with, if there is one."""
    joined = [entry for entry in placed if not _is_bare_mask(entry)]
    for finding, mask in (entry for entry in placed if _is_bare_mask(entry)):
        best, at = 0.0, -1
        for index, (_, place) in enumerate(joined):
            if mask is not None and place is not None and place.mask is None:
                overlap = _overlap(place.box, mask.box)
                if overlap > best:
                    best, at = overlap, index
        if mask is not None and best >= _SAME_FINDING:
            other, place = joined[at]
            if place is not None:
                shape = "mask" if place.shape == "box" else place.shape
                joined[at] = other, replace(place, shape=shape, mask=mask.mask)
        else:
            joined.append((finding, mask))
    return joined


def _is_bare_mask(entry: tuple[ListedFinding, _Place | None]) -> bool:
    finding, place = entry
    return place is not None and place.shape == "mask" and finding.kind is None


def _row(
    finding: ListedFinding, place: _Place | None, root: Path, size: tuple[int, int]
) -> tuple[dict[str, Any], float]:
    """Return a row without its names, and by how many pixels it ran over the border."""
    row: dict[str, Any] = {
        "kind": finding.kind,
        "malignant": finding.malignant,
        "birads": finding.birads,
        **dict.fromkeys(("x_min", "y_min", "x_max", "y_max", "shape", "contour", "mask")),
        "description": finding.description or None,
        "contrast": finding.contrast,
        "conspicuity": finding.conspicuity,
    }
    if place is None:
        return row, 0.0
    clipped = _clip(place.box, size)
    row |= dict(zip(("x_min", "y_min", "x_max", "y_max"), clipped, strict=True))
    row["shape"] = place.shape
    row["contour"] = list(place.contour) if place.contour else None
    row["mask"] = _below(root, place.mask) if place.mask else None
    over = max(abs(a - b) for a, b in zip(place.box, clipped, strict=True))
    return row, over


def _below(root: Path, path: Path) -> str:
    """Name a file by its path below the root; a table may name one outside it in full."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _clip(box: _Box, size: tuple[int, int]) -> _Box:
    height, width = size
    x_min, x_max = (min(max(value, 0.0), float(width)) for value in (box[0], box[2]))
    y_min, y_max = (min(max(value, 0.0), float(height)) for value in (box[1], box[3]))
    return x_min, y_min, x_max, y_max


def _area(box: _Box) -> float:
    """Return the area; negative sides do not make one together."""
    width, height = box[2] - box[0], box[3] - box[1]
    return width * height if width > 0 and height > 0 else 0.0


def _overlap(one: _Box, other: _Box) -> float:
    """Intersection over union of two boxes."""
    shared = _area(
        (
            max(one[0], other[0]),
            max(one[1], other[1]),
            min(one[2], other[2]),
            min(one[3], other[3]),
        )
    )
    return shared / (_area(one) + _area(other) - shared)


def _impossible(what: str) -> DicomError:
    return DicomError(f"the finding cannot be: {what}", Reason.INVALID_FINDING)
