import html
import json
import re

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from fixtures.runs import predictions, write_cohort, write_run
from mammoscope.artefacts import sha256_file, write_json
from mammoscope.errors import ConfigError, OutputError, RunError
from mammoscope.evaluation import (
    evaluate_run,
    figures,
    read_report,
    report,
    run_evaluation_config,
    summary_rows,
)
from mammoscope.evaluation.calibration import Calibration
from mammoscope.evaluation.metrics import average_precision
from mammoscope.evaluation.run_folder import frozen_points
from mammoscope.evaluation.tables import (
    Scored,
    read_predictions,
    scored,
    uncalibrated,
    with_breast_score,
)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", predictions())


def test_a_run_is_measured_at_both_levels_with_intervals(run):
    made = evaluate_run(run)
    image, breast = made.report["levels"]["image"], made.report["levels"]["breast"]
    assert (image["n"], breast["n"]) == (80, 40)
    assert image["positives"] == 2 * breast["positives"]
    for metric in image["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
    counts = image["confusion"]
    assert sum(counts.values()) == 80
    rows = summary_rows(made)
    assert [row[0] for row in rows][:3] == ["measure (95% interval)", "n (with cancer)", "AUROC"]
    assert read_report(run).report == made.report


def test_measures_of_screening_stand_in_the_report_and_on_the_page(run):
    made = evaluate_run(run)
    for level in ("image", "breast"):
        values = made.report["levels"][level]
        metrics, counts, n = values["metrics"], values["confusion"], values["n"]
        called = counts["tp"] + counts["fp"]
        assert metrics["detections_per_1000"]["value"] == pytest.approx(1000 * counts["tp"] / n)
        assert metrics["recalls_per_1000"]["value"] == pytest.approx(1000 * called / n)
        assert metrics["partial_auroc"]["value"] <= 0.2
        assert metrics["best_f1"]["value"] >= metrics["f1"]["value"]
        assert metrics["sensitivity_at_specificity_0.965"]["low"] is not None
    page = made.path.read_text()
    for words in ("Partial AUROC, specificity 0.8 to 1", "Recall rate per 1,000", "McClish"):
        assert words in page
        assert any(words in row[0] for row in summary_rows(made))


def test_a_breasts_score_is_the_highest_of_its_images_where_that_is_asked(tmp_path):
    frame = predictions()
    highest = with_breast_score(frame, "max")
    by_hand = frame.group_by("patient_id", "laterality").agg(pl.col("score").max())
    assert sorted(scored(highest, "breast").score) == sorted(by_hand["score"])
    of_exams = by_hand.group_by("patient_id").agg(pl.col("score").max())["score"]
    assert sorted(scored(highest, "exam").score) == sorted(of_exams)
    # Uncalibrated scores are put together in the same way, and the mean is what it was.
    other = uncalibrated(with_breast_score(frame.with_columns(score=pl.col("score") / 2), "max"))
    assert sorted(scored(other, "breast").score) == pytest.approx(sorted(by_hand["score"]))
    assert with_breast_score(highest, "mean").equals(frame)
    mean = evaluate_run(write_run(tmp_path / "mean", frame)).report["levels"]
    largest = evaluate_run(write_run(tmp_path / "max", highest)).report["levels"]
    assert mean["image"] == largest["image"]
    assert mean["breast"]["metrics"]["auroc"] != largest["breast"]["metrics"]["auroc"]


def test_what_is_measured_can_be_set(run):
    config = run_evaluation_config(
        run, ["evaluation.specificities=[0.7]", "evaluation.partial_specificity=[0.5, 0.9]"]
    )
    metrics = evaluate_run(run, config).report["levels"]["image"]["metrics"]
    assert "sensitivity_at_specificity_0.7" in metrics
    assert "sensitivity_at_specificity_0.8" not in metrics
    with pytest.raises(ConfigError, match="the lower one first"):
        run_evaluation_config(run, ["evaluation.partial_specificity=[0.9, 0.5]"])


def test_a_cohort_gives_subgroups_and_a_baseline_that_saw_no_pixel(tmp_path):
    frame = predictions()
    cohort = write_cohort(tmp_path / "cohort", frame)
    made = evaluate_run(write_run(tmp_path / "run", frame, cohort=cohort))
    assert made.report["notes"] == []
    groups = made.report["subgroups"]["image"]["groups"]
    assert {g["attribute"] for g in groups} >= {"machine_id", "age_band", "view", "source"}
    assert sum(g["n"] for g in groups if g["attribute"] == "machine_id") == 80
    assert made.report["baseline"]["training_images"] == 160
    page = made.path.read_text()
    assert "too few to say" in page
    assert "age and machine alone reach an AUROC of" in page
    assert "Not known of these images: density." in page
    assert "synthetic test images at the frozen threshold" in page.lower()


def test_a_cohort_that_moved_is_named_and_another_is_refused(tmp_path):
    frame = predictions()
    cohort = write_cohort(tmp_path / "cohort", frame)
    run = write_run(tmp_path / "run", frame, cohort=cohort)
    moved = cohort.rename(tmp_path / "moved")
    gone = evaluate_run(run)
    assert "mammoscope evaluate --cohort says where" in gone.report["notes"][0]
    assert gone.report["baseline"] is None
    assert "view" in {g["attribute"] for g in gone.report["subgroups"]["image"]["groups"]}
    found = evaluate_run(run, overwrite=True, cohort=moved)
    assert found.report["baseline"]["sees"] == ["age", "machine"]
    frame.write_parquet(moved / "splits.parquet")
    with pytest.raises(RunError, match=r"splits\.parquet is not the one that the run was trained"):
        evaluate_run(run, overwrite=True, cohort=moved)


def test_thresholds_are_on_disk_before_a_test_row_is_read(run, monkeypatch):
    seen = []

    def watched(path, split):
        seen.append((split, (run / "operating_points.json").exists()))
        return read_predictions(path, split)

    monkeypatch.setattr(report, "read_predictions", watched)
    evaluate_run(run)
    assert seen == [("val", False), ("test", True)]


def test_the_thresholds_do_not_depend_on_the_test_split(run, tmp_path):
    evaluate_run(run)
    changed = predictions().with_columns(
        score=pl.when(pl.col("split") == "test").then(0.5).otherwise(pl.col("score"))
    )
    other = write_run(tmp_path / "other", changed)
    evaluate_run(other)
    chosen = [(f / "operating_points.json").read_text() for f in (run, other)]
    assert chosen[0] == chosen[1]


def test_the_page_is_whole_by_itself_and_says_synthetic(run):
    page = evaluate_run(run).path.read_text()
    assert page.count('class="plate"') == 12
    assert "SYNTHETIC images." in page
    assert "<title>SYNTHETIC" in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "Not a medical device" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_figures_are_the_same_bytes_for_the_same_run(run, tmp_path):
    evaluate_run(run)
    other = write_run(tmp_path / "other", predictions())
    evaluate_run(other)
    names = sorted(p.name for p in (run / "report" / "figures").iterdir())
    assert len(names) == 12
    for name in names:
        first, second = ((f / "report" / "figures" / name).read_bytes() for f in (run, other))
        assert first == second


def test_real_images_are_not_called_synthetic(tmp_path):
    run = write_run(tmp_path / "real", predictions(), synthetic=False)
    assert "synthetic" not in evaluate_run(run).path.read_text().lower()


def test_without_a_test_split_validation_is_measured_and_flagged(tmp_path):
    run = write_run(tmp_path / "run", predictions().filter(pl.col("split") == "val"))
    made = evaluate_run(run)
    assert made.report["measured_on"] == "val"
    assert "There is no test split" in made.path.read_text()


def test_calibration_is_measured_before_and_after(tmp_path):
    """Logits too steep and too high: a slope of a quarter and an intercept mend them."""
    calibration = Calibration(
        method="platt", slope=0.25, intercept=-1.5, images=80, fitted_prevalence=0.15
    )
    steep = predictions().with_columns(logit=pl.col("logit") * 8)
    frame = steep.with_columns(score=pl.Series(calibration(steep["logit"].to_numpy())))
    run = write_run(tmp_path / "run", frame)
    facts = json.loads((run / "run.json").read_text())
    told = {**calibration.as_dict(), "asked": "platt", "notes": ["A note on it."]}
    write_json(run / "run.json", {**facts, "calibration": told})
    made = evaluate_run(run)
    found = made.report["calibration"]["levels"]["image"]
    assert found["after"]["slope"]["value"] == pytest.approx(
        4 * found["before"]["slope"]["value"], rel=0.05
    )
    assert found["after"]["brier"]["value"] < found["before"]["brier"]["value"]
    assert found["after"]["ece"]["value"] < found["before"]["ece"]["value"]
    for name in ("brier", "slope", "intercept"):
        assert found["after"][name]["low"] <= found["after"][name]["value"]
        assert found["after"][name]["value"] <= found["after"][name]["high"]
    page = made.path.read_text()
    assert "slope 0.25" in page
    assert "A note on it." in page
    assert "image, uncalibrated" in page
    assert any("Brier score" in row[0] for row in summary_rows(made))
    # Without a calibration there is no before.
    plain = evaluate_run(write_run(tmp_path / "plain", predictions()))
    assert plain.report["calibration"]["levels"]["image"]["before"] is None
    assert "uncalibrated" not in plain.path.read_text()


def test_each_level_has_the_calibration_that_made_its_scores(tmp_path):
    """An image fit that failed, beside breasts that were calibrated on their own logits."""
    breast = Calibration(
        method="platt", slope=0.5, intercept=-1.0, images=40, fitted_prevalence=0.15
    )
    frame = predictions().with_columns(
        breast_logit=pl.col("logit").mean().over("patient_id", "laterality")
    )
    score = pl.Series(breast(frame["breast_logit"].to_numpy()))
    run = write_run(tmp_path / "run", frame.with_columns(breast_score=score))
    facts = json.loads((run / "run.json").read_text())
    told = {**Calibration().as_dict(), "joined": {"breast": breast.as_dict()}, "notes": []}
    write_json(run / "run.json", {**facts, "calibration": told})
    found = evaluate_run(run).report["calibration"]
    levels = found["levels"]
    assert {k: v["method"] for k, v in levels.items()} == {
        "image": "none", "breast": "platt", "exam": "platt",
    }  # fmt: skip
    assert levels["image"]["before"] is None
    for level in ("breast", "exam"):
        before, after = (levels[level][key]["mean_score"] for key in ("before", "after"))
        assert before != after
    assert "By image: Scores are the plain sigmoid" in found["sentence"]
    assert "By breast: Scores are calibrated by Platt" in found["sentence"]
    assert "fitted on 40 breasts" in found["sentence"]


def test_with_a_prevalence_one_page_has_one_recall_rate_and_says_of_which_share(tmp_path):
    calibration = Calibration(
        method="platt", images=80, positives=14, fitted_prevalence=14 / 80, prevalence=0.005
    )
    frame = predictions()
    score = pl.Series(calibration(frame["logit"].to_numpy()))
    run = write_run(tmp_path / "run", frame.with_columns(score=score))
    facts = json.loads((run / "run.json").read_text())
    facts["config"]["evaluation"]["prevalence"] = 0.005
    write_json(run / "run.json", {**facts, "calibration": calibration.as_dict()})
    made = evaluate_run(run)
    levels = made.report["levels"]
    assert levels["image"]["prevalence"] == 0.005
    # Seven of 20 validation exams have cancer, 14 of 80 images: odds fall by one factor.
    factor = 0.005 / 0.995 / (14 / 66)
    assert levels["exam"]["prevalence"] / (1 - levels["exam"]["prevalence"]) == pytest.approx(
        factor * 7 / 13
    )
    for values in levels.values():
        (point, *_), metrics, q = (
            values["operating_points"],
            values["metrics"],
            values["prevalence"],
        )
        rate = q * metrics["sensitivity"]["value"] + (1 - q) * (1 - metrics["specificity"]["value"])
        assert point["measured"]["recall_rate"]["value"] == pytest.approx(rate)
        assert metrics["recalls_per_1000"]["value"] == pytest.approx(1000 * rate)
        assert metrics["pf1"]["value"] <= metrics["best_f1"]["value"]
    (bins,) = (made.report["calibration"]["levels"]["exam"]["after"],)
    assert bins["share"] == pytest.approx(levels["exam"]["prevalence"])
    page = made.path.read_text()
    assert page.count("weighted to the share of positives where the model will be used") == 5


def test_the_report_knows_the_thresholds_that_it_measured(run):
    report = evaluate_run(run).report
    assert report["operating_points_sha256"] == sha256_file(run / "operating_points.json")
    assert frozen_points(run)[0]["scored_by"] == "model"
    # Other targets, and an evaluation that fails after it has chosen them.
    kept = (run / "report" / "report.json").read_text()
    config = run_evaluation_config(run, ["evaluation.operating_points=[specificity=0.5]"])
    evaluate_run(run, config, overwrite=True)
    (run / "report" / "report.json").write_text(kept)
    with pytest.raises(RunError, match=r"not the one that .* measured.*--overwrite"):
        frozen_points(run)


def test_the_curve_of_precision_encloses_the_average_precision():
    """Steps of sensitivity 0.25, 0.5 and 0.25 with precision 1, 0.6 and 0.5."""
    score = np.array([0.9, 0.8, 0.7, 0.7, 0.7, 0.2, 0.2, 0.2])
    label = np.array([1, 0, 1, 1, 0, 1, 0, 0], bool)
    axes = Figure().subplots()
    figures._precision_recall(axes, Scored(score, label, np.arange(8)), {})
    x, y = axes.lines[0].get_data()
    assert axes.lines[0].get_drawstyle() == "steps-pre"
    area = (np.diff(x) * np.asarray(y)[1:]).sum()
    assert area == pytest.approx(average_precision(score, label))


def test_scores_near_zero_are_drawn_where_they_can_be_told_apart(tmp_path):
    rare = predictions().with_columns(score=pl.col("score") / 200)
    figures = [
        evaluate_run(write_run(tmp_path / name, frame)).path.parent / "figures"
        for name, frame in (("rare", rare), ("plain", predictions()))
    ]
    ticks = [(folder / "image_reliability.svg").read_text().count("10^{") for folder in figures]
    assert ticks[0] > 0
    assert ticks[1] == 0


def test_scores_made_with_another_calibration_are_not_measured_as_this_one(tmp_path):
    run = write_run(tmp_path / "run", predictions())
    facts = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**facts, "calibration": {"method": "platt"}})
    config = run_evaluation_config(run, ["evaluation.prevalence=0.005"])
    with pytest.raises(ConfigError, match=r"mammoscope calibrate .* --set evaluation\.prevalence"):
        evaluate_run(run, config)


