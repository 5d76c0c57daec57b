"""The exported detector: prepared pixels in, candidates out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mammoscope.config import ViewMatching
from mammoscope.errors import BundleError
from mammoscope.inference.fusion import Boxes, fused
from mammoscope.inference.runtime import ERRORS, open_graph
from mammoscope.inference.tiles import cut, tile_corners
from mammoscope.preprocessing import Geometry
from mammoscope.types import Box, Finding, Floats, GreyImage

__all__ = [
    "DETECTOR_OUTPUTS",
    "METADATA_KEY",
    "Detector",
    "DetectorContract",
    "image_score",
    "in_original",
]

#: What a detector's graph gives, in order.
DETECTOR_OUTPUTS = ("boxes", "scores", "kinds")
#: Where a graph's metadata keep what is beside its arithmetic.
METADATA_KEY = "mammoscope.detector"
# Score of an image without any candidate: it has a logit, and a rank below all others.
_NOTHING = 1e-6
# Least side of a box in original pixels.
_LEAST_PX = 1.0


@dataclass(frozen=True, slots=True)
class DetectorContract:
    """What must be known to run a detector's graph; the graph's metadata hold it.

    Attributes:
        kinds: Names of the kinds of lesion that it tells apart; none where it tells none.
        height: Of its input.
        width: Of its input.
        tile_px: Side of the tiles into which images are cut; 0 where it takes whole images.
        overlap: Share of a tile that the next one sees again, at least.
        fusion_iou: Overlap at which boxes of different tiles are merged.
        most: Candidates of an image at most.
        matching: How candidates of several views of a breast are matched.
    """

    kinds: tuple[str, ...]
    height: int
    width: int
    tile_px: int
    overlap: float
    fusion_iou: float
    most: int
    matching: ViewMatching = field(default_factory=ViewMatching)

    def as_dict(self) -> dict[str, Any]:
        """Return what the graph's metadata keep, as JSON."""
        return {**asdict(self), "matching": self.matching.model_dump()}

    @classmethod
    def from_json(cls, text: str) -> DetectorContract:
        """Read what the graph's metadata keep."""
        values = json.loads(text)
        matching = ViewMatching.model_validate(values["matching"])
        return cls(**{**values, "kinds": tuple(values["kinds"]), "matching": matching})


class Detector:
    """Runs one exported detector, on whole images or tile by tile.

    Args:
        model: The ONNX file.
        threads: Threads per image; 0 lets the engine choose.

    Raises:
        BundleError: If the file is not the graph of a detector of ours.
    """

    def __init__(self, model: Path, threads: int = 0) -> None:
        #: The graph, loaded.
        self.graph = open_graph(model, threads)
        taken, given = list(self.graph.inputs), self.graph.outputs
        told = self.graph.metadata.get(METADATA_KEY)
        if taken != ["image"] or tuple(given) != DETECTOR_OUTPUTS or told is None:
            raise BundleError(
                f"{model} takes {taken} and gives {given}; the graph of a detector takes image, "
                f"gives {', '.join(DETECTOR_OUTPUTS)}, and has {METADATA_KEY} in its metadata"
            )
        try:
            #: What must be known beside the graph.
            self.contract = DetectorContract.from_json(told)
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(
                f"{model}: its metadata {METADATA_KEY} cannot be read: {error}"
            ) from error

    def __call__(self, image: GreyImage) -> Boxes:
        """Return the candidates of a prepared image, the best first, on its grid.

        Args:
            image: (H, W) uint8 or uint16; of the network's size, or of any where it works in
                tiles.

        Raises:
            BundleError: If the image is of another size, the graph fails, or it gives a number
                that is not finite.
        """
        side, contract = self.contract.tile_px, self.contract
        if not side:
            return self.whole(image)
        corners = tile_corners((image.shape[0], image.shape[1]), side, contract.overlap)
        tiles = [cut(image, corner, side) for corner in corners]
        # Where there is no tissue there is nothing to find.
        shown = [place for place, tile in enumerate(tiles) if tile.any()]
        if not shown:
            return Boxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
        parts = [self.whole(tiles[place]) for place in shown]
        own = [corners[place] for place in shown]
        size = (image.shape[0], image.shape[1])
        return fused(parts, own, side, size, contract.fusion_iou, contract.most)

    def findings(self, image: GreyImage, geometry: Geometry) -> tuple[Finding, ...]:
        """Return the candidates of a prepared image in original pixels, the best first."""
        return in_original(self(image), geometry, self.contract.kinds)

    def whole(self, image: GreyImage) -> Boxes:
        """Return the candidates of an image or tile of the graph's own size."""
        size = (self.contract.height, self.contract.width)
        if image.shape != size:
            raise BundleError(
                f"the detector takes images of {size[0]}x{size[1]}, not "
                f"{image.shape[0]}x{image.shape[1]}"
            )
        try:
            made = self.graph.run(DETECTOR_OUTPUTS, {"image": image[None, None].astype(np.float32)})
        except ERRORS as error:
            raise BundleError(f"the detector failed on an image of {size}: {error}") from error
        return _there(*(part[0] for part in made))


def image_score(scores: Sequence[float] | Floats) -> tuple[float, float]:
    """Return logit and score of an image: those of its highest candidate.

    Args:
        scores: Of its candidates, in [0, 1]; an image without any comes below all others.
    """
    score = min(max([_NOTHING, *scores]), 1 - _NOTHING)
    return math.log(score / (1 - score)), float(score)


def in_original(found: Boxes, geometry: Geometry, kinds: tuple[str, ...]) -> tuple[Finding, ...]:
    """Map candidates from the network's grid to original pixels, cut at the image's borders.

    Args:
        found: Candidates on the grid.
        geometry: Of the image.
        kinds: Names of the kinds; none where one is all.
    """
    made = []
    for sides, score, kind in zip(found.box, found.score, found.kind, strict=True):
        if not (sides[2] > sides[0] and sides[3] > sides[1]):
            continue
        box = geometry.to_original(Box(*(float(side) for side in sides)))
        x_min, x_max = _cut_at(box.x_min, box.x_max, geometry.original_width)
        y_min, y_max = _cut_at(box.y_min, box.y_max, geometry.original_height)
        name = kinds[int(kind)] if kinds else "suspicious"
        place = Box(x_min, y_min, x_max, y_max)
        made.append(Finding(place, float(score), name, found_by="detector"))
    return tuple(made)


def _cut_at(low: float, high: float, end: int) -> tuple[float, float]:
    """Cut a span at 0 and at the end; a pixel of it always stays."""
    low = min(max(low, 0.0), end - _LEAST_PX)
    return low, max(min(high, float(end)), low + _LEAST_PX)


def _there(boxes: Any, scores: Any, kinds: Any) -> Boxes:
    """Return the candidates that are there: the others have a score of 0."""
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise BundleError("the detector gave a box or score that is not a finite number")
    chosen = scores > 0
    return Boxes(boxes[chosen].astype(np.float64), scores[chosen].astype(np.float64), kinds[chosen])
