"""Arithmetic in graphs against the same in numpy, on graphs that no torch made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fixtures.bundles import brightness_graph
from fixtures.engines import by_openvino
from mammoscope.errors import RunError
from mammoscope.evaluation.calibration import IDENTITY, Calibration
from mammoscope.graphs import write_calibrated, write_mean
from mammoscope.inference.runtime import open_graph
from mammoscope.scores import scores_of

ISOTONIC = Calibration(
    method="isotonic",
    # Neighbouring float32 values, as an isotonic fit has them at a jump.
    knots=(-4.0, -1.0, float(np.nextafter(np.float32(-1), np.float32(0))), 0.5, 3.0),
    levels=(0.02, 0.1, 0.4, 0.4, 0.97),
)
CALIBRATIONS = {
    "none": IDENTITY,
    "platt": Calibration(method="platt", slope=0.4, intercept=-1.5),
    "platt at another prevalence": Calibration(
        method="platt", slope=0.4, intercept=-1.5, fitted_prevalence=0.34, prevalence=0.005
    ),
    "isotonic": ISOTONIC,
    "isotonic at another prevalence": Calibration(
        method="isotonic",
        knots=ISOTONIC.knots,
        levels=ISOTONIC.levels,
        fitted_prevalence=0.34,
        prevalence=0.005,
    ),
}


@pytest.fixture
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(120, 220, (3, 1, 64, 48)).astype(np.float32)


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_a_graph_gives_the_scores_that_the_formula_gives(name, images, tmp_path):
    calibration = CALIBRATIONS[name]
    source = brightness_graph(tmp_path / "graph.onnx")
    write_calibrated(source, tmp_path / "made.onnx", calibration)
    onnx.checker.check_model(onnx.load(tmp_path / "made.onnx"), full_check=True)
    before, found = run(source, images), run(tmp_path / "made.onnx", images)
    np.testing.assert_array_equal(found["logit"], before["logit"])
    np.testing.assert_array_equal(found["heatmap"], before["heatmap"])
    expected = calibration(before["logit"].astype(np.float64))
    np.testing.assert_allclose(found["score"], expected, rtol=2e-5)
    # The very nodes, not a formula like them.
    np.testing.assert_array_equal(found["score"], scores_of(before["logit"], calibration, source))
    assert ("local_score" in found) == (not calibration.is_identity)
    if "local_score" in found:
        # The hottest cell is the logit of this graph.
        hottest = found["local_score"].max(axis=(1, 2))
        np.testing.assert_allclose(hottest, found["score"], rtol=1e-3)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_one_logit_has_one_score_in_another_engine_too_alone_or_among_others(
    name, images, tmp_path
):
    """Knots that differ in the last digit of a float32 are in float64, which it does not have."""
    source = by_openvino(brightness_graph(tmp_path / "graph.onnx"))
    made = tmp_path / "made.onnx"
    calibration = CALIBRATIONS[name]
    write_calibrated(source, made, calibration)
    at_knots = np.array([*ISOTONIC.knots, -9.0, 9.0, 0.1], np.float32)
    alone = [float(scores_of(knot[None], calibration, source)[0]) for knot in at_knots]
    assert scores_of(at_knots, calibration, source).tolist() == alone
    np.testing.assert_allclose(alone, calibration(at_knots.astype(np.float64)), rtol=2e-5)
    graph = open_graph(made)
    logit, score = graph.run(["logit", "score"], {"image": images})
    assert scores_of(logit, calibration, source).tolist() == score.tolist()
    for place in range(len(images)):
        assert graph.run(["score"], {"image": images[place : place + 1]})[0] == score[place]


def test_a_calibration_takes_the_place_of_the_one_before(images, tmp_path):
    source = brightness_graph(tmp_path / "graph.onnx")
    write_calibrated(source, tmp_path / "once.onnx", CALIBRATIONS["platt"])
    write_calibrated(source, tmp_path / "twice.onnx", ISOTONIC)
    write_calibrated(tmp_path / "twice.onnx", tmp_path / "twice.onnx", CALIBRATIONS["platt"])
    assert (tmp_path / "twice.onnx").read_bytes() == (tmp_path / "once.onnx").read_bytes()
    write_calibrated(tmp_path / "twice.onnx", tmp_path / "back.onnx", IDENTITY)
    assert sorted(run(tmp_path / "back.onnx", images)) == ["heatmap", "logit", "score"]


def test_one_graph_gives_the_mean_of_several(images, tmp_path):
    paths = []
    for number, bright in enumerate((0.6, 0.66, 0.7)):
        path = tmp_path / f"{number}.onnx"
        write_calibrated(brightness_graph(path, bright), path, CALIBRATIONS["platt"])
        paths.append(path)
    write_mean(paths, tmp_path / "mean.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "mean.onnx"), full_check=True)
    parts, found = [run(path, images) for path in paths], run(tmp_path / "mean.onnx", images)
    mean = np.mean([part["logit"] for part in parts], axis=0)
    np.testing.assert_allclose(found["logit"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["score"], 1 / (1 + np.exp(-mean)), rtol=1e-5)
    odds = [np.log(part["heatmap"] / (1 - part["heatmap"])) for part in parts]
    expected = 1 / (1 + np.exp(-np.mean(odds, axis=0)))
    np.testing.assert_allclose(found["heatmap"], expected, atol=1e-4)
    assert run(tmp_path / "mean.onnx", images[:1])["logit"].shape == (1,)


def test_what_is_no_graph_of_ours_is_refused(tmp_path):
    (tmp_path / "words.onnx").write_text("not a graph")
    with pytest.raises(RunError, match="cannot be read as ONNX"):
        write_calibrated(tmp_path / "words.onnx", tmp_path / "made.onnx", IDENTITY)
    model = onnx.load(brightness_graph(tmp_path / "graph.onnx"))
    del model.graph.output[2]
    onnx.save(model, tmp_path / "less.onnx")
    with pytest.raises(RunError, match=r"gives \['logit', 'score'\]"):
        write_mean([tmp_path / "graph.onnx", tmp_path / "less.onnx"], tmp_path / "made.onnx")
    assert not (tmp_path / "made.onnx").exists()