def test_a_threshold_that_fails_on_test_is_told_on_page_and_report(tmp_path):
    worse = predictions(patients=120).with_columns(
        score=pl.when((pl.col("split") == "test") & (pl.col("cancer") == 1))
        .then(pl.col("score") / 10)
        .otherwise("score")
    )
    made = evaluate_run(write_run(tmp_path / "run", worse))
    assert any("sensitivity is" in sentence for sentence in made.report["warnings"])
    assert made.report["warnings"][0] in html.unescape(made.path.read_text())


def test_edited_predictions_are_refused(run):
    predictions(seed=1).write_parquet(run / "predictions.parquet")
    with pytest.raises(RunError, match=r"predictions\.parquet was edited"):
        evaluate_run(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, 1.5])
def test_a_score_that_is_no_score_is_an_error(tmp_path, value):
    broken = predictions().with_columns(
        score=pl.when(pl.col("image_id") == "0-L-CC").then(value).otherwise(pl.col("score"))
    )
    with pytest.raises(RunError, match="0-L-CC first"):
        evaluate_run(write_run(tmp_path / "run", broken))


def test_an_image_that_is_there_twice_is_an_error(tmp_path):
    twice = pl.concat([predictions(), predictions().head(1)])
    with pytest.raises(RunError, match="more than once"):
        evaluate_run(write_run(tmp_path / "run", twice))


