"""Every fold in turn, one run of them all: resumable, out of fold, one graph."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from mammoscope.artefacts import sha256_file, write_json
from mammoscope.bundle import HIGHEST, read_bundle
from mammoscope.cli import main
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config
from mammoscope.errors import CohortError, ConfigError, RunError
from mammoscope.evaluation import evaluate_run, run_evaluation_config
from mammoscope.evaluation.calibration import Calibration
from mammoscope.evaluation.folds import OF_SINGLE_FOLDS
from mammoscope.export import export_bundle, finish_run
from mammoscope.folds import claim_folds, combine_folds, fold_folder, train_fold
from mammoscope.inference import Scorer
from mammoscope.scores import calibrate_run
from mammoscope.training import fit
from mammoscope.training.task import ClassificationTask
from mammoscope.training.tasks import split_parts

fit_module = importlib.import_module("mammoscope.training.fit")


def train_all(cohort: Path, run: Path, config: Config, **how: bool) -> dict:
    for fold in claim_folds(cohort, run, config, **how):
        train_fold(cohort, run, config, fold)
    return combine_folds(run, cohort)


def settings(**train) -> Config:
    values = {
        "precision": "32-true",
        "epochs": 2,
        "batch_size": 4,
        "lr": 1e-3,
        "patience": 0,
        "seed": 3,
        **train,
    }
    return Config.model_validate(
        {
            "model": {"backbone": "baseline_cnn"},
            "train": values,
            "evaluation": {"bootstrap": 30, "operating_points": ["best_pf1", "recall_rate=0.3"]},
        }
    )


@pytest.fixture(scope="module")
def home(make_cohort, tmp_path_factory) -> Path:
    """A cohort, its cross-validated run, and a copy to spoil."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("home")
    cohort = make_cohort(28)
    (home / "cohort").symlink_to(cohort)
    train_all(cohort, home / "run", settings())
    return home


@pytest.fixture
def spoilt(home: Path, tmp_path: Path) -> Path:
    """A copy of the run as it was before its folds were combined."""
    run = shutil.copytree(home / "run", tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**facts, "status": "training"})
    return run


def test_every_training_image_is_predicted_by_the_fold_that_did_not_see_it(home):
    splits = pl.read_parquet(home / "cohort" / "splits.parquet")
    predictions = pl.read_parquet(home / "run" / "predictions.parquet")
    held_out = predictions.filter(pl.col("split") == "val")
    trained = splits.filter(pl.col("split") == "train")
    assert sorted(held_out["image_id"]) == sorted(trained["image_id"])
    assert held_out.join(trained, on=["image_id", "fold"]).height == trained.height
    for fold in (0, 1):
        own = pl.read_parquet(home / "run" / f"fold-{fold}" / "predictions.parquet")
        own = own.filter(pl.col("split") == "val")
        both = held_out.join(own, on="image_id", suffix="_own")
        assert both.height == own.height
        assert both["logit"].to_list() == both["logit_own"].to_list()


def test_the_test_images_are_scored_by_one_graph_that_gives_the_folds_mean(home):
    predictions = pl.read_parquet(home / "run" / "predictions.parquet")
    test = predictions.filter(pl.col("split") == "test").sort("image_id")
    parts = [
        pl.read_parquet(home / "run" / f"fold-{fold}" / "predictions.parquet")
        .filter(pl.col("split") == "test")
        .sort("image_id")["logit"]
        for fold in (0, 1)
    ]
    np.testing.assert_allclose(test["logit"], np.mean(parts, axis=0), atol=1e-4)
    store, scorer = PreparedStore(home / "cohort"), Scorer(home / "run" / "model.onnx")
    for row in test.iter_rows(named=True):
        scored = scorer([store.read(row["image_id"])])
        assert float(scored.logit[0]) == pytest.approx(row["logit"], abs=1e-6)
        assert float(scored.score[0]) == pytest.approx(row["score"], abs=1e-6)


def test_one_calibration_serves_out_of_fold_and_ensemble(home):
    facts = json.loads((home / "run" / "run.json").read_text())
    calibration = Calibration.from_dict(facts["calibration"])
    assert (calibration.method, calibration.images) == ("platt", 24)
    predictions = pl.read_parquet(home / "run" / "predictions.parquet")
    expected = calibration(predictions["logit"].to_numpy())
    np.testing.assert_allclose(predictions["score"], expected, atol=1e-6)


