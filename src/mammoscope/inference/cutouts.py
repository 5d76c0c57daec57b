"""Cut-outs of prepared images, and the exported network that tells them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.errors import BundleError
from mammoscope.inference.runtime import ERRORS, open_graph
from mammoscope.types import Box, FloatImage, GreyImage

__all__ = ["CUTOUT_KEY", "CutoutScorer", "CutoutScores", "CutoutSettings", "cut_out", "cut_square"]

#: Where a graph says how its cut-outs are made, as JSON of :class:`CutoutSettings`.
CUTOUT_KEY = "mammoscope.cutouts"
_OUTPUTS = ["logit", "score"]
# Smallest side that is cut, before it is scaled: of less there is nothing to see.
_LEAST_PX = 8

Pixels = TypeVar("Pixels", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class CutoutSettings:
    """How cut-outs are made; the settings of the same names.

    Attributes:
        margin: Tissue beside a box on every side, as a share of its longer side.
        cutout_px: Side to which they are scaled.
        classes: What they are told apart as, in the order of the outputs.
    """

    margin: float
    cutout_px: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CutoutScores:
    """What the network says of N cut-outs.

    Attributes:
        logit: (N, classes) float32.
        score: (N, classes) float32, of which each row sums to 1.
    """

    logit: NDArray[np.float32]
    score: NDArray[np.float32]


class CutoutScorer:
    """Runs an exported classifier of cut-outs.

    Args:
        model: The ONNX file.
        threads: Threads per cut-out; 0 lets the engine choose.

    Raises:
        BundleError: If the file is not such a graph that says how its cut-outs are made.
    """

    def __init__(self, model: Path, threads: int = 0) -> None:
        #: The graph, loaded.
        self.graph = open_graph(model, threads)
        told = self.graph.metadata.get(CUTOUT_KEY)
        try:
            values = json.loads(told or "")
            #: How its cut-outs are made.
            self.settings = CutoutSettings(
                float(values["margin"]), int(values["cutout_px"]), tuple(values["classes"])
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BundleError(
                f"{model} does not say how its cut-outs are made ({CUTOUT_KEY})"
            ) from error

    def __call__(self, pixels: GreyImage, boxes: Sequence[Box]) -> CutoutScores:
        """Tell apart what lies in boxes of a prepared image.

        Args:
            pixels: (H, W).
            boxes: N boxes on the network's grid.

        Raises:
            BundleError: If the graph fails or gives a number that is not finite.
        """
        if not boxes:
            nothing = np.zeros((0, len(self.settings.classes)), np.float32)
            return CutoutScores(nothing, nothing)
        settings = self.settings
        batch = np.stack(
            [cut_square(pixels, box, settings.margin, settings.cutout_px) for box in boxes]
        )
        try:
            # One by one: what a cut-out scores does not depend on how many others there are.
            made = [self.graph.run(_OUTPUTS, {"image": square[None, None]}) for square in batch]
        except ERRORS as error:
            raise BundleError(f"the model failed on cut-outs: {error}") from error
        logit, score = (np.concatenate(parts) for parts in zip(*made, strict=True))
        if not np.isfinite(logit).all():
            raise BundleError("the model gave a score that is not a finite number")
        return CutoutScores(logit, score)


def cut_square(pixels: GreyImage, box: Box, margin: float, side: int) -> FloatImage:
    """Return the square around a box, scaled; (side, side) float32 grey values, black beyond.

    Args:
        pixels: (H, W).
        box: On the grid of the pixels.
        margin: Of the longer side of the box, on every side.
        side: Of the result.
    """
    longer = max(box.x_max - box.x_min, box.y_max - box.y_min)
    seen = max(_LEAST_PX, round(longer * (1 + 2 * margin)))
    top = round((box.y_min + box.y_max - seen) / 2)
    left = round((box.x_min + box.x_max - seen) / 2)
    square = cut_out(pixels, top, left, seen).astype(np.float32)
    how = cv2.INTER_AREA if seen > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (side, side), interpolation=how), dtype=np.float32)


def cut_out(pixels: Pixels, top: int, left: int, side: int) -> Pixels:
    """Return a square of an image, (side, side); 0 where it reaches beyond."""
    height, width = pixels.shape
    square: Any = np.zeros((side, side), dtype=pixels.dtype)
    rows = slice(max(0, top), max(0, min(height, top + side)))
    columns = slice(max(0, left), max(0, min(width, left + side)))
    part = pixels[rows, columns]
    if part.size:
        y, x = rows.start - top, columns.start - left
        square[y : y + part.shape[0], x : x + part.shape[1]] = part
    made: Pixels = square
    return made
