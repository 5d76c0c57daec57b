"""Boxes of several tiles made into those of one image: weighted boxes fusion.

Source: Solovyev, Wang and Gabruseva, Weighted Boxes Fusion, Image and Vision Computing 107, 2021.
Theirs joins models that all see the whole image; here a box is held against the tiles that could
see it, and what a tile's border has cut is laid to the whole box of the next tile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mammoscope.inference.tiles import Corner
from mammoscope.types import Bools, Box, Floats, Ints

__all__ = ["Boxes", "fused", "paired_overlaps", "sides_of"]

# How near a tile's border a box must come to have been cut by it, in pixels.
_BORDER_PX = 2.0
# Share of a cut box within another from which the two are one lesion.
_WITHIN = 0.6


@dataclass(frozen=True, slots=True)
class Boxes:
    """Candidates of one image or tile, the best first.

    Attributes:
        box: (N, 4) x_min, y_min, x_max, y_max on the grid, half-open.
        score: (N,) in [0, 1].
        kind: (N,) from 0.
    """

    box: Floats
    score: Floats
    kind: Ints

    def __len__(self) -> int:
        return int(self.score.size)


def fused(
    parts: list[Boxes],
    corners: list[Corner],
    side: int,
    size: tuple[int, int],
    iou: float,
    most: int,
) -> Boxes:
    """Merge the candidates of all tiles of an image.

    A group of boxes becomes one box, their mean weighted by score; boxes that a border has cut
    have no say in it unless all are cut, when their hull is taken. Its score is the mean of the
    tiles' best scores, times the share, of the tiles that see the whole box, that have it.

    Args:
        parts: Candidates of each tile, in the tile's own pixels.
        corners: (y, x) of each tile.
        side: Of a tile.
        size: (H, W) of the image.
        iou: Overlap at which boxes of different tiles are one.
        most: Candidates that are kept.

    Returns:
        Candidates in the image's pixels, the best first.
    """
    placed = [_placed(part, corner) for part, corner in zip(parts, corners, strict=True)]
    box = np.concatenate([part.box for part in placed])
    score = np.concatenate([part.score for part in placed])
    kind = np.concatenate([part.kind for part in placed])
    tile = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    is_cut = np.concatenate(
        [_cut(part.box, corner, side, size) for part, corner in zip(placed, corners, strict=True)]
    )
    groups: list[list[int]] = []
    means: list[Floats] = []
    for place in np.argsort(-score, kind="stable").tolist():
        found = _group_of(place, box, tile, is_cut, groups, means, iou)
        if found is None:
            groups.append([place])
            means.append(box[place])
        else:
            groups[found].append(place)
            means[found] = _mean(np.array(groups[found]), box, score, is_cut)
    places = np.array(corners, dtype=np.float64).reshape(-1, 2)[:, ::-1]
    seen = [_seen_by(mean, places, side) for mean in means]
    final = [
        _score(np.array(group), score, tile, count)
        for group, count in zip(groups, seen, strict=True)
    ]
    order = np.argsort(-np.array(final), kind="stable")[:most]
    return Boxes(
        np.array(means).reshape(-1, 4)[order],
        np.array(final, dtype=np.float64)[order],
        # The best of a group says what it is.
        np.array([kind[group[0]] for group in groups], dtype=np.int64)[order],
    )


def sides_of(boxes: Iterable[Box]) -> Floats:
    """Return boxes as an array (N, 4): x_min, y_min, x_max, y_max."""
    sides = [[box.x_min, box.y_min, box.x_max, box.y_max] for box in boxes]
    return np.array(sides, dtype=np.float64).reshape(-1, 4)


def paired_overlaps(one: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Return IoU and the share of the smaller box that is common, of a box and (N, 4) others."""
    low, high = np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    area, areas = np.prod(one[2:] - one[:2]), (others[:, 2:] - others[:, :2]).prod(axis=1)
    union, smaller = area + areas - common, np.minimum(area, areas)
    return (
        np.divide(common, union, out=np.zeros_like(common), where=union > 0),
        np.divide(common, smaller, out=np.zeros_like(common), where=smaller > 0),
    )


def _placed(part: Boxes, corner: Corner) -> Boxes:
    y, x = corner
    return Boxes(part.box + np.array([x, y, x, y], np.float64), part.score, part.kind)


def _cut(box: Floats, corner: Corner, side: int, size: tuple[int, int]) -> Bools:
    """Say which boxes reach a border of their tile behind which the image goes on."""
    y, x = corner
    borders = np.array([x, y, x + side, y + side], np.float64)
    inner = np.array([x > 0, y > 0, x + side < size[1], y + side < size[0]])
    reaches: Bools = ((np.abs(box - borders) <= _BORDER_PX) & inner).any(axis=1)
    return reaches


def _group_of(
    place: int,
    box: Floats,
    tile: Ints,
    is_cut: Bools,
    groups: list[list[int]],
    means: list[Floats],
    iou: float,
) -> int | None:
    """Return the group that a box belongs to; a tile has told its own boxes apart already."""
    if not groups:
        return None
    overlap, within = paired_overlaps(box[place], np.array(means))
    for number, group in enumerate(groups):
        if (tile[group] == tile[place]).any():
            overlap[number] = within[number] = 0.0
        elif not (is_cut[place] or is_cut[group].all()):
            within[number] = 0.0
    nearness = np.where(within >= _WITHIN, np.maximum(overlap, iou + within), overlap)
    best = int(nearness.argmax())
    return best if nearness[best] > iou else None


def _mean(group: Ints, box: Floats, score: Floats, is_cut: Bools) -> Floats:
    whole = group[~is_cut[group]]
    if not whole.size:
        hull: Floats = np.concatenate([box[group, :2].min(axis=0), box[group, 2:].max(axis=0)])
        return hull
    mean: Floats = np.average(box[whole], axis=0, weights=score[whole] + 1e-12)
    return mean


def _seen_by(box: Floats, places: Floats, side: int) -> int:
    """Count the tiles in which the whole of a box lies."""
    return int(((box[:2] >= places) & (box[2:] <= places + side)).all(axis=1).sum())


def _score(group: Ints, score: Floats, tile: Ints, seen: int) -> float:
    best = [score[group[tile[group] == own]].max() for own in np.unique(tile[group])]
    return float(np.mean(best) * min(1.0, len(best) / max(1, seen)))