def test_a_fold_of_many_is_the_fold_alone(home, tmp_path):
    fit(home / "cohort", tmp_path / "alone", settings(), 1)
    ours = load_file(home / "run" / "fold-1" / "weights.safetensors")
    theirs = load_file(tmp_path / "alone" / "weights.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_report_bundle_and_info_take_it_as_any_run(home, tmp_path, capsys):
    run = shutil.copytree(home / "run", tmp_path / "run")
    made = evaluate_run(run)
    assert [row["fold"] for row in made.report["folds"]] == [0, 1]
    page = made.path.read_text()
    assert "mean of 2 folds" in page
    assert "out-of-fold scores" in page
    assert "of the training time" in page
    assert OF_SINGLE_FOLDS in made.report["notes"]
    bundle = export_bundle(run, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "model.onnx").read_bytes() == (run / "model.onnx").read_bytes()
    assert bundle.calibration["method"] == "platt"
    # Thresholds are of single folds; what is watched for drift are scores of the graph itself.
    assert bundle.operating_points.scored_by == "folds"
    tested = pl.read_parquet(run / "predictions.parquet").filter(pl.col("split") == "test")
    assert (bundle.reference["split"], bundle.reference["images"]) == ("test", tested.height)
    median = bundle.reference["score_quantiles"]["0.5"]
    assert median == pytest.approx(float(np.quantile(tested["score"].to_numpy(), 0.5)))
    cost = read_bundle(tmp_path / "bundle").training["ensemble"]
    assert cost["bytes"] > 1.5 * cost["fold_bytes"]
    assert cost["ms_per_image"] > 0
    for folder in (run, tmp_path / "bundle"):
        with pytest.raises(SystemExit) as exiting:
            main(["info", str(folder)])
        assert exiting.value.code == 0
        told = capsys.readouterr().out
        assert "mean of logits of 2 folds" in told
        assert "platt" in told


def test_waiting_for_data_is_told_of_all_folds_by_the_seconds_of_each(home, spoilt):
    for fold, (seconds, waiting) in enumerate(((30.0, 0.1), (10.0, 0.5))):
        record = spoilt / f"fold-{fold}" / "run.json"
        facts = json.loads(record.read_text())
        write_json(record, {**facts, "timings_s": {"train": seconds}, "waiting": waiting})
    assert combine_folds(spoilt, home / "cohort")["waiting"] == pytest.approx(0.2)


def test_another_calibration_changes_scores_graph_and_bundle_alike(home, tmp_path, capsys):
    run = shutil.copytree(home / "run", tmp_path / "run")
    evaluate_run(run)
    points = (run / "operating_points.json").read_bytes()
    before = pl.read_parquet(run / "predictions.parquet")
    verb("calibrate", run, "--set", "evaluation.prevalence=0.005")
    assert "to a share of positive images of 0.50%" in " ".join(capsys.readouterr().err.split())
    after = pl.read_parquet(run / "predictions.parquet")
    assert after["logit"].to_list() == before["logit"].to_list()
    assert after.columns == before.columns
    assert after["score"].mean() < 0.05 < before["score"].mean()
    with pytest.raises(RunError, match="has no operating points"):
        export_bundle(run, tmp_path / "bundle")
    (run / "operating_points.json").write_bytes(points)
    with pytest.raises(RunError, match="report is of other predictions"):
        export_bundle(run, tmp_path / "bundle")
    evaluate_run(run, overwrite=True)
    export_bundle(run, tmp_path / "bundle")
    scored = Scorer(tmp_path / "bundle" / "model.onnx")(
        [PreparedStore(home / "cohort").read("i027")]
    )
    expected = after.filter(pl.col("image_id") == "i027")["score"][0]
    assert float(scored.score[0]) == pytest.approx(expected, abs=1e-7)
    with pytest.raises(ConfigError, match="mammoscope calibrate"):
        evaluate_run(run, settings().evaluation, overwrite=True)


def test_calibrate_says_why_it_did_not_do_what_was_asked(home, tmp_path, capsys, monkeypatch):
    run = shutil.copytree(home / "run", tmp_path / "run")
    verb("calibrate", run, "--set", "evaluation.calibration=isotonic")
    told = " ".join(capsys.readouterr().err.split())
    assert "Platt's method instead of isotonic regression" in told
    monkeypatch.setattr("mammoscope.evaluation.calibration.LEAST", 1000)
    verb("calibrate", run, "--set", "evaluation.prevalence=0.005")
    told = " ".join(capsys.readouterr().err.split())
    assert "not calibrated, nor corrected to another prevalence" in told


def test_the_highest_image_is_a_breasts_score_in_predictions_report_and_bundle(home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run")
    evaluate_run(run)
    asked = ["evaluation.breast_score=max"]
    with pytest.raises(ConfigError, match=r"calibrate .* --set evaluation\.breast_score=max"):
        evaluate_run(run, run_evaluation_config(run, asked), overwrite=True)
    calibrate_run(run, asked)
    rows = pl.read_parquet(run / "predictions.parquet")
    assert rows["breast_score"].to_list() == rows["score"].to_list()  # one image a breast
    evaluate_run(run, overwrite=True)
    assert export_bundle(run, tmp_path / "bundle").aggregation == {
        "breast": HIGHEST, "exam": "maximum of the breast scores",
    }  # fmt: skip
    calibrate_run(run, ["evaluation.breast_score=mean"])
    assert "breast_score" not in pl.read_parquet(run / "predictions.parquet").columns
    joined = {"model": {"level": "breast"}, "evaluation": {"breast_score": "max"}}
    with pytest.raises(ValueError, match="scores breasts itself"):
        Config.model_validate(joined)


def test_a_stopped_cross_validation_goes_on_where_it_was(home, tmp_path, monkeypatch, capsys):
    """Fold 0 is done and not trained again; fold 1 was stopped in its second epoch."""
    run = shutil.copytree(home / "run", tmp_path / "run")
    shutil.rmtree(run / "fold-1")
    for name in ("model.onnx", "predictions.parquet"):
        (run / name).unlink()
    facts = json.loads((run / "run.json").read_text())
    kept = ("members", "ensemble", "calibration", "hashes", "predicted", "best", "epochs")
    stopped = {key: value for key, value in facts.items() if key not in kept}
    write_json(run / "run.json", {**stopped, "status": "training"})
    original = ClassificationTask.training_step

    def step(self, batch, batch_idx):
        if self.current_epoch == 1:
            monkeypatch.setattr(ClassificationTask, "training_step", original)
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", step)
    with pytest.raises(KeyboardInterrupt):
        train_all(home / "cohort", run, settings(), resume=True)
    assert json.loads((run / "fold-1" / "run.json").read_text())["status"] == "training"

    trained = []
    original_trainer = fit_module.run_trainer

    def watched(trainer, *parts, **how):
        trained.append(Path(trainer.default_root_dir).name)
        original_trainer(trainer, *parts, **how)

    monkeypatch.setattr(fit_module, "run_trainer", watched)
    with pytest.raises(SystemExit) as exiting:
        main(["train", str(home / "cohort"), str(run), "--folds", "all"])
    assert exiting.value.code == 1
    assert "--resume goes on with it" in capsys.readouterr().err
    train_all(home / "cohort", run, settings(), resume=True)
    assert trained == ["fold-1"]
    whole, resumed = (
        pl.read_parquet(folder / "predictions.parquet") for folder in (home / "run", run)
    )
    assert whole.equals(resumed)
    # What is finished stays as it is.
    train_all(home / "cohort", run, settings(), resume=True)
    assert trained == ["fold-1"]


def test_folds_with_runs_of_their_own_are_taken_up_if_one_device_trained_them(home, tmp_path):
    # docs/how-to/cross-validate.md: claimed once, each fold by a command of its own, combined.
    cohort, run = home / "cohort", tmp_path / "run"
    with pytest.raises(RunError, match=r"holds no run\.json"):
        claim_folds(cohort, run, settings(), resume=True)
    folds = claim_folds(cohort, run, settings())
    for fold in folds:
        fit(cohort, fold_folder(run, fold), settings(), fold)
        finish_run(fold_folder(run, fold), cohort)
    assert claim_folds(cohort, run, settings(), resume=True) == folds
    assert all("done before" in train_fold(cohort, run, settings(), fold) for fold in folds)
    combine_folds(run, cohort)
    ours, theirs = (pl.read_parquet(r / "predictions.parquet") for r in (run, home / "run"))
    assert ours["logit"].to_list() == theirs["logit"].to_list()

    facts = json.loads((run / "fold-1" / "run.json").read_text())
    facts["config"]["train"]["devices"] = 2
    write_json(run / "fold-1" / "run.json", facts)
    with pytest.raises(RunError, match=r"train\.devices differ"):
        train_fold(cohort, run, settings(), 1)


def test_resuming_names_what_differs(home):
    with pytest.raises(RunError, match=r"train\.lr differ"):
        claim_folds(home / "cohort", home / "run", settings(lr=5e-3), resume=True)
    with pytest.raises(RunError, match="fold differ"):
        fit(home / "cohort", home / "run", settings(), 0, resume=True)


def test_every_fold_is_checked_before_any_is_trained(make_cohort, tmp_path):
    # Of three folds, one has no positive and one no negative.
    cohort = make_cohort(28, folds=3, cancer=lambda n: {0: 0, 1: 1}.get(n % 3, n // 3 % 2))
    with pytest.raises(CohortError) as caught:
        claim_folds(cohort, tmp_path / "run", settings())
    assert "validation images of fold 0 hold cancer values [0]" in str(caught.value)
    assert "validation images of fold 1 hold cancer values [1]" in str(caught.value)
    with pytest.raises(CohortError, match="positives_per_batch"):
        claim_folds(make_cohort(), tmp_path / "run", settings(positives_per_batch=4))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"backbone": "resnet10t", "weights": "weights.safetensors"}, "do not fit the backbone"),
        ({"backbone": "baseline_cnn", "shrink": 5}, "shrink"),
    ],
    ids=["weights", "size"],
)
def test_a_network_that_cannot_begin_replaces_no_finished_run(home, tmp_path, model, words):
    run = shutil.copytree(home / "run", tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    if "weights" in model:
        # Renamed, so that it is of no fold: what is asked here is whether it fits.
        loaded = load_file(run / "fold-0" / model["weights"])
        save_file(loaded, tmp_path / model["weights"])
        model = {**model, "weights": tmp_path / model["weights"]}
    config = Config.model_validate({**settings().model_dump(), "model": model})
    with pytest.raises((ConfigError, RunError), match=words):
        claim_folds(home / "cohort", run, config, overwrite=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.raises((ConfigError, RunError), match=words):
        claim_folds(home / "cohort", tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows.tail(-1), r"lacks 1 of the 12 validation images, i000 first"),
        (
            lambda rows: rows.with_columns(
                logit=pl.when(pl.col("image_id") == "i004").then(float("nan")).otherwise("logit")
            ),
            "1 val images have no finite score",
        ),
    ],
    ids=["missing", "nan"],
)
def test_a_fold_with_a_missing_image_or_no_number_is_not_combined(home, spoilt, spoil, words):
    path = spoilt / "fold-0" / "predictions.parquet"
    rehashed(spoilt / "fold-0", spoil(pl.read_parquet(path)))
    with pytest.raises(RunError, match=words):
        combine_folds(spoilt, home / "cohort")


