"""A trained run points somewhere, and ``mammoscope explain`` says what that is worth."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch

from mammoscope.artefacts import write_json
from mammoscope.attribution import explain_run, explanation, gallery
from mammoscope.cohort.findings import write_findings
from mammoscope.cohort.store import PreparedStore
from mammoscope.errors import OutputError, RunError
from mammoscope.evaluation.pointing import HEAT_COLUMNS
from mammoscope.export import finish_run
from mammoscope.training import fit


def boxes_of(folder):
    """A finding around the disc of each image that has one."""
    store, rows = PreparedStore(folder), []
    for image_id in store:
        y, x = np.nonzero(store.read(image_id) == 240)
        if y.size:
            sides = {"x_min": x.min(), "y_min": y.min(), "x_max": x.max() + 1, "y_max": y.max() + 1}
            rows.append(
                {
                    "finding_id": image_id,
                    "image_id": image_id,
                    "kind": "mass",
                    **{name: float(side) for name, side in sides.items()},
                }
            )
    return rows


@pytest.fixture(scope="module")
def trained(make_cohort, tmp_path_factory):
    """A run that has learnt where the discs are, of a cohort that says so."""
    from mammoscope.config import Config

    folder = make_cohort(36)
    write_findings(folder, boxes_of(folder))
    run = tmp_path_factory.mktemp("runs") / "run"
    values = {
        "model": {"backbone": "baseline_cnn"},
        "train": {"epochs": 6, "batch_size": 8, "lr": 3e-3, "patience": 0},
        "evaluation": {"bootstrap": 50},
    }
    fit(folder, run, Config.model_validate(values))
    finish_run(run, folder)
    return run, folder


def test_predictions_say_where_each_heatmap_is_hottest(trained):
    rows = pl.read_parquet(trained[0] / "predictions.parquet")
    assert set(HEAT_COLUMNS) <= set(rows.columns)
    assert rows["heat_x"].is_between(0, 32).all()
    assert rows["heat_y"].is_between(0, 64).all()
    assert rows.select("crop_x_max", "crop_y_max").unique().rows() == [(32.0, 64.0)]
    assert rows["breast_px"].unique().to_list() == [0.5 * 64 * 32]


def test_an_explanation_plays_the_game_for_every_method_and_hides_what_they_point_at(trained):
    run, _ = trained
    made = explain_run(run)
    report = json.loads((run / "explanation" / "explanation.json").read_text())
    assert report == made.report
    assert list(report["methods"]) == ["heatmap", "grad_cam", "breast_centre"]
    assert report["images"] == 2
    assert report["synthetic"] is True
    assert report["notes"] == []
    assert "heatmap_minus_this" in report["methods"]["grad_cam"]
    assert report["occlusion"]["images"] == 2
    points = pl.read_parquet(run / "explanation" / "points.parquet")
    # The heatmap's points are those that the predictions hold.
    own = points.filter(pl.col("method") == "heatmap").sort("image_id")
    predicted = (
        pl.read_parquet(run / "predictions.parquet").join(own, on="image_id").sort("image_id")
    )
    assert predicted["heat_x"].to_list() == own["x"].to_list()
    page = made.path.read_text()
    assert "SYNTHETIC" in page
    assert page.count("<figure>") == 2
    with pytest.raises(OutputError, match="--overwrite"):
        explain_run(run)
    explain_run(run, overwrite=True, images=1)


def test_without_weights_grad_cam_is_left_out_and_the_rest_stays(trained):
    run, _ = trained
    weights = run / "weights.safetensors"
    moved = weights.rename(run / "elsewhere")
    try:
        report = explain_run(run, overwrite=True).report
    finally:
        moved.rename(weights)
    assert list(report["methods"]) == ["heatmap", "breast_centre"]
    assert "Grad-CAM was left out" in report["notes"][0]


def test_a_map_that_is_the_same_everywhere_is_counted_and_given_no_cross(trained, monkeypatch):
    run, _ = trained
    drawn = []
    point = gallery._pointed
    monkeypatch.setattr(
        gallery, "_pointed", lambda picture, heat: drawn.append(1) or point(picture, heat)
    )
    cold = np.zeros((4, 2), np.float32)
    monkeypatch.setattr(explanation, "grad_cam", lambda *_: torch.from_numpy(cold)[None])
    report = explain_run(run, overwrite=True).report
    assert report["notes"][-1].startswith("Grad-CAM: the same everywhere in 2 of 2 images")
    assert len(drawn) == 2  # the heatmap's


def test_images_that_were_prepared_otherwise_explain_nothing(trained, tmp_path):
    run, folder = trained
    cohort = shutil.copytree(folder, tmp_path / "cohort")
    marker = cohort / "images" / "prepare.json"
    values = json.loads(marker.read_text())["preprocess"]
    write_json(marker, {"preprocess": {**values, "normalise": "breast"}})
    with pytest.raises(RunError, match=r"normalise is 'breast' and was 'window'"):
        explain_run(run, cohort=cohort, overwrite=True)


def test_without_boxes_there_is_nothing_to_compare_with(trained):
    run, folder = trained
    kept = pl.read_parquet(folder / "findings.parquet")
    try:
        write_findings(folder, [])
        with pytest.raises(RunError, match="no finding of the cohort has a box"):
            explain_run(run, overwrite=True)
        (folder / "findings.parquet").unlink()
        with pytest.raises(RunError, match=r"the cohort has no findings\.parquet"):
            explain_run(run, overwrite=True)
    finally:
        kept.write_parquet(folder / "findings.parquet")


def test_a_model_that_joins_views_is_asked_about_each_image_by_itself(make_exams, tmp_path):
    from mammoscope.config import Config

    folder = make_exams()
    write_findings(folder, boxes_of(folder))
    values = {
        "model": {"backbone": "baseline_cnn", "level": "exam"},
        "train": {"epochs": 1, "batch_size": 4},
        "evaluation": {"bootstrap": 20},
    }
    run = tmp_path / "run"
    fit(folder, run, Config.model_validate(values))
    finish_run(run, folder)
    report = explain_run(run).report
    assert list(report["methods"]) == ["heatmap", "grad_cam", "breast_centre"]
    assert report["notes"] == [
        "The model joins the images of exams; maps and logits here are those of each image, before "
        "it does."
    ]
    points = pl.read_parquet(run / "explanation" / "points.parquet")
    own = points.filter(pl.col("method") == "heatmap").sort("image_id")
    predicted = (
        pl.read_parquet(run / "predictions.parquet").join(own, on="image_id").sort("image_id")
    )
    # Alone or with the other views of its exam, an image has the same heat.
    assert predicted.height == report["images"]
    assert predicted["heat_x"].to_list() == own["x"].to_list()
