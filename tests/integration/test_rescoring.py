"""A trained run exported and scored again by another engine, by the verbs of the command line."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from fixtures.engines import HAS_BFLOAT16
from mammoscope.artefacts import sha256_file
from mammoscope.cli import main
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config
from mammoscope.errors import RunError
from mammoscope.export import finish_run
from mammoscope.graphs import write_mean
from mammoscope.inference import Scorer, load_bundle
from mammoscope.inference.openvino_engine import NAME, OpenVino
from mammoscope.inference.runtime import open_graph
from mammoscope.training import fit

PRECISION = "bfloat16" if HAS_BFLOAT16 else "float32"
ENGINE = ("--set", "export.engine=openvino", "--set", f"export.precision={PRECISION}")


def verb(*words: object) -> int:
    with pytest.raises(SystemExit) as exiting:
        main([str(word) for word in words])
    return int(exiting.value.code or 0)


@pytest.fixture(scope="module")
def home(make_lesions, tmp_path_factory):
    """A run, and one of its weights by another engine; the first in float32 by ONNX Runtime."""
    home = tmp_path_factory.mktemp("engines")
    settings = [
        "model.backbone=baseline_cnn",
        "model.pretrained=false",
        "train.epochs=2",
        "train.batch_size=8",
        "evaluation.bootstrap=50",
        "evaluation.calibration=platt",
    ]
    (home / "cohort").symlink_to(make_lesions(24))
    flags = [word for setting in settings for word in ("--set", setting)]
    assert verb("train", home / "cohort", home / "run", *flags) == 0
    assert verb("evaluate", home / "run") == 0
    assert verb("rescore", home / "run", home / "cohort", home / "quick", *ENGINE) == 0
    assert verb("evaluate", home / "quick") == 0
    assert verb("export", home / "quick", home / "bundle") == 0
    return home


def facts(run):
    return json.loads((run / "run.json").read_text())


def test_the_weights_are_the_same_and_the_record_says_what_computes_them(home):
    old, new = facts(home / "run"), facts(home / "quick")
    assert old["config"]["export"] == {"engine": "onnxruntime", "precision": "float32"}
    assert new["config"]["export"] == {"engine": "openvino", "precision": PRECISION}
    weights = "weights.safetensors"
    assert (home / "run" / weights).read_bytes() == (home / "quick" / weights).read_bytes()
    (note,) = [note for note in new["notes"] if note.startswith("computed by")]
    assert note.startswith(f"computed by {NAME} in {PRECISION}: logits lie up to")
    assert new["rescored"]["weights_sha256"] == sha256_file(home / "run" / weights)
    assert note in json.loads((home / "quick" / "report" / "report.json").read_text())["notes"]
    assert not [note for note in old["notes"] if note.startswith("computed by")]
    assert old["hashes"] != new["hashes"]
    assert new["status"] == "finished"


def test_info_says_what_computes_a_run_and_its_bundle(home, capsys):
    for folder in ("quick", "bundle"):
        capsys.readouterr()
        assert verb("info", home / folder) == 0
        assert f"openvino in {PRECISION}" in " ".join(capsys.readouterr().out.split())
    assert verb("info", home / "run") == 0
    assert "onnxruntime in float32" in " ".join(capsys.readouterr().out.split())


def test_report_and_thresholds_are_of_what_the_engine_gives_and_the_bundle_gives_that(home):
    predictions = pl.read_parquet(home / "quick" / "predictions.parquet")
    before = pl.read_parquet(home / "run" / "predictions.parquet")
    apart = np.abs(predictions["logit"] - before["logit"]).max()
    if PRECISION == "bfloat16":
        assert apart > 1e-5
    assert apart < 0.05
    predictor = load_bundle(home / "bundle")
    assert isinstance(predictor._scorer.graph._engine, OpenVino)
    store = PreparedStore(home / "cohort")
    for row in predictions.head(8).iter_rows(named=True):
        made = predictor._scorer([store.read(row["image_id"])])
        # One score for one logit, to the last digit: a threshold may be a score.
        assert (float(made.logit[0]), float(made.score[0])) == (row["logit"], row["score"])


def test_the_mean_of_graphs_is_computed_by_their_engine_and_differing_ones_are_refused(
    home, tmp_path
):
    quick, usual = (home / run / "model.onnx" for run in ("quick", "run"))
    write_mean([quick, quick], tmp_path / "mean.onnx")
    mean = Scorer(tmp_path / "mean.onnx")
    assert isinstance(mean.graph._engine, OpenVino)
    store = PreparedStore(home / "cohort")
    images = [store.read(name) for name in store.rows()["image_id"][:4]]
    np.testing.assert_allclose(mean(images).logit, Scorer(quick)(images).logit, atol=1e-4)
    with pytest.raises(RunError, match="says"):
        write_mean([usual, quick], tmp_path / "both.onnx")


def test_scored_again_a_run_keeps_one_note_of_its_engine(home, tmp_path):
    assert verb("rescore", home / "quick", home / "cohort", tmp_path / "again", *ENGINE) == 0
    notes = facts(tmp_path / "again")["notes"]
    assert sum(note.startswith("computed by") for note in notes) == 1
    back = ("--set", "export.engine=onnxruntime")
    assert verb("rescore", home / "quick", home / "cohort", tmp_path / "back", *back) == 0
    assert not [n for n in facts(tmp_path / "back")["notes"] if n.startswith("computed by")]
    # What was computed as before is as before, to the last byte.
    assert facts(tmp_path / "back")["hashes"] == facts(home / "run")["hashes"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--set", "train.lr=1"], 1, "rescore takes settings of section export only"),
        (["--set", "export.precision=bfloat16"], 1, "is of engine=openvino"),
        ([], 2, "--set"),
    ],
)
def test_other_settings_are_refused_before_anything_is_done(
    words, code, sentence, home, tmp_path, capsys
):
    assert verb("rescore", home / "run", home / "cohort", tmp_path / "new", *words) == code
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_is_there_or_is_no_trained_run_is_left_as_it_is(home, tmp_path, capsys):
    before = facts(home / "quick")
    assert verb("rescore", home / "run", home / "cohort", home / "quick", *ENGINE) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert facts(home / "quick") == before
    for place in (home / "run", home / "run" / "quick"):
        words = (home / "run", home / "cohort", place, *ENGINE, "--overwrite")
        assert verb("rescore", *words) == 1
        assert "beside it" in capsys.readouterr().err
    assert facts(home / "run")["status"] == "finished"
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    (stopped / "run.json").write_text(json.dumps(facts(home / "run") | {"status": "training"}))
    assert verb("rescore", stopped, home / "cohort", tmp_path / "new", *ENGINE) == 1
    assert "is not trained" in capsys.readouterr().err
    whole = facts(home / "run") | {"fold": None}
    (stopped / "run.json").write_text(json.dumps(whole))
    assert verb("rescore", stopped, home / "cohort", tmp_path / "new", *ENGINE) == 1
    assert "is of all folds" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


TASKS = {
    "segment": {"segment": {"encoder": "small"}},
    "detect": {"detect": {"contrast_px": [5, 15]}},
    "anomaly": {"export": {"precision": "float32"}},
    "classify": {
        "model": {"backbone": "baseline_cnn", "pretrained": False, "level": "exam"},
        "evaluation": {"calibration": "isotonic"},
    },
}


@pytest.mark.parametrize("task", TASKS)
def test_runs_of_every_task_are_scored_by_the_engine_that_their_graph_names(
    task, make_lesions, tmp_path
):
    cohort = make_lesions(24)
    train = {"epochs": 1, "batch_size": 4, "lr": 3e-3}
    own = TASKS[task]
    export = {"engine": "openvino", "precision": PRECISION} | own.get("export", {})
    config = Config.model_validate({"task": task, "train": train, **own, "export": export})
    fit(cohort, tmp_path / "run", config, bar=False)
    finish_run(tmp_path / "run", cohort)
    told = facts(tmp_path / "run")
    assert told["status"] == "finished"
    (note,) = [note for note in told["notes"] if note.startswith("computed by")]
    assert NAME in note
    assert isinstance(open_graph(tmp_path / "run" / "model.onnx")._engine, OpenVino)
    scores = pl.read_parquet(tmp_path / "run" / "predictions.parquet")["score"]
    assert scores.is_between(0, 1).all()
    assert scores.n_unique() > 1


def test_all_folds_and_their_mean_are_computed_by_one_engine(make_lesions, tmp_path):
    cohort = make_lesions(24)
    settings = ["model.backbone=baseline_cnn", "model.pretrained=false", "train.epochs=1"]
    flags = [word for setting in settings for word in ("--set", setting)]
    assert verb("train", cohort, tmp_path / "run", "--folds", "all", *flags, *ENGINE) == 0
    assert isinstance(open_graph(tmp_path / "run" / "model.onnx")._engine, OpenVino)


def test_what_cannot_be_evaluated_is_not_trained(make_lesions, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mammoscope.inference.openvino_engine.has_bfloat16", lambda: False)
    words = ("--set", "export.engine=openvino", "--set", "export.precision=bfloat16")
    assert verb("train", make_lesions(24), tmp_path / "run", *words) == 1
    assert "cannot be evaluated here" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
