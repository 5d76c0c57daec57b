from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from fixtures.anomaly_runs import anomaly_run
from fixtures.runs import predictions, write_cohort
from mammoscope.artefacts import read_json, write_json
from mammoscope.config import EvaluationConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.evaluation import compare_runs, evaluate_run, summary_rows
from mammoscope.evaluation.anomaly_maps import MAPS_FILE, shown_anomalies
from mammoscope.evaluation.anomaly_page import side_by_side
from mammoscope.evaluation.anomaly_points import (
    choose_on_normal,
    normal_only,
    threshold_on_normal,
)
from mammoscope.evaluation.tables import Scored


def test_the_threshold_leaves_its_share_of_normal_scores_below_it():
    score = np.arange(1, 21) / 20
    assert threshold_on_normal(score, 0.9) == pytest.approx((0.9 + 0.95) / 2)
    assert threshold_on_normal(score, 0.5) == pytest.approx((0.5 + 0.55) / 2)
    # None may reach it: it lies above the highest.
    assert threshold_on_normal(score, 0.99) > 1.0
    assert (np.array([0.3, 0.3, 0.3, 0.8]) < threshold_on_normal(score[[5, 5, 5, 15]], 0.7)).sum()
    with pytest.raises(RunError, match="normal validation images"):
        threshold_on_normal(np.empty(0), 0.9)


def test_ties_are_never_parted():
    tied = np.array([0.2, 0.4, 0.4, 0.4, 0.9])
    assert threshold_on_normal(tied, 0.3) == pytest.approx(0.65)


def test_a_choice_tells_how_far_it_moves_with_other_patients():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(50), 4)
    data = Scored(rng.uniform(size=200), np.zeros(200, bool), patient)
    primary, second = choose_on_normal(data, (0.95, 0.9), EvaluationConfig(bootstrap=100))
    assert primary["name"] == "specificity=0.95"
    assert primary["specificity"]["value"] >= 0.95
    assert primary["threshold"] > second["threshold"]
    assert primary["choice"]["low"] < primary["threshold"] < primary["choice"]["high"]
    assert primary["sensitivity"]["value"] is None


def test_thresholds_know_neither_cancers_nor_test_images(tmp_path):
    frame = predictions()
    before = anomaly_run(tmp_path / "a", frame)
    evaluate_run(before)
    kept = (pl.col("split") == "val") & (pl.col("cancer") == 0)
    lowered = frame.with_columns(
        score=pl.when(kept).then(pl.col("score")).otherwise(pl.col("score") / 7)
    )
    after = anomaly_run(tmp_path / "b", lowered)
    evaluate_run(after)
    points = [json.loads((run / "operating_points.json").read_text()) for run in (before, after)]
    assert points[0]["points"]["image"] == points[1]["points"]["image"]
    assert points[0]["chosen_from"] == "normal"
    normal = frame.filter(kept)["score"].to_numpy()
    assert points[0]["points"]["image"][0]["threshold"] == threshold_on_normal(normal, 0.95)


def test_a_report_has_measures_where_points_lie_and_pictures_side_by_side(tmp_path):
    frame = predictions()
    cohort = write_cohort(tmp_path / "cohort", frame)
    run = anomaly_run(tmp_path / "run", frame, cohort)
    made = evaluate_run(run)
    image = made.report["levels"]["image"]
    assert image["metrics"]["auroc"]["value"] > 0.9
    assert image["metrics"]["accuracy"]["low"] is not None
    assert image["n"] == 80
    assert made.report["validation"]["image"]["positives"] > 0
    assert made.report["normal"]["image"]["n"] < made.report["validation"]["image"]["n"]
    page = made.path.read_text()
    assert page.count("data:image/jpeg") == 3
    assert "a rank, not a chance" in page
    assert "SYNTHETIC" in page
    assert summary_rows(made)[2][0] == "AUROC"


def test_an_exam_is_unusual_where_any_image_of_it_is_and_that_is_measured(tmp_path):
    # One image of some healthy women is more unusual than all.
    odd = (pl.col("split") == "test") & (pl.col("cancer") == 0)
    odd &= (pl.col("laterality") == "R") & (pl.col("view") == "CC")
    odd &= pl.col("patient_id").is_in(["22", "23", "25"])
    frame = predictions().with_columns(
        score=pl.when(odd).then(pl.lit(0.999)).otherwise(pl.col("score"))
    )
    made = evaluate_run(anomaly_run(tmp_path / "run", frame))
    told = made.report["unusual"]
    threshold = made.report["levels"]["image"]["threshold"]
    assert (told["name"], told["threshold"]) == ("specificity=0.95", threshold)
    test = frame.filter(pl.col("split") == "test")
    exams = test.group_by("patient_id", "exam_id").agg(pl.col("score", "cancer").max())
    called = exams["score"] >= threshold
    exam = told["levels"]["exam"]
    assert (exam["n"], exam["called"]) == (exams.height, called.sum())
    for key, label in (("sensitivity", 1), ("false_positive_rate", 0)):
        assert exam[key]["value"] == pytest.approx(called.filter(exams["cancer"] == label).mean())
        assert exam[key]["low"] <= exam[key]["value"] <= exam[key]["high"]
    # More images, more alarms; and of images it is what their level says.
    rates = [told["levels"][k]["false_positive_rate"]["value"] for k in ("image", "exam")]
    assert rates[0] < rates[1]
    image = made.report["levels"]["image"]["metrics"]
    assert told["levels"]["image"]["sensitivity"] == image["sensitivity"]
    assert rates[0] == pytest.approx(1 - image["specificity"]["value"])
    page = made.path.read_text()
    assert "What results call unusual" in page
    assert "chosen on normal validation scores" in page
    # Normal images say nothing of sensitivity, and no column does.
    assert "sensitivity, test" in page
    assert "sensitivity, validation" not in page
    named = {row[0]: row for row in summary_rows(made)}
    assert named["False-positive rate, any image unusual"][3].startswith(f"{rates[1]:.3f} (")


