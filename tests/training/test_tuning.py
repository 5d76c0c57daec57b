"""A study: what it searches, that it can be stopped anywhere, and what it writes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from types import SimpleNamespace

import optuna
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import save_file

from mammoscope.artefacts import sha256_file
from mammoscope.config import TuneConfig, load_config, load_settings
from mammoscope.errors import CohortError, ConfigError, OutputError, RunError
from mammoscope.training.tuning import study as study_module
from mammoscope.training.tuning import tune, workers
from mammoscope.training.tuning.space import check_space, config_of, grid, suggest
from mammoscope.training.tuning.trial import Outcome

SHARED = {
    "model": {"backbone": "baseline_cnn"},
    "train": {"epochs": 3, "batch_size": 8, "patience": 0},
}


def settings(space=None, **others):
    values = {
        "space": space or {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "config": SHARED,
        "startup_trials": 2,
        "warmup_epochs": 1,
        **others,
    }
    return TuneConfig.model_validate(values)


def row(epoch, value):
    return {"epoch": epoch, "val_auroc": value, "val_average_precision": value / 2}


@pytest.fixture
def pretend(monkeypatch):
    """Trials that train nothing: a function of the configuration says how each goes."""

    def use(curve):
        def run_trial(task, told):
            task.run.mkdir(parents=True, exist_ok=True)
            value = 0.0
            for epoch, value in enumerate(curve(task.config)):
                if told(epoch, value):
                    return Outcome("pruned")
            return Outcome("complete", value)

        monkeypatch.setattr(workers, "run_trial", run_trial)

    return use


def steady(config):
    """The nearer the rate is to 1e-3, the better."""
    best = 1 - abs(config.train.lr - 1e-3) * 10
    return [best - 0.2, best - 0.1, best]


def states(folder):
    return [t["state"] for t in json.loads((folder / "report.json").read_text())["trials"]]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"train.lrr": {"values": [1]}}, r"unknown key train\.lrr; did you mean train\.lr\?"),
        ({"train.lr": {"low": 1.0, "high": 1.0}}, "the range is empty: low 1 is not below high 1"),
        ({"train.lr": {"low": 0.0, "high": 1.0, "log": True}}, "log asks for a low above 0"),
        ({"train.lr": {"low": -1.0, "high": 1.0}}, r"train\.lr may not be -1\.0.*greater than 0"),
        ({"train.lr": {"low": 0.1}}, "give low and high, or values"),
        ({"train.lr": {"values": []}}, "values is an empty list"),
        ({"train.lr": {"values": [0.1, 0.1]}}, "one value twice"),
        ({"train.lr": {"values": [0.1], "low": 0.0}}, "values stand alone"),
        ({"model.pool": {"values": ["avg", "middle"]}}, r"model\.pool may not be 'middle'"),
        ({"model.backbone": {"values": ["baseline_cnn", "resnet81"]}},
         r"space: model\.backbone may not be 'resnet81'.*nearest: .*resnet"),
        ({"task": {"values": ["classify", "detect"]}}, "different tasks cannot be compared"),
        ({"train.label": {"values": ["cancer", "biopsy"]}}, "different labels cannot be compared"),
        ({"evaluation.seed": {"values": [1, 2]}}, "it changes no training"),
        ({"train.devices": {"values": [1, 2]}}, "trials train on one device each"),
        ({"train": {"values": [1]}}, "unknown key train"),
        ({}, "at least 1 item"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_searched_is_refused_by_key(tmp_path, space, words):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"space": space}))
    with pytest.raises(ConfigError, match=words):
        check_space(load_settings(TuneConfig, path))


def test_weights_that_have_seen_what_validates_stop_a_study_before_it_begins(cohort, tmp_path):
    hashes = {
        f"{name}_sha256": sha256_file(cohort / f"{name}.parquet") for name in ("manifest", "splits")
    }
    facts = {"fold": 1, "cohort": hashes}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    weights = tmp_path / "weights.safetensors"
    model = {"backbone": "baseline_cnn", "weights": str(weights)}
    with pytest.raises(ConfigError, match="has learnt from the images of fold 0"):
        tune(cohort, tmp_path / "study", settings(config={**SHARED, "model": model}), trials=1)
    assert not (tmp_path / "study").exists()


def test_numbers_that_yaml_reads_as_words_are_numbers(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "space:\n  train.lr: {values: [1e-4, 3e-4]}\n  train.ema: {low: 1e-3, high: 0.5}"
    )
    made = load_settings(TuneConfig, path)
    assert made.space["train.lr"].values == (1e-4, 3e-4)
    assert made.space["train.ema"].low == 1e-3


def test_a_grid_is_every_combination_of_whole_numbers_steps_and_lists():
    made = settings(
        {
            "train.epochs": {"low": 2, "high": 4},
            "train.lr": {"low": 1e-4, "high": 1e-2, "log": True, "points": 3},
            "model.pool": {"values": ["avg", "max"]},
        },
        sampler="grid",
    )
    points = list(grid(made))
    assert len(points) == 3 * 3 * 2
    assert sorted({p["train.epochs"] for p in points}) == [2, 3, 4]
    assert sorted({p["train.lr"] for p in points}) == pytest.approx([1e-4, 1e-3, 1e-2])
    names = ("scale", "gamma", "noise", "shift")
    many = {f"augment.{name}": {"low": 0.0, "high": 0.5, "points": 30} for name in names}
    with pytest.raises(ConfigError, match="810,000 combinations"):
        check_space(settings(many, sampler="grid"))


def test_a_key_of_fractions_is_searched_between_whole_ends():
    made = settings({"train.positive_weight": {"low": 1, "high": 10}}, sampler="grid")
    check_space(made)
    assert [point["train.positive_weight"] for point in grid(made)] == [1, 4, 7, 10]
    drawn = suggest(made, optuna.trial.FixedTrial({"train.positive_weight": 2.5}))
    assert drawn == {"train.positive_weight": 2.5}


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({"tracking": {"enabled": True}}, "tracking is of single runs: tune without it"),
        ({"train": {"devices": 2}}, r"tune uses one device: set train\.devices=1"),
    ],
)
def test_a_study_is_not_tracked_and_uses_one_device(cohort, tmp_path, shared, words):
    with pytest.raises(ConfigError, match=words):
        tune(cohort, tmp_path / "s", settings(config=shared))
    assert not (tmp_path / "s").exists()


def test_a_grid_tries_every_combination_once(cohort, tmp_path, pretend):
    pretend(steady)
    space = {"train.lr": {"values": [1e-4, 1e-3, 1e-2]}, "model.pool": {"values": ["avg", "max"]}}
    report = tune(cohort, tmp_path / "s", settings(space, sampler="grid", pruner="none")).report
    tried = {(t["settings"]["train.lr"], t["settings"]["model.pool"]) for t in report["trials"]}
    assert len(report["trials"]) == len(tried) == 6
    assert report["best"]["settings"]["train.lr"] == 1e-3


def test_the_best_settings_are_a_file_that_train_takes(cohort, tmp_path, pretend):
    pretend(steady)
    made = tune(cohort, tmp_path / "s", settings(pruner="none"), trials=10)
    best = made.report["best"]
    config = load_config(tmp_path / "s" / "best.yaml")
    assert config == config_of(settings(), best["settings"])
    assert config.train.lr == best["settings"]["train.lr"]
    assert best["value"] == max(t["value"] for t in made.report["trials"] if t["value"] is not None)
    assert "SYNTHETIC" in (tmp_path / "s" / "best.yaml").read_text()
    assert set(made.report["importances"]) == {"fanova", "mean_decrease_impurity"}
    assert sum(made.report["importances"]["fanova"].values()) == pytest.approx(1)
    page = made.path.read_text()
    assert "SYNTHETIC" in page
    assert "Hutter" in page
    assert "http" not in page


@pytest.mark.parametrize(
    ("shared", "space"),
    [
        ({"lesions": {"malignant_only": True}}, None),
        ({"evaluation": {
            "calibration": "none", "breast_score": "max", "operating_points": ["best_f1"]}}, None),
        ({"stages": {"jitter": 0.2}}, None),
        ({}, {"lesions.malignant_only": {"values": [True]}}),
    ],
)  # fmt: skip
def test_every_section_of_the_best_trial_is_in_its_file(cohort, tmp_path, pretend, shared, space):
    pretend(steady)
    made = settings(space, config={**SHARED, **shared})
    best = tune(cohort, tmp_path / "s", made, trials=1).report["best"]
    config = config_of(made, best["settings"])
    assert config != config_of(settings(), {})
    assert load_config(tmp_path / "s" / "best.yaml") == config


def test_trials_that_lag_behind_are_stopped_early_and_are_no_result(cohort, tmp_path, pretend):
    seen = []

    def curve(config):
        seen.append(config.train.lr)
        return [0.9, 0.9, 0.9] if len(seen) <= 2 else [0.1, 0.1, 0.1]

    pretend(curve)
    report = tune(cohort, tmp_path / "s", settings(), trials=4).report
    assert states(tmp_path / "s") == ["complete", "complete", "pruned", "pruned"]
    assert [t["value"] for t in report["trials"]] == [0.9, 0.9, None, None]
    # Stopped after the epochs of grace, not at the end.
    assert len(report["trials"][2]["by_epoch"]) == 2


def test_a_stopped_study_goes_on_where_it_was(cohort, tmp_path, pretend):
    seen = []

    def interrupted(config):
        seen.append(config.train.lr)
        yield 0.5
        if len(seen) == 3:
            raise KeyboardInterrupt
        yield from (0.6, 0.7)

    pretend(interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(cohort, tmp_path / "s", settings(pruner="none"), trials=5)
    assert states(tmp_path / "s") == ["complete", "complete", "running"]
    report = tune(cohort, tmp_path / "s", settings(pruner="none"), trials=5, resume=True).report
    assert states(tmp_path / "s") == ["complete"] * 5
    # The trial that was cut short went on with its own settings, and no setting came twice.
    assert report["trials"][2]["settings"]["train.lr"] == seen[2] == seen[3]
    assert len(set(seen)) == 5
    again = tune(cohort, tmp_path / "s", settings(pruner="none"), trials=5, resume=True).report
    assert len(again["trials"]) == 5


def test_a_study_of_another_space_cohort_or_fold_is_refused(cohort, make_cohort, tmp_path, pretend):
    pretend(steady)
    tune(cohort, tmp_path / "s", settings(), trials=1)
    other = settings({"train.lr": {"low": 1e-5, "high": 1e-2, "log": True}})
    with pytest.raises(RunError, match=r"settings\.space\.train\.lr\.low differ"):
        tune(cohort, tmp_path / "s", other, trials=2, resume=True)
    with pytest.raises(RunError, match="fold differ"):
        tune(cohort, tmp_path / "s", settings(), trials=2, fold=1, resume=True)
    with pytest.raises(RunError, match=r"cohort\.manifest_sha256"):
        tune(make_cohort(20), tmp_path / "s", settings(), trials=2, resume=True)
    with pytest.raises(OutputError, match="--overwrite"):
        tune(cohort, tmp_path / "s", settings(), trials=2)
    with pytest.raises(RunError, match=r"study\.json is missing"):
        tune(cohort, tmp_path / "nowhere", settings(), trials=2, resume=True)


def test_faults_of_the_cohort_are_found_before_anything_is_written(make_cohort, tmp_path):
    one_class = make_cohort(cancer=lambda number: number % 2)
    with pytest.raises(CohortError, match="both 0 and 1 are needed"):
        tune(one_class, tmp_path / "s", settings(), trials=1)
    with pytest.raises(ConfigError, match="fold 7"):
        tune(make_cohort(), tmp_path / "s", settings(), trials=1, fold=7)
    assert not (tmp_path / "s").exists()


def test_what_cannot_begin_costs_an_earlier_study_nothing(cohort, tmp_path, pretend):
    pretend(steady)
    folder = tmp_path / "s"
    tune(cohort, folder, settings(), trials=1)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    weights = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.zeros(1)}, weights)
    model = {**SHARED["model"], "weights": str(weights)}
    wrong = settings(config={**SHARED, "model": model})
    pretend(lambda _: pytest.fail("a trial was begun"))
    with pytest.raises(RunError, match=r"weights .* do not fit the backbone"):
        tune(cohort, folder, wrong, trials=3, overwrite=True)
    typo = settings({"model.backbone": {"values": ["baseline_cnn", "resnet81"]}})
    with pytest.raises(ConfigError, match="resnet81"):
        tune(cohort, folder, typo, trials=3, overwrite=True)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_space_may_replace_the_network_that_could_not_begin(cohort, tmp_path, pretend):
    pretend(steady)
    # baseline_cnn has no residual paths to skip.
    shared = {**SHARED, "model": {**SHARED["model"], "drop_path": 0.2}}
    with pytest.raises(ConfigError, match="drop_path"):
        tune(cohort, tmp_path / "s", settings(config=shared), trials=1)
    assert not (tmp_path / "s").exists()
    space = {"model.drop_path": {"values": [0.2, 0.0]}}
    tune(cohort, tmp_path / "s", settings(space, config=shared), trials=1)


def test_a_failed_trial_has_a_reason_and_no_score(cohort, tmp_path):
    # There are too few positives for eight in each batch, which training says at its start.
    space = {"train.positives_per_batch": {"values": [1, 8]}}
    shared = {**SHARED, "train": {**SHARED["train"], "epochs": 1}}
    report = tune(cohort, tmp_path / "s", settings(space, sampler="grid", config=shared)).report
    wanted = {t["settings"]["train.positives_per_batch"]: t for t in report["trials"]}
    assert wanted[1]["state"] == "complete"
    assert 0 <= wanted[1]["value"] <= 1
    assert wanted[8]["state"] == "fail"
    assert wanted[8]["value"] is None
    assert "positives_per_batch=8 asks for" in wanted[8]["reason"]
    assert "positives_per_batch=8 asks for" in (tmp_path / "s" / "index.html").read_text()
    # A trial is a run that never looked at the test split, and keeps no checkpoints.
    run = tmp_path / "s" / "trials" / f"{wanted[1]['number']:04}"
    assert {path.name for path in run.iterdir()} == {
        "history.csv",
        "run.json",
        "weights.safetensors",
    }
    assert {"val_pf1", "val_f1"} <= set(pl.read_csv(run / "history.csv").columns)


def test_a_study_whose_first_trials_all_fail_stops(cohort, tmp_path):
    wrong = settings({"train.positives_per_batch": {"values": [7, 8]}})
    with pytest.raises(RunError, match=r"the first 3 trials failed.*positives_per_batch=[78]"):
        tune(cohort, tmp_path / "s", wrong, trials=9)
    assert states(tmp_path / "s") == ["fail"] * 3
    assert "No trial is complete" in (tmp_path / "s" / "index.html").read_text()


def test_trials_in_processes_of_their_own_and_one_that_is_killed(cohort, tmp_path, monkeypatch):
    real, killed = workers._start, []

    def start(count):
        worker = real(count)
        # A daemon may have no processes to read images.
        assert not worker.process.daemon
        if not killed:
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
        return worker

    monkeypatch.setattr(workers, "_start", start)
    report = tune(cohort, tmp_path / "s", settings(pruner="none"), trials=2, workers=2).report
    dead, alive = report["trials"]
    assert (dead["state"], alive["state"]) == ("fail", "complete")
    assert "status -9" in dead["reason"]
    assert len(alive["by_epoch"]) == 3


@pytest.fixture
def piped():
    """A worker that is played here: its end of the pipe, and the one that hears it."""
    ours, theirs = multiprocessing.Pipe()
    process = SimpleNamespace(join=lambda _: None, exitcode=1)
    yield theirs, workers._Worker(process, ours)
    ours.close()
    theirs.close()


def test_what_is_no_fault_of_a_trial_ends_the_study_by_its_name(piped, monkeypatch, tmp_path):
    def broken(task, told):
        raise AssertionError("daemonic processes are not allowed to have children")

    theirs, worker = piped
    monkeypatch.setattr(workers, "run_trial", broken)
    monkeypatch.setattr(workers, "begin_worker", lambda: None)
    worker.connection.send("a task")
    with pytest.raises(AssertionError):
        workers._serve(theirs, 1)
    theirs.close()
    with pytest.raises(RunError, match="a trial ended with AssertionError: daemonic processes"):
        workers._heard(worker, 1, lambda *_: False)


def test_a_worker_that_dies_before_it_is_answered_costs_its_trial_alone(piped):
    theirs, worker = piped
    theirs.send((0, 0.5))
    theirs.close()
    assert workers._heard(worker, 1, lambda *_: False) is None
    assert workers._heard(worker, 1, lambda *_: False).state == "failed"


def test_the_objective_is_that_of_the_epoch_whose_weights_are_kept(tmp_path):
    from mammoscope.training.tuning.trial import _kept

    (tmp_path / "history.csv").write_text("epoch,val_pf1\n0,0.5\n1,0.25\n2,0.75\n")
    assert _kept(tmp_path, 1, "pf1") == 0.25
    with pytest.raises(RunError, match="no row of epoch 7"):
        _kept(tmp_path, 7, "pf1")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("median", optuna.pruners.MedianPruner),
        ("hyperband", optuna.pruners.HyperbandPruner),
        ("none", optuna.pruners.NopPruner),
    ],
)
def test_pruners_are_those_of_optuna(name, kind):
    space = {"train.epochs": {"low": 2, "high": 9}}
    pruner = study_module._pruner(settings(space, pruner=name))
    assert isinstance(pruner, kind)
    assert study_module._most_epochs(settings(space)) == 9
    assert study_module._most_epochs(settings()) == 3
