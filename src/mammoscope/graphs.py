"""Arithmetic written into ONNX graphs: the mean of several, and scores from logits.

It works on exported files and knows their outputs only, so any network that gives ``logit`` and
``heatmap`` can be averaged and calibrated. What is added has names that begin with
``calibration/`` and can be taken out again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, inliner, numpy_helper

from mammoscope.artefacts import write_atomically
from mammoscope.errors import RunError
from mammoscope.evaluation.calibration import IDENTITY, Calibration

__all__ = ["write_calibrated", "write_mean", "write_scores"]

_INPUT, _LOGIT, _HEATMAP, _SCORE, _LOCAL = "image", "logit", "heatmap", "score", "local_score"
# Logits of graphs that judge breasts and exams too; each has its score beside it.
_JOINED = {"breast": "breast_logit", "exam": "exam_logit"}
_OWN = "calibration/"
# Log odds of a saturated cell stay within 13.8, which float32 tells from 0 and 1.
_CLIP = 1e-6
# A protocol buffer holds no more.
_MOST_BYTES = 2**31 - 1


class _Nodes:
    """Nodes and constants in the making, all of whose names begin alike."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: Any) -> str:
        """Add a constant and return its name."""
        name = f"{self._prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        title = f"{self._prefix}{kind.lower()}_{len(self.nodes)}"
        name = output or title
        self.nodes.append(helper.make_node(kind, list(inputs), [name], title, **attributes))
        return name

    def into(self, model: ModelProto) -> None:
        """Append all of them to a model's graph."""
        model.graph.node.extend(self.nodes)
        model.graph.initializer.extend(self.constants)


def write_calibrated(
    source: Path,
    path: Path,
    calibration: Calibration,
    joined: Mapping[str, Calibration] | None = None,
) -> None:
    """Write a graph with its scores calibrated, in the place of what calibrated it before.

    Where the calibration is not the plain sigmoid, a further output ``local_score`` has the
    cells of the heatmap on the scale of the scores, so that thresholds mean the same on both.

    Args:
        source: A graph that gives ``logit`` (B,) and ``heatmap`` (B, h, w).
        path: The file to write; it may be the same.
        calibration: From logits to scores.
        joined: The same by level, breast or exam, of a graph that judges them; those that it
            lacks get the plain sigmoid.

    Raises:
        RunError: If the source cannot be read as such a graph.
    """
    model = _core(source)
    _add_scores(model, calibration, joined or {})
    _write(model, path)


def _add_scores(
    model: ModelProto, calibration: Calibration, joined: Mapping[str, Calibration]
) -> None:
    shape = _shapes(model)
    added = _Nodes(_OWN)
    _calibrated(added, _LOGIT, _SCORE, calibration)
    outputs = [(_SCORE, shape[_LOGIT])]
    for level, logit in _JOINED.items():
        if logit in shape:
            score = logit.replace(_LOGIT, _SCORE)
            _calibrated(added, logit, score, joined.get(level, IDENTITY))
            outputs.append((score, shape[logit]))
    if not calibration.is_identity:
        _calibrated(added, _log_odds(added, _HEATMAP), _LOCAL, calibration)
        outputs.append((_LOCAL, shape[_HEATMAP]))
    added.into(model)
    for name, dimensions in outputs:
        model.graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dimensions)
        )


def write_mean(sources: Sequence[Path], path: Path) -> None:
    """Write one graph whose logit is the mean of several graphs' logits.

    Cells of the heatmap are averaged as logits too. Calibrations of the parts are left out; the
    score is the sigmoid.

    Args:
        sources: Graphs with the same input, outputs and metadata.
        path: The file to write.

    Raises:
        RunError: If one cannot be read, they differ, or the result is too large.
    """
    models = [_core(source) for source in sources]
    shapes = _shapes(models[0])
    told = _metadata(models[0])
    for source, model in zip(sources, models, strict=True):
        if _shapes(model) != shapes:
            raise RunError(f"{source} gives {_shapes(model)}, {sources[0]} gives {shapes}")
        if _metadata(model) != told:
            raise RunError(f"{source} says {_metadata(model)} of itself, {sources[0]} says {told}")
    shared = {item.name: item.name for item in models[0].graph.input}
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for number, model in enumerate(models):
        own = f"part_{number}/"
        part = compose.add_prefix(model, own).graph
        for node in part.node:
            node.input[:] = [shared.get(name.removeprefix(own), name) for name in node.input]
        nodes += part.node
        constants += part.initializer
    mean = _Nodes("mean/")
    heat = [_log_odds(mean, f"part_{number}/{_HEATMAP}") for number in range(len(models))]
    for logit in (_LOGIT, *_JOINED.values()):
        if logit in shapes:
            mean("Mean", *(f"part_{n}/{logit}" for n in range(len(models))), output=logit)
    mean("Sigmoid", mean("Mean", *heat), output=_HEATMAP)
    graph = helper.make_graph(
        [*nodes, *mean.nodes],
        "mean",
        list(models[0].graph.input),
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in shapes.items()],
        [*constants, *mean.constants],
    )
    made = helper.make_model(
        graph, opset_imports=models[0].opset_import, ir_version=models[0].ir_version
    )
    helper.set_model_props(made, told)
    _add_scores(made, IDENTITY, {})
    _write(made, path)


