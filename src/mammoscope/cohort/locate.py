"""From what a source says of a finding to a box in the image's own pixels, or a refusal.

Each finding is checked against the image that it belongs to, by the rule of
:mod:`mammoscope.cohort.faults`. What is wrong is mended and noted, or refused by name, as the
setting says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammoscope.cohort.faults import (
    Wrong,
    check_contour,
    fit_mask,
    is_kept,
    mend_box,
    read_marks,
    same_proportions,
)
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.mask_files import fits_image
from mammoscope.cohort.sources.listing import ListedFinding
from mammoscope.config import FaultRule
from mammoscope.errors import Reason
from mammoscope.types import Bools, Box

__all__ = ["Located", "locate"]

_Sides = tuple[float, float, float, float]

# Intersection over union from which a box and a mask are one finding.
_SAME_FINDING = 0.5


@dataclass(frozen=True, slots=True)
class Located:
    """The findings of one image, checked against its size.

    Attributes:
        rows: Rows of ``findings.parquet``.
        rejects: Findings that cannot be, or are not to be mended.
        notes: A sentence for each fault that was mended.
    """

    rows: tuple[dict[str, Any], ...] = ()
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a finding is: its box within the image, how it was drawn, the contour, the mask."""

    box: Box
    shape: str
    contour: tuple[float, ...] | None = None
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A finding with its place, if it has one, and what was wrong with it."""

    finding: ListedFinding
    place: _Place | None = None
    wrong: list[Wrong] = field(default_factory=list)


def locate(
    findings: Iterable[ListedFinding],
    root: Path,
    image_id: str,
    size: tuple[int, int],
    rule: FaultRule = "repair",
) -> Located:
    """Place the findings of one accepted image.

    Args:
        findings: What the source says.
        root: The source's folder, below which masks lie.
        image_id: The image's name.
        size: Its (rows, columns).
        rule: Whether what is wrong is mended; what is not is among the rejects.
    """
    judged = [_judge(finding, root, size) for finding in findings]
    kept = [one for one in judged if is_kept(one.wrong, rule)]
    lost = [one for one in judged if not is_kept(one.wrong, rule)]
    if rule == "repair":
        kept, lost = _replace_masks(kept, lost)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for number, one in enumerate(_join(kept), start=1):
        row = _row(one, root)
        rows.append({"finding_id": f"{image_id}-{number}", "image_id": image_id, **row})
        where = f"the finding at ({row['x_min']:g}, {row['y_min']:g})" if one.wrong else ""
        notes += [f"{where}: {fault.told(repaired=True)}" for fault in one.wrong]
    return Located(tuple(rows), tuple(_refuse(one, image_id) for one in lost), tuple(notes))


def _refuse(one: _Judged, image_id: str) -> Reject:
    finding = one.finding
    where = f"row {finding.row} of {finding.origin}: " if finding.row else ""
    # What cannot be mended is the reason, where there is such.
    first, *others = sorted(one.wrong, key=lambda fault: fault.remedy is not None)
    verdict = "is wrong" if first.remedy else "cannot be"
    what = "; ".join(fault.sentence for fault in (first, *others))
    message = f"{where}the finding {verdict}: {what}"
    return Reject("ingest", finding.origin, image_id, first.code, message)


def _judge(finding: ListedFinding, root: Path, size: tuple[int, int]) -> _Judged:
    """Place a finding by the best that the source says of it: mask, contour, circle or box."""
    wrong: list[Wrong] = []
    if finding.masks:
        path, marked = _read(finding, root, size, wrong)
        if path is not None and marked is not None:
            return _Judged(finding, _Place(_edges(marked), "mask", mask=path), wrong)
    scale = _scale(finding.drawn_on, size)
    if isinstance(scale, Wrong):
        return _Judged(finding, None, [*wrong, scale])
    x, y = scale
    sides, shape, contour = finding.box, "box", None
    if finding.circle is not None:
        centre_x, centre_y, radius = finding.circle
        sides = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
        shape = "circle"
    if finding.contour is not None:
        faults = check_contour(finding.contour, "its box" if sides else None)
        wrong += faults
        if not faults:
            contour = tuple(v * (y if i % 2 else x) for i, v in enumerate(finding.contour))
            sides, shape = _around(contour), "polygon"
    if sides is None:
        return _Judged(finding, None, wrong)
    if contour is None:
        sides = sides[0] * x, sides[1] * y, sides[2] * x, sides[3] * y
    box, faults = mend_box(sides, size)
    place = None if box is None else _Place(box, shape, contour)
    return _Judged(finding, place, [*wrong, *faults])


def _scale(drawn_on: tuple[int, int] | None, size: tuple[int, int]) -> tuple[float, float] | Wrong:
    """Return the factors (x, y) from the pixels drawn on to the file's."""
    if drawn_on is None or drawn_on == size:
        return 1.0, 1.0
    drawn = f"it was drawn on an image of {drawn_on[0]} x {drawn_on[1]}"
    if min(drawn_on) < 1:
        return Wrong(Reason.INVALID_FINDING, drawn)
    if not same_proportions(drawn_on, size):
        other = f"{drawn}, and the file is of other proportions: {size[0]} x {size[1]}"
        return Wrong(Reason.INVALID_FINDING, other)
    return size[1] / drawn_on[1], size[0] / drawn_on[0]