def test_folds_that_were_edited_or_are_not_finished_are_not_combined(home, spoilt):
    facts = json.loads((spoilt / "fold-1" / "run.json").read_text())
    with (spoilt / "fold-0" / "model.onnx").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(RunError, match=r"model\.onnx was edited"):
        combine_folds(spoilt, home / "cohort")
    write_json(spoilt / "fold-1" / "run.json", {**facts, "status": "trained"})
    shutil.copy(home / "run" / "fold-0" / "model.onnx", spoilt / "fold-0" / "model.onnx")
    with pytest.raises(RunError, match="fold-1 is trained, not finished"):
        combine_folds(spoilt, home / "cohort")


def test_a_missing_image_is_told_before_anything_is_measured(home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run")
    rows = pl.read_parquet(run / "predictions.parquet")
    rehashed(run, rows.filter(pl.col("image_id") != "i003"))
    with pytest.raises(RunError, match="23 val images, the run scored 24, i003 is not there"):
        evaluate_run(run)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows.filter(pl.col("image_id") != "i027"), "3 test images, the run scored 4"),
        (
            lambda rows: rows.with_columns(
                score=pl.when(pl.col("image_id") == "i027").then(float("nan")).otherwise("score")
            ),
            "1 test images have no finite score",
        ),
    ],
    ids=["missing", "nan"],
)
def test_a_spoilt_test_row_changes_no_threshold_and_is_not_calibrated_away(
    home, tmp_path, spoil, words
):
    run = shutil.copytree(home / "run", tmp_path / "run")
    (run / "operating_points.json").write_text("as they were")
    rehashed(run, spoil(pl.read_parquet(run / "predictions.parquet")))
    record = (run / "run.json").read_bytes()
    with pytest.raises(RunError, match=words):
        evaluate_run(run)
    with pytest.raises(RunError, match=words):
        calibrate_run(run, ["evaluation.calibration=temperature"])
    assert (run / "operating_points.json").read_text() == "as they were"
    assert (run / "run.json").read_bytes() == record


