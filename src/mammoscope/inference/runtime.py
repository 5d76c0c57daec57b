"""ONNX Runtime as every exported graph is run: one way to open it, and its errors by name."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as ort

from mammoscope.errors import BundleError

__all__ = ["ERRORS", "open_graph"]

#: What ONNX Runtime raises: its own errors, made in C++, share no parent but Exception.
ERRORS = (
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


def open_graph(model: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Load an exported graph.

    Args:
        model: The ONNX file.
        threads: Threads per image; 0 lets ONNX Runtime choose.

    Raises:
        BundleError: If it cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except ERRORS as error:
        raise BundleError(f"{model} cannot be loaded by ONNX Runtime: {error}") from error