def _around(contour: tuple[float, ...]) -> _Sides:
    """Return the box around a contour; one or two points mark the pixels they lie in."""
    xs, ys = contour[::2], contour[1::2]
    if len(xs) < 3:
        x_min, y_min, x_max, y_max = (
            float(np.floor(value)) for value in (min(xs), min(ys), max(xs), max(ys))
        )
        return x_min, y_min, x_max + 1, y_max + 1
    return min(xs), min(ys), max(xs), max(ys)


def _read(
    finding: ListedFinding, root: Path, size: tuple[int, int], wrong: list[Wrong]
) -> tuple[Path | None, Bools | None]:
    """Find the mask among a finding's files, and bring it to the size of the image."""
    instead = None
    if finding.contour is not None or finding.box is not None:
        instead = "its box" if finding.contour is None else "its contour"
    sizes: list[str] = []
    for path in [path for path in finding.masks if path.is_file()] or finding.masks[:1]:
        name = _below(root, path)
        marked, faults = read_marks(path, name, instead)
        if marked is not None and finding.known_by_size:
            rows, columns = marked.shape
            if not fits_image((rows, columns), size):
                sizes.append(f"{name} is {rows} x {columns}")
                continue
        if marked is not None:
            marked, faults = fit_mask(marked, name, size, instead)
        wrong += faults
        return path, marked
    what = f"no mask has the image's size of {size[0]} x {size[1]}: {', '.join(sizes)}"
    wrong.append(Wrong(Reason.MASK_SIZE, what))
    return None, None


def _edges(marked: Bools) -> Box:
    """Return the box around the marked pixels, of which there is one at least."""
    ys, xs = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    return Box(float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1))


def _replace_masks(kept: list[_Judged], lost: list[_Judged]) -> tuple[list[_Judged], list[_Judged]]:
    """Let the only box of an image stand for its only mask, where that cannot be used.

    The two are one finding as a rule.
    """
    masks = [one for one in lost if one.finding.masks and one.finding.kind is None]
    drawn = [one for one in kept if one.place is not None and one.place.mask is None]
    if len(masks) != 1 or len(drawn) != 1:
        return kept, lost
    faults = [replace(fault, remedy="its box is taken") for fault in masks[0].wrong]
    mended = replace(drawn[0], wrong=[*drawn[0].wrong, *faults])
    return (
        [mended if one is drawn[0] else one for one in kept],
        [one for one in lost if one is not masks[0]],
    )


def _join(judged: list[_Judged]) -> list[_Judged]:
    """Give a mask without words of its own to the finding that it agrees with, if there is one."""
    joined = [one for one in judged if not _is_bare_mask(one)]
    for mask in (one for one in judged if _is_bare_mask(one)):
        best, at = 0.0, -1
        for index, one in enumerate(joined):
            if mask.place is not None and one.place is not None and one.place.mask is None:
                overlap = _overlap(one.place.box, mask.place.box)
                if overlap > best:
                    best, at = overlap, index
        place = joined[at].place if best >= _SAME_FINDING else None
        if place is not None and mask.place is not None:
            shape = "mask" if place.shape == "box" else place.shape
            both = replace(place, shape=shape, mask=mask.place.mask)
            joined[at] = _Judged(joined[at].finding, both, [*joined[at].wrong, *mask.wrong])
        else:
            joined.append(mask)
    return joined


def _is_bare_mask(one: _Judged) -> bool:
    return one.place is not None and one.place.shape == "mask" and one.finding.kind is None


def _row(one: _Judged, root: Path) -> dict[str, Any]:
    """Return a row without its names."""
    finding, place = one.finding, one.place
    row: dict[str, Any] = {
        "kind": finding.kind,
        "malignant": finding.malignant,
        "birads": finding.birads,
        **dict.fromkeys(("x_min", "y_min", "x_max", "y_max", "shape", "contour", "mask")),
        "description": finding.description or None,
        "contrast": finding.contrast,
        "conspicuity": finding.conspicuity,
        "repaired": [str(fault.code) for fault in one.wrong] or None,
    }
    if place is None:
        return row
    box = place.box
    row |= {"x_min": box.x_min, "y_min": box.y_min, "x_max": box.x_max, "y_max": box.y_max}
    row["shape"] = place.shape
    row["contour"] = list(place.contour) if place.contour else None
    row["mask"] = _below(root, place.mask) if place.mask else None
    return row


def _below(root: Path, path: Path) -> str:
    """Name a file by its path below the root; a table may name one outside it in full."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box.x_max - box.x_min) * (box.y_max - box.y_min) for box in (one, other)]
    return shared / (sum(areas) - shared)
