"""Bundles of several models, and of one that is no classifier: one result tells what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
import torch

from mammoscope.artefacts import read_json, sha256_file, write_json
from mammoscope.bundle import HIGHEST, MODEL_FILE, read_bundle, write_bundle
from mammoscope.cohort.store import PreparedStore
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
from mammoscope.inference.companions import Seen, load_companions
from mammoscope.inference.detector import Detector
from mammoscope.preprocessing import PreparedImage, Preprocessor, SourceImage
from mammoscope.results import results_document, results_schema
from mammoscope.training import fit
from mammoscope.types import Exam, Laterality, MammogramImage, View

TRAIN = {"epochs": 2, "batch_size": 4, "lr": 3e-3, "patience": 0, "seed": 3}
TASKS = {
    "classify": {"model": {"backbone": "baseline_cnn", "pretrained": False}},
    "detect": {"task": "detect"},
    "segment": {"task": "segment", "segment": {"encoder": "small"}},
    "anomaly": {"task": "anomaly", "anomaly": {"width": 4, "latent_width": 4}},
}


LONE = ("detect", "segment", "anomaly")


@pytest.fixture(scope="module")
def cohort(make_lesions) -> Path:
    return make_lesions(30)


@pytest.fixture(scope="module")
def runs(cohort, tmp_path_factory) -> dict[str, Path]:
    """A finished and evaluated run of each task on one cohort."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
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
    # Said and ringed on each overlay, in the colour of no finding.
    assert all((picture == (64, 224, 255)).all(axis=2).sum() > 50 for picture in drawn)
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
        own = detector.findings(prepared.pixels, prepared.geometry)
        # What both find is one finding; each model's word is kept in it.
        told = [one for f in shown.findings for one in f.sightings]
        assert {(one.box, one.score) for one in told if one.found_by == "segmenter"} == {
            (f.box, f.score) for f in outlined
        }
        assert len(told) == len(outlined) + len(own)
        outlines = [f.outline for f in shown.findings if f.outline]
        assert sorted(outlines) == sorted(f.outline for f in outlined)
        found = [f for f in shown.findings if f.found_by == "detector"]
        # Matching moves scores, and with them the order, but no box.
        assert {f.box for f in found} == {f.box for f in own}
        assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
        made = judge([prepared.pixels], [image.view], [None])
        assert shown.anomaly.score == pytest.approx(float(made.score[0]), abs=1e-6)
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
    with pytest.raises(RunError, match=r"task classify: .* a classifier scores, and comes first"):
        export_bundle(runs["detect"], tmp_path / "b", companions=[runs["classify"]])
    with pytest.raises(RunError, match="two runs are of task detect"):
        export_bundle(runs["classify"], tmp_path / "b", companions=[runs["detect"]] * 2)
    with pytest.raises(RunError, match="two runs are of task detect"):
        export_bundle(runs["detect"], tmp_path / "b", companions=[runs["detect"]])
    assert not (tmp_path / "b").exists()
    broken = lowered(bundle, tmp_path / "broken")
    (broken / "segment.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"segment\.onnx was edited"):
        load_bundle(broken)


# --- a model alone that is no classifier ----------------------------------------------


@pytest.fixture(scope="module")
def lone(runs, tmp_path_factory) -> dict[str, Path]:
    """A bundle of each run that is no classifier's."""
    folder = tmp_path_factory.mktemp("lone")
    for task in LONE:
        export_bundle(runs[task], folder / task)
    return {task: folder / task for task in LONE}


@pytest.mark.parametrize("task", LONE)
def test_a_model_alone_scores_at_the_thresholds_that_its_evaluation_chose(task, lone, runs):
    said = read_bundle(lone[task])
    assert said.task == task
    assert set(said.hashes) == {MODEL_FILE}
    assert said.hashes[MODEL_FILE] == sha256_file(runs[task] / MODEL_FILE)
    chosen = read_json(runs[task] / "operating_points.json", RunError)
    for level in ("image", "breast", "exam"):
        assert said.operating_points.threshold(level) == chosen["points"][level][0]["threshold"]
    assert (
        said.scoring.threshold
        == (chosen["points"]["image"][0] if task == "anomaly" else chosen["candidates"])[
            "threshold"
        ]
    )
    assert set(said.aggregation) == {"image", "breast", "exam"}
    assert said.input.inputs.keys() == {"image"}


@pytest.mark.parametrize("task", LONE)
def test_a_model_alone_makes_a_whole_result(task, lone, exam, tmp_path):
    predictor = load_bundle(lowered(lone[task], tmp_path / "all"))
    predictor.check()
    drawn = []
    result = predictor(read_exam(exam), lambda one, pixels: drawn.append(overlay(pixels, one)))
    assert [picture.shape[2] for picture in drawn] == [3] * 4
    assert result.score == max(breast.score for breast in result.breasts)
    for breast in result.breasts:
        own = [one.score for one in result.images if one.laterality is breast.laterality]
        assert breast.score == pytest.approx(sum(own) / 2)
    points = predictor.bundle.operating_points
    for image in result.images:
        assert image.suspicious == (image.score >= points.threshold("image"))
        assert (image.heatmap is None) == (task == "detect")
        if task == "anomaly":
            assert image.anomaly.score == image.score
            assert {one.kind for one in image.findings} <= {"unusual"}
            assert bool(image.findings) == image.suspicious
        elif image.findings:
            assert image.score == pytest.approx(max(one.score for one in image.findings))
    assert {one.found_by for image in result.images for one in image.findings} <= {
        {"detect": "detector", "segment": "segmenter", "anomaly": "heatmap"}[task]
    }
    document = results_document([result], predictor.model_info, "0.1.0")
    jsonschema.validate(document, results_schema())
    assert document["model"]["task"] == task
    assert [one["task"] for one in document["model"]["companions"]] == [task]


def judged(model, store: PreparedStore, name: str):
    """What a bundle's model says of an image of a cohort, prepared as it was for evaluation."""
    image = MammogramImage(name, store.cohort / name, Laterality.L, View.CC)
    geometry = store.read_geometry(name)
    prepared = PreparedImage(store.read(name), geometry, 0.5, 1.0, ("left",), 1.0)
    (verdict,) = model([Seen(image, prepared)], Exam("e", (image,)))
    return verdict


@pytest.mark.parametrize("task", LONE)
def test_what_is_served_is_the_score_that_was_evaluated(task, lone, runs, cohort):
    said, store = read_bundle(lone[task]), PreparedStore(cohort)
    (model,) = load_companions(said, lone[task])
    rows = pl.read_parquet(runs[task] / "predictions.parquet")
    assert rows["score"].n_unique() > 5
    for name, logit, score in rows.select("image_id", "logit", "score").iter_rows():
        rating = judged(model, store, name).rating
        assert rating.score == pytest.approx(score, abs=1e-6)
        assert rating.logit == pytest.approx(logit, abs=1e-3)


def test_companions_stand_beside_a_detector_and_change_no_score(lone, runs, exam, tmp_path):
    beside = [runs["segment"], runs["anomaly"]]
    export_bundle(runs["detect"], tmp_path / "joined", companions=beside)
    joined = load_bundle(lowered(tmp_path / "joined", tmp_path / "all"))
    assert joined.bundle.task == "detect"
    assert set(joined.bundle.hashes) == {MODEL_FILE, "segment.onnx", "anomaly.onnx"}
    given = read_exam(exam)
    alone, together = load_bundle(lone["detect"])(given), joined(given)
    assert [one.score for one in alone.images] == [one.score for one in together.images]
    assert [one.anomaly for one in alone.images] == [None] * 4
    assert all(one.anomaly is not None for one in together.images)
    # The anomaly model's map is told as its own and not as what the score comes from.
    assert [one.heatmap for one in together.images] == [None] * 4


@pytest.mark.parametrize("task", LONE)
def test_a_breast_of_a_model_alone_may_be_its_highest_image(task, runs, cohort, tmp_path):
    run = shutil.copytree(runs[task], tmp_path / "run")
    facts = read_json(run / "run.json", RunError)
    facts["config"]["evaluation"]["breast_score"] = "max"
    write_json(run / "run.json", facts)
    finish_run(run, cohort)
    rows = pl.read_parquet(run / "predictions.parquet")
    assert rows["breast_score"].to_list() == rows["score"].to_list()  # one image a breast
    evaluate_run(run, overwrite=True)
    assert export_bundle(run, tmp_path / "bundle").aggregation["breast"] == HIGHEST


def test_a_run_without_thresholds_of_its_scores_makes_no_bundle_alone(runs, tmp_path):
    run = shutil.copytree(runs["detect"], tmp_path / "run")
    points, report = run / "operating_points.json", run / "report" / "report.json"
    write_json(points, {**read_json(points, RunError), "points": {}})
    told = read_json(report, RunError)
    write_json(report, {**told, "operating_points_sha256": sha256_file(points)})
    with pytest.raises(RunError, match=r"no operating points of images and breasts: .* --with"):
        export_bundle(run, tmp_path / "b")
    assert export_bundle(runs["classify"], tmp_path / "b", companions=[run]).task == "classify"


def test_a_service_with_a_detector_says_so_and_has_no_heatmap(lone, exam, serving, as_form):
    with serving(load_bundle(lone["detect"])) as client:
        model = client.get("/v1/model").json()
        assert model["task"] == "detect"
        assert client.get("/healthz").json()["ok"]
        made = client.post("/v1/exams", files=as_form(sorted(exam.iterdir())))
        assert made.status_code == 201, made.text
        at = made.headers["location"]
        shown = client.get(f"{at}/display").json()["images"]
        assert [one["heatmap_url"] for one in shown] == [None] * 4
        assert client.get(f"{at}/images/0.png").status_code == 200
        assert client.get(f"{at}/images/0/heatmap.png").status_code == 404
