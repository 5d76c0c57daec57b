"""A real bundle without torch, exams as DICOM files, and a service on a real socket."""

from __future__ import annotations

import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from mammoscope.service.server import new_server
from onnx import TensorProto, helper, numpy_helper

from mammoscope.bundle import write_bundle
from mammoscope.inference import Predictor, load_bundle
from mammoscope.service import ServiceSettings, create_app

Serving = Callable[..., AbstractContextManager[httpx.Client]]
CELLS = [16, 16]


def brightness_graph(path: Path, bright: float = 0.66, steepness: float = 30.0) -> Path:
    """A model that finds bright cells suspicious: cells of 16 pixels, their maximum the logit."""
    constants = {
        "scale": np.float32(steepness / 255),
        "offset": np.float32(steepness * bright),
        "cells": np.array([1], np.int64),
        "grid": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("AveragePool", ["image"], ["mean"], kernel_shape=CELLS, strides=CELLS),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "offset"], ["local"]),
        helper.make_node("ReduceMax", ["local", "grid"], ["logit"], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Sigmoid", ["local"], ["heat"]),
        helper.make_node("Squeeze", ["heat", "cells"], ["heatmap"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 1, "H", "W"])],
        [
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["B"]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["B"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["B", "h", "w"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def operating_point(threshold: float) -> dict[str, object]:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.06, "high": value + 0.05}

    return {
        "name": "best_f1",
        "target": "best_f1",
        "threshold": threshold,
        "confidence": 0.95,
        "sensitivity": estimate(0.81),
        "specificity": estimate(0.88),
        "precision": estimate(0.6),
        "f1": estimate(0.69),
    }


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(
        folder / "bundle",
        brightness_graph(folder / "graph.onnx"),
        name="bright-cells",
        package_version="0.1.0",
        synthetic=True,
        intended_use="Research and tests only.",
        input={"preprocess": {"height": 256, "width": 128}},
        operating_points={
            "primary": "best_f1",
            "image": [operating_point(0.5)],
            "breast": [operating_point(0.6)],
        },
    )
    return folder / "bundle"


@pytest.fixture(scope="session")
def predictor(bundle_dir: Path) -> Predictor:
    return load_bundle(bundle_dir, threads=1)


@pytest.fixture(scope="session")
def serving(predictor: Predictor) -> Serving:
    """Serve on a free loopback port for the length of a ``with``; gives a client of it."""

    @contextmanager
    def serve(by: object = predictor, **settings: object) -> Iterator[httpx.Client]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            app = create_app(by, ServiceSettings(**settings))
            server = new_server(app)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                waited_until = time.monotonic() + 20
                while not server.started and time.monotonic() < waited_until:
                    time.sleep(0.01)
                base = f"http://127.0.0.1:{listener.getsockname()[1]}"
                with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
                    yield client
            finally:
                server.should_exit = True
                thread.join(20)
            assert not thread.is_alive(), "the server did not stop"

    return serve


@pytest.fixture(scope="session")
def service(serving: Serving) -> Iterator[httpx.Client]:
    """One running service for the tests that do not count or bound anything."""
    with serving() as client:
        yield client


@pytest.fixture(scope="session")
def make_zip() -> Callable[..., Path]:
    """Write a zip of names and contents."""

    def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return write


@pytest.fixture(scope="session")
def as_form() -> Callable[[Sequence[Path]], list[tuple[str, tuple[str, bytes]]]]:
    """Files as the parts of a form."""
    return lambda paths: [("files", (path.name, path.read_bytes())) for path in paths]
