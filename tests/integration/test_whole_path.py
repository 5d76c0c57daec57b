"""DICOM in, an honest score out: every verb after the other, on a few synthetic patients."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import polars as pl
import pytest
import torch

from mammoscope.bundle import read_bundle
from mammoscope.cli import main
from mammoscope.cohort.manifest import read_eligibility
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import EligibilityConfig
from mammoscope.errors import RunError
from mammoscope.evaluation.calibration import Calibration
from mammoscope.export import PARITY_TOLERANCE, export_bundle
from mammoscope.inference import Scorer, load_bundle, read_exam
from mammoscope.preprocessing import Preprocessor, SourceImage
from mammoscope.results import results_schema
from mammoscope.training import load_classifier
from mammoscope.types import Laterality


def verb(*words: object) -> None:
    with pytest.raises(SystemExit) as exiting:
        main([str(word) for word in words])
    assert exiting.value.code == 0, f"mammoscope {' '.join(str(w) for w in words)}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    """Everything up to the bundle, by the verbs of the README."""
    home = tmp_path_factory.mktemp("home")
    size = ("--patients", 24, "--prevalence", 0.5, "--scale", 0.07, "--seed", 1)
    verb("synth", home / "dicom", *size)
    rules = ("--set", "eligibility.partial_view=refuse")
    verb("ingest", home / "dicom", home / "cohort", *rules)
    verb("prepare", home / "cohort", "--size", "96x48")
    verb("split", home / "cohort", "--folds", 3, "--test", 0.3)
    settings = [
        "model.backbone=baseline_cnn",
        "model.pretrained=false",
        "train.epochs=2",
        "train.batch_size=8",
        "evaluation.bootstrap=50",
    ]
    flags = [word for setting in settings for word in ("--set", setting)]
    verb("train", home / "cohort", home / "run", *flags)
    verb("evaluate", home / "run")
    verb("export", home / "run", home / "bundle")
    return home


def test_no_patient_is_in_two_splits_and_all_test_images_are_predicted(home):
    splits = pl.read_parquet(home / "cohort" / "splits.parquet")
    places = splits.group_by("patient_id").agg(pl.struct("split", "fold").n_unique())
    assert places["split"].max() == 1
    predictions = pl.read_parquet(home / "run" / "predictions.parquet")
    tested = predictions.filter(pl.col("split") == "test")
    assert set(tested["image_id"]) == set(splits.filter(pl.col("split") == "test")["image_id"])
    assert predictions["score"].is_between(0, 1).all()
    facts = json.loads((home / "run" / "run.json").read_text())
    calibration = Calibration.from_dict(facts["calibration"])
    expected = calibration(predictions["logit"].to_numpy())
    np.testing.assert_allclose(predictions["score"], expected, atol=1e-6)


def test_report_bundle_and_info_say_synthetic(home, capsys):
    page = (home / "run" / "report" / "index.html").read_text()
    assert "synthetic" in page.lower()
    assert read_bundle(home / "bundle").synthetic
    for folder in ("cohort", "run", "bundle"):
        capsys.readouterr()
        verb("info", home / folder)
        assert "synthetic" in capsys.readouterr().out


def test_the_deployed_graph_is_the_evaluated_graph(home):
    assert (home / "bundle" / "model.onnx").read_bytes() == (
        home / "run" / "model.onnx"
    ).read_bytes()


def test_the_rules_of_the_cohort_are_those_of_the_bundle(home):
    kept = read_eligibility(home / "cohort")
    assert kept == EligibilityConfig(partial_view="refuse")
    assert read_bundle(home / "bundle").eligibility == kept


def test_training_and_serving_give_one_score_for_one_dicom_file(home):
    """The same file through both: prepared store and torch here, bundle and ONNX there."""
    manifest = pl.read_parquet(home / "cohort" / "manifest.parquet")
    classifier, _, preprocess = load_classifier(home / "run")
    store = PreparedStore(home / "cohort")
    predictor = load_bundle(home / "bundle")
    for row in manifest.head(6).iter_rows(named=True):
        path = home / "dicom" / row["path"]
        prepared = Preprocessor(preprocess).prepare(
            SourceImage(path), Laterality(row["laterality"]), row["pixel_aspect"]
        )
        np.testing.assert_array_equal(prepared.pixels, store.read(row["image_id"]))
        batch = torch.from_numpy(prepared.pixels[None, None].astype(np.float32))
        with torch.inference_mode():
            trained = classifier(batch)
        exam = read_exam(path, table=home / "dicom" / "train.csv")
        served = predictor(exam).images[0]
        assert served.logit == pytest.approx(float(trained.logit[0]), abs=PARITY_TOLERANCE)
        np.testing.assert_allclose(served.heatmap, trained.heatmap[0], atol=PARITY_TOLERANCE)


def test_predictions_of_the_run_are_those_of_the_bundle(home):
    predictions = pl.read_parquet(home / "run" / "predictions.parquet").head(5)
    scorer, store = Scorer(home / "bundle" / "model.onnx"), PreparedStore(home / "cohort")
    for row in predictions.iter_rows(named=True):
        scored = scorer([store.read(row["image_id"])])
        assert float(scored.logit[0]) == pytest.approx(row["logit"], abs=1e-6)
        assert float(scored.score[0]) == pytest.approx(row["score"], abs=1e-6)


def test_an_unseen_exam_is_scored_from_its_files(home, capsys):
    from mammoscope.cohort.synthetic import write_exam

    write_exam(home / "unseen", seed=77, cancer=True, scale=0.07)
    verb("predict", home / "bundle", home / "unseen", "--out", home / "results")
    assert "SYNTHETIC" in capsys.readouterr().out
    document = json.loads((home / "results" / "results.json").read_text())
    jsonschema.validate(document, results_schema())
    assert document["exams"][0]["missing_views"] == []
    assert len(list((home / "results" / "unseen").glob("*.png"))) == 4


def test_a_run_that_was_edited_or_not_evaluated_is_not_exported(home, tmp_path):
    import shutil

    run = shutil.copytree(home / "run", tmp_path / "run")
    points = run / "operating_points.json"
    points.write_text(points.read_text().replace('"threshold": 0', '"threshold": 0.1', 1))
    with pytest.raises(RunError, match=r"not the one that .* measured: it was edited"):
        export_bundle(run, tmp_path / "bundle")
    points.unlink()
    with pytest.raises(RunError, match="run mammoscope evaluate"):
        export_bundle(run, tmp_path / "bundle")
    with (run / "model.onnx").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(RunError, match=r"model\.onnx was edited"):
        export_bundle(run, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_run_stays_unless_told(home, capsys):
    with pytest.raises(SystemExit) as exiting:
        main(["train", str(home / "cohort"), str(home / "run")])
    assert exiting.value.code == 1
    assert "--overwrite" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exiting:
        main(["export", str(home / "run"), str(home / "bundle")])
    assert exiting.value.code == 1
