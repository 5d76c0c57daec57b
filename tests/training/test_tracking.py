"""Runs in MLflow: a local SQLite file, and what happens where there is none."""

from __future__ import annotations

import json
import logging
import sys
import warnings

import pytest
from onnx import TensorProto, helper

from mammoscope.cli import run as verbs
from mammoscope.config import Config, load_config
from mammoscope.errors import ConfigError, RunError
from mammoscope.tracking import Tracker, track_report, tracked, ui_command
from mammoscope.tracking.model import signature_of

SETTINGS = (
    "model.backbone=baseline_cnn",
    "train.epochs=3",
    "train.batch_size=8",
    "train.patience=0",
    "evaluation.bootstrap=20",
)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def client(uri):
    with warnings.catch_warnings():
        # MLflow and SQLAlchemy warn of each other.
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        yield MlflowClient(uri)


@pytest.fixture(scope="module")
def run(uri, make_cohort, tmp_path_factory):
    """A run that the command line trained, tracked and evaluated."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    settings = [*SETTINGS, f"tracking.uri={uri}"]
    verbs.train(make_cohort(36), folder, settings=settings, track=True)
    verbs.evaluate(folder)
    return folder


@pytest.fixture
def config(uri):
    values = {"tracking": {"enabled": True, "uri": uri, "experiment": "others"}}
    return Config.model_validate(values)


def of(client, run):
    return client.get_run(json.loads((run / "tracking.json").read_text())["run_id"])


def test_a_tracked_run_holds_settings_epochs_data_figures_and_the_model(run, client):
    made = of(client, run)
    facts = json.loads((run / "run.json").read_text())
    assert made.info.status == "FINISHED"
    assert made.info.run_name == "first"
    assert made.data.params["train.epochs"] == "3"
    assert made.data.params["model.backbone"] == "baseline_cnn"
    assert not any(name.startswith("tracking.") for name in made.data.params)
    tags = made.data.tags
    assert tags["mammoscope.cohort.manifest_sha256"] == facts["cohort"]["manifest_sha256"]
    assert tags["mammoscope.synthetic"] == "true"
    assert facts["cohort"]["path"] not in json.dumps(made.to_dictionary())
    curve = client.get_metric_history(made.info.run_id, "val_auroc")
    assert [point.step for point in curve] == [0, 1, 2]
    assert max(point.value for point in curve) == facts["best"]["auroc"]
    report = json.loads((run / "report" / "report.json").read_text())
    auroc = report["levels"]["image"]["metrics"]["auroc"]["value"]
    assert made.data.metrics["test.image.auroc"] == auroc
    assert {item.path for item in client.list_artifacts(made.info.run_id)} >= {
        "report",
        "run.json",
        "history.csv",
    }
    figures = client.list_artifacts(made.info.run_id, "report/figures")
    assert "report/figures/image_roc.svg" in {item.path for item in figures}


def test_the_models_signature_is_that_of_the_graph(run, uri, client):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (model,) = client.search_logged_models([of(client, run).info.experiment_id])
        import mlflow

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(uri)
        try:
            signature = mlflow.models.get_model_info(f"models:/{model.model_id}").signature
        finally:
            mlflow.set_tracking_uri(before)
    assert signature.inputs.inputs[0].shape == (-1, 1, 64, 32)
    assert signature.inputs.input_names() == ["image"]
    assert set(signature.outputs.input_names()) == {"logit", "score", "heatmap", "local_score"}


def test_the_signature_of_an_exams_graph_has_all_that_it_takes():
    sides = {"image": ["V", 1, 64, 32], "projection": ["V"], "side": ["V"], "facts": [3]}
    kinds = {"projection": TensorProto.INT64, "side": TensorProto.INT64}
    taken = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
        for name, shape in sides.items()
    ]
    given = [helper.make_tensor_value_info("breast_score", TensorProto.FLOAT, [2])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = signature_of(helper.make_model(helper.make_graph([], "exam", taken, given)))
    assert [(spec.name, spec.type.name, spec.shape) for spec in made.inputs] == [
        ("image", "float32", (-1, 1, 64, 32)),
        ("projection", "int64", (-1,)),
        ("side", "int64", (-1,)),
        ("facts", "float32", (3,)),
    ]
    assert [(spec.name, spec.shape) for spec in made.outputs] == [("breast_score", (2,))]


def test_jobs_that_share_no_training_are_tracked_each_and_processes_of_one_once(
    config, cohort, client, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLURM_PROCID", "3")
    with tracked(config, cohort, tmp_path / "alone") as tracker:
        assert tracker is not None
    monkeypatch.delenv("SLURM_PROCID")
    train = config.train.model_copy(update={"devices": 1, "nodes": 2})
    shared = config.model_copy(update={"train": train})
    monkeypatch.setenv("NODE_RANK", "1")
    with tracked(shared, cohort, tmp_path / "shared") as tracker:
        assert tracker is None


def test_a_run_that_fails_or_is_stopped_says_so(config, cohort, client, tmp_path):
    for error, status in ((KeyboardInterrupt, "KILLED"), (RunError, "FAILED")):
        with pytest.raises(error), tracked(config, cohort, tmp_path / status) as tracker:
            raise error
        assert client.get_run(tracker.run_id).info.status == status


def test_a_resumed_run_goes_on_in_the_same_place(config, cohort, client, tmp_path):
    (tmp_path / "run").mkdir()
    with tracked(config, cohort, tmp_path / "run") as first:
        first.epoch({"epoch": 0, "val_auroc": 0.5}, run=tmp_path / "run")
    with tracked(config, cohort, tmp_path / "run", resume=True) as again:
        assert again.run_id == first.run_id
        assert client.get_run(first.run_id).info.status == "RUNNING"
    with tracked(config, cohort, tmp_path / "run") as other:
        assert other.run_id != first.run_id


def test_a_server_that_is_lost_costs_no_training_and_is_made_up_for(
    run, config, cohort, client, tmp_path, monkeypatch, caplog
):
    from mlflow.exceptions import MlflowException

    with tracked(config, cohort, tmp_path / "run") as tracker:
        real = tracker._client.log_batch

        def gone(*args, **kwargs):
            raise MlflowException("connection refused")

        monkeypatch.setattr(tracker._client, "log_batch", gone)
        with caplog.at_level(logging.WARNING):
            for epoch in range(2):
                tracker.epoch({"epoch": epoch, "val_auroc": 0.5})
        assert caplog.text.count("did not take everything of the run: connection refused") == 1
        assert "did not take everything" in tracker.finish(run)
        monkeypatch.setattr(tracker._client, "log_batch", real)
        kept = (run / "tracking.json").read_text()
        assert tracker.finish(run) == ""
    assert len(client.get_metric_history(tracker.run_id, "val_auroc")) == 3
    assert json.loads(kept)["run_id"] == tracker.run_id


def test_a_server_that_is_not_there_is_told_before_time_is_spent(cohort, tmp_path):
    # Port 9 discards; nobody listens.
    config = load_config(None, ["tracking.enabled=true", "tracking.uri=http://127.0.0.1:9"])
    with (
        pytest.raises(RunError, match=r"http://127\.0\.0\.1:9 is not possible.*without --track"),
        tracked(config, cohort, tmp_path / "run"),
    ):
        pytest.fail("training began")
    (tmp_path / "tracking.json").write_text('{"uri": "http://127.0.0.1:9", "run_id": "x"}')
    assert "is not possible" in track_report(tmp_path, {})


def test_without_mlflow_training_goes_on_and_says_so(cohort, config, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with caplog.at_level(logging.WARNING), tracked(config, cohort, tmp_path / "run") as tracker:
        assert tracker is None
    assert "pip install 'mammoscope[track]'" in caplog.text
    (tmp_path / "tracking.json").write_text('{"uri": "sqlite:///x", "run_id": "x"}')
    assert "mlflow is not installed" in track_report(tmp_path, {})


def test_nothing_is_tracked_unasked(cohort, tmp_path):
    with tracked(Config(), cohort, tmp_path / "run") as tracker:
        assert tracker is None
    assert track_report(tmp_path, {}) == ""


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://me:secret@host/", "MLFLOW_TRACKING_PASSWORD"),
        ("postgresql://host/db", "begins with sqlite://, http://, https://"),
        ("mlruns", "begins with"),
    ],
)
def test_a_place_that_cannot_be_one_is_refused(uri, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(None, [f"tracking.uri={uri}"])
    assert "uri" in str(caught.value)


def test_the_pages_are_mlflows_own_on_this_machine_alone(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="nothing was tracked there yet"):
        ui_command(f"sqlite:///{tmp_path / 'none.db'}", 5000)
    with pytest.raises(ConfigError, match="open it in a browser"):
        ui_command("http://host", 5000)
    (tmp_path / "some.db").touch()
    monkeypatch.setattr("os.environ", {})
    command = ui_command(f"sqlite:///{tmp_path / 'some.db'}", 5001)
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[-1] == "5001"


def test_what_a_report_measures_beside_scores_is_tracked_too(tmp_path):
    class Client:
        def __init__(self):
            self.told = {}

        def log_batch(self, _, metrics):
            self.told |= {metric.key: metric.value for metric in metrics}

        def log_artifacts(self, *_):
            pass

    client = Client()
    found = {"sensitivity_at_0.25": {"value": 0.8, "low": 0.7, "high": None}}
    report = {"measured_on": "test", "levels": {}, "measures": {"lesion": found}}
    assert Tracker(client, "1", "here").report(tmp_path, report) == ""
    name = "test.lesion.sensitivity_at_0.25"
    assert client.told == {name: 0.8, f"{name}.low": 0.7}


def test_a_run_of_all_folds_is_one_run_with_a_child_for_each(uri, client, make_cohort, tmp_path):
    folder = tmp_path / "whole"
    settings = [*SETTINGS, "train.epochs=2", f"tracking.uri={uri}"]
    verbs.train(make_cohort(36), folder, settings=settings, track=True, folds="all")
    whole, children = of(client, folder), [of(client, folder / f"fold-{n}") for n in (0, 1)]
    assert {made.info.status for made in (whole, *children)} == {"FINISHED"}
    assert whole.data.tags["mammoscope.fold"] == "all"
    for number, child in enumerate(children):
        assert child.data.tags["mlflow.parentRunId"] == whole.info.run_id
        assert child.data.tags["mammoscope.fold"] == str(number)
        assert child.info.run_name == f"whole fold-{number}"
        assert len(client.get_metric_history(child.info.run_id, "val_auroc")) == 2
    facts = json.loads((folder / "run.json").read_text())
    assert whole.data.tags["mammoscope.model_sha256"] == facts["hashes"]["model.onnx"]
    assert "run.json" in {item.path for item in client.list_artifacts(whole.info.run_id)}
