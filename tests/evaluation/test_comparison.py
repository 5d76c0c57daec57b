import json

import numpy as np
import polars as pl
import pytest

from fixtures.runs import predictions, write_run
from mammoscope.artefacts import sha256_file, write_json
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import compare_runs, comparison_rows, evaluate_run
from mammoscope.evaluation.metrics import auroc
from mammoscope.evaluation.operating_points import choose
from mammoscope.evaluation.paired import share_difference
from mammoscope.evaluation.tables import read_predictions, scored

CONFIG = EvaluationConfig(bootstrap=300)


def with_noise(frame, noise, seed=9):
    logit = frame["logit"].to_numpy() + np.random.default_rng(seed).normal(0, noise, frame.height)
    return frame.with_columns(logit=pl.Series(logit), score=pl.Series(1 / (1 + np.exp(-logit))))


def freeze(folder, chosen):
    """Thresholds as an evaluation leaves them: the report knows their hash."""
    write_json(folder / "operating_points.json", chosen)
    digest = sha256_file(folder / "operating_points.json")
    write_json(folder / "report" / "report.json", {"operating_points_sha256": digest})


@pytest.fixture
def evaluated(tmp_path):
    def make(name, frame, **options):
        """A run with its thresholds; drawing the figures of a report would take a second."""
        folder = write_run(tmp_path / name, frame, **options)
        rows = read_predictions(folder / "predictions.parquet", "val")
        points = {level: choose(scored(rows, level), CONFIG) for level in ("image", "breast")}
        freeze(folder, {"points": points})
        return folder

    return make


@pytest.fixture
def two(evaluated):
    frame = predictions()
    return evaluated("a", frame), evaluated("b", with_noise(frame, 2.0))


@pytest.mark.parametrize("level", ["image", "breast"])
def test_both_runs_and_their_difference_are_measured_on_the_test_split(two, level):
    made = compare_runs(*two, level, CONFIG)
    areas = []
    for run in two:
        data = scored(read_predictions(run / "predictions.parquet", "test"), level)
        areas.append(auroc(data.score, data.label))
    assert [run["auroc"]["value"] for run in made["runs"]] == pytest.approx(areas)
    found = made["difference"]["auroc"]
    assert found["value"] == pytest.approx(areas[1] - areas[0])
    # Two ways to one interval: they agree as far as 20 patients let them.
    widths = [found[way]["high"] - found[way]["low"] for way in ("delong", "bootstrap")]
    assert widths[1] == pytest.approx(widths[0], rel=0.35)
    assert (made["format_version"], made["kind"], made["synthetic"]) == (1, "comparison", True)
    assert made["n"] == {"image": 80, "breast": 40}[level]
    json.dumps(made, allow_nan=False)


def test_each_run_is_called_at_its_own_frozen_threshold(two):
    for run in two:
        evaluate_run(run, overwrite=True)
    made = compare_runs(*two, "image", CONFIG)
    for run, found in zip(two, made["runs"], strict=True):
        point = json.loads((run / "operating_points.json").read_text())["points"]["image"][0]
        report = json.loads((run / "report" / "report.json").read_text())
        metrics = report["levels"]["image"]["metrics"]
        assert found["threshold"] == point["threshold"]
        for name in ("sensitivity", "specificity"):
            assert found[name]["value"] == pytest.approx(metrics[name]["value"])
    gain = made["difference"]["specificity"]
    assert gain["value"] == pytest.approx((gain["only_second"] - gain["only_first"]) / gain["n"])
    values = [run["specificity"]["value"] for run in made["runs"]]
    assert gain["value"] == pytest.approx(values[1] - values[0])


def test_the_sentence_names_direction_interval_and_whether_it_is_chance(evaluated):
    frame = predictions(patients=160)
    clear = frame.with_columns(score=0.9 * pl.col("cancer") + 0.1 * pl.col("score"))
    a, b = evaluated("a", with_noise(frame, 3.0)), evaluated("b", clear)
    made = compare_runs(a, b, "image", CONFIG)
    assert "SYNTHETIC images of 80 test patients" in made["sentence"]
    assert "the second run's AUROC is 0." in made["sentence"]
    assert "higher (95% interval of the difference +0." in made["sentence"]
    assert made["sentence"].endswith("p < 0.001): more than chance explains.")
    back = compare_runs(b, a, "image", CONFIG)
    assert back["difference"]["auroc"]["value"] == -made["difference"]["auroc"]["value"]
    assert " lower (" in back["sentence"]


def test_a_run_and_itself_rank_alike(two):
    made = compare_runs(two[0], two[0], "image", CONFIG)
    assert "both runs rank alike" in made["sentence"]
    assert made["difference"]["sensitivity"]["p"] == 1.0
    assert comparison_rows(made)[3][1:] == ["+0.000", "+0.000 to +0.000", "1.000"]


def test_real_images_are_not_called_synthetic(evaluated):
    frame = predictions()
    a = evaluated("a", frame, synthetic=False)
    b = evaluated("b", with_noise(frame, 1.0), synthetic=False)
    assert "synthetic" not in compare_runs(a, b, "image", CONFIG)["sentence"].lower()


