"""A segmenter trained, exported, and what it outlines written down: one path, real parts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

import mammoscope.export.segmentation as exporting
from mammoscope.cohort.manifest import read_manifest
from mammoscope.cohort.regions import regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, EvaluationConfig, LesionsConfig
from mammoscope.errors import RunError
from mammoscope.evaluation import evaluate_run
from mammoscope.export import finish_run
from mammoscope.export.candidate_score import choose_candidate_score
from mammoscope.export.mask_threshold import choose_threshold
from mammoscope.inference import MaskSettings, Segmenter
from mammoscope.masks import decode
from mammoscope.scores import calibrate_run
from mammoscope.training import fit, load_network
from mammoscope.training.segmentation.task import dice_around


def configured(**segment):
    return Config.model_validate(
        {
            "task": "segment",
            "segment": {"encoder": "small", "patch_px": 32, **segment},
            "train": {"epochs": 8, "batch_size": 4, "lr": 6e-3, "patience": 0, "seed": 3},
        }
    )


@pytest.fixture(scope="module")
def cohort(make_lesions):
    folder = make_lesions(24)
    # Spacing of the originals, of which the first is of an earlier version.
    known = pl.col("image_id") != read_manifest(folder)["image_id"][0]
    read_manifest(folder).with_columns(
        spacing_y_mm=pl.when(known).then(0.1), spacing_x_mm=pl.when(known).then(0.05)
    ).write_parquet(folder / "manifest.parquet")
    return folder


@pytest.fixture(scope="module", params=["whole", "patches"])
def run(request, cohort, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("segment") / "run"
    config = configured(train_on=request.param, lesion_repeats=3)
    fit(cohort, folder, config, bar=False)
    assert finish_run(folder, cohort) == 15
    return folder


def table(run, name):
    return pl.read_parquet(run / f"{name}.parquet")


def test_every_image_has_a_prediction_and_a_mask_and_every_lesion_its_truth(run, cohort):
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["predicted"] == {"val": 9, "test": 6}
    assert set(facts["hashes"]) == {
        "model.onnx",
        *(f"{name}.parquet" for name in ("predictions", "candidates", "masks", "lesion_masks")),
    }
    predictions, masks, lesions = (table(run, n) for n in ("predictions", "masks", "lesion_masks"))
    assert predictions["image_id"].to_list() == masks["image_id"].to_list()
    assert predictions["image_id"].is_sorted()
    assert predictions["score"].is_between(0, 1).all()
    assert lesions.height == int(predictions["cancer"].sum()) == 10
    store = PreparedStore(cohort)
    regions = regions_of(cohort, store, LesionsConfig())
    for row in lesions.iter_rows(named=True):
        (region,) = regions.of(row["image_id"])
        assert region.finding_id == row["finding_id"]
        np.testing.assert_array_equal(decode(row["truth"], (64, 32)), regions.mask(region))
        (box,) = regions.boxes(row["image_id"])
        assert [row[s] for s in ("x_min", "y_min", "x_max", "y_max")] == [
            box.x_min, box.y_min, box.x_max, box.y_max,
        ]  # fmt: skip


def test_pixels_of_a_mask_are_as_large_as_the_original_and_the_grid_make_them(run, cohort):
    masks, (first, *_) = table(run, "masks"), read_manifest(cohort)["image_id"]
    known = masks.filter(pl.col("image_id") != first)
    # The original is twice as fine as the grid.
    assert known["spacing_y_mm"].to_list() == pytest.approx([0.2] * known.height)
    assert known["spacing_x_mm"].to_list() == pytest.approx([0.1] * known.height)
    unknown = masks.filter(pl.col("image_id") == first)
    assert unknown["spacing_y_mm"].null_count() == unknown.height


def test_it_outlines_discs_that_it_has_not_seen(run):
    truth = {row["image_id"]: row["truth"] for row in table(run, "lesion_masks").to_dicts()}
    values = []
    for row in table(run, "masks").filter(pl.col("split") == "test").iter_rows(named=True):
        if row["image_id"] in truth:
            size = (row["height"], row["width"])
            mask, there = decode(row["predicted"], size), decode(truth[row["image_id"]], size)
            values.append(2 * (mask & there).sum() / (mask.sum() + there.sum()))
    assert np.mean(values) > 0.6


def test_lesions_are_outlined_in_windows_of_their_own_where_a_graph_looks_at_windows(run):
    facts = json.loads((run / "run.json").read_text())
    values = table(run, "lesion_masks")["patch_dice"]
    told = [note for note in facts["notes"] if "looked at by itself" in note]
    if facts["config"]["segment"]["train_on"] == "whole":
        assert values.null_count() == len(values)
        assert told == []
    else:
        assert values.is_between(0, 1).all()
        assert values.mean() > 0.6
        assert ["6 val" in told[0], "4 test" in told[1]] == [True, True]


def test_candidates_lie_in_original_pixels_where_their_lesions_are(run):
    candidates = table(run, "candidates")
    best = candidates.filter(pl.col("candidate") == 0)
    lesions = table(run, "lesion_masks").select("image_id", "x_min", "y_min", "x_max", "y_max")
    met = best.join(lesions, on="image_id", suffix="_there")
    assert met.height >= 8
    # The original is twice as fine as the grid.
    x = (met["x_min"] + met["x_max"]) / 4
    y = (met["y_min"] + met["y_max"]) / 4
    inside = (
        (x > met["x_min_there"]) & (x < met["x_max_there"])
        & (y > met["y_min_there"]) & (y < met["y_max_there"])
    )  # fmt: skip
    assert inside.mean() > 0.7
    by_image = candidates.sort("image_id", "candidate").group_by("image_id", maintain_order=True)
    for _, rows in by_image:
        assert rows["candidate"].to_list() == list(range(rows.height))
        assert rows["score"].is_sorted(descending=True)


def test_an_image_scores_as_its_highest_candidate(run):
    best = table(run, "candidates").filter(pl.col("candidate") == 0)
    both = best.join(table(run, "predictions"), on="image_id", suffix="_image")
    np.testing.assert_allclose(both["score"], both["score_image"], atol=1e-4)


def test_the_graph_gives_the_masks_of_the_tables_again(run, cohort):
    segmenter, store = Segmenter(run / "model.onnx"), PreparedStore(cohort)
    for row in table(run, "masks").head(4).iter_rows(named=True):
        (made,) = segmenter([store.read(row["image_id"])])
        np.testing.assert_array_equal(decode(row["predicted"], (64, 32)), made.mask)


def test_the_threshold_of_masks_is_as_good_as_any_on_validation_lesions(run, cohort):
    segmenter, store = Segmenter(run / "model.onnx"), PreparedStore(cohort)
    regions = regions_of(cohort, store, LesionsConfig())
    facts = json.loads((run / "run.json").read_text())
    (said,) = [note for note in facts["notes"] if note.startswith("threshold ")]
    names = table(run, "predictions").filter(pl.col("split") == "val")["image_id"]
    margin = EvaluationConfig().patch_margin
    chosen = choose_threshold(names, store, regions, segmenter, margin)
    assert said == chosen.sentence
    assert segmenter.settings.threshold == chosen.value == facts["mask_threshold"]
    assert segmenter.settings.candidate_threshold <= chosen.value
    assert chosen.lesions == 6
    # Measured anew, in the windows of the report.
    tried = {}
    for threshold in (0.25, 0.5, 0.75, chosen.value):
        tried[threshold] = [
            dice_around(segmenter([store.read(name)])[0].scores >= threshold, truth, margin)
            for name in names
            for truth in map(regions.mask, regions.of(name))
        ]
    assert chosen.dice == pytest.approx(np.mean(tried[chosen.value]))
    assert chosen.usual == pytest.approx(np.mean(tried[0.5]))
    assert chosen.dice >= max(np.mean(dice) for dice in tried.values()) - 0.01


def test_an_unsure_network_gets_a_low_threshold(cohort):
    store = PreparedStore(cohort)
    regions = regions_of(cohort, store, LesionsConfig())
    names = [name for name in store if regions.of(name)]
    looked_at = iter(names)

    def unsure(_images):
        scores = np.where(regions.union(next(looked_at)), 0.32, 0.12)
        return [SimpleNamespace(scores=scores)]

    chosen = choose_threshold(names, store, regions, unsure, 0.5)
    # The highest of those that do as well.
    assert chosen.value == 0.3
    assert (chosen.dice, chosen.usual) == (1.0, 0.0)
    assert choose_threshold([], store, regions, unsure, 0.5) is None


def test_candidates_score_by_what_finds_most_validation_lesions(run, cohort):
    segmenter, store = Segmenter(run / "model.onnx"), PreparedStore(cohort)
    facts = json.loads((run / "run.json").read_text())
    names = table(run, "predictions").filter(pl.col("split") == "val")["image_id"]
    regions = regions_of(cohort, store, LesionsConfig())
    chosen = choose_candidate_score(names, store, regions, segmenter, EvaluationConfig())
    assert chosen.sentence in facts["notes"]
    assert segmenter.settings.candidate_score == chosen.value == facts["candidate_score"]
    assert chosen.sensitivity[chosen.value] == max(chosen.sensitivity.values())
    assert chosen.lesions == 6


@pytest.mark.parametrize(("specks", "chosen"), [("sure", "whole"), ("none", "highest")])
def test_where_specks_are_as_sure_as_lesions_candidates_score_by_the_whole_of_them(
    specks, chosen, cohort
):
    store = PreparedStore(cohort)
    regions = regions_of(cohort, store, LesionsConfig())
    names = [name for name in store if regions.of(name)]
    looked_at = iter(names)

    def sees(_images):
        logits = np.where(regions.union(next(looked_at)), 20.0, -9.0).astype(np.float32)
        if specks == "sure":
            logits[:2, :8:2] = logits[-2:, :8:2] = 21.0
        return [SimpleNamespace(logits=logits)]

    sees.settings = MaskSettings(0.5, 0.2, 1, 0.5, "mean")
    told = choose_candidate_score(names, store, regions, sees, EvaluationConfig())
    assert told.value == chosen
    assert told.sensitivity["whole"] == 1
    assert told.sensitivity["highest"] == (0 if specks == "sure" else 1)
    assert choose_candidate_score([], store, regions, sees, EvaluationConfig()) is None


def test_a_threshold_that_is_told_is_kept(cohort, tmp_path):
    config = configured(threshold=0.8, candidate_score="whole")
    fit(
        cohort,
        tmp_path / "run",
        config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})}),
        bar=False,
    )
    finish_run(tmp_path / "run", cohort)
    settings = Segmenter(tmp_path / "run" / "model.onnx").settings
    assert (settings.threshold, settings.candidate_score) == (0.8, "whole")
    test_an_image_scores_as_its_highest_candidate(tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert not [note for note in facts["notes"] if note.startswith(("threshold ", "candidates"))]


def test_the_report_measures_outlines_of_held_out_patients(run):
    report = evaluate_run(run, EvaluationConfig(bootstrap=20)).report
    assert (report["task"], report["measured_on"]) == ("segment", "test")
    overlap = report["overlap"]
    assert overlap["lesions"] == 4
    assert overlap["window"]["dice"]["value"] > 0.6
    assert overlap["sensitivity"]["value"] > 0.7
    assert report["detection"]["counts"]["lesions"] == 4


def test_a_graph_that_outlines_otherwise_is_refused(run, cohort, monkeypatch):
    real = exporting.load_network

    def other(folder):
        network, config, preprocess = real(folder)
        monkeypatch.setattr(exporting, "export_segmenter", lambda *_: None)
        with torch.no_grad():
            network.body.head.bias += 1
        return network, config, preprocess

    monkeypatch.setattr(exporting, "load_network", other)
    with pytest.raises(RunError, match="differs from the training graph by"):
        finish_run(run, cohort)


def test_its_scores_are_not_calibrated_and_the_run_stays_whole(run):
    before = (run / "run.json").read_bytes()
    with pytest.raises(RunError, match="is of task segment"):
        calibrate_run(run, ["evaluation.calibration=isotonic"])
    assert (run / "run.json").read_bytes() == before


def test_the_weights_of_a_run_are_those_of_its_graph(run):
    network, config, _ = load_network(run)
    assert config.segment.encoder == "small"
    assert sum(p.numel() for p in network.parameters()) > 1e5
