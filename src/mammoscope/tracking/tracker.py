"""Runs in MLflow: settings, metrics by epoch, the report's figures, the model and its signature.

Tracking is beside the work: what it needs is checked before training begins, and a server that
is lost meanwhile costs no training; what it missed is sent at the end.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mammoscope.artefacts import read_json, sha256_file, write_json
from mammoscope.config import Config, TrackingConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.log import get_logger
from mammoscope.processes import is_first_process
from mammoscope.tracking.model import log_model

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["RECORD", "Tracker", "track_report", "tracked", "ui_command"]

RECORD = "tracking.json"

_log = get_logger(__name__)

# MLflow tries for minutes and sends statistics of its use, unless it is told otherwise.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
_LONGEST_VALUE = 500


class Tracker:
    """One MLflow run that goes with one of ours.

    Args:
        client: Of the place where it is written down.
        run_id: MLflow's name of it.
        uri: That place.
    """

    def __init__(self, client: MlflowClient, run_id: str, uri: str) -> None:
        self.run_id = run_id
        self._client, self.uri = client, uri
        self._sent: set[int] = set()
        self._lost = ""

    def epoch(self, row: dict[str, float], run: Path | None = None) -> None:
        """Write down one epoch.

        Args:
            row: Of ``history.csv``.
            run: The run folder, which is told once where it is tracked.
        """
        if run is not None and not (run / RECORD).is_file():
            self.mark(run)
        step = int(row["epoch"])
        values = {name: value for name, value in row.items() if name != "epoch"}
        with self._or_later():
            self._metrics(values, step)
            self._sent.add(step)

    def mark(self, run: Path) -> None:
        """Tell a run folder where it is tracked."""
        write_json(run / RECORD, {"uri": self.uri, "run_id": self.run_id})

    def finish(self, run: Path) -> str:
        """Write down what a finished run made; returns a sentence if something is missing.

        A run of all folds has no epochs of its own: those of each fold are its children's.
        """
        self.mark(run)
        self._lost = ""
        with self._or_later():
            for row in _history(run):
                if int(row["epoch"]) not in self._sent:
                    self.epoch(row)
            if self._lost:
                return self._lost
            facts = read_json(run / "run.json", RunError)
            tags = {
                "mammoscope.best": json.dumps(facts["best"]),
                "mammoscope.model_sha256": facts["hashes"]["model.onnx"],
                "mammoscope.predictions_sha256": facts["hashes"]["predictions.parquet"],
                **{f"mammoscope.images.{part}": n for part, n in facts["counts"].items()},
            }
            for name, value in tags.items():
                self._client.set_tag(self.run_id, name, str(value))
            for path in (run / "run.json", run / "history.csv"):
                if path.is_file():
                    self._client.log_artifact(self.run_id, str(path))
            log_model(self.uri, self.run_id, run)
        return self._lost

    def report(self, run: Path, report: dict[str, Any]) -> str:
        """Write down a report's figures; returns a sentence if something is missing."""
        split = report["measured_on"]
        with self._or_later():
            levels = {level: values["metrics"] for level, values in report["levels"].items()}
            # Of tasks that have further measures.
            for level, metrics in {**levels, **report.get("measures", {})}.items():
                told = {
                    f"{split}.{level}.{name}{'' if end == 'value' else f'.{end}'}": metric[end]
                    for name, metric in metrics.items()
                    for end in ("value", "low", "high")
                }
                self._metrics({k: v for k, v in told.items() if v is not None}, 0)
            self._client.log_artifacts(self.run_id, str(run / "report"), "report")
        return self._lost

    def end(self, status: str) -> None:
        """Say how it ended: FINISHED, FAILED or KILLED."""
        with self._or_later():
            self._client.set_terminated(self.run_id, status)

    def begin(self, config: Config, facts: dict[str, str]) -> None:
        """Write down settings and what identifies the data.

        Raises:
            RunError: If that cannot be done: nothing has been spent yet.
        """
        from mlflow.entities import Param, RunTag

        with _loudly(self.uri):
            self._client.update_run(self.run_id, status="RUNNING")
            self._client.log_batch(
                self.run_id,
                params=[Param(key, value) for key, value in _settings(config).items()],
                tags=[RunTag(f"mammoscope.{key}", value) for key, value in facts.items()],
            )

    def _metrics(self, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    @contextmanager
    def _or_later(self) -> Iterator[None]:
        """Let the training go on when the server is lost, and say so once."""
        from mlflow.exceptions import MlflowException

        try:
            with _quiet():
                yield
        except (MlflowException, OSError) as error:
            lost = f"{self.uri} did not take everything of the run: {_first_line(error)}"
            if not self._lost:
                _log.warning(lost)
            self._lost = lost


@contextmanager
def tracked(
    config: Config,
    cohort: Path,
    run: Path,
    *,
    fold: int | Literal["all"] = 0,
    resume: bool = False,
    parent: Tracker | None = None,
) -> Iterator[Tracker | None]:
    """Give a tracker for a training, or ``None`` where none is asked for or MLflow is missing.

    Args:
        config: Whole configuration of the run.
        cohort: Its cohort folder.
        run: Its folder.
        fold: The fold that validates, or all of them in turn.
        resume: Go on with the MLflow run of the part before.
        parent: The run of all folds that this one is a part of.

    Raises:
        RunError: If the server cannot be reached or the file cannot be written, before any
            time is spent.
    """
    # Lightning starts this command once for each device; the first one writes.
    other = config.train.is_shared and not is_first_process()
    if other or not config.tracking.enabled:
        yield None
        return
    with _quiet():
        try:
            import mlflow  # noqa: F401 - is it there?
        except ModuleNotFoundError as error:
            if error.name != "mlflow":
                raise
            _log.warning("not tracked: mlflow is not installed; pip install 'mammoscope[track]'")
            yield None
            return
    tracker = _opened(config.tracking, run, resume=resume, parent=parent)
    tracker.begin(config, {"fold": str(fold), **_data(cohort)})
    try:
        yield tracker
    except KeyboardInterrupt:
        tracker.end("KILLED")
        raise
    except BaseException:
        tracker.end("FAILED")
        raise
    tracker.end("FINISHED")


def track_report(run: Path, report: dict[str, Any]) -> str:
    """Write a report down where its run is tracked, if it is.

    Args:
        run: The run folder.
        report: What ``report.json`` holds.

    Returns:
        A sentence if that could not be done, else nothing.
    """
    path = Path(run) / RECORD
    if not path.is_file():
        return ""
    values = read_json(path, RunError)
    try:
        tracker = Tracker(_client(values["uri"]), values["run_id"], values["uri"])
    except RunError as error:
        return str(error)
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        return "the report was not tracked: mlflow is not installed"
    return tracker.report(Path(run), report)


def ui_command(uri: str, port: int) -> list[str]:
    """Return the command that shows what was tracked, by MLflow's own pages on this machine.

    Raises:
        ConfigError: If the place is a server, which has pages of its own.
        RunError: If there is no such file.
    """
    import sys
    from importlib.util import find_spec

    if not uri.startswith("sqlite:///"):
        raise ConfigError(f"{uri} is a server: open it in a browser")
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.is_file():
        raise RunError(f"{path} does not exist: nothing was tracked there yet (train --track)")
    if find_spec("mlflow") is None:
        raise ModuleNotFoundError("No module named 'mlflow'", name="mlflow")
    os.environ.update(_ENVIRONMENT)
    where = ["--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "server", *where]


def _opened(
    config: TrackingConfig, run: Path, *, resume: bool, parent: Tracker | None = None
) -> Tracker:
    """Open an MLflow run: a new one, or that of the part before."""
    with _loudly(config.uri):
        client = _client(config.uri)
        record = run / RECORD
        if resume and record.is_file():
            earlier = read_json(record, RunError)
            if earlier["uri"] == config.uri:
                return Tracker(client, str(earlier["run_id"]), config.uri)
        experiment = client.get_experiment_by_name(config.experiment)
        experiment_id = (
            client.create_experiment(config.experiment, artifact_location=_artefacts(config.uri))
            if experiment is None
            else experiment.experiment_id
        )
        folder = run.resolve()
        name, tags = config.name or folder.name, {}
        if parent is not None:
            name = f"{config.name or folder.parent.name} {folder.name}"
            tags = {"mlflow.parentRunId": parent.run_id}
        made = client.create_run(experiment_id, run_name=name, tags=tags)
        return Tracker(client, made.info.run_id, config.uri)


def _client(uri: str) -> MlflowClient:
    """Return a client, having asked whether anybody is there.

    Raises:
        RunError: If not.
    """
    os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
    with _loudly(uri):
        from mlflow import MlflowClient

        client = MlflowClient(uri, registry_uri=uri)
        client.search_experiments(max_results=1)
        return client


def _artefacts(uri: str) -> str | None:
    """Return where files go: beside a SQLite file; a server decides for itself."""
    if not uri.startswith("sqlite:///"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts"
    return folder.as_uri()


@contextmanager
def _loudly(uri: str) -> Iterator[None]:
    """Turn every fault of MLflow into a sentence that says what to do.

    Raises:
        RunError: If there is one.
    """
    with _quiet():
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise RunError(
                f"tracking to {uri} is not possible ({_first_line(error)}): start the server or "
                "mend tracking.uri, or train without --track"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what MLflow says of its own libraries; its errors stay."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _settings(config: Config) -> dict[str, str]:
    """Return the configuration as dotted names, without what is about tracking itself."""
    values = config.model_dump(mode="json", exclude={"task", "tracking"})
    sections = {
        f"{section}.{key}": str(value)[:_LONGEST_VALUE]
        for section, settings in values.items()
        for key, value in settings.items()
    }
    return {"task": config.task, **sections}


def _data(cohort: Path) -> dict[str, str]:
    """Return what identifies the data; no path, which may name people."""
    synthetic = read_json(cohort / "cohort.json", RunError).get("synthetic")
    hashes = {
        f"cohort.{name}_sha256": sha256_file(cohort / f"{name}.parquet")
        for name in ("manifest", "splits")
    }
    return {"synthetic": str(bool(synthetic)).lower(), **hashes}


def _history(run: Path) -> list[dict[str, float]]:
    """Read ``history.csv``, if there is one; what an epoch did not measure is left out."""
    if not (run / "history.csv").is_file():
        return []
    with (run / "history.csv").open(newline="") as stream:
        return [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(stream)
        ]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
