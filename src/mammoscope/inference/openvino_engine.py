"""OpenVINO as an engine of exported graphs, in float32 or with convolutions in bfloat16.

Importing ``openvino`` sends a note of it to its makers, unasked, where its library for telemetry is
installed, as it is with every package from PyPI. Without that library OpenVINO takes a stub of its
own, which sends nothing: so it is hidden here before the import.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoscope.config.exporting import Precision

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402
from openvino import opset13  # noqa: E402
from openvino.passes import ConstantFolding, Manager  # noqa: E402

__all__ = ["NAME", "OpenVino", "has_bfloat16"]

#: The engine with its version, as records name it.
NAME = f"OpenVINO {openvino.__version__.partition('-')[0]}"

_DEVICE = "CPU"
# Shapes for which a graph is kept compiled: a window or image, the last of a batch, exams of two to
# eight images.
_MOST_SHAPES = 8
# What bfloat16 is for, and what comes before the first of them is computed in float32: the scaling
# of grey values, and local contrast, whose sums over a window bfloat16 has too few digits for.
_IN_BFLOAT16 = ("Convolution", "ConvolutionBackpropData", "MatMul")

# Names of what a front hands on, before their number.
_FROM_FRONT = "mammoscope.front."

_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class OpenVino:
    """Runs one ONNX file.

    A graph is compiled for each shape of its inputs when that first comes, in a tenth of a second
    or two: what is compiled for any shape is slower.

    Args:
        model: The file.
        threads: Threads per image; 0 lets OpenVINO choose.
        precision: Of convolutions and products, and what lies between them. What comes before the
            first of them is computed in float32 in either case; so is what comes after the last,
            unless it enlarges a map.
    """

    def __init__(self, model: Path, threads: int, precision: Precision) -> None:
        self._model = _core().read_model(str(model))
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Other threads of ours read the next image meanwhile.
            "ENABLE_CPU_PINNING": False,
        }
        capable = has_bfloat16()
        self._in_bfloat16 = precision == "bfloat16" and capable
        #: What whoever reads its results must know.
        self.notes: tuple[str, ...] = ()
        if precision == "bfloat16" and not capable:
            self.notes = (
                "this processor does not compute in bfloat16, in which the model was evaluated: "
                "its scores here are of float32, and differ a little from those",
            )
        self._compiled = OrderedDict[_Shapes, list[openvino.InferRequest]]()
        self._one_by_one = threading.Lock()

    def run(self, outputs: Sequence[str], told: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the named outputs, given all inputs by name."""
        with self._one_by_one:
            *before, last = self._requests(tuple((k, v.shape) for k, v in told.items()))
            given: dict[str, Any] = dict(told)
            for front in before:
                front.infer(given)
                given |= {f"{_FROM_FRONT}{n}": t for n, t in enumerate(front.output_tensors)}
            # An input may have further names, of what it becomes unchanged.
            taken = (next(n for n in value.names if n in given) for value in last.model_inputs)
            last.infer({name: given[name] for name in taken})
            return [np.array(last.get_tensor(name).data) for name in outputs]

    def _requests(self, shapes: _Shapes) -> list[openvino.InferRequest]:
        """Return the parts of the graph compiled for inputs of these shapes, in their order."""
        if shapes not in self._compiled:
            model = self._model.clone()
            model.reshape(dict(shapes))
            front = _cut_front(model) if self._in_bfloat16 else None
            parts = [self._compile(model, "bf16" if self._in_bfloat16 else "f32")]
            if front is not None:
                parts.insert(0, self._compile(front, "f32"))
            self._compiled[shapes] = parts
            if len(self._compiled) > _MOST_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shapes)
        return self._compiled[shapes]

    def _compile(self, model: openvino.Model, precision: str) -> openvino.InferRequest:
        settings = {**self._settings, "INFERENCE_PRECISION_HINT": precision}
        return _core().compile_model(model, _DEVICE, settings).create_infer_request()


def has_bfloat16() -> bool:
    """Say whether the processor computes in bfloat16."""
    return "BF16" in _core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")


@cache
def _core() -> openvino.Core:
    """Return the one core of this process.

    With the last of several goes the library that computes, out of a process in which torch trains:
    Python's own objects were damaged after a number of them.
    """
    return openvino.Core()


def _cut_front(model: openvino.Model) -> openvino.Model | None:
    """Cut off what comes before the first convolution or product, which then takes its results.

    Args:
        model: Of fixed shapes; changed to take what the front gives as further inputs, in order.

    Returns:
        The front; ``None`` where there is none.
    """
    manager = Manager()
    # What follows from shapes alone is no arithmetic, and is gone after this.
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    behind: set[str] = set()
    cuts: dict[openvino.Output, list[openvino.Input]] = {}
    for node in model.get_ordered_ops():
        sources = [(taken, taken.get_source_output()) for taken in node.inputs()]
        first = node.get_type_name() in (*_IN_BFLOAT16, "Result")
        if not first and not any(made.get_node().get_name() in behind for _, made in sources):
            continue
        behind.add(node.get_name())
        for taken, made in sources:
            kind = made.get_node().get_type_name()
            if made.get_node().get_name() not in behind and kind not in ("Constant", "Parameter"):
                cuts.setdefault(made, []).append(taken)
    if not cuts:
        return None
    parameters = model.get_parameters()
    front = openvino.Model(list(cuts), parameters, "front").clone()
    for place, (made, takers) in enumerate(cuts.items()):
        parameter = opset13.parameter(made.get_shape(), made.get_element_type())
        parameter.output(0).set_names({f"{_FROM_FRONT}{place}"})
        for taken in takers:
            taken.replace_source_output(parameter.output(0))
        model.add_parameters([parameter])
    for parameter in parameters:
        if not any(
            t.get_node().get_name() in behind for t in parameter.output(0).get_target_inputs()
        ):
            model.remove_parameter(parameter)
    return front