def test_other_test_images_are_an_error_that_counts_and_names_them(evaluated):
    frame = predictions()
    gone = pl.col("image_id").is_in(["30-L-CC", "31-L-CC"])
    a, b = evaluated("a", frame), evaluated("b", frame.filter(~gone))
    with pytest.raises(RunError, match=r"2 of the 80 test images of .*a are not in .*30-L-CC, 31"):
        compare_runs(a, b, "image")
    with pytest.raises(RunError, match=r"2 of the 80 test images of .*a are not in"):
        compare_runs(b, a, "image")


def test_other_labels_are_an_error_that_counts_and_names_them(evaluated):
    frame = predictions()
    one = pl.col("image_id") == "30-L-MLO"
    changed = frame.with_columns(
        cancer=pl.when(one).then(1 - pl.col("cancer")).otherwise("cancer").cast(pl.Int8)
    )
    a, b = evaluated("a", frame), evaluated("b", changed)
    with pytest.raises(RunError, match=r"1 of 80 test images have another label cancer.*30-L-MLO"):
        compare_runs(a, b, "image")
    unknown = frame.with_columns(cancer=pl.when(one).then(None).otherwise("cancer"))
    c = evaluated("c", unknown)
    with pytest.raises(RunError, match="1 of 80 test images have another label"):
        compare_runs(a, c, "image")


def test_a_score_that_is_no_number_is_an_error(two, tmp_path):
    broken = predictions().with_columns(
        score=pl.when(pl.col("image_id") == "30-L-CC").then(float("nan")).otherwise("score")
    )
    c = write_run(tmp_path / "c", broken)
    freeze(c, json.loads((two[0] / "operating_points.json").read_text()))
    with pytest.raises(RunError, match=r"1 test images have no finite score.*30-L-CC first"):
        compare_runs(two[0], c, "image")


def test_runs_without_thresholds_or_test_split_are_refused(two, evaluated, tmp_path):
    c = write_run(tmp_path / "c", predictions())
    with pytest.raises(RunError, match="has no operating points: run mammoscope evaluate"):
        compare_runs(two[0], c, "image")
    d = evaluated("d", predictions().filter(pl.col("split") == "val"))
    with pytest.raises(RunError, match="has no test split"):
        compare_runs(two[0], d, "image")


def test_thresholds_that_no_report_has_measured_are_refused(two):
    points = json.loads((two[1] / "operating_points.json").read_text())
    points["points"]["image"][0]["threshold"] = 0.99
    write_json(two[1] / "operating_points.json", points)
    with pytest.raises(RunError, match=r"is not the one that .*report measured: it was edited"):
        compare_runs(*two, "image", CONFIG)


def test_other_cohorts_with_the_same_images_are_compared_and_noted(two):
    facts = json.loads((two[1] / "run.json").read_text())
    facts["cohort"]["manifest_sha256"] = "1" * 64
    write_json(two[1] / "run.json", facts)
    assert "different cohorts" in compare_runs(*two, "image", CONFIG)["notes"][0]


def test_shares_of_single_images_are_compared_as_mcnemar_did():
    """10 right by the first only, 25 by the second, of 200: (25 - 10)² / 35 = 6.4286.

    With one image per patient the clustered statistic is McNemar's times (J - 1) / J.
    """
    first, second = np.ones((2, 200), bool)
    first[:25] = False
    second[25:35] = False
    found = share_difference(first, second, np.arange(200), 0.95)
    assert (found["only_first"], found["only_second"]) == (10, 25)
    from scipy.stats import chi2

    assert found["p"] == pytest.approx(chi2.sf(15**2 / 35 * 199 / 200, 1))
    # Wald's interval of a paired difference: d ± 1.96 · sqrt((b + c) / n - d²) / sqrt(n - 1).
    half = 1.959964 * np.sqrt((35 / 200 - 0.075**2) / 199)
    assert (found["low"], found["high"]) == pytest.approx((0.075 - half, 0.075 + half))


def test_images_of_one_patient_are_not_counted_as_so_many_witnesses():
    first, second = np.ones((2, 50), bool)
    first[:12] = False
    second[12:15] = False
    one = share_difference(first, second, np.arange(50), 0.95)
    four = share_difference(
        *(np.repeat(x, 4) for x in (first, second)), np.repeat(np.arange(50), 4), 0.95
    )
    for name in ("value", "low", "high", "p"):
        assert four[name] == pytest.approx(one[name])
    assert (four["n"], four["patients"]) == (200, 50)


def test_readings_that_nobody_tells_apart_claim_no_certainty():
    right = np.array([True, True, False, True])
    found = share_difference(right, right, np.arange(4), 0.95)
    assert (found["value"], found["p"], found["low"], found["high"]) == (0.0, 1.0, None, None)


def test_one_patient_gives_a_difference_without_interval():
    found = share_difference(np.array([True]), np.array([False]), np.array([0]), 0.95)
    assert (found["value"], found["low"], found["p"]) == (-1.0, None, None)
