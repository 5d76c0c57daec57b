"""What export leaves in a run whose scores are not calibrated: tables, hashes, record."""

from __future__ import annotations

import json

import polars as pl
import pytest

from fixtures.runs import predictions, write_run
from mammoscope.artefacts import read_json, sha256_file
from mammoscope.config import EvaluationConfig, ExportConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation.report import check_calibration
from mammoscope.export.record import settle_tables
from mammoscope.training.run_folder import check_run


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run", predictions())
    (folder / "model.onnx").write_bytes(b"graph")
    return folder


def settled(run, frame, **evaluation):
    facts = read_json(run / "run.json", ValueError)
    facts["config"]["evaluation"] |= evaluation
    facts["config"]["task"] = "detect"
    settle_tables(run, facts, {"predictions": frame, "candidates": frame.select("image_id")})
    return read_json(run / "run.json", ValueError)


def test_a_finished_run_names_its_tables_and_counts_its_images(run):
    facts = settled(run, predictions())
    files = ("model.onnx", "predictions.parquet", "candidates.parquet")
    assert facts["hashes"] == {name: sha256_file(run / name) for name in files}
    assert facts["status"] == "finished"
    split = predictions()["split"]
    assert facts["predicted"] == {name: (split == name).sum() for name in ("val", "test")}


def test_thresholds_outlive_the_same_scores_and_no_others(run):
    settled(run, predictions())
    points = run / "operating_points.json"
    points.write_text("{}")
    settled(run, predictions())
    assert points.is_file()
    settled(run, predictions().with_columns(score=pl.col("score") / 2))
    assert not points.exists()


def test_a_breast_is_its_highest_image_where_that_is_asked(run):
    settled(run, predictions(), breast_score="max")
    rows = pl.read_parquet(run / "predictions.parquet")
    breast = pl.col("score").max().over("patient_id", "exam_id", "laterality")
    assert rows.select((pl.col("breast_score") == breast).all()).item()


def test_what_cannot_be_calibrated_is_not_told_to_be(run):
    facts = settled(run, predictions())
    with pytest.raises(ConfigError, match=r"train anew with --set evaluation\.breast_score=max"):
        check_calibration(run, facts, EvaluationConfig(breast_score="max"))
    with pytest.raises(ConfigError, match=r"of task detect, are ranks .* leave the setting out"):
        check_calibration(run, facts, EvaluationConfig(calibration="isotonic"))
    # It weights measures and moves no score of a detector, so that nothing need be made anew.
    check_calibration(run, facts, EvaluationConfig(prevalence=0.01))


def test_a_stopped_run_from_before_engines_goes_on_with_the_one_there_was(tmp_path):
    sections = {"config": {"task": "detect"}, "preprocess": {}, "eligibility": {}, "cohort": {}}
    record = {"kind": "run", "format_version": 1, "status": "training", "fold": 0, **sections}
    (tmp_path / "run.json").write_text(json.dumps(record))

    def resumed(**how):
        export = ExportConfig(**how).model_dump()
        asked = {**record, "config": {"task": "detect", "export": export}}
        return check_run(tmp_path, asked, resume=True)

    assert resumed()["status"] == "training"
    with pytest.raises(RunError, match=r"cannot be resumed: export\.engine differ"):
        resumed(engine="openvino")
