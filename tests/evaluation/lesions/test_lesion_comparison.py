import polars as pl
import pytest
from typer.testing import CliRunner

from fixtures.lesion_runs import write_lesion_run
from fixtures.runs import write_run
from mammoscope.cli import app
from mammoscope.config import EvaluationConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import compare_lesions, evaluate_run, lesion_comparison_rows
from mammoscope.evaluation.lesions import comparison as lesion_comparison
from mammoscope.evaluation.lesions import report as lesion_report

QUICK = EvaluationConfig(bootstrap=200)


@pytest.fixture(scope="module", autouse=True)
def _no_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lesion_report, "draw_lesion_figures", lambda *_: {})
        patch.setattr(
            lesion_report,
            "write_score_figures",
            lambda folder, *_: (folder / "figures").mkdir() or {},
        )
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = write_lesion_run(folder / "first", skill=-0.3)
    cohort = folder / "first-cohort"
    second = write_lesion_run(folder / "second", skill=3.0, cohort=cohort)
    for run in (first, second):
        evaluate_run(run, EvaluationConfig(bootstrap=20))
    return first, second


def test_the_better_detector_is_told_from_the_worse(runs):
    made = compare_lesions(*runs, QUICK)
    gain = made["difference"]["lesion"]["mean_sensitivity"]
    means = [run["froc"]["mean_sensitivity"]["value"] for run in made["runs"]]
    assert gain["value"] == pytest.approx(means[1] - means[0])
    assert gain["low"] > 0
    assert "higher" in made["sentence"]
    assert "more than chance explains" in made["sentence"]
    for unit in ("lesion", "image", "breast", "exam"):
        one = made["difference"][unit]["sensitivity_at_1"]
        assert one["low"] <= one["value"] <= one["high"]
    rows = lesion_comparison_rows(made)
    assert rows[1][0] == "sensitivity at 0.25 FP/image, first"
    assert len({len(row) for row in rows}) == 1


def test_the_other_way_round_the_difference_turns(runs):
    one, other = compare_lesions(*runs, QUICK), compare_lesions(*runs[::-1], QUICK)
    for measure in ("sensitivity_at_1", "mean_sensitivity"):
        there, back = (made["difference"]["lesion"][measure] for made in (one, other))
        assert there["value"] == pytest.approx(-back["value"])
        assert there["low"] == pytest.approx(-back["high"])
    false = [m["difference"]["cut_off"]["false_positives_per_image"]["value"] for m in (one, other)]
    assert false[0] == pytest.approx(-false[1])


def test_a_run_and_itself_do_not_differ(runs):
    made = compare_lesions(runs[0], runs[0], QUICK)
    assert made["difference"]["lesion"]["mean_sensitivity"]["value"] == 0
    assert made["difference"]["cut_off"]["sensitivity"]["p"] == 1
    assert "the same mean sensitivity" in made["sentence"]


def test_a_difference_that_is_nought_is_not_called_lower(runs, monkeypatch):
    monkeypatch.setattr(lesion_comparison, "differences", nothing_between)
    made = compare_lesions(*runs, QUICK)
    assert "is 0.000 higher" not in made["sentence"]
    assert "is 0.000 lower" not in made["sentence"]
    assert "both runs have the same mean sensitivity" in made["sentence"]
    assert "chance" in made["sentence"]


def nothing_between(first, *_):
    gain = {"value": 0.0, "low": -0.1, "high": 0.1, "undefined": 0}
    return {unit: {"mean_sensitivity": gain} for unit in first.targets}


def test_a_cut_off_that_was_chosen_by_another_rule_is_told_of(runs):
    assert compare_lesions(*runs, QUICK)["notes"] == []
    made = compare_lesions(*runs, EvaluationConfig(bootstrap=20, hit="iou"))
    assert len(made["notes"]) == 2
    assert "was chosen under evaluation.hit=centre" in made["notes"][0]


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    plain = write_run(tmp_path / "plain", pl.read_parquet(runs[0] / "predictions.parquet"))
    with pytest.raises(RunError, match="finds no lesions"):
        compare_lesions(runs[0], plain, QUICK)
    cohort = runs[0].with_name("first-cohort")
    other = write_lesion_run(tmp_path / "other", cohort=cohort, lesions={"malignant_only": True})
    with pytest.raises(RunError, match="no operating points"):
        compare_lesions(runs[0], other, QUICK)
    evaluate_run(other, EvaluationConfig(bootstrap=20))
    with pytest.raises(RunError, match=r"lesions\.malignant_only is False of"):
        compare_lesions(runs[0], other, QUICK)


def test_the_command_takes_lesions_where_both_runs_find_some(runs, tmp_path):
    asked = ["compare", str(runs[0]), str(runs[1]), "--set", "evaluation.bootstrap=50"]
    made = CliRunner().invoke(app, [*asked, "--json", str(tmp_path / "c.json")])
    assert made.exit_code == 0, made.output
    assert "25 lesions on 80 images of 20 patients" in made.output
    assert "mean sensitivity" in made.output
    by_image = CliRunner().invoke(app, [*asked, "--level", "image"])
    assert by_image.exit_code == 0, by_image.output
    assert "AUROC" in by_image.output


def test_the_command_evaluates_a_detector(tmp_path):
    run = write_lesion_run(tmp_path / "run")
    made = CliRunner().invoke(app, ["evaluate", str(run), "--set", "evaluation.bootstrap=20"])
    assert made.exit_code == 0, made.output
    assert "FP/image" in made.output
