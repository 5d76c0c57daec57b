"""Models beside the one that scores: what the check of a service's health shows of them."""

from __future__ import annotations

from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from mammoscope.bundle import Companion
from mammoscope.config import PreprocessConfig
from mammoscope.errors import BundleError
from mammoscope.export.graph import add_settings
from mammoscope.inference.companions import load_companions
from mammoscope.inference.detector import DETECTOR_OUTPUTS, METADATA_KEY, DetectorContract
from mammoscope.inference.segmenter import LOGITS, SETTINGS_KEY

SIDE = 16


def broken_graph(path, outputs):
    """A graph that loads and fails on every image: seven cells hold no image."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [7])
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["image", "shape"], [name]) for name in outputs],
        "broken",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [shape],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path
    )
    return path


def companions(task, folder):
    beside = Companion(
        task=task, name=task, file=f"{task}.onnx", synthetic=True, threshold=0.5, target="any",
        preprocess=PreprocessConfig(height=4 * SIDE, width=2 * SIDE),
    )  # fmt: skip
    return load_companions(SimpleNamespace(looking=(beside,), second_stage=None), folder)


def test_the_check_of_a_tiled_detector_reaches_its_graph(tmp_path):
    path = broken_graph(tmp_path / "detect.onnx", DETECTOR_OUTPUTS)
    contract = DetectorContract((), SIDE, SIDE, SIDE, 0.25, 0.5, 5)
    add_settings(path, METADATA_KEY, contract.as_dict())
    with pytest.raises(BundleError, match="the detector failed"):
        companions("detect", tmp_path)[0].check()


def test_the_check_of_a_segmenter_of_windows_reaches_its_graph(tmp_path):
    path = broken_graph(tmp_path / "segment.onnx", [LOGITS])
    told = {"threshold": 0.5, "candidate_threshold": 0.1, "min_area_px": 1, "overlap": 0.5}
    add_settings(path, SETTINGS_KEY, {**told, "blend": "mean"})
    with pytest.raises(BundleError, match="the model failed"):
        companions("segment", tmp_path)[0].check()