def test_a_cohort_that_was_prepared_otherwise_does_not_meet_the_weights(home, tmp_path):
    cohort = shutil.copytree((home / "cohort").resolve(), tmp_path / "cohort")
    marker = cohort / "images" / "prepare.json"
    values = json.loads(marker.read_text())
    write_json(marker, {"preprocess": {**values["preprocess"], "height": 48}})
    with pytest.raises(RunError, match=r"otherwise than when .* height is 48 and was 64"):
        finish_run(home / "run" / "fold-0", cohort)
    with pytest.raises(RunError, match=r"preprocess\.height differ"):
        claim_folds(cohort, home / "run", settings(), resume=True)


def test_weights_of_images_prepared_otherwise_are_refused_or_told(home, tmp_path):
    cohort = shutil.copytree((home / "cohort").resolve(), tmp_path / "cohort")
    marker = cohort / "images" / "prepare.json"
    values = json.loads(marker.read_text())["preprocess"]
    weights = home / "run" / "fold-0" / "weights.safetensors"
    model = {"backbone": "baseline_cnn", "weights": weights}

    def started(**changes):
        config = settings().model_dump() | {"model": {**model, **changes}}
        return fit(cohort, tmp_path / "run", Config.model_validate(config), overwrite=True).notes

    assert started() == ()
    # Another crop of the same size is another picture to the weights; more pixels are not.
    write_json(marker, {"preprocess": {**values, "normalise": "breast", "margin": 0.1}})
    with pytest.raises(ConfigError, match=r"prepare\.normalise 'breast' \(theirs 'window'\)"):
        started()
    [note] = started(weights_prepared="any")
    assert "prepare.normalise" in note
    write_json(marker, {"preprocess": {**values, "margin": 0.1}})
    [note] = started()
    assert "prepare.margin 0.1 (theirs 0.02)" in note


