"""Pictures of what was found, missed and wrongly marked: true and predicted boxes and outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import polars as pl

from mammoscope.errors import MammoscopeError
from mammoscope.evaluation.lesions.found import Found
from mammoscope.evaluation.lesions.matching import Outcome
from mammoscope.evaluation.lesions.outlined import Masks
from mammoscope.evaluation.pictures import Pictures
from mammoscope.masks import decode, outline
from mammoscope.pages import written_score
from mammoscope.preprocessing import Geometry
from mammoscope.types import Box, ByteImage, Floats, GreyImage, Ints

__all__ = ["Shown", "gallery"]

# So many images with a lesion, over the whole range of scores, and with the worst false mark.
_WITH, _WRONG = 8, 4
_HEIGHT_PX = 420
_TRUE, _OTHER, _DRAWN = (255, 196, 0), (150, 150, 150), (0, 229, 255)
# Parts of a mask that the cut-off leaves out, as a bundle does: measured, and not shown to readers.
_LEFT_OUT = (0, 95, 110)
# How far the outline of a part may reach beyond the box of its candidate, in pixels of the grid.
_BEYOND_PX = 1.0


@dataclass(frozen=True, slots=True)
class Shown:
    """One image of the gallery.

    Attributes:
        name: Which image.
        words: What is to be seen.
        picture: (H, W, 3) uint8 RGB.
    """

    name: str
    words: str
    picture: ByteImage


def gallery(found: Found, threshold: float, masks: Masks | None, pictures: Pictures) -> list[Shown]:
    """Draw images with a lesion, from the surest found to those missed, and the worst false marks.

    Args:
        found: Matched images.
        threshold: Candidates at or above it are drawn.
        masks: Their masks, where there are some; outlines then take the place of boxes.
        pictures: Prepared images; those that are not there are left out.
    """
    shown = []
    names = found.scene.rows["image_id"].to_list()
    for image in _chosen(found, threshold):
        name = str(names[image])
        if name not in pictures:
            continue
        try:
            pixels, geometry = pictures.read(name), pictures.read_geometry(name)
        except MammoscopeError:
            # A picture is no figure: the report is right without it.
            continue
        shown.append(_drawn(found, image, threshold, masks, (pixels, geometry)))
    return shown


def _chosen(found: Found, threshold: float) -> list[int]:
    """Return the numbers of the images to show; a false mark below the threshold is none."""
    scene, target = found.scene, found.wanted
    best = (
        pl.DataFrame({"image": scene.lesions.image[target], "score": found.matching.score[target]})
        .group_by("image")
        .agg(pl.col("score").max())
        .sort("score", "image", descending=[True, False])["image"]
        .to_list()
    )
    places = np.linspace(0, len(best) - 1, min(_WITH, len(best)))
    chosen = [int(best[round(place)]) for place in places]
    false = (found.matching.outcome == Outcome.FALSE) & scene.counted[scene.candidates.image]
    false &= scene.candidates.score >= threshold
    order = np.argsort(-scene.candidates.score[false], kind="stable")
    wrong = dict.fromkeys(scene.candidates.image[false][order].tolist())
    return chosen + [image for image in wrong if image not in chosen][:_WRONG]


def _drawn(
    found: Found,
    image: int,
    threshold: float,
    masks: Masks | None,
    prepared: tuple[GreyImage, Geometry],
) -> Shown:
    scene, (pixels, geometry) = found.scene, prepared
    scale = _HEIGHT_PX / pixels.shape[0]
    picture = _grey(pixels, scale)
    name = str(scene.rows["image_id"][image])
    there: Ints = np.flatnonzero(scene.lesions.image == image)
    drawn: Ints = np.flatnonzero(
        (scene.candidates.image == image) & (scene.candidates.score >= threshold)
    )
    colours = [_TRUE if scene.lesions.target[k] else _OTHER for k in there]
    if masks is None:
        for place, colour in zip(there, colours, strict=True):
            _box(picture, scene.lesions.box[place], geometry, scale, colour)
    else:
        boxes = [geometry.to_network(_placed(scene.candidates.box[place])) for place in drawn]
        _outlines(picture, name, masks, boxes)
    for place in drawn:
        _box(picture, scene.candidates.box[place], geometry, scale, _DRAWN)
    return Shown(name, _words(found, there, drawn, threshold), picture)


def _grey(pixels: GreyImage, scale: float) -> ByteImage:
    size = (round(pixels.shape[1] * scale), _HEIGHT_PX)
    top = float(np.iinfo(pixels.dtype).max)
    small = cv2.resize(pixels.astype(np.float32) / top * 255.0, size, None, 0, 0, cv2.INTER_AREA)
    return np.repeat(np.clip(small, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _box(
    picture: ByteImage, box: Floats, geometry: Geometry, scale: float, colour: tuple[int, ...]
) -> None:
    place = geometry.to_network(_placed(box))
    corners = [round(v * scale) for v in (place.x_min, place.y_min, place.x_max, place.y_max)]
    cv2.rectangle(picture, corners[:2], corners[2:], colour, 1, cv2.LINE_AA)


def _placed(box: Floats) -> Box:
    return Box(*(float(side) for side in box))


def _outlines(picture: ByteImage, name: str, masks: Masks, shown: Sequence[Box]) -> None:
    """Draw true and predicted outlines; predicted ones within no box that is shown are dim."""
    row = masks.images.filter(pl.col("image_id") == name).row(0, named=True)
    size = (int(row["height"]), int(row["width"]))
    scale = np.array([picture.shape[1] / size[1], picture.shape[0] / size[0]])
    lesions = masks.lesions.filter(pl.col("image_id") == name)
    parts: list[tuple[Sequence[int], tuple[int, ...]]] = [
        (runs, _TRUE if target else _OTHER) for runs, target in lesions["truth", "target"].rows()
    ]
    rings = [(ring, colour) for runs, colour in parts for ring in outline(decode(runs, size))]
    for ring in outline(decode(row["predicted"], size)):
        own = any(_within(ring, box) for box in shown)
        # What is shown lies on top.
        rings.insert(len(rings) if own else 0, (ring, _DRAWN if own else _LEFT_OUT))
    for ring, colour in rings:
        points = np.floor(np.array(ring).reshape(-1, 1, 2) * scale).astype(np.int32)
        cv2.polylines(picture, [points], True, colour, 1, cv2.LINE_AA)  # noqa: FBT003


def _within(ring: list[float], box: Box) -> bool:
    """Say whether a contour of the mask is a part of a candidate, which reaches further."""
    points = np.array(ring).reshape(-1, 2)
    low = np.array([box.x_min, box.y_min]) - _BEYOND_PX
    high = np.array([box.x_max, box.y_max]) + _BEYOND_PX
    return bool(((points >= low) & (points <= high)).all())


def _words(found: Found, there: Ints, drawn: Ints, threshold: float) -> str:
    """Say what is to be seen on an image."""
    scene, matching = found.scene, found.matching
    told = []
    for place in there:
        kind = str(scene.findings["kind"][int(place)] or "lesion").replace("_", " ")
        if not scene.lesions.target[place]:
            told.append(f"{kind}, no target")
        elif matching.score[place] >= threshold:
            told.append(f"{kind} found at {written_score(matching.score[place])}")
        elif np.isfinite(matching.score[place]):
            told.append(
                f"{kind} missed: its mark, {written_score(matching.score[place])}, is not shown"
            )
        else:
            told.append(f"{kind} missed")
    false = int((matching.outcome[drawn] == Outcome.FALSE).sum())
    if false:
        highest = scene.candidates.score[drawn][matching.outcome[drawn] == Outcome.FALSE].max()
        told.append(
            f"a false mark at {written_score(highest)}"
            if false == 1
            else f"{false} false marks, the highest at {written_score(highest)}"
        )
    return "; ".join(told) or "nothing marked"
