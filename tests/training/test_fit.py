from __future__ import annotations

import csv
import importlib
import itertools
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mammoscope.artefacts import read_json, sha256_file
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config
from mammoscope.errors import CohortError, ConfigError, OutputError, RunError
from mammoscope.models import build_classifier
from mammoscope.training import fit, load_classifier, run_folder
from mammoscope.training.task import ClassificationTask
from mammoscope.training.validation import validation_measures

# The package offers the function under the module's name.
fit_module = importlib.import_module("mammoscope.training.fit")


def history(run: Path) -> list[dict[str, str]]:
    """Rows of history.csv without the columns that a clock decides."""
    with (run / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [{k: v for k, v in row.items() if k not in ("seconds", "waiting")} for row in rows]


def killed() -> None:
    raise OSError("the power went")


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch):
    """Do something in the middle of an epoch, once."""

    def at(epoch: int, action: Callable[[], None]) -> None:
        original = ClassificationTask.training_step

        def step(self, batch, batch_idx):
            if self.current_epoch == epoch and batch_idx == 1:
                monkeypatch.setattr(ClassificationTask, "training_step", original)
                action()
            return original(self, batch, batch_idx)

        monkeypatch.setattr(ClassificationTask, "training_step", step)

    return at


def assert_same_run(left: Path, right: Path) -> None:
    assert history(left) == history(right)
    for file in ("weights.safetensors",):
        ours, theirs = load_file(left / file), load_file(right / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        # What the file says of itself is in it, in one order and without the folder's name.
        assert (left / file).read_bytes() == (right / file).read_bytes()
    ours, theirs = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (left, right)
    )
    assert ours["global_step"] == theirs["global_step"]
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for key, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][key]), key
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]


