"""``mammoscope tune``: a study of trials that can be stopped and gone on with.

Its folder holds ``study.json`` (what is searched, on what), ``study.db`` (Optuna's, SQLite), a run
folder per trial, and what follows from them: ``best.yaml``, ``report.json`` and ``index.html``.
No image of the test split is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from mammoscope import __version__
from mammoscope.artefacts import claim_output, read_json, sha256_file, write_json
from mammoscope.cohort.manifest import read_cohort
from mammoscope.config.tuning import TuneConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.training.fit import check_input, check_start
from mammoscope.training.loop import with_precision
from mammoscope.training.run_folder import differing_keys
from mammoscope.training.tuning.report import write_report
from mammoscope.training.tuning.space import (
    base_config,
    check_space,
    config_of,
    grid,
    networks,
    suggest,
)
from mammoscope.training.tuning.trial import Outcome, Task
from mammoscope.training.tuning.workers import run_all

__all__ = ["RECORD", "Studied", "tune"]

RECORD = "study.json"
_DATABASE = "study.db"
_NAME = "study"
_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
# Trials that may fail before any has succeeded: after that it is the study that is wrong.
_FAILURES = 3
# Several processes' trials are written by one, but a reader may hold the file for a moment.
_LOCK_TIMEOUT_S = 60

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Studied:
    """A study on disk: its page, and what ``report.json`` holds."""

    path: Path
    report: dict[str, Any]


def tune(
    cohort: Path,
    folder: Path,
    settings: TuneConfig,
    *,
    trials: int | None = None,
    workers: int = 1,
    fold: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Studied:
    """Search settings on one fold of a cohort.

    Args:
        cohort: A cohort folder, prepared and split.
        folder: The study's folder; empty, or a stopped study with ``resume``.
        settings: What is searched, and how.
        trials: Trials in all, those of an earlier part included; all of a grid by default, and
            20 otherwise.
        workers: Trials at once, each in a process of its own where there are several.
        fold: The fold that validates.
        resume: Go on with the study that is there; a trial that was cut short goes on too.
        overwrite: Replace a study that is there.
        progress: Called with (ended, wanted) trials.

    Raises:
        ConfigError: If a key of the space is unknown, a value is not accepted, or the network
            cannot be trained as configured.
        CohortError: If the cohort cannot be trained on.
        RunError: If weights to start from do not fit, the study to resume is of another space,
            cohort or fold, or the first trials all fail.
        OutputError: If the folder is not empty or cannot be written.
        KeyboardInterrupt: If it was stopped from the keyboard; ``resume`` goes on from there.
    """
    cohort, folder = Path(cohort), Path(folder)
    check_space(settings)
    _check_start(cohort, settings, fold)
    record = _record(cohort, settings, fold)
    _claim(folder, record, resume=resume, overwrite=overwrite)
    with _opened(folder, settings) as study:
        if settings.sampler == "grid" and not study.trials:
            for params in grid(settings):
                study.enqueue_trial(params)
        wanted = trials or (len(study.trials) if settings.sampler == "grid" else 20)
        told = _Teller(study, wanted, progress)
        pending = _pending(study, settings, cohort, folder, fold, told)
        try:
            run_all(pending, workers, told.epoch, told.ended)
        finally:
            if any(trial.state.is_finished() for trial in study.trials):
                report = write_report(folder, record, settings, study)
    return Studied(folder / "index.html", report)


def _check_start(cohort: Path, settings: TuneConfig, fold: int) -> None:
    """Check that trials can begin, before an earlier study is replaced.

    What all trials share need not be a trial: the space may replace its backbone or weights.

    Raises:
        MammoscopeError: If they cannot, of the first fault's kind.
    """
    check_input(cohort, with_precision(base_config(settings)), fold)
    fault: ConfigError | RunError | None = None
    for config in networks(settings):
        try:
            check_start(cohort, with_precision(config), fold)
        except (ConfigError, RunError) as error:
            fault = fault or error
        else:
            return
    if fault is not None:
        raise fault


class _Teller:
    """Writes down what trials report. Only this process writes to the study."""

    def __init__(self, study: optuna.Study, wanted: int, progress: Progress | None) -> None:
        self.study, self.wanted = study, wanted
        self._progress = progress
        self.told()

    @property
    def finished(self) -> int:
        """Trials that have ended, however."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def told(self) -> None:
        """Tell how far the study is."""
        if self._progress is not None:
            self._progress(min(self.finished, self.wanted), self.wanted)

    def epoch(self, trial: Trial, epoch: int, value: float) -> bool:
        """Take an epoch's objective; says whether the trial is to be stopped."""
        # The last epoch before a stop may be trained once more.
        if epoch not in _frozen(self.study, trial).intermediate_values:
            trial.report(value, epoch)
        return bool(trial.should_prune())

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """Take how a trial ended.

        Raises:
            RunError: If the first trials all failed.
        """
        if outcome.reason:
            trial.set_user_attr("reason", outcome.reason)
        self.study.tell(trial, outcome.value, state=_STATES[outcome.state])
        self.told()
        done = [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]
        if len(done) == _FAILURES and all(t.state == TrialState.FAIL for t in done):
            raise RunError(
                f"the first {_FAILURES} trials failed, so the others were not tried; the last "
                f"because: {outcome.reason}"
            )