def write_scores(source: Path, path: Path, calibration: Calibration) -> None:
    """Write a graph of scores (N,) from logits (N,): the very nodes that end a calibrated one.

    Args:
        source: The graph whose logits they are, and whose metadata say what computes it.
        path: The file to write.
        calibration: From logits to scores.

    Raises:
        RunError: If the source cannot be read as such a graph.
    """
    added = _Nodes(_OWN)
    _calibrated(added, _LOGIT, _SCORE, calibration)
    vectors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in (_LOGIT, _SCORE)
    ]
    graph = helper.make_graph(added.nodes, "scores", vectors[:1], vectors[1:], added.constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=onnx.IR_VERSION_2024_3_25
    )
    helper.set_model_props(model, _metadata(_core(source)))
    _write(model, path)


def _calibrated(add: _Nodes, logit: str, score: str, calibration: Calibration) -> None:
    """Add the nodes from a float32 logit of any shape to its score."""
    if calibration.method == "isotonic":
        _interpolated(add, logit, score, calibration)
        return
    shift = calibration.intercept + float(np.log(calibration.odds_ratio))
    if not calibration.is_identity:
        scaled = add("Mul", logit, add.constant(np.float32(calibration.slope)))
        logit = add("Add", scaled, add.constant(np.float32(shift)))
    add("Sigmoid", logit, output=score)


def _interpolated(add: _Nodes, logit: str, score: str, calibration: Calibration) -> None:
    """Add straight lines between knots, each a ramp from 0 to its rise, and their sum.

    In float64: neighbouring knots may differ in the last digit of a float32.
    """
    knots, levels = np.array(calibration.knots), np.array(calibration.levels)
    last = add.constant(np.array([-1], np.int64))
    zero, one = (add.constant(np.float64(value)) for value in (0, 1))
    wide = add("Unsqueeze", add("Cast", logit, to=TensorProto.DOUBLE), last)
    ramp = add(
        "Div",
        add("Sub", wide, add.constant(knots[:-1])),
        add.constant(np.diff(knots)),
    )
    rise = add("Mul", add("Clip", ramp, zero, one), add.constant(np.diff(levels)))
    summed = add("ReduceSum", rise, last, keepdims=0)
    chance = add("Add", summed, add.constant(levels[0]))
    odds = add("Mul", chance, add.constant(np.float64(calibration.odds_ratio)))
    whole = add("Add", odds, add("Sub", one, chance))
    add("Cast", add("Div", odds, whole), output=score, to=TensorProto.FLOAT)


def _log_odds(add: _Nodes, heat: str) -> str:
    """Add the nodes from a share to its logit."""
    low, high = (add.constant(np.float32(value)) for value in (_CLIP, 1 - _CLIP))
    inside = add("Clip", heat, low, high)
    other = add("Sub", add.constant(np.float32(1)), inside)
    return add("Sub", add("Log", inside), add("Log", other))


def _core(path: Path) -> ModelProto:
    """Read a graph down to its logits and heatmap."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise RunError(f"{path} cannot be read as ONNX: {error}") from error
    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    names = {output.name for output in graph.output}
    if not {_LOGIT, _HEATMAP} <= names:
        raise RunError(f"{path} gives {sorted(names)}; a mammoscope graph gives logit and heatmap")
    ends = {_SCORE, _LOCAL, *(logit.replace(_LOGIT, _SCORE) for logit in _JOINED.values())}
    kept = [
        node
        for node in graph.node
        if not (node.name.startswith(_OWN) or ends.intersection(node.output))
    ]
    constants = [tensor for tensor in graph.initializer if not tensor.name.startswith(_OWN)]
    first = (_LOGIT, _HEATMAP, *_JOINED.values())
    outputs = [output for output in graph.output if output.name in first]
    for field, values in (
        (graph.node, kept),
        (graph.initializer, constants),
        (graph.output, outputs),
    ):
        del field[:]
        field.extend(values)
    return model


def _metadata(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _shapes(model: ModelProto) -> dict[str, list[str | int]]:
    """Return the dimensions of each output, names for those that are free."""
    return {
        output.name: [
            side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim
        ]
        for output in sorted(model.graph.output, key=lambda output: output.name, reverse=True)
    }


def _write(model: ModelProto, path: Path) -> None:
    size = model.ByteSize()
    if size > _MOST_BYTES:
        raise RunError(
            f"the graph would have {size / 1e9:.1f} GB; an ONNX file holds at most 2.1: use a "
            "smaller backbone, or fewer folds"
        )
    with write_atomically(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