def test_a_run_folder_says_what_was_trained_and_holds_the_best_weights(cohort, tmp_path, quick):
    rows: list[dict[str, float]] = []
    result = fit(cohort, tmp_path / "run", quick(), 1, progress=rows.append)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["kind"] == "run"
    assert facts["status"] == "trained"
    assert facts["synthetic"] is True
    assert facts["fold"] == 1
    assert facts["counts"] == {"train": 10, "val": 10, "test": 4} == result.counts
    assert Config.model_validate(facts["config"]) == quick()
    aurocs = [float(row["val_auroc"]) for row in history(tmp_path / "run")]
    # Of epochs with one AUROC that of lower loss.
    losses = [float(row["val_loss"]) for row in history(tmp_path / "run")]
    best = min(range(len(aurocs)), key=lambda epoch: (-aurocs[epoch], losses[epoch]))
    assert facts["best"] == {"epoch": best, "auroc": max(aurocs)}
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert {"checkpoints", "history.csv", "run.json", "weights.safetensors"} == {
        path.name for path in (tmp_path / "run").iterdir()
    }
    checkpoints = tmp_path / "run" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]
    assert not (Path.cwd() / "lightning_logs").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.9, "patience": 3},
        {"sampling": "oversample", "negatives_per_positive": 0.5, "positives_per_batch": 1},
        {"optimizer": "sgd", "layer_decay": 0.8, "frozen_epochs": 3, "accumulate": 2, "ema": 0.9},
    ],
    ids=["plain", "averaged", "drawn", "frozen"],
)
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(
    cohort, tmp_path, quick, interrupt, settings, epoch
):
    fit(cohort, tmp_path / "whole", quick(**settings))
    interrupt(epoch, killed)
    with pytest.raises(OSError, match="the power went"):
        fit(cohort, tmp_path / "run", quick(**settings))
    torch.manual_seed(12345)  # Another process would be elsewhere in its random numbers.
    fit(cohort, tmp_path / "run", quick(**settings), resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_the_last_checkpoint_follows_every_epoch_not_only_the_best(cohort, tmp_path, quick):
    fit(cohort, tmp_path / "run", quick())
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 3


def test_resuming_needs_no_weights_to_start_from_but_remembers_how_it_started(
    cohort, tmp_path, quick, interrupt
):
    classifier, _ = build_classifier(quick().model, max_value=255, size=(64, 32))
    start = tmp_path / "start.safetensors"
    save_file(classifier.state_dict(), start)
    config = quick(epochs=2).model_copy(
        update={"model": quick().model.model_copy(update={"weights": start})}
    )
    interrupt(1, killed)
    with pytest.raises(OSError, match="the power went"):
        fit(cohort, tmp_path / "run", config)
    start.unlink()
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    before = [{"manifest_sha256": "m", "splits_sha256": "s", "fold": 4}]
    began = {**facts, "notes": ["as it began"], "learnt_before": before}
    (tmp_path / "run" / "run.json").write_text(json.dumps(began))
    assert fit(cohort, tmp_path / "run", config, resume=True).notes == ("as it began",)
    ended = json.loads((tmp_path / "run" / "run.json").read_text())
    assert ended["learnt_before"] == before


def test_the_weights_of_a_run_say_what_they_have_learnt_from(cohort, tmp_path, quick):
    fit(cohort, tmp_path / "run", quick(epochs=1), 1)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    with safe_open(tmp_path / "run" / "weights.safetensors", framework="pt") as weights:
        told = json.loads(weights.metadata()["mammoscope"])
    assert (told["task"], told["fold"], told["preprocess"]) == ("classify", 1, facts["preprocess"])
    assert told["cohort"] == {k: v for k, v in facts["cohort"].items() if k != "path"}


def test_ctrl_c_reaches_the_caller_and_leaves_a_run_that_resumes(
    cohort, tmp_path, quick, interrupt
):
    fit(cohort, tmp_path / "whole", quick())
    interrupt(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(cohort, tmp_path / "run", quick())
    assert signal.getsignal(signal.SIGINT) is before
    fit(cohort, tmp_path / "run", quick(), resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    cohort, tmp_path, quick, monkeypatch
):
    original = ClassificationTask.training_step

    def poisoned(self, batch, batch_idx):
        if self.current_epoch == 1:
            with torch.no_grad():
                self.network.local_logits.bias.fill_(float("nan"))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", poisoned)
    with pytest.raises(RunError, match="loss became nan in epoch 1, batch 0"):
        fit(cohort, tmp_path / "run", quick())
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 0
    assert all(torch.isfinite(v).all() for v in last["state_dict"].values())
    assert len(history(tmp_path / "run")) == 1


def test_training_stops_when_patience_is_over_and_stays_stopped(
    cohort, tmp_path, quick, monkeypatch
):
    # A rate this small never changes an order, so that AUROC never rises.
    config = quick(epochs=9, patience=2, lr=1e-12)
    real = fit_module.write_json
    records = []

    def write_once(path, value):
        records.append(value["status"])
        if len(records) == 2:
            killed()
        real(path, value)

    monkeypatch.setattr(fit_module, "write_json", write_once)
    with pytest.raises(OSError, match="the power went"):
        fit(cohort, tmp_path / "run", config)
    epochs = len(history(tmp_path / "run"))
    assert epochs < 9
    assert fit(cohort, tmp_path / "run", config, resume=True).epochs == epochs


def test_resuming_a_trained_run_returns_at_once(cohort, tmp_path, quick, monkeypatch):
    first = fit(cohort, tmp_path / "run", quick())
    monkeypatch.setattr(fit_module, "run_trainer", lambda *_, **__: pytest.fail("it trained again"))
    assert fit(cohort, tmp_path / "run", quick(), resume=True) == first


def test_resuming_names_every_setting_that_differs(cohort, make_cohort, tmp_path, quick):
    fit(cohort, tmp_path / "run", quick(epochs=1))
    with pytest.raises(RunError, match=r"train\.epochs, train\.lr differ"):
        fit(cohort, tmp_path / "run", quick(epochs=2, lr=2e-3), resume=True)
    with pytest.raises(RunError, match=r"resumed: fold differ"):
        fit(cohort, tmp_path / "run", quick(epochs=1), 1, resume=True)
    other = make_cohort(20)
    with pytest.raises(RunError, match=r"cohort\.manifest_sha256, cohort\.splits_sha256 differ"):
        fit(other, tmp_path / "run", quick(epochs=1), resume=True)


def test_a_cohort_that_was_moved_is_the_same_cohort(make_cohort, tmp_path, quick):
    folder = make_cohort()
    fit(folder, tmp_path / "run", quick(epochs=1))
    moved = folder.rename(tmp_path / "moved")
    fit(moved, tmp_path / "run", quick(epochs=1), resume=True)


def test_a_run_knows_the_findings_that_it_was_trained_on(make_cohort, tmp_path, quick):
    folder, run = make_cohort(), tmp_path / "run"
    fit(folder, run, quick(epochs=1))
    assert "findings_sha256" not in read_json(run / "run.json", RunError)["cohort"]
    (folder / "findings.parquet").write_bytes(b"some")
    # Runs of earlier versions did not say, and can be gone on with.
    fit(folder, run, quick(epochs=1), resume=True)
    fit(folder, run, quick(epochs=1), overwrite=True)
    told = read_json(run / "run.json", RunError)["cohort"]["findings_sha256"]
    assert told == sha256_file(folder / "findings.parquet")
    (folder / "findings.parquet").write_bytes(b"others")
    with pytest.raises(RunError, match=r"resumed: cohort\.findings_sha256 differ"):
        fit(folder, run, quick(epochs=1), resume=True)


def test_a_run_does_not_write_into_a_folder_with_other_content(cohort, tmp_path, quick):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        fit(cohort, tmp_path, quick())
    with pytest.raises(RunError, match="nothing to resume"):
        fit(cohort, tmp_path, quick(), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_faults_of_the_input_are_found_before_anything_is_written(
    cohort, make_cohort, tmp_path, quick
):
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"fold 7 is not one of the cohort's folds \[0, 1\]"):
        fit(cohort, run, quick(), 7)
    with pytest.raises(ConfigError, match="accepted: cancer, biopsy"):
        fit(cohort, run, quick(label="age"))
    with pytest.raises(CohortError, match=r"training images of fold 0 hold biopsy values \[\]"):
        fit(cohort, run, quick(label="biopsy"))
    one_class = make_cohort(cancer=lambda number: number % 2)
    with pytest.raises(CohortError, match="both 0 and 1 are needed"):
        fit(one_class, run, quick())
    unknown = quick().model_copy(
        update={"model": quick().model.model_copy(update={"backbone": "resnet81"})}
    )
    with pytest.raises(ConfigError, match="resnet18"):
        fit(cohort, run, unknown)
    incomplete = make_cohort()
    (incomplete / "images" / "i003.safetensors").unlink()
    with pytest.raises(CohortError, match="1 of 24 images are not prepared, i003 first"):
        fit(incomplete, run, quick())
    assert not run.exists()


def test_images_without_a_label_are_trained_around(make_cohort, tmp_path, quick):
    gaps = make_cohort(cancer=lambda number: None if number % 5 == 4 else number // 2 % 2)
    result = fit(gaps, tmp_path / "run", quick(epochs=1))
    assert 0 <= result.best <= 1


def test_the_weights_that_are_loaded_give_the_measured_auroc(cohort, tmp_path, quick):
    result = fit(cohort, tmp_path / "run", quick(ema=0.8))
    classifier, config, preprocess = load_classifier(tmp_path / "run")
    assert not classifier.training
    assert config == quick(ema=0.8)
    assert (preprocess.height, preprocess.width) == (64, 32)
    store = PreparedStore(cohort)
    rows = store.rows().filter(pl.col("fold") == 0)
    images = torch.stack([torch.from_numpy(store.read(name)) for name in rows["image_id"]])
    with torch.no_grad():
        logits = classifier(images[:, None].float()).logit
    measured = validation_measures(logits, torch.tensor(rows["cancer"].to_list()).float())
    assert measured["auroc"] == result.best


def test_a_damaged_run_is_refused_by_name(cohort, tmp_path, quick):
    run = tmp_path / "run"
    fit(cohort, run, quick(epochs=1))
    (run / "weights.safetensors").write_bytes(b"not these")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        load_classifier(run)
    (run / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="has not finished an epoch"):
        load_classifier(run)
    (run / "run.json").write_text('{"kind": "cohort", "format_version": 1}')
    with pytest.raises(RunError, match="of kind 'cohort'"):
        load_classifier(run)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "focal", "soft_positive": 0.9},
        {"sampling": "undersample", "negatives_per_positive": 0.75},
        {"sampling": "oversample", "negatives_per_positive": 0.5, "positives_per_batch": 2},
    ],
    ids=["plain", "focal", "undersampled", "oversampled"],
)
def test_it_learns_blobs_it_has_not_seen(make_cohort, tmp_path, quick, settings):
    folder = make_cohort(52)
    result = fit(folder, tmp_path / "run", quick(epochs=10, batch_size=8, lr=3e-3, **settings))
    assert result.best > 0.9
    assert pl.read_csv(tmp_path / "run" / "history.csv").height == 10


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_automatic_precision_follows_the_processor_and_is_recorded(
    able, expected, cohort, tmp_path, quick, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    fit(cohort, tmp_path / "run", quick(epochs=1, precision="auto"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["config"]["train"]["precision"] == expected


def test_a_run_is_replaced_only_after_all_input_was_checked(cohort, tmp_path, quick):
    run = tmp_path / "run"
    fit(cohort, run, quick(epochs=1))
    before = (run / "run.json").read_bytes()
    with pytest.raises(ConfigError, match="fold 9"):
        fit(cohort, run, quick(epochs=1), fold=9, overwrite=True)
    assert (run / "run.json").read_bytes() == before
    fit(cohort, run, quick(epochs=2), overwrite=True)
    assert len(history(run)) == 2


@pytest.mark.parametrize("value", [0, 1, None])
def test_a_label_that_is_the_same_everywhere_is_refused_before_anything_is_written(
    make_cohort, tmp_path, quick, value
):
    constant = make_cohort(cancer=lambda _: value)
    held = [] if value is None else [value]
    message = re.escape(f"training images of fold 0 hold cancer values {held}; both 0 and 1")
    with pytest.raises(CohortError, match=message):
        fit(constant, tmp_path / "run", quick())
    assert not (tmp_path / "run").exists()


def test_a_fold_without_positives_is_refused_by_its_number(make_cohort, tmp_path, quick):
    # Fold 1 of three has negatives only.
    folder = make_cohort(folds=3, cancer=lambda number: int(number % 3 != 1 and number // 3 % 2))
    with pytest.raises(CohortError, match=r"validation images of fold 1 hold cancer values \[0\]"):
        fit(folder, tmp_path / "run", quick(), 1)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused_by_their_keys_and_leave_an_old_run_alone(
    cohort, tmp_path, quick
):
    fit(cohort, tmp_path / "run", quick(epochs=1))
    before = (tmp_path / "run" / "run.json").read_bytes()
    weights = tmp_path / "w.safetensors"
    save_file({"blocks.0.body.0.weight": torch.zeros(3, 1, 4, 4)}, weights)
    model = quick().model.model_copy(update={"weights": weights})
    with pytest.raises(RunError, match=r"missing \(blocks\.0\.body\.1\.weight, .*of another shape"):
        fit(cohort, tmp_path / "run", quick().model_copy(update={"model": model}), overwrite=True)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


@pytest.mark.parametrize("where", ["src", ".venv/lib/site-packages", "vendor"])
def test_a_run_records_the_commit_of_its_own_checkout_and_of_no_other(tmp_path, monkeypatch, where):
    own = tmp_path / where / "mammoscope" / "training" / "run_folder.py"
    own.parent.mkdir(parents=True)
    own.touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-f", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(run_folder, "__file__", str(own))
    assert (run_folder._code_version() is not None) == (where == "src")


def test_what_cannot_be_measured_or_changes_nothing_is_told_before_training(
    make_cohort, tmp_path, quick, caplog
):
    cohort = make_cohort(cancer=lambda number: number // 2 % 2 if number < 20 else 0)
    config = quick(epochs=1, sampling="undersample", negatives_per_positive=9)
    notes = fit(cohort, tmp_path / "run", config).notes
    assert any("the 4 test images hold cancer values [0] only" in note for note in notes)
    assert any("changes nothing here" in note for note in notes)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["notes"] == [*notes]
    assert all(note in caplog.messages for note in notes)


@pytest.mark.parametrize("level", ["image", "breast"])
def test_convolutions_keep_the_order_of_memory_in_which_a_cpu_is_quick(cohort, quick, level):
    model = {"backbone": "baseline_cnn", "level": level}
    config = Config.model_validate({**quick().model_dump(), "model": model})
    store, parts = fit_module.check_input(cohort, config, 0)
    network = fit_module._made(store, parts, config, fresh=True).task.network
    kernels = [p for p in network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert kernels
    for kernel in kernels:
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        assert not kernel.is_contiguous()


def test_time_without_a_batch_is_counted_as_waiting(cohort, tmp_path, quick, monkeypatch):
    # A clock by which each batch is waited for one second, whatever the machine does.
    seconds = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    monkeypatch.setattr("mammoscope.training.loading.time", clock)
    fit(cohort, tmp_path / "run", quick(epochs=1))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    row = pl.read_csv(tmp_path / "run" / "history.csv").row(0, named=True)
    assert row["waiting"] == facts["waiting"]
    # Ten images each to learn from and to validate on, in batches of four: two and three, and that
    # there are no more is waited for too. Both factors are rounded.
    assert 4 < facts["waiting"] * row["seconds"] < 9
