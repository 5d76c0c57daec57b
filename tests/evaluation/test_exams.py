"""Breasts and exams: scores of their own or of their images, and what is measured of them."""

import json

import polars as pl
import pytest

from fixtures.runs import predictions, write_cohort, write_run
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import compare_runs, evaluate_run, summary_rows
from mammoscope.evaluation.tables import read_predictions, scored, units

QUICK = EvaluationConfig(bootstrap=40)
EXAM = ("patient_id", "exam_id")


def joined(frame, *, exam=True):
    """Predictions of a breast or exam model: higher for left breasts than their images'."""
    raised = pl.col("score") * 0.5 + 0.4 * (pl.col("laterality") == "L")
    frame = frame.with_columns(breast_score=raised.mean().over(*EXAM, "laterality"))
    if exam:
        whole = pl.col("breast_score").max().over(EXAM) * 0.5 + 0.2
        frame = frame.with_columns(exam_score=whole)
    return frame


def told(run, frame, level):
    """Have the record of a run say which level its model scores."""
    write_run(run, frame)
    facts = json.loads((run / "run.json").read_text())
    facts["config"]["model"]["level"] = level
    (run / "run.json").write_text(json.dumps(facts))
    return run


def test_an_exam_is_its_higher_breast_unless_the_model_scores_it():
    frame = predictions()
    by_breast = units(frame, "breast")
    assert by_breast.height == 80
    highest = by_breast.group_by("patient_id", maintain_order=True).agg(pl.col("score").max())
    assert units(frame, "exam")["score"].to_list() == highest["score"].to_list()
    assert units(frame, "exam").columns == ["patient_id", "exam_id", "score", "cancer"]
    own = joined(frame)
    assert set(units(own, "breast")["score"]) == set(own["breast_score"])
    assert set(units(own, "exam")["score"]) == set(own["exam_score"])
    assert units(own, "image")["score"].to_list() == frame["score"].to_list()
    breast_model = joined(frame, exam=False)
    expected = breast_model.group_by("exam_id", maintain_order=True).agg(pl.max("breast_score"))
    assert units(breast_model, "exam")["score"].to_list() == expected["breast_score"].to_list()


def test_an_exam_is_positive_if_a_breast_is_and_negative_only_if_all_is_known():
    frame = predictions().filter(pl.col("patient_id").is_in(["0", "1", "2"]))
    assert scored(frame, "exam").label.tolist() == [True, False, False]
    gap = pl.col("image_id").is_in(["0-R-CC", "1-R-CC"])
    with_gaps = frame.with_columns(cancer=pl.when(~gap).then(pl.col("cancer")))
    found = scored(with_gaps, "exam")
    assert found.label.tolist() == [True, False]
    assert found.unlabelled == 1


def test_exams_are_measured_beside_images_and_breasts(tmp_path):
    cohort = write_cohort(tmp_path / "cohort", predictions())
    run = write_run(tmp_path / "run", joined(predictions()), cohort=cohort)
    report = evaluate_run(run)
    levels = report.report["levels"]
    assert {name: values["n"] for name, values in levels.items()} == {
        "image": 80, "breast": 40, "exam": 20,
    }  # fmt: skip
    assert summary_rows(report)[0][1:] == ["image", "breast", "exam"]
    assert report.report["subgroups"]["exam"]["groups"]
    parted = {group["attribute"] for group in report.report["subgroups"]["exam"]["groups"]}
    assert not {"view", "laterality"} & parted
    # The baseline sees age and machine, not the model's own scores of breasts.
    same = evaluate_run(write_run(tmp_path / "other", predictions(), cohort=cohort))
    for level in levels:
        first, second = (r.report["baseline"]["levels"][level]["baseline"] for r in (report, same))
        assert first == second
    assert "AUROC by exam" in report.path.read_text()
    points = json.loads((run / "operating_points.json").read_text())["points"]
    assert set(points) == {"image", "breast", "exam"}


def test_where_every_exam_is_positive_they_are_left_out_with_a_note(tmp_path):
    sick = predictions().with_columns(cancer=(pl.col("laterality") == "L").cast(pl.Int8))
    report = evaluate_run(write_run(tmp_path / "run", sick)).report
    assert set(report["levels"]) == {"image", "breast"}
    assert any("Nothing is measured by exam" in note for note in report["notes"])
    run = told(tmp_path / "exams", joined(sick), "exam")
    with pytest.raises(RunError, match="with and without cancer"):
        evaluate_run(run)
    with pytest.raises(RunError, match=r"has no operating point by exam.*--overwrite"):
        compare_runs(tmp_path / "run", tmp_path / "run", "exam", QUICK)


def test_runs_of_any_two_levels_are_compared_by_exam(tmp_path):
    runs = [tmp_path / "images", tmp_path / "exams"]
    for run, frame in zip(runs, (predictions(), joined(predictions(1))), strict=True):
        evaluate_run(write_run(run, frame))
    made = compare_runs(*runs, "exam", QUICK)
    assert (made["n"], made["patients"]) == (20, 20)
    assert "exams of 20 test patients" in made["sentence"]


@pytest.mark.parametrize("value", [float("nan"), 1.5, None])
def test_a_breast_score_that_is_no_score_is_an_error(tmp_path, value):
    frame = joined(predictions())
    first = pl.col("image_id") == "20-L-CC"
    frame = frame.with_columns(
        breast_score=pl.when(first).then(pl.lit(value, pl.Float64)).otherwise("breast_score")
    )
    frame.write_parquet(tmp_path / "p.parquet")
    with pytest.raises(RunError, match="no finite breast_score"):
        read_predictions(tmp_path / "p.parquet", "test")
    assert read_predictions(tmp_path / "p.parquet", "val").height == 80
