"""An exported segmenter: prepared images in, masks and candidates out.

How its map becomes masks (thresholds, windows and how they are joined) stands in the file itself,
so that whoever runs it gets what was evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

import numpy as np

from mammoscope.config import CandidateScore
from mammoscope.errors import BundleError
from mammoscope.inference.outlining import MaskSettings, Outlined, Outliner
from mammoscope.inference.runtime import ERRORS, Graph, open_graph
from mammoscope.types import FloatImage, GreyImage

__all__ = ["LOGITS", "SETTINGS_KEY", "Segmenter"]

#: The graph's one output, (B, 1, H, W) before the sigmoid.
LOGITS = "mask_logit"
#: Where a graph says what its map is made into, as JSON of :class:`MaskSettings`.
SETTINGS_KEY = "mammoscope.segment"


class Segmenter:
    """Runs one exported segmenter.

    Args:
        model: The ONNX file.
        threads: Threads per image; 0 lets the engine choose.

    Raises:
        BundleError: If the file is not a segmenter's graph that says what its map is made into.
    """

    def __init__(self, model: Path, threads: int = 0) -> None:
        #: The graph, loaded.
        self.graph = open_graph(model, threads)
        inputs, outputs = list(self.graph.inputs), self.graph.outputs
        if inputs != ["image"] or LOGITS not in outputs:
            raise BundleError(
                f"{model} takes {inputs} and gives {outputs}; a mammoscope segmenter takes "
                f"['image'] and gives ['{LOGITS}']"
            )
        #: (H, W) of what it looks at: a whole image or a window.
        self.size = _size_of(self.graph)
        #: What its map is made into.
        self.settings = _settings_of(self.graph, model)
        self._outliner = Outliner(self._run, self.size, self.settings)

    def __call__(self, images: Sequence[GreyImage]) -> list[Outlined]:
        """Outline prepared images.

        Args:
            images: Arrays (H, W), uint8 or uint16; of any size where the graph looks at windows.

        Raises:
            BundleError: If the graph fails, gives a number that is not finite, or an image is not
                of its size.
        """
        return [self._outliner(image) for image in images]

    def _run(self, images: Sequence[GreyImage]) -> FloatImage:
        """Return the logits of images or windows of the graph's size, (B, H, W)."""
        batch = np.stack(list(images))[:, None].astype(np.float32)  # (B, 1, H, W)
        try:
            made: FloatImage = self.graph.run([LOGITS], {"image": batch})[0][:, 0]
        except ERRORS as error:
            raise BundleError(
                f"the model failed on an image of {batch.shape[2:]}: {error}"
            ) from error
        if not np.isfinite(made).all():
            raise BundleError("the model gave a score that is not a finite number")
        return made


def _size_of(graph: Graph) -> tuple[int, int]:
    height, width = graph.inputs["image"][2:]
    return int(height), int(width)


def _settings_of(graph: Graph, model: Path) -> MaskSettings:
    told = graph.metadata.get(SETTINGS_KEY)
    try:
        settings = json.loads(told or "{}")
    except json.JSONDecodeError as error:
        raise BundleError(f"{model}: {SETTINGS_KEY} is no JSON: {error}") from error
    own = fields(MaskSettings)
    missing = [f.name for f in own if f.default is MISSING and f.name not in settings]
    if missing:
        raise BundleError(f"{model} does not say its {', '.join(missing)} ({SETTINGS_KEY})")
    made = MaskSettings(**{f.name: settings[f.name] for f in own if f.name in settings})
    if made.candidate_score not in get_args(CandidateScore):
        raise BundleError(
            f"{model} scores candidates by {made.candidate_score!r}; this version knows "
            f"{', '.join(get_args(CandidateScore))} ({SETTINGS_KEY})"
        )
    return made