def starting(weights: Path, **model) -> Config:
    values = settings(epochs=1, lr=1e-12).model_dump(mode="json")
    values["model"] |= {"weights": str(weights), **model}
    return Config.model_validate(values)


def test_each_fold_starts_from_its_own_of_a_run_of_all_folds(home, tmp_path):
    cohort, config = home / "cohort", starting(home / "run")
    facts = train_all(cohort, tmp_path / "run", config)
    assert facts["notes"] == []
    fit(cohort, tmp_path / "alone", config, 1)
    for number, own in (
        (0, tmp_path / "run" / "fold-0"),
        (1, tmp_path / "run" / "fold-1"),
        (1, tmp_path / "alone"),
    ):
        theirs = load_file(home / "run" / f"fold-{number}" / "weights.safetensors")
        ours = load_file(own / "weights.safetensors")
        same = [key for key in theirs if key.endswith("weight")]
        assert all(torch.allclose(ours[key], theirs[key]) for key in same), own
        record = json.loads((own / "run.json").read_text())
        # As it was asked for, so that the same command goes on with it.
        assert record["config"]["model"]["weights"] == str(home / "run")
        assert [place["fold"] for place in record["learnt_before"]] == [number]


def test_weights_of_one_fold_do_not_start_the_others(home, tmp_path, monkeypatch):
    weights = shutil.copy(home / "run" / "fold-0" / "weights.safetensors", tmp_path)
    monkeypatch.setattr(fit_module, "run_trainer", lambda *_, **__: pytest.fail("it trains"))
    said = "held out fold 0 and has learnt from the images of fold 1, which validate here"
    with pytest.raises(ConfigError, match=rf"{said}.*--folds all too and name its folder"):
        claim_folds(home / "cohort", tmp_path / "run", starting(weights))
    with pytest.raises(ConfigError, match=said):
        fit(home / "cohort", tmp_path / "run", starting(weights), 1)
    assert not (tmp_path / "run").exists()
    meant = starting(weights, weights_held_out="any")
    assert claim_folds(home / "cohort", tmp_path / "run", meant) == [0, 1]


