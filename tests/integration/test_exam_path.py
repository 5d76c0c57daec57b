"""DICOM in, an exam judged as a whole out: every verb after the other, with an exam model."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import numpy as np
import polars as pl
import pytest
import torch

from fixtures.bundles import brightness_graph, operating_point
from mammoscope.bundle import MODEL_FILE, SIDES, read_bundle, write_bundle
from mammoscope.cli import main
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import ModelConfig
from mammoscope.errors import BundleError, IncompleteExamError
from mammoscope.evaluation.tables import read_predictions, units
from mammoscope.export import PARITY_TOLERANCE, export_graph
from mammoscope.inference import Scorer, load_bundle
from mammoscope.models import build_multiview
from mammoscope.results import results_schema
from mammoscope.training import load_classifier
from mammoscope.training.dataset import Reader
from mammoscope.training.units import UnitDataset, collate, group_units
from mammoscope.types import Exam, Laterality


def verb(*words: object) -> None:
    with pytest.raises(SystemExit) as exiting:
        main([str(word) for word in words])
    assert exiting.value.code == 0, f"mammoscope {' '.join(str(w) for w in words)}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    """Everything up to the bundle, of clinical studies: their headers tell ages."""
    home = tmp_path_factory.mktemp("home")
    size = ("--patients", 24, "--prevalence", 0.5, "--scale", 0.07, "--seed", 1)
    verb("synth", home / "dicom", *size, "--profile", "clinical")
    verb("ingest", home / "dicom", home / "cohort")
    verb("prepare", home / "cohort", "--size", "96x48")
    verb("split", home / "cohort", "--folds", 3, "--test", 0.3)
    settings = [
        "model.level=exam",
        "model.facts=[age,implant]",
        "model.backbone=baseline_cnn",
        "train.epochs=2",
        "train.batch_size=4",
        "evaluation.bootstrap=50",
    ]
    flags = [word for setting in settings for word in ("--set", setting)]
    verb("train", home / "cohort", home / "run", *flags)
    verb("evaluate", home / "run")
    verb("export", home / "run", home / "bundle")
    return home


@pytest.fixture(scope="module")
def studies(home):
    """The study folder of each patient of the cohort."""
    manifest = pl.read_parquet(home / "cohort" / "manifest.parquet")
    first = manifest.group_by("patient_id", maintain_order=True).first()
    return {
        patient: (home / "dicom" / path).parent
        for patient, path in first.select("patient_id", "path").iter_rows()
    }


def test_training_and_serving_give_one_score_for_one_exam(home, studies):
    """The same studies through both: padded batch and torch here, bundle and ONNX there."""
    network, config, _ = load_classifier(home / "run")
    store = PreparedStore(home / "cohort")
    exams = group_units(store.rows(), "exam", config.train.label)[:4]
    data = UnitDataset(Reader(store, max_value=store.config.max_value), exams)
    with torch.inference_mode():
        trained = network(collate([data[number] for number in range(len(exams))]).given)
    patients = dict(store.rows().select("image_id", "patient_id").iter_rows())
    predictor = load_bundle(home / "bundle")
    for row, unit in enumerate(exams):
        exam = predictor.read(studies[patients[unit.image_ids[0]]])
        served = predictor(exam)
        logits = np.sort([image.logit for image in served.images])
        ours = np.sort(trained.image_logit[row, : len(unit.image_ids)])
        np.testing.assert_allclose(logits, ours, atol=PARITY_TOLERANCE)
        for breast in served.breasts:
            ours = torch.sigmoid(trained.breast_logit[row, SIDES.index(breast.laterality)])
            assert breast.score == pytest.approx(float(ours), abs=PARITY_TOLERANCE)
        ours = torch.sigmoid(trained.exam_logit[row])
        assert served.score == pytest.approx(float(ours), abs=PARITY_TOLERANCE)


def test_the_report_measures_exams_by_the_graphs_own_score(home):
    report = json.loads((home / "run" / "report" / "report.json").read_text())
    assert list(report["levels"]) == ["image", "breast", "exam"]
    rows = read_predictions(home / "run" / "predictions.parquet", "test")
    by_exam = units(rows, "exam")
    assert report["levels"]["exam"]["n"] == by_exam.height == rows["exam_id"].n_unique()
    assert set(by_exam["score"]) == set(rows["exam_score"])
    assert set(units(rows, "breast")["score"]) == set(rows["breast_score"])
    points = json.loads((home / "run" / "operating_points.json").read_text())["points"]
    bundle = read_bundle(home / "bundle")
    assert bundle.operating_points.threshold("exam") == points["exam"][0]["threshold"]


def test_the_bundle_says_what_its_graph_takes(home, capsys):
    bundle = read_bundle(home / "bundle")
    assert bundle.input.level == "exam"
    assert list(bundle.input.inputs) == ["image", "projection", "side", "facts"]
    assert "exam_score" in bundle.output
    verb("info", home / "bundle")
    assert "exams; breast: the graph's" in capsys.readouterr().out


def test_an_exam_is_scored_from_its_files_and_says_what_it_misses(home, studies, capsys):
    study = next(iter(studies.values()))
    verb("predict", home / "bundle", study, "--out", home / "results")
    assert "SYNTHETIC" in capsys.readouterr().out
    document = json.loads((home / "results" / "results.json").read_text())
    jsonschema.validate(document, results_schema())
    assert document["model"]["level"] == "exam"
    (whole,) = document["exams"]
    assert len(list((home / "results" / study.name).rglob("*.png"))) == len(whole["images"])
    predictor = load_bundle(home / "bundle")
    exam = predictor.read(study)
    left = tuple(image for image in exam.images if image.laterality is Laterality.L)
    part = predictor(dataclasses.replace(exam, images=left[:1]))
    assert [breast.laterality for breast in part.breasts] == ["L"]
    assert 0 <= part.score <= 1
    assert len(part.missing_views) == 3
    assert "3 of the 4 screening views are missing" in part.warnings[-1]
    with pytest.raises(IncompleteExamError, match="it holds none"):
        predictor(Exam("empty", ()))
    with pytest.raises(IncompleteExamError, match="L_CC"):
        predictor.read(study / "L_CC")


def test_what_headers_tell_of_the_woman_reaches_the_model(home, studies):
    predictor = load_bundle(home / "bundle")
    exam = predictor.read(next(iter(studies.values())))
    assert exam.age is not None
    older = dataclasses.replace(exam, age=exam.age + 20)
    unknown = dataclasses.replace(exam, age=None)
    scores = {predictor(told).score for told in (exam, older, unknown)}
    assert len(scores) == 3
    # Which the density is not, by this model's settings.
    assert predictor(dataclasses.replace(exam, density="D")).score == predictor(exam).score


def test_findings_of_an_image_do_not_depend_on_the_other_images(home, studies):
    predictor = load_bundle(home / "bundle")
    exam = predictor.read(next(iter(studies.values())))
    whole = predictor(exam)
    for image, result in zip(exam.images, whole.images, strict=True):
        (alone,) = predictor(dataclasses.replace(exam, images=(image,))).images
        assert alone.logit == pytest.approx(result.logit, abs=1e-5)
        np.testing.assert_allclose(alone.heatmap, result.heatmap, atol=1e-5)


def test_two_runs_are_compared_by_exam(home, capsys):
    verb("compare", home / "run", home / "run", "--level", "exam")
    assert "exams of" in capsys.readouterr().out


def test_a_model_of_another_level_than_the_bundle_says_is_refused(home, tmp_path):
    facts = read_bundle(home / "bundle").model_dump(mode="json", exclude={"hashes"})
    (tmp_path / "bundle").mkdir()
    write_bundle(
        tmp_path / "bundle", {MODEL_FILE: brightness_graph(tmp_path / "graph.onnx")}, **facts
    )
    with pytest.raises(BundleError, match=r"scores exams, and model\.onnx scores images"):
        load_bundle(tmp_path / "bundle")
    scorer = Scorer(tmp_path / "graph.onnx")
    with pytest.raises(BundleError, match="each image by itself"):
        scorer.exam(None)


def test_an_exam_of_a_breast_model_is_its_higher_breast(tmp_path, exam_folder):
    config = ModelConfig(backbone="baseline_cnn", level="breast")
    torch.manual_seed(3)
    network, _ = build_multiview(config, max_value=255, size=(96, 48))
    export_graph(network, (96, 48), tmp_path / MODEL_FILE)
    (tmp_path / "bundle").mkdir()
    write_bundle(
        tmp_path / "bundle",
        {MODEL_FILE: tmp_path / MODEL_FILE},
        name="breasts",
        package_version="0",
        synthetic=True,
        intended_use="Tests only.",
        input={"level": "breast", "preprocess": {"height": 96, "width": 48}},
        eligibility={},
        operating_points={
            "primary": "best_f1",
            "image": [operating_point(0.5)],
            "breast": [operating_point(0.6)],
            "exam": [operating_point(0.2)],
        },
    )
    predictor = load_bundle(tmp_path / "bundle")
    predictor.check()
    result = predictor(predictor.read(exam_folder))
    assert result.score == max(breast.score for breast in result.breasts)
    for breast in result.breasts:
        own = [image.score for image in result.images if image.laterality is breast.laterality]
        assert min(own) - 1e-6 <= breast.score <= max(own) + 1e-6
    assert result.suspicious == (result.score >= 0.2)
