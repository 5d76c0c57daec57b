import json
import re

import numpy as np
import polars as pl
import pytest

from mammoscope.artefacts import sha256_file, write_json
from mammoscope.config import Config, PreprocessConfig
from mammoscope.errors import ConfigError, OutputError, RunError
from mammoscope.evaluation import (
    evaluate_run,
    read_report,
    report,
    run_evaluation_config,
    summary_rows,
)
from mammoscope.evaluation.tables import read_predictions, scored


def predictions(seed=0, patients=40):
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        sick = patient % 3 == 0
        for side in "LR":
            for view in ("CC", "MLO"):
                cancer = int(sick and side == "L")
                logit = float(rng.normal(2.0 * cancer - 1, 1))
                rows.append(
                    {
                        "image_id": f"{patient}-{side}-{view}",
                        "patient_id": str(patient),
                        "exam_id": str(patient),
                        "laterality": side,
                        "view": view,
                        "site_id": "1",
                        "fold": 0 if patient < patients // 2 else None,
                        "split": "val" if patient < patients // 2 else "test",
                        "logit": logit,
                        "score": 1 / (1 + np.exp(-logit)),
                        "cancer": cancer,
                    }
                )
    return pl.DataFrame(rows, schema_overrides={"cancer": pl.Int8, "fold": pl.Int64})


def write_run(folder, frame, *, synthetic=True):
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "predictions.parquet")
    config = Config.model_validate({"evaluation": {"bootstrap": 40}})
    write_json(
        folder / "run.json",
        {
            "format_version": 1,
            "kind": "run",
            "status": "finished",
            "synthetic": synthetic,
            "package_version": "0",
            "code_version": "abc",
            "config": config.model_dump(mode="json"),
            "preprocess": PreprocessConfig().model_dump(mode="json"),
            "cohort": {"path": "c", "manifest_sha256": "0" * 64, "splits_sha256": "0" * 64},
            "fold": 0,
            "seed": 0,
            "counts": {"train": 1, "val": 80, "test": 80},
            "epochs": 3,
            "best": {"epoch": 1, "auroc": 0.9},
            "timings_s": {"train": 1.0},
            "hashes": {
                "predictions.parquet": sha256_file(folder / "predictions.parquet"),
                "model.onnx": "0" * 64,
            },
        },
    )
    return folder


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
    assert page.count("<svg") == 8
    assert "SYNTHETIC images." in page
    assert "<title>SYNTHETIC" in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "Not a medical device" in page
    assert "$" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.S)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_figures_are_the_same_bytes_for_the_same_run(run, tmp_path):
    evaluate_run(run)
    other = write_run(tmp_path / "other", predictions())
    evaluate_run(other)
    names = sorted(p.name for p in (run / "report" / "figures").iterdir())
    assert len(names) == 8
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