def test_one_who_means_it_is_told_in_the_record_of_the_run(home, tmp_path):
    weights = home / "run" / "fold-0" / "weights.safetensors"
    done = fit(home / "cohort", tmp_path, starting(weights, weights_held_out="any"), 1)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["notes"] == list(done.notes)
    assert "the images of fold 1, which validate here" in record["notes"][0]


def test_a_folder_that_is_no_run_of_these_folds_is_refused_before_anything(
    home, spoilt, make_cohort, tmp_path
):
    def refused(folder: Path, words: str, error: type[Exception] = ConfigError) -> None:
        with pytest.raises(error, match=words):
            claim_folds(home / "cohort", tmp_path / "new", starting(folder))
        with pytest.raises(error, match=words):
            fit(home / "cohort", tmp_path / "new", starting(folder), 1)
        assert not (tmp_path / "new").exists()

    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", r"is a folder without run\.json: name a safetensors file")
    refused(home / "run" / "fold-1", r"is a run of fold 1 alone: name .*fold-1/weights\.saf")
    path = spoilt / "fold-1" / "weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    refused(spoilt, r"fold-1/weights\.safetensors cannot be read as safetensors", RunError)
    path.write_bytes(whole)
    record = json.loads((spoilt / "fold-1" / "run.json").read_text())
    write_json(spoilt / "fold-1" / "run.json", {**record, "status": "training"})
    refused(spoilt, "fold-1 is training, not finished", RunError)
    facts = json.loads((spoilt / "run.json").read_text())
    write_json(spoilt / "run.json", {**facts, "folds": [0]})
    refused(spoilt, r"has the folds \[0\], and not fold 1")
    other = make_cohort(28, folds=3)
    with pytest.raises(ConfigError, match="was trained on other splits"):
        claim_folds(other, tmp_path / "new", starting(home / "run"))


def test_a_run_is_not_replaced_by_one_that_starts_from_it(home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run")
    for weights in (run, run / "fold-0" / "weights.safetensors"):
        with pytest.raises(ConfigError, match=r"lies in .*, which is to be replaced"):
            claim_folds(home / "cohort", run, starting(weights), overwrite=True)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_what_is_for_training_only_is_learnt_in_every_fold_and_never_scored(home, tmp_path):
    cohort = shutil.copytree((home / "cohort").resolve(), tmp_path / "cohort")
    splits = pl.read_parquet(cohort / "splits.parquet")
    extra = ["i001", "i002", "i003"]
    fold = pl.when(pl.col("image_id").is_in(extra)).then(None).otherwise("fold")
    splits.with_columns(fold=fold).write_parquet(cohort / "splits.parquet")
    facts = train_all(cohort, tmp_path / "run", settings(epochs=1))
    assert facts["counts"] == {"train": 24, "val": 21, "test": 4}
    assert facts["predicted"] == {"val": 21, "test": 4}
    for member in facts["members"]:
        assert member["counts"]["train"] + member["counts"]["val"] == 24
        parts = split_parts(PreparedStore(cohort).rows(), member["fold"])
        assert set(extra) <= set(parts["train"]["image_id"])
    predictions = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert not set(extra) & set(predictions["image_id"])
    evaluate_run(tmp_path / "run")


def rehashed(run: Path, rows: pl.DataFrame) -> None:
    """Write predictions as if the run had made them."""
    path = run / "predictions.parquet"
    rows.write_parquet(path)
    facts = json.loads((run / "run.json").read_text())
    facts["hashes"][path.name] = sha256_file(path)
    write_json(run / "run.json", facts)


def verb(*words: object) -> None:
    with pytest.raises(SystemExit) as exiting:
        main([str(word) for word in words])
    assert exiting.value.code == 0
