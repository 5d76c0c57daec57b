"""A bundle of four models: each looks once, and one result tells what all of them say."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

from mammoscope.bundle import MODEL_FILE, read_bundle, write_bundle
from mammoscope.cohort.synthetic import write_exam
from mammoscope.config import Config
from mammoscope.errors import BundleError, RunError
from mammoscope.evaluation import evaluate_run
from mammoscope.explain import overlay
from mammoscope.export import export_bundle, finish_run
from mammoscope.inference import (
    AnomalyScorer,
    Segmenter,
    load_bundle,
    read_exam,
)
from mammoscope.inference.detector import Detector
from mammoscope.preprocessing import Preprocessor, SourceImage
from mammoscope.results import results_document, results_schema
from mammoscope.training import fit

TRAIN = {"epochs": 2, "batch_size": 4, "lr": 3e-3, "patience": 0, "seed": 3}
TASKS = {
    "classify": {"model": {"backbone": "baseline_cnn", "pretrained": False}},
    "detect": {"task": "detect"},
    "segment": {"task": "segment", "segment": {"encoder": "small"}},
    "anomaly": {"task": "anomaly", "anomaly": {"width": 4, "latent_width": 4}},
}


@pytest.fixture(scope="module")
def runs(make_lesions, tmp_path_factory) -> dict[str, Path]:
    """A finished and evaluated run of each task on one cohort."""
    torch.set_num_threads(1)
    cohort, folder = make_lesions(30), tmp_path_factory.mktemp("runs")
    for task, settings in TASKS.items():
        values = {"train": TRAIN, "evaluation": {"bootstrap": 20}} | settings
        fit(cohort, folder / task, Config.model_validate(values), bar=False)
        finish_run(folder / task, cohort)
        evaluate_run(folder / task)
    return {task: folder / task for task in TASKS}


@pytest.fixture(scope="module")
def bundle(runs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    beside = [runs[task] for task in ("detect", "segment", "anomaly")]
    export_bundle(runs["classify"], folder, companions=beside)
    return folder


@pytest.fixture(scope="module")
def exam(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exam")
    write_exam(folder, seed=5, cancer=True, conspicuity=2.0, difficulty=0.0)
    return folder


def lowered(bundle: Path, folder: Path, threshold: float = 0.0) -> Path:
    """A copy of a bundle whose companions call everything from a threshold on."""
    said = read_bundle(bundle).model_dump(mode="json")
    for companion in said["companions"]:
        companion["threshold"] = threshold
    models = {name: bundle / name for name in said.pop("hashes")}
    folder.mkdir()
    write_bundle(folder, models, **said)
    return folder


def test_a_bundle_says_what_stands_beside_the_model_that_scores(bundle, runs):
    said = read_bundle(bundle)
    assert [one.task for one in said.companions] == ["detect", "segment", "anomaly"]
    assert set(said.hashes) == {MODEL_FILE, "detect.onnx", "segment.onnx", "anomaly.onnx"}
    points = json.loads((runs["detect"] / "operating_points.json").read_text())
    assert said.companions[0].threshold == points["candidates"]["threshold"]
    assert said.companions[0].matching is not None
    unusual = json.loads((runs["anomaly"] / "operating_points.json").read_text())
    assert said.companions[2].threshold == unusual["points"]["image"][0]["threshold"]


def test_one_result_tells_scores_findings_of_each_kind_and_how_unusual(bundle, exam, tmp_path):
    predictor = load_bundle(lowered(bundle, tmp_path / "all"))
    predictor.check()
    drawn = []
    result = predictor(read_exam(exam), lambda one, pixels: drawn.append(overlay(pixels, one)))
    assert len(result.images) == len(drawn) == 4
    for image in result.images:
        kinds = [finding.found_by for finding in image.findings]
        assert set(kinds) <= {"detector", "segmenter"}
        assert kinds == sorted(kinds)
        assert image.anomaly is not None
        assert image.anomaly.unusual
        assert image.anomaly.map.min() >= 0
        assert image.anomaly.map.max() <= 1
    found = {finding.found_by for image in result.images for finding in image.findings}
    assert "detector" in found
    assert result.anomaly.score == max(image.anomaly.score for image in result.images)
    document = results_document([result], predictor.model_info, "0.1.0")
    jsonschema.validate(document, results_schema())
    assert [one["task"] for one in document["model"]["companions"]] == [
        "detect",
        "segment",
        "anomaly",
    ]


def test_scores_are_those_of_the_bundle_without_companions(bundle, runs, exam, tmp_path):
    export_bundle(runs["classify"], tmp_path / "alone")
    alone = load_bundle(tmp_path / "alone")(read_exam(exam))
    joined = load_bundle(bundle)(read_exam(exam))
    assert [image.score for image in alone.images] == [image.score for image in joined.images]
    assert alone.score == joined.score
    assert alone.anomaly is None


def test_companions_say_in_service_what_their_graphs_say_of_the_prepared_image(
    bundle, exam, tmp_path
):
    predictor = load_bundle(lowered(bundle, tmp_path / "all"))
    given = read_exam(exam)
    result = predictor(given)
    said = predictor.bundle.companions
    graphs = [Detector, Segmenter, AnomalyScorer]
    detector, segmenter, judge = (
        kind(bundle / one.file) for kind, one in zip(graphs, said, strict=True)
    )
    for image, shown in zip(given.images, result.images, strict=True):
        config = said[0].preprocess
        prepared = Preprocessor(config).prepare(SourceImage(image.path, config), image.laterality)
        outlined = segmenter([prepared.pixels])[0].findings(prepared.geometry)
        assert [f for f in shown.findings if f.found_by == "segmenter"] == list(outlined)
        own = detector.findings(prepared.pixels, prepared.geometry)
        found = [f for f in shown.findings if f.found_by == "detector"]
        # Matching moves scores, and with them the order, but no box.
        assert {f.box for f in found} == {f.box for f in own}
        assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
        made = judge([prepared.pixels], [image.view], [None])
        assert shown.anomaly.score == pytest.approx(float(made.score[0]))
        np.testing.assert_allclose(shown.anomaly.map, made.local_score[0], atol=1e-6)


def test_matched_findings_name_each_other_and_what_is_no_finding_is_not_named(
    bundle, exam, tmp_path
):
    every = load_bundle(lowered(bundle, tmp_path / "all"))(read_exam(exam))
    by_name = {image.image_id: image for image in every.images}
    pairs = 0
    for image in every.images:
        for finding in image.findings:
            if finding.matched is not None:
                name, place = finding.matched
                other = by_name[name]
                assert other.laterality is image.laterality
                assert other.view is not image.view
                assert other.findings[place].found_by == "detector"
                pairs += 1
    scores = [f.score for image in every.images for f in image.findings if f.found_by == "detector"]
    high = load_bundle(lowered(bundle, tmp_path / "few", float(np.median(scores))))
    for image in high(read_exam(exam)).images:
        assert all(f.score >= np.median(scores) for f in image.findings)
    assert pairs


def test_wrong_company_is_refused_by_name(runs, bundle, tmp_path):
    with pytest.raises(RunError, match="task detect: a bundle's scores are a classifier's"):
        export_bundle(runs["detect"], tmp_path / "b")
    with pytest.raises(RunError, match="task classify: beside a classifier can stand"):
        export_bundle(runs["classify"], tmp_path / "b", companions=[runs["classify"]])
    with pytest.raises(RunError, match="two companions are of task detect"):
        export_bundle(runs["classify"], tmp_path / "b", companions=[runs["detect"]] * 2)
    assert not (tmp_path / "b").exists()
    broken = lowered(bundle, tmp_path / "broken")
    (broken / "segment.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"segment\.onnx was edited"):
        load_bundle(broken)