def test_a_report_that_exists_is_not_overwritten_unasked(run):
    evaluate_run(run)
    with pytest.raises(OutputError, match="--overwrite"):
        evaluate_run(run)
    evaluate_run(run, overwrite=True)


def test_an_unfinished_run_is_refused(run):
    facts = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**facts, "status": "training"})
    with pytest.raises(RunError, match="not finished"):
        evaluate_run(run)


def test_the_runs_own_settings_hold_unless_told_otherwise(run):
    assert run_evaluation_config(run).bootstrap == 40
    assert run_evaluation_config(run, ["evaluation.bootstrap=7"]).bootstrap == 7
    # A default that is asked for is asked for.
    assert run_evaluation_config(run, ["evaluation.bootstrap=2000"]).bootstrap == 2000
    with pytest.raises(ConfigError, match="not of train"):
        run_evaluation_config(run, ["train.lr=5"])


def test_unknown_labels_are_left_out_and_counted(tmp_path):
    unknown = predictions().with_columns(
        cancer=pl.when(pl.col("image_id") == "39-R-CC").then(None).otherwise(pl.col("cancer"))
    )
    image = evaluate_run(write_run(tmp_path / "run", unknown)).report["levels"]["image"]
    assert (image["n"], image["unlabelled"]) == (79, 1)


def test_a_breasts_score_is_the_mean_of_its_images(run):
    rows = read_predictions(run / "predictions.parquet", "val").head(2)
    breast = scored(rows, "breast")
    assert breast.score[0] == pytest.approx(rows["score"].mean())


def test_a_breast_without_cancer_needs_every_image_known(run):
    rows = read_predictions(run / "predictions.parquet", "val").filter(pl.col("laterality") == "L")
    first = rows["image_id"][0]
    patched = rows.with_columns(cancer=pl.when(pl.col("image_id") == first).then(None).otherwise(0))
    assert scored(patched, "breast").unlabelled == 1
    one_positive = rows.with_columns(
        cancer=pl.when(pl.col("image_id") == first).then(None).otherwise(1)
    )
    assert scored(one_positive, "breast").unlabelled == 0
