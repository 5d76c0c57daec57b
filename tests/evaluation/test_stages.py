"""Two stages measured on a table that was filled in by hand."""

from __future__ import annotations

import json

import polars as pl
import pytest

from fixtures.stage_runs import CLASSES, ROWS, cutout, of_images, write_stages_run
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import compare_runs, evaluate_run, summary_rows


@pytest.fixture
def run(tmp_path):
    def write(rows=ROWS, classes=CLASSES):
        return write_stages_run(tmp_path / "run", rows, classes)

    return write


def evaluated(folder):
    return evaluate_run(folder, EvaluationConfig(bootstrap=100))


def test_each_stage_loses_what_it_loses(run):
    report = evaluated(run()).report
    first = report["first_stage"]
    assert (first["lesions"], first["images"]) == (4, 5)
    assert first["found"]["value"] == 0.75
    assert first["dice"]["value"] == pytest.approx(0.5)
    assert first["false_parts"]["value"] == pytest.approx(2 / 5)
    assert report["true"]["n"] == 5
    assert report["true"]["accuracy"]["value"] == pytest.approx(4 / 5)
    # Normal all, benign all, malignant half.
    assert report["true"]["balanced_accuracy"]["value"] == pytest.approx(5 / 6)
    assert report["predicted"]["n"] == 5
    assert report["predicted"]["confusion"] == [[1, 1, 0], [0, 0, 1], [0, 0, 2]]
    assert report["same_predicted"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert report["same_true"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert report["together"]["value"] == 0.5
    assert report["warnings"][0] == "4 lesions in the test split: figures rest on few."


def test_false_parts_are_counted_on_images_whose_lesions_are_all_placed(tmp_path):
    images = of_images("a", "b", "p9") + of_images("c", "d", counted=False)
    images += of_images("z", split="val")
    folder = write_stages_run(tmp_path / "run", images=images)
    first = evaluated(folder).report["first_stage"]
    assert first["images"] == 3
    assert first["false_parts"]["value"] == pytest.approx(2 / 3)


def test_false_parts_vary_with_the_patients_drawn(run):
    false = evaluated(run()).report["first_stage"]["false_parts"]
    # All of them are p9's, who is drawn never or several times of five.
    assert false["low"] == 0
    assert false["high"] > 2 / 5


def test_test_images_without_any_cut_out_do_not_give_way_to_validation(run):
    report = evaluated(run([row for row in ROWS if row["split"] == "val"])).report
    assert report["measured_on"] == "test"
    assert report["first_stage"]["lesions"] == 0


def test_malignant_is_ranked_against_benign_whatever_is_said_of_normal(run):
    report = evaluated(run()).report
    # On true masks: a above c and d, b level with them.
    assert report["true"]["malignant_auroc"]["value"] == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)
    assert report["true"]["lesions"] == 4


def test_intervals_are_over_patients_and_have_a_width_or_are_left_out(run):
    report = evaluated(run()).report
    found = report["first_stage"]["found"]
    assert found["low"] < 0.75 < found["high"]
    certain = [row | {"called": row["shows"]} for row in ROWS]
    for row in certain:
        row |= {f"score_{name}": float(name == row["called"]) for name in CLASSES}
    folder = run(certain)
    report = evaluate_run(folder, EvaluationConfig(bootstrap=100), overwrite=True).report
    assert report["true"]["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 5))
    assert report["true"]["malignant_auroc"] == {
        "value": 1.0, "low": None, "high": None, "undefined": pytest.approx(15, abs=25),
    }  # fmt: skip


def test_the_page_says_which_stage_loses_how_many(run):
    made = evaluated(run())
    page = made.path.read_text()
    assert "Of 4 lesions of known nature the first stage finds 75% and loses 25%, with 0.4" in page
    assert "false parts per image; 50% are found and called right." in page
    assert "calls 67% right on predicted masks and 67% on true ones" in page
    assert "Noted." in page
    rows = summary_rows(made)
    assert rows[1][:2] == ["Lesions that the first stage finds", "4"]
    assert rows[1][2].startswith("0.750 (")


def test_without_a_found_lesion_nothing_is_said_of_predicted_masks(run):
    rows = [row for row in ROWS if row["origin"] != "predicted"]
    made = evaluated(run(rows))
    assert made.report["first_stage"]["found"]["value"] == 0
    assert made.report["same_predicted"]["accuracy"]["value"] is None
    assert "finds 0% and loses 100%" in made.path.read_text()


def test_two_classes_leave_false_parts_out_of_what_is_told_apart(run):
    report = evaluated(run([row for row in ROWS if row["origin"] != "tissue"], CLASSES[1:])).report
    assert report["predicted"]["n"] == 3
    assert report["first_stage"]["false_parts"]["value"] == pytest.approx(2 / 5)

    # What they are called instead is told.
    assert report["false_called"] == {"benign": 1, "malignant": 0}


def test_false_parts_are_a_row_of_their_own_where_no_class_is_theirs(run):
    of_three = evaluated(run())
    assert of_three.report["false_called"] is None
    assert "is no lesion" not in of_three.path.read_text()


def test_a_second_stage_that_may_be_chance_is_said_to_be(run):
    report = evaluated(run()).report
    (said,) = [text for text in report["warnings"] if "Second stage on true masks" in text]
    assert "does not lie above that of chance, 0.5" in said
    sure = [
        cutout(f"{name}{number}", name, "annotated", name, 0.9, patient=f"p{number}")
        | {"score_benign": 0.5, "score_malignant": (0.4 if name == "malignant" else 0.2)}
        | ({"score_malignant": 0.3} if number % 5 == 0 else {})
        for number in range(40)
        for name in ("benign", "malignant")
    ]
    told = evaluate_run(run(sure), EvaluationConfig(bootstrap=100), overwrite=True).report
    assert told["true"]["malignant_auroc"]["low"] > 0.5
    assert not any("chance" in text for text in told["warnings"])


def test_what_a_run_of_two_stages_does_not_leave_is_not_asked_to_be_trained(run):
    folder = run()
    facts = json.loads((folder / "run.json").read_text())
    del facts["hashes"]["predictions.parquet"]
    (folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="a run of task segment-then-classify leaves none"):
        compare_runs(folder, folder, "image")


def test_a_table_that_was_edited_or_lacks_a_column_is_refused(run):
    folder = run([{k: v for k, v in row.items() if k != "dice"} for row in ROWS])
    with pytest.raises(RunError, match="lacks the columns dice"):
        evaluated(folder)
    pl.DataFrame(ROWS[:3], infer_schema_length=None).write_parquet(folder / "cutouts.parquet")
    with pytest.raises(RunError, match="was edited"):
        evaluated(folder)