def test_without_a_positive_only_false_alarms_are_told(tmp_path):
    frame = predictions().with_columns(cancer=pl.lit(0, pl.Int8))
    made = evaluate_run(anomaly_run(tmp_path / "run", frame)).report
    image = made["levels"]["image"]["metrics"]
    assert image["auroc"]["value"] is None
    assert image["sensitivity"]["value"] is None
    assert 0.5 < image["specificity"]["value"] < 1
    assert made["subgroups"] == made["validation"] == {}
    assert made["unusual"]["levels"]["exam"]["sensitivity"]["value"] is None
    assert made["unusual"]["levels"]["exam"]["false_positive_rate"]["value"] > 0
    assert any("nothing about what is found" in note for note in made["notes"])


def test_how_breasts_were_scored_is_not_changed_afterwards(tmp_path):
    run = anomaly_run(tmp_path / "run", predictions())
    facts = read_json(run / "run.json", RunError)
    write_json(run / "run.json", facts | {"calibration": {"method": "none"}})
    with pytest.raises(ConfigError, match=r"train anew with --set evaluation\.breast_score=max"):
        evaluate_run(run, EvaluationConfig(bootstrap=20, breast_score="max"))


def test_few_normal_images_warn(tmp_path):
    frame = predictions().filter((pl.col("split") == "test") | (pl.col("patient_id") < "14"))
    made = evaluate_run(anomaly_run(tmp_path / "run", frame)).report
    assert any("of which less than one is to lie above" in text for text in made["warnings"])


def test_just_one_normal_image_above_a_threshold_is_no_warning(tmp_path):
    # 1 - 0.9 of ten is a last digit short of one.
    frame = predictions()
    normal = frame.filter((pl.col("split") == "val") & (pl.col("cancer") == 0))["image_id"]
    kept = pl.col("image_id").is_in(normal.head(10).to_list()) | (pl.col("split") == "test")
    made = evaluate_run(anomaly_run(tmp_path / "run", frame.filter(kept))).report
    few = [text for text in made["warnings"] if "of which less than one" in text]
    assert not any("specificity=0.9 by image" in text for text in few)
    assert any("specificity=0.95 by image" in text for text in few)


def test_a_test_image_that_is_missing_is_said_before_a_threshold_is_written(tmp_path):
    run = anomaly_run(tmp_path / "run", predictions())
    facts = read_json(run / "run.json", RunError)
    write_json(run / "run.json", facts | {"predicted": {"val": 80, "test": 81}})
    with pytest.raises(RunError, match="holds 80 test images, the run scored 81"):
        evaluate_run(run)
    assert not (run / "operating_points.json").exists()


def test_without_normal_validation_images_nothing_is_measured(tmp_path):
    val = pl.col("split") == "val"
    frame = predictions().with_columns(
        cancer=pl.when(val).then(1).otherwise(pl.col("cancer")).cast(pl.Int8)
    )
    run = anomaly_run(tmp_path / "run", frame)
    with pytest.raises(RunError, match="normal validation images"):
        evaluate_run(run)
    assert not (run / "report").exists()


def test_edited_maps_are_refused(tmp_path):
    run = anomaly_run(tmp_path / "run", predictions())
    pl.read_parquet(run / MAPS_FILE).head(5).write_parquet(run / MAPS_FILE)
    with pytest.raises(RunError, match=r"anomaly_maps.parquet was edited"):
        evaluate_run(run)
    (run / MAPS_FILE).unlink()
    with pytest.raises(RunError, match="is missing"):
        evaluate_run(run)


def test_two_anomaly_runs_are_compared(tmp_path):
    runs = [anomaly_run(tmp_path / str(seed), predictions(seed)) for seed in (0, 1)]
    for run in runs:
        evaluate_run(run)
    made = compare_runs(*runs, "image", EvaluationConfig(bootstrap=20))
    assert made["runs"][0]["operating_point"] == "specificity=0.95"
    assert made["difference"]["auroc"]["delong"]["low"] is not None


def test_a_picture_has_image_expectation_and_map_on_one_scale(tmp_path):
    run = anomaly_run(tmp_path / "run", predictions())
    name = predictions()["image_id"][0]
    (shown,) = shown_anomalies(run / MAPS_FILE, [name])
    picture = side_by_side(shown, top=1.0)
    assert picture.shape == (320, 3 * 160 + 2 * 4, 3)
    # The map's hottest cell is the brightest; elsewhere it is black.
    heat = picture[:, -160:]
    assert heat[100, 60].sum() > 600
    assert heat[200, 120].sum() < 30
    normal = normal_only(Scored(np.array([0.1, 0.9]), np.array([True, False]), np.array([0, 1])))
    assert normal.score.tolist() == [0.9]
