"""The exported anomaly model: prepared images in, scores and error maps out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.bundle import density_code, projection_code
from mammoscope.errors import BundleError
from mammoscope.inference.runtime import ERRORS, open_graph
from mammoscope.types import FloatImage, GreyImage

__all__ = ["OUTPUTS", "Anomalies", "AnomalyScorer"]

#: What every such graph gives, in order; a model that rebuilds images also ``reconstruction``.
OUTPUTS = ("anomaly", "logit", "score", "heatmap", "local_score")
_RECONSTRUCTION = "reconstruction"
# What a graph may be told beside the image.
_CONDITIONS = ("projection", "density")


@dataclass(frozen=True, slots=True)
class Anomalies:
    """What an anomaly model says of a batch.

    Attributes:
        anomaly: (B,) float32, at least 0: how unlike normal images.
        logit: (B,) float32, the same in spreads from the mean of normal validation images.
        score: (B,) float32 in [0, 1], its sigmoid: a rank, not a chance.
        heatmap: (B, h, w) float32, at least 0: the anomaly by place, over the network's input; 0
            outside the breast.
        local_score: (B, h, w) float32 in [0, 1], its cells on the scale of the score; 0 outside the
            breast.
        reconstruction: (B, h', w') float32 grey values as the model expects the image; ``None``
            where it makes none.
    """

    anomaly: NDArray[np.float32]
    logit: NDArray[np.float32]
    score: NDArray[np.float32]
    heatmap: FloatImage
    local_score: FloatImage
    reconstruction: FloatImage | None


class AnomalyScorer:
    """Runs one exported anomaly model.

    Args:
        model: The ONNX file.
        threads: Threads per image; 0 lets the engine choose.

    Raises:
        BundleError: If the file is not a graph with our inputs and outputs.
    """

    def __init__(self, model: Path, threads: int = 0) -> None:
        #: The graph, loaded.
        self.graph = open_graph(model, threads)
        #: Names of what the graph takes.
        self.inputs = list(self.graph.inputs)
        self._outputs = self.graph.outputs
        expected = ["image", *(name for name in _CONDITIONS if name in self.inputs)]
        if sorted(self.inputs) != sorted(expected) or not set(OUTPUTS) <= set(self._outputs):
            raise BundleError(
                f"{model} takes {self.inputs} and gives {self._outputs}; a mammoscope graph of "
                f"anomalies takes image and may be told {', '.join(_CONDITIONS)}, and gives "
                f"{', '.join(OUTPUTS)}"
            )

    @property
    def rebuilds(self) -> bool:
        """Whether the model gives a reconstruction."""
        return _RECONSTRUCTION in self._outputs

    def __call__(
        self,
        images: Sequence[GreyImage],
        views: Sequence[str | None] | None = None,
        densities: Sequence[str | None] | None = None,
    ) -> Anomalies:
        """Judge prepared images of one size.

        Args:
            images: B arrays (H, W), uint8 or uint16.
            views: CC, MLO and so on, one for each; ``None`` where unknown, or for all.
            densities: A to D, one for each; ``None`` where unknown, or for all.

        Raises:
            BundleError: If the graph fails or gives a number that is not finite.
        """
        nobody = [None] * len(images)
        batch = np.stack(list(images))[:, None].astype(np.float32)  # (B, 1, H, W)
        told: dict[str, NDArray[Any]] = {
            "image": batch,
            "projection": np.array([projection_code(v) for v in views or nobody], np.int64),
            "density": np.array([density_code(d) for d in densities or nobody], np.int64),
        }
        try:
            made = self.graph.run(self._outputs, {name: told[name] for name in self.inputs})
        except ERRORS as error:
            raise BundleError(
                f"the model failed on an image of {batch.shape[2:]}: {error}"
            ) from error
        named = dict(zip(self._outputs, made, strict=True))
        if not all(np.isfinite(named[name]).all() for name in OUTPUTS):
            raise BundleError("the model gave an anomaly score that is not a finite number")
        rebuilt = named[_RECONSTRUCTION][:, 0] if self.rebuilds else None
        return Anomalies(
            anomaly=named["anomaly"],
            logit=named["logit"],
            score=named["score"],
            heatmap=named["heatmap"],
            local_score=named["local_score"],
            reconstruction=rebuilt,
        )
