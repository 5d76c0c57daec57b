"""From a trained network to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammoscope.artefacts import canonical_json, write_atomically
from mammoscope.bundle import FACTS
from mammoscope.config import ExportConfig
from mammoscope.errors import RunError
from mammoscope.inference import AnomalyScorer, CutoutScorer, Scorer, Segmenter
from mammoscope.inference.detector import Detector
from mammoscope.inference.runtime import ENGINE_KEY, check_engine
from mammoscope.models import Classifier, MultiViewClassifier, MultiViewGraph

__all__ = [
    "PARITY_TOLERANCE",
    "add_settings",
    "by_engine",
    "check_difference",
    "export_graph",
    "write_graph",
]

#: Largest difference of logits between the training graph and the exported one in float32.
PARITY_TOLERANCE = 1e-3
_OPSET = 20

Loaded = TypeVar("Loaded", Scorer, Detector, Segmenter, CutoutScorer, AnomalyScorer)


class _Graph(nn.Module):
    """The classifier with its outputs in the bundle's order and names."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.classifier(image)
        return output.logit, torch.sigmoid(output.logit), output.heatmap


def export_graph(
    network: Classifier | MultiViewClassifier, size: tuple[int, int], path: Path
) -> None:
    """Write a network as ONNX: grey values in; logit, score and heatmap out.

    Args:
        network: An image model, whose graph takes any number of images; or a breast or exam
            model, whose graph takes the images of one exam.
        size: (H, W) of its input.
        path: The file to write.

    Raises:
        RunError: If the exporter gives no program.
    """
    graph: nn.Module
    if isinstance(network, MultiViewClassifier):
        graph, example = MultiViewGraph(network), _example(network, size)
        inputs, outputs = graph.inputs, graph.outputs
    else:
        graph, example = _Graph(network), (torch.zeros(2, 1, *size),)
        inputs, outputs = ["image"], ["logit", "score", "heatmap"]
    several = torch.export.Dim("images")
    shapes = {name: None if name == "facts" else {0: several} for name in inputs}
    write_graph(graph, example, path, inputs=inputs, outputs=outputs, dynamic_shapes=shapes)


def write_graph(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: dict[str, Any],
) -> None:
    """Write a module as ONNX.

    Args:
        graph: What is exported, in evaluation mode from here on.
        example: Tensors to trace it by.
        path: The file to write.
        inputs: Names of what it takes.
        outputs: Names of what it gives.
        dynamic_shapes: As ``torch.onnx.export`` takes them.

    Raises:
        RunError: If the exporter gives no program.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with write_atomically(path) as temporary, warnings.catch_warnings():
        # The exporter warns of its own internals on every call.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            example,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise RunError("the ONNX exporter gave no program")
        program.save(str(temporary), external_data=False)


def add_settings(path: Path, key: str, settings: dict[str, Any]) -> None:
    """Write into an ONNX file how its output is to be used, as JSON under a key of its own.

    What stood under that key before is replaced.
    """
    model = onnx.load(path)
    told = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, told | {key: canonical_json(settings)})
    with write_atomically(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def by_engine(
    model: Path, how: ExportConfig, exact: Loaded, look: Callable[[Loaded], NDArray[Any]]
) -> tuple[Loaded, str]:
    """Write into an ONNX file which engine computes it from now on, and load it by that.

    Args:
        model: The file.
        how: Engine and precision.
        exact: The file loaded as it is, of which it has been shown that it gives what the training
            graph does.
        look: Returns logits of some images by what was loaded, the images along the first axis.

    Returns:
        What was loaded, and a sentence on how far its logits lie from those of ``exact``, empty
        where that is what computes it.

    Raises:
        ConfigError: If it cannot be evaluated by the engine here; see :func:`check_engine`.
        BundleError: If the engine cannot load it.
        RunError: If an engine in float32 gives other logits.
    """
    name = check_engine(how)
    if how == ExportConfig():
        return exact, ""
    add_settings(model, ENGINE_KEY, how.model_dump())
    used = type(exact)(model)
    expected, made = look(exact), look(used)
    apart = np.abs(made - expected)
    if how.precision == "float32":
        # Of a logit, and of each unit of its size: a map has cells far from 0.
        relative = apart / np.maximum(1, np.abs(expected))
        check_difference(relative, f"the exported graph in {name}", "ONNX Runtime's")
    return used, (
        f"{name} in {how.precision}: logits lie up to {float(np.max(apart, initial=0)):.2g} from "
        f"those of ONNX Runtime in float32 ({len(apart)} compared)"
    )


def _example(network: MultiViewClassifier, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Return an exam of four views, by which the graph is traced."""
    exam = (torch.zeros(4, 1, *size), torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1]))
    return (*exam, torch.zeros(len(FACTS))) if network.facts else exam


def check_difference(difference: Any, graph: str, other: str) -> None:
    """Refuse a graph whose logits are not those of what it was made from.

    Raises:
        RunError: If one differs by more than :data:`PARITY_TOLERANCE`, or is no number.
    """
    largest = float(np.max(np.abs(difference), initial=0.0))
    if not largest <= PARITY_TOLERANCE:
        raise RunError(
            f"{graph} differs from {other} by {largest:.2g} in the logit; at most "
            f"{PARITY_TOLERANCE} is accepted"
        )
