"""The exported graph in ONNX Runtime: prepared images in, logits, scores and heatmaps out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as ort
from numpy.typing import NDArray

from mammoscope.errors import BundleError
from mammoscope.types import FloatImage, GreyImage

__all__ = ["Scorer", "Scores"]

_OUTPUTS = ["logit", "score", "heatmap"]
_LOCAL = "local_score"
# ONNX Runtime's own errors, made in C++, share no parent but Exception.
_ERRORS = (
    RuntimeError,
    ValueError,
    OSError,
    ort.EPFail,
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NoSuchFile,
    ort.NotImplemented,
    ort.RuntimeException,
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Model output of a batch.

    Attributes:
        logit: (B,) float32 before the sigmoid.
        score: (B,) float32 in [0, 1].
        heatmap: (B, h, w) float32 in [0, 1], as it is drawn.
        local_score: (B, h, w) float32 in [0, 1], its cells on the scale of the score.
    """

    logit: NDArray[np.float32]
    score: NDArray[np.float32]
    heatmap: FloatImage
    local_score: FloatImage


class Scorer:
    """Runs one exported graph.

    Args:
        model: The ONNX file.
        threads: Threads per image; 0 lets ONNX Runtime choose.

    Raises:
        BundleError: If the file is not a graph with our inputs and outputs.
    """

    def __init__(self, model: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except _ERRORS as error:
            raise BundleError(f"{model} cannot be loaded by ONNX Runtime: {error}") from error
        inputs = [item.name for item in self._session.get_inputs()]
        outputs = [item.name for item in self._session.get_outputs()]
        if inputs != ["image"] or not set(_OUTPUTS) <= set(outputs):
            raise BundleError(
                f"{model} takes {inputs} and gives {outputs}; a mammoscope graph takes "
                f"['image'] and gives {_OUTPUTS}"
            )
        # A graph without calibration needs no second map.
        self._outputs = [*_OUTPUTS, *([_LOCAL] if _LOCAL in outputs else [])]

    def __call__(self, images: list[GreyImage]) -> Scores:
        """Score prepared images of one size.

        Args:
            images: B arrays (H, W), uint8 or uint16.

        Raises:
            BundleError: If the graph fails or gives a score that is not finite.
        """
        batch = np.stack(images)[:, None].astype(np.float32)  # (B, 1, H, W)
        try:
            logit, score, heatmap, *local = self._session.run(self._outputs, {"image": batch})
        except _ERRORS as error:
            raise BundleError(
                f"the model failed on an image of {batch.shape[2:]}: {error}"
            ) from error
        if not (np.isfinite(logit).all() and np.isfinite(score).all()):
            raise BundleError("the model gave a score that is not a finite number")
        return Scores(logit, score, heatmap, local[0] if local else heatmap)