def _pending(
    study: optuna.Study,
    settings: TuneConfig,
    cohort: Path,
    folder: Path,
    fold: int,
    teller: _Teller,
) -> Iterator[tuple[Trial, Task]]:
    """Yield the trials that were cut short, then new ones until there are enough."""
    cut = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
    begun = teller.finished
    for number in range(teller.wanted - begun):
        if number < len(cut):
            # Optuna has no other way to a trial that another process began.
            trial = Trial(study, cut[number]._trial_id)  # noqa: SLF001
        else:
            if settings.sampler == "grid" and not _waiting(study):
                return
            trial = study.ask()
        params = suggest(settings, trial)
        run = folder / "trials" / f"{trial.number:04}"
        trial.set_user_attr("settings", params)
        config = config_of(settings, params)
        yield trial, Task(cohort, run, config, fold, settings.objective)


def _waiting(study: optuna.Study) -> bool:
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def _frozen(study: optuna.Study, trial: Trial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def _record(cohort: Path, settings: TuneConfig, fold: int) -> dict[str, Any]:
    return {
        "format_version": 1,
        "kind": "study",
        "synthetic": bool(read_cohort(cohort)["synthetic"]),
        "package_version": __version__,
        "cohort": {
            f"{name}_sha256": sha256_file(cohort / f"{name}.parquet")
            for name in ("manifest", "splits")
        },
        "fold": fold,
        "settings": settings.model_dump(mode="json"),
    }


def _claim(folder: Path, record: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Take an empty folder, or check that the study in it is this one."""
    if not resume:
        claim_output(folder, overwrite=overwrite, marker=RECORD)
        write_json(folder / RECORD, record)
        return
    earlier = read_json(folder / RECORD, RunError)
    if earlier.get("kind") != "study" or earlier.get("format_version") != 1:
        raise RunError(
            f"{folder / RECORD} is of kind {earlier.get('kind')!r}, format "
            f"{earlier.get('format_version')!r}; this version reads study format 1"
        )
    differing = [
        key
        for section in ("cohort", "fold", "settings")
        for key in differing_keys(earlier.get(section), record[section], section)
    ]
    if differing:
        raise RunError(
            f"{folder} cannot be resumed: {', '.join(differing)} differ from the stopped study's"
        )


@contextmanager
def _opened(folder: Path, settings: TuneConfig) -> Iterator[optuna.Study]:
    """Open the study's database, or begin it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{folder.resolve() / _DATABASE}",
            engine_kwargs={"connect_args": {"timeout": _LOCK_TIMEOUT_S}},
        )
        try:
            study = optuna.create_study(
                storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True
            )
            study.sampler = _sampler(settings, len(study.trials))
            study.pruner = _pruner(settings)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _sampler(settings: TuneConfig, there: int) -> optuna.samplers.BaseSampler:
    # A sampler begins anew when a study is resumed: with the same seed it would draw the same.
    seed = settings.seed + there
    if settings.sampler == "tpe":
        return optuna.samplers.TPESampler(
            n_startup_trials=settings.startup_trials,
            # Trials that still run count as bad ones, so that the next is not drawn beside them.
            constant_liar=True,
            seed=seed,
        )
    # A grid is a queue of trials; nothing is left to draw.
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(settings: TuneConfig) -> optuna.pruners.BasePruner:
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(
            n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_epochs
        )
    if settings.pruner == "hyperband":
        # Steps are epochs counted from 0; Hyperband's first rung is after the first of them.
        return optuna.pruners.HyperbandPruner(max_resource=_most_epochs(settings))
    return optuna.pruners.NopPruner()


def _most_epochs(settings: TuneConfig) -> int:
    dimension = settings.space.get("train.epochs")
    if dimension is None:
        return base_config(settings).train.epochs
    ends = dimension.values if dimension.values is not None else (dimension.high,)
    return int(max(ends))
