"""Engines of exported graphs: which computes one, in what, and what it says where it cannot."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.bundles import brightness_graph
from fixtures.engines import HAS_BFLOAT16, by_openvino
from mammoscope.config import ExportConfig, load_config
from mammoscope.errors import BundleError, ConfigError, RunError
from mammoscope.export.graph import add_settings, by_engine
from mammoscope.inference import Predictor, Scorer, read_exam
from mammoscope.inference.openvino_engine import OpenVino
from mammoscope.inference.runtime import ENGINE_KEY, check_engine, open_graph

needs_bfloat16 = pytest.mark.skipif(
    not HAS_BFLOAT16, reason="this processor does not compute in bfloat16"
)


#: Stripes of an image, each a channel that is summed by itself, as local contrast has them.
STRIPES = 16


def contrast_graph(path: Path) -> Path:
    """How far each pixel lies from the mean of three, a thousandfold, and a third of that.

    A grey value of 200.01 is 200 in bfloat16, of whose eight digits none is left for the rest.
    """
    nodes = [
        helper.make_node("Conv", ["image", "mean"], ["around"], group=STRIPES, pads=[0, 1, 0, 1]),
        helper.make_node("Sub", ["image", "around"], ["off"]),
        helper.make_node("Mul", ["off", "thousand"], ["contrast"]),
        helper.make_node("Conv", ["contrast", "third"], ["made"]),
        helper.make_node("Add", ["made", "image"], ["beside"]),
    ]
    constants = {
        "mean": np.full((STRIPES, 1, 1, 3), 1 / 3, np.float32),
        "thousand": np.float32(1000),
        "third": (np.eye(STRIPES) / 3).astype(np.float32)[..., None, None],
    }
    sides = ["B", STRIPES, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "contrast",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sides)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)
            for name in ("made", "beside")
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def greys(count: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (200 + 0.1 * rng.random((count, STRIPES, side, side))).astype(np.float32)


def contrast(image: np.ndarray) -> np.ndarray:
    wide = np.pad(image.astype(np.float64), ((0, 0), (0, 0), (0, 0), (1, 1)))
    mean = (wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]) / 3
    return 1000 * (image - mean)


def test_a_graph_without_a_word_is_onnx_runtimes_and_one_with_it_another_engines(tmp_path):
    image = greys(2, 8)
    graph = open_graph(contrast_graph(tmp_path / "graph.onnx"))
    expected = graph.run(["made", "beside"], {"image": image})
    other = open_graph(by_openvino(tmp_path / "graph.onnx"))
    assert isinstance(other._engine, OpenVino)
    assert not isinstance(graph._engine, OpenVino)
    assert (other.inputs, other.outputs) == (graph.inputs, graph.outputs)
    assert other.metadata.keys() == {ENGINE_KEY}
    # Outputs come in the order in which they are asked for.
    found = other.run(["beside", "made"], {"image": image})
    np.testing.assert_allclose(found[1], expected[0], atol=0.1)
    np.testing.assert_allclose(found[0], expected[1], atol=0.1)
    np.testing.assert_allclose(found[1], contrast(image) / 3, atol=0.1)


@needs_bfloat16
def test_in_bfloat16_what_comes_before_the_first_convolution_keeps_all_its_digits(tmp_path):
    path = by_openvino(contrast_graph(tmp_path / "graph.onnx"), "bfloat16")
    image = greys(1, 64)
    made, beside = open_graph(path).run(["made", "beside"], {"image": image})
    # Eight digits of a third and of each contrast are left, and nothing is lost before.
    np.testing.assert_allclose(made, contrast(image) / 3, rtol=2**-7, atol=0.1)
    # What it computes is not float32.
    assert np.abs(made - contrast(image) / 3).max() > 1
    # What comes after the last convolution is.
    np.testing.assert_allclose(beside, made + image, rtol=1e-6)


@needs_bfloat16
def test_a_graph_without_a_convolution_is_computed_in_float32(tmp_path):
    path = brightness_graph(tmp_path / "graph.onnx")
    images = [np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) % 251]
    expected = Scorer(path)(images)
    found = Scorer(by_openvino(path, "bfloat16"))(images)
    np.testing.assert_allclose(found.logit, expected.logit, rtol=1e-5)
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-6)


def test_any_number_of_images_of_any_size_from_several_threads(tmp_path):
    graph = open_graph(by_openvino(contrast_graph(tmp_path / "graph.onnx")), threads=1)
    # More shapes than are kept compiled.
    shapes = [(count, side) for count in (1, 2, 3) for side in (8, 64, 96, 128)]
    given = [greys(*shape) * brighter for shape in shapes for brighter in (1, 2, 3, 4)]

    def made(image: np.ndarray) -> np.ndarray:
        return graph.run(["made"], {"image": image})[0]

    with ThreadPoolExecutor(4) as pool:
        for image, found in zip(given, pool.map(made, given), strict=True):
            np.testing.assert_allclose(found, contrast(image) / 3, atol=0.1)


def test_what_one_run_has_given_is_not_written_over_by_the_next(tmp_path):
    graph = open_graph(by_openvino(contrast_graph(tmp_path / "graph.onnx")))
    first = graph.run(["made"], {"image": greys(1, 8)})[0]
    kept = first.copy()
    graph.run(["made"], {"image": greys(1, 8) + 7})
    np.testing.assert_array_equal(first, kept)


@pytest.fixture
def no_bfloat16(monkeypatch):
    monkeypatch.setattr("mammoscope.inference.openvino_engine.has_bfloat16", lambda: False)


def test_a_processor_without_bfloat16_computes_in_float32_and_each_result_says_so(
    no_bfloat16, tmp_path, predictor, exam_folder
):
    scorer = Scorer(by_openvino(brightness_graph(tmp_path / "m.onnx"), "bfloat16"))
    result = Predictor(predictor.bundle, scorer)(read_exam(exam_folder))
    (told,) = [warning for warning in result.warnings if "bfloat16" in warning]
    assert "evaluated" in told
    assert "float32" in told
    path = by_openvino(contrast_graph(tmp_path / "graph.onnx"), "bfloat16")
    (made,) = open_graph(path).run(["made"], {"image": greys(1, 8)})
    np.testing.assert_allclose(made, contrast(greys(1, 8)) / 3, atol=0.1)


def test_nothing_is_evaluated_in_bfloat16_where_the_processor_has_none(no_bfloat16, tmp_path):
    path = brightness_graph(tmp_path / "m.onnx")
    how = ExportConfig(engine="openvino", precision="bfloat16")
    with pytest.raises(ConfigError, match=r"cannot be evaluated here.*mammoscope rescore"):
        by_engine(path, how, Scorer(path), lambda _: np.zeros(1))
    assert Scorer(path).graph.metadata == {}


def test_an_engine_that_gives_other_logits_in_float32_is_refused(tmp_path):
    path = brightness_graph(tmp_path / "m.onnx")
    differing = iter([np.zeros(2), np.array([0.0, 0.5])])
    with pytest.raises(RunError, match=r"in OpenVINO 20.* differs from ONNX Runtime's by 0\.5"):
        by_engine(path, ExportConfig(engine="openvino"), Scorer(path), lambda _: next(differing))


def test_an_engine_that_is_not_installed_is_named_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "mammoscope.inference.openvino_engine")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BundleError, match=r"OpenVINO in float32.*pip install 'mammoscope\[open"):
        open_graph(by_openvino(contrast_graph(tmp_path / "graph.onnx")))
    with pytest.raises(ConfigError, match=r"engine=openvino is not installed: pip install"):
        check_engine(ExportConfig(engine="openvino"))


@pytest.mark.parametrize("told", [{"engine": "tensorrt"}, {"speed": "high"}])
def test_an_engine_that_nobody_knows_is_refused(told, tmp_path):
    path = contrast_graph(tmp_path / "graph.onnx")
    add_settings(path, ENGINE_KEY, told)
    with pytest.raises(BundleError, match=r"graph\.onnx: its metadata mammoscope\.engine"):
        open_graph(path)


ALONE = """
import socket, sys, threading

tried = []
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, lambda *words: tried.append(words))
socket.getaddrinfo = lambda *words, **_: tried.append(words) or []

from pathlib import Path

import numpy as np

from mammoscope.inference.runtime import open_graph

graph = open_graph(Path(sys.argv[1]))
graph.run(["made"], {"image": np.zeros((1, 16, 8, 8), np.float32)})
assert "openvino" in sys.modules
assert sys.modules["openvino_telemetry"] is None
assert threading.active_count() == 1, threading.enumerate()
assert not tried, tried
"""


def test_nothing_is_told_to_the_makers_of_the_engine(tmp_path):
    """An import of openvino, as PyPI has it, sends a note of itself from a thread."""
    path = by_openvino(contrast_graph(tmp_path / "graph.onnx"))
    command = [sys.executable, "-c", ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["export.precision=bfloat16"], "precision=bfloat16 is of engine=openvino"),
        (
            ["task=anomaly", "export.engine=openvino", "export.precision=bfloat16"],
            "an anomaly score is a sum of small differences",
        ),
        (["export.engine=tensorrt"], "export.engine"),
    ],
)
def test_settings_that_no_engine_can_obey_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        load_config(None, settings)
