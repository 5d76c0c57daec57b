"""Exported graphs loaded by the engine that each was evaluated with, and their errors by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as ort
from numpy.typing import NDArray

from mammoscope.config import ExportConfig, validated
from mammoscope.errors import BundleError, ConfigError

__all__ = ["ENGINE_KEY", "ERRORS", "Engine", "Graph", "check_engine", "open_graph"]

#: Where a graph's metadata say with which engine it was evaluated, as JSON of ``ExportConfig``; a
#: graph without it was evaluated with ONNX Runtime in float32.
ENGINE_KEY = "mammoscope.engine"

#: What engines raise: ONNX Runtime's own errors, made in C++, share no parent but Exception, and
#: OpenVINO's are RuntimeErrors.
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


_INSTALL = "pip install 'mammoscope[openvino]'"


class Engine(Protocol):
    """What computes a graph."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads its results must know."""
        ...

    def run(self, outputs: Sequence[str], told: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the named outputs, given all inputs by name."""
        ...


class Graph:
    """An exported graph, loaded.

    Attributes:
        inputs: Shapes of what it takes, by name; names of dimensions that are free.
        outputs: Names of what it gives.
        metadata: What stands in it beside its arithmetic.
        notes: What whoever reads its results must know.
    """

    def __init__(self, session: onnxruntime.InferenceSession, engine: Engine) -> None:
        self.inputs: dict[str, list[int | str]] = {
            item.name: item.shape for item in session.get_inputs()
        }
        self.outputs = [item.name for item in session.get_outputs()]
        self.metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
        self.notes = engine.notes
        self._engine = engine

    def run(self, outputs: Sequence[str], told: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute outputs; from several threads too.

        Args:
            outputs: Their names.
            told: All inputs by name.

        Raises:
            Exception: One of :data:`ERRORS` if the engine fails.
        """
        return self._engine.run(outputs, told)


class _OnnxRuntime:
    """ONNX Runtime in float32 on the processor."""

    notes = ()

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def run(self, outputs: Sequence[str], told: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        made: list[NDArray[Any]] = self._session.run(list(outputs), dict(told))
        return made


def open_graph(model: Path, threads: int = 0) -> Graph:
    """Load an exported graph by the engine that its metadata name.

    Args:
        model: The ONNX file.
        threads: Threads per image; 0 lets the engine choose.

    Raises:
        BundleError: If it cannot be loaded, or its engine is not installed.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
    except ERRORS as error:
        raise BundleError(f"{model} cannot be loaded by ONNX Runtime: {error}") from error
    how = _engine_of(session, model)
    if how.engine == "onnxruntime":
        return Graph(session, _OnnxRuntime(session))
    try:
        from mammoscope.inference.openvino_engine import OpenVino
    except ImportError as error:
        raise BundleError(
            f"{model} was evaluated with OpenVINO in {how.precision}, and is to be run as it was "
            f"evaluated: {_INSTALL}"
        ) from error
    try:
        return Graph(session, OpenVino(model, threads, how.precision))
    except ERRORS as error:
        raise BundleError(f"{model} cannot be loaded by OpenVINO: {error}") from error


def check_engine(how: ExportConfig) -> str:
    """Check that graphs can be evaluated here by an engine, and return its name and version.

    Args:
        how: Engine and precision.

    Raises:
        ConfigError: If it is not installed, or this processor does not compute in the precision:
            what it would evaluate is not what another one runs.
    """
    if how.engine == "onnxruntime":
        return f"ONNX Runtime {onnxruntime.__version__}"
    try:
        from mammoscope.inference.openvino_engine import NAME, has_bfloat16
    except ImportError as error:
        raise ConfigError(f"export.engine={how.engine} is not installed: {_INSTALL}") from error
    if how.precision == "bfloat16" and not has_bfloat16():
        raise ConfigError(
            "export.precision=bfloat16 cannot be evaluated here: this processor does not compute "
            "in it. Train with float32; mammoscope rescore makes a run of the same weights in "
            "bfloat16 on a machine that does"
        )
    return NAME


def _engine_of(session: onnxruntime.InferenceSession, model: Path) -> ExportConfig:
    """Return with which engine a graph was evaluated."""
    told = session.get_modelmeta().custom_metadata_map.get(ENGINE_KEY, "{}")
    try:
        return validated(ExportConfig, json.loads(told), ENGINE_KEY)
    except (ValueError, ConfigError) as error:
        raise BundleError(f"{model}: its metadata {ENGINE_KEY} cannot be read: {error}") from error
