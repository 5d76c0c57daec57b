"""Two stages trained one after the other, exported and measured: one path, real parts."""

from __future__ import annotations

import json
import re
import shutil

import jsonschema
import numpy as np
import polars as pl
import pytest
import torch

from fixtures.lesions import SIZE, circle, disc, row_of, write_lesion_cohort
from mammoscope.artefacts import sha256_file, write_json
from mammoscope.bundle import read_bundle
from mammoscope.cohort.regions import Region, Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.cohort.synthetic import write_exam
from mammoscope.config import (
    AugmentConfig,
    Config,
    EvaluationConfig,
    LesionsConfig,
    StagesConfig,
)
from mammoscope.errors import CohortError, ConfigError, RunError
from mammoscope.evaluation import evaluate_run, summary_rows
from mammoscope.evaluation.stages import balanced_accuracy, mean_auroc
from mammoscope.explain import overlay
from mammoscope.export import export_bundle, finish_run
from mammoscope.inference import (
    Candidate,
    CutoutScorer,
    Outlined,
    Predictor,
    cut_square,
    read_exam,
)
from mammoscope.inference.companions import Seen, _drawn, load_companions
from mammoscope.masks import encode
from mammoscope.preprocessing import PreparedImage
from mammoscope.results import results_document, results_schema
from mammoscope.training import fit
from mammoscope.training.cutouts.listing import annotated, predicted, tissue
from mammoscope.training.cutouts.plan import PLAN
from mammoscope.training.cutouts.task import CutoutDataset
from mammoscope.training.sampling import Place
from mammoscope.types import Box, Exam, Laterality, MammogramImage, View


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Discs: bright ones are malignant, dimmer ones benign; every third image has none."""
    rows, findings, pixels = [], [], {}
    for number in range(36):
        kind, test = number % 3, number >= 27
        row = row_of(
            number,
            sick=kind == 2,
            split="test" if test else "train",
            fold=None if test else number // 3 % 2,
        )
        name = row["image_id"]
        pixels[name], (x, y, r) = disc(number, sick=kind > 0, grey=(0, 140, 250)[kind])
        rows.append(row)
        if kind:
            findings.append(circle(name, 2 * x, 2 * y, 2 * r, malignant=int(kind == 2)))
    return write_lesion_cohort(tmp_path_factory.mktemp("stages"), rows, findings, pixels)


@pytest.fixture(scope="module")
def first(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first") / "run"
    train = {"epochs": 8, "batch_size": 4, "lr": 6e-3, "patience": 0, "seed": 3}
    segment = {"encoder": "small", "train_on": "patches", "patch_px": 32, "lesion_repeats": 3}
    config = Config.model_validate({"task": "segment", "segment": segment, "train": train})
    fit(cohort, folder, config, bar=False)
    finish_run(folder, cohort)
    return folder


def configured(first, **stages):
    return Config.model_validate(
        {
            "task": "segment-then-classify",
            "stages": {"segmenter": first and str(first), "cutout_px": 32, **stages},
            "model": {"backbone": "baseline_cnn", "pretrained": False},
            "train": {"epochs": 6, "batch_size": 4, "lr": 3e-3, "patience": 0, "seed": 3},
        }
    )


@pytest.fixture(scope="module", params=["benign-malignant", "with-normal"])
def run(request, cohort, first, tmp_path_factory):
    folder = tmp_path_factory.mktemp("second") / "run"
    predicted_too = request.param == "with-normal"
    config = configured(
        first, classes=request.param, learn_from="predicted" if predicted_too else "annotated"
    )
    fit(cohort, folder, config, bar=False)
    assert finish_run(folder, cohort) == 24
    return folder


def test_every_lesion_is_told_on_its_true_mask_and_where_found_on_the_predicted_one(run):
    rows = pl.read_parquet(run / "cutouts.parquet")
    true, drawn = (rows.filter(pl.col("origin") == o) for o in ("annotated", "predicted"))
    assert true.height == true["finding_id"].n_unique() == 16
    assert true["dice"].is_between(0, 1).all()
    met = drawn["finding_id"].drop_nulls()
    assert met.n_unique() == len(met) >= 10
    assert set(met) <= set(true["finding_id"])
    facts = json.loads((run / "run.json").read_text())
    assert facts["predicted"] == {"val": 15, "test": 9}
    images = pl.read_parquet(run / "images.parquet")
    assert dict(images["split"].value_counts().iter_rows()) == {"val": 15, "test": 9}
    assert images["counted"].all()
    classes = facts["classes"]
    shares = rows.select(pl.sum_horizontal(f"score_{name}" for name in classes)).to_series()
    np.testing.assert_allclose(shares, 1, atol=1e-5)
    assert ("tissue" in rows["origin"].unique()) == ("normal" in classes)


def test_the_report_shows_what_each_stage_loses(run):
    made = evaluate_run(run, EvaluationConfig(bootstrap=50))
    report = made.report
    assert report["measured_on"] == "test"
    assert report["first_stage"]["lesions"] == 6
    assert report["first_stage"]["found"]["value"] > 0.6
    # Grey tells them apart.
    assert report["true"]["balanced_accuracy"]["value"] > 0.7
    assert report["same_predicted"]["n"] == report["same_true"]["n"]
    together = report["together"]["value"]
    assert together <= report["first_stage"]["found"]["value"]
    drawn = report["same_predicted"]
    assert together == pytest.approx(drawn["accuracy"]["value"] * drawn["n"] / 6)
    classes = report["classes"]
    assert np.array(report["true"]["confusion"]).shape == (len(classes), len(classes))
    page = made.path.read_text()
    assert "Evaluation of two stages" in page
    assert "SYNTHETIC" in page
    assert not re.search(r"(src|href)=.https?:", page)
    titles = [row[0] for row in summary_rows(made)]
    assert any("true masks" in title for title in titles)
    assert any("predicted masks" in title for title in titles)


def test_the_exported_graph_says_how_its_cut_outs_are_made(run, cohort):
    scorer, store = CutoutScorer(run / "model.onnx"), PreparedStore(cohort)
    assert scorer.settings.cutout_px == 32
    assert scorer(store.read("i000"), []).score.shape == (0, len(scorer.settings.classes))
    row = pl.read_parquet(run / "cutouts.parquet").row(0, named=True)
    box = Box(*(row[side] for side in ("x_min", "y_min", "x_max", "y_max")))
    again = scorer(store.read(row["image_id"]), [box]).score[0]
    assert again[-1] == pytest.approx(row["score_malignant"], abs=1e-5)


# --- in a bundle --------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(run, first, tmp_path_factory):
    for made in (first, run):
        evaluate_run(made, EvaluationConfig(bootstrap=20), overwrite=True)
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    export_bundle(first, folder, companions=[run])
    return folder


def test_what_a_segmenter_finds_is_told_apart_as_it_was_measured(bundle, run, cohort):
    said, store = read_bundle(bundle), PreparedStore(cohort)
    assert [one.task for one in said.looking] == ["segment"]
    every = tuple(one.model_copy(update={"threshold": 0.0}) for one in said.companions)
    (model,) = load_companions(said.model_copy(update={"companions": every}), bundle)
    model.check()
    rows = pl.read_parquet(run / "cutouts.parquet").filter(pl.col("origin") == "predicted")
    classes, compared, kinds = said.second_stage.target, 0, set()
    for (name,), own in rows.group_by("image_id", maintain_order=True):
        image = MammogramImage(name, cohort / name, Laterality.L, View.CC)
        geometry = store.read_geometry(name)
        prepared = PreparedImage(store.read(name), geometry, 0.5, 1.0, ("left",), 1.0)
        (verdict,) = model([Seen(image, prepared)], Exam("e", (image,)))
        assert all(finding.kind in classes for finding in verdict.findings)
        assert all(0 <= finding.kind_score <= 1 for finding in verdict.findings)
        if own.height == len(verdict.findings) == 1:
            (finding,), row = verdict.findings, own.row(0, named=True)
            assert finding.kind == row["called"]
            assert finding.kind_score == pytest.approx(row[f"score_{finding.kind}"], abs=1e-5)
            compared, kinds = compared + 1, kinds | {finding.kind}
    assert compared >= 5
    assert kinds >= {"benign", "malignant"}


def test_results_and_overlays_say_what_a_finding_is_taken_for(bundle, tmp_path):
    write_exam(tmp_path, seed=5, cancer=True, conspicuity=2.0, difficulty=0.0)
    said = read_bundle(bundle)
    every = tuple(one.model_copy(update={"threshold": 0.0}) for one in said.companions)
    said = said.model_copy(update={"companions": every})
    predictor = Predictor(said, None, load_companions(said, bundle))
    predictor.check()
    pictures = []
    exam = read_exam(tmp_path)
    result = predictor(exam, lambda one, pixels: pictures.append(overlay(pixels, one)))
    assert len(pictures) == 4
    document = results_document([result], predictor.model_info, "0.1.0")
    jsonschema.validate(document, results_schema())
    found = [f for image in document["exams"][0]["images"] for f in image["findings"]]
    assert found
    assert {one["kind"] for one in found} <= {"normal", "benign", "malignant"}
    assert all(0 <= one["kind_score"] <= 1 for one in found)
    assert document["model"]["task"] == "segment"
    assert document["model"]["companions"][1]["target"].startswith("tells apart")


def test_a_second_stage_is_refused_without_its_first(bundle, run, first, tmp_path):
    with pytest.raises(RunError, match=r"gives images no score: mammoscope export .*run BUNDLE"):
        export_bundle(run, tmp_path / "b")
    other = shutil.copytree(first, tmp_path / "other")
    facts = json.loads((other / "run.json").read_text())
    with (other / "model.onnx").open("ab") as stream:
        stream.write(b" ")
    facts["hashes"]["model.onnx"] = sha256_file(other / "model.onnx")
    write_json(other / "run.json", facts)
    evaluate_run(other, EvaluationConfig(bootstrap=20), overwrite=True)
    with pytest.raises(RunError, match=r"that run is not in the bundle: add --with .*run"):
        export_bundle(other, tmp_path / "b", companions=[run])
    shutil.rmtree(shutil.copytree(run, tmp_path / "new") / "report")
    with pytest.raises(RunError, match="has no report: run mammoscope evaluate"):
        export_bundle(first, tmp_path / "b", companions=[tmp_path / "new"])
    assert not (tmp_path / "b").exists()


# --- what is refused ----------------------------------------------------------------


def checked(cohort, config, fold=0):
    store = PreparedStore(cohort)
    return PLAN.check(store, store.rows(), fold, config)


def test_a_first_stage_that_has_seen_what_is_held_out_is_refused(cohort, first, tmp_path):
    checked(cohort, configured(first))
    with pytest.raises(ConfigError, match=r"stages.segmenter is not set"):
        checked(cohort, configured(None))
    with pytest.raises(RunError, match="trained with another fold: it may have learnt from"):
        checked(cohort, configured(first), fold=1)
    copy = tmp_path / "copy"
    copy.mkdir()
    facts = json.loads((first / "run.json").read_text())
    (copy / "model.onnx").write_bytes((first / "model.onnx").read_bytes() + b"x")
    (copy / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="was edited"):
        checked(cohort, configured(copy))
    facts["config"]["task"] = "classify"
    (copy / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="is of task classify and finished"):
        checked(cohort, configured(copy))


def test_a_class_that_is_not_there_is_named(make_lesions, first, monkeypatch):
    monkeypatch.setattr("mammoscope.training.cutouts.plan.first_stage", lambda *_: first)
    cohort = make_lesions(6, held_out=0)
    store = PreparedStore(cohort)
    rows = store.rows().filter(pl.col("image_id") != "i002")
    with pytest.raises(CohortError, match="the training images of fold 1 hold no benign cut-out"):
        PLAN.check(store, rows, 1, configured(first))


def test_classes_weigh_alike_however_they_are_drawn(cohort, first):
    config = configured(first)
    fewer = config.train.model_copy(
        update={"sampling": "undersample", "negatives_per_positive": 0.5}
    )
    store, parts = PreparedStore(cohort), checked(cohort, config)
    for train, weights in ((config.train, [1.0, 1.0]), (fewer, [1.5, 0.75])):
        asked = config.model_copy(update={"train": train})
        made = PLAN.make(store, parts, asked, fresh=True)
        # 12 of each kind are there; the second shows 6 benign ones in an epoch.
        assert made.task.weights.tolist() == pytest.approx(weights, abs=0.15)


# --- cut-outs -----------------------------------------------------------------------


def region(name, where, *, malignant):
    mask = np.zeros(SIZE, bool)
    mask[where] = True
    ys, xs = np.nonzero(mask)
    box = Box(float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    return Region(name, "i", "mass", malignant, box), encode(mask)


def part(top, left, bottom, right):
    box = Box(float(left), float(top), float(right), float(bottom))
    return Candidate(box, 0.9, np.ones((bottom - top, right - left), bool))


def outlined(*parts):
    return Outlined(np.zeros(SIZE, np.float32), np.zeros(SIZE, bool), parts, (), 0.0)


def test_a_predicted_part_shows_the_lesion_that_it_overlaps_most():
    regions = Regions(
        [
            region("a", np.s_[10:20, 10:20], malignant=True),
            region("b", np.s_[30:40, 10:20], malignant=False),
        ],
        SIZE,
        {},
    )
    # A third of the second lies in a lesion.
    parts = (part(10, 10, 18, 20), part(19, 18, 22, 20), part(30, 12, 40, 20), part(50, 2, 55, 8))
    made = predicted("i", outlined(*parts), regions, 0.1)
    assert [(c.finding_id, c.shows) for c in made] == [
        (None, "normal"),
        (None, "normal"),
        ("a", "malignant"),
        ("b", "benign"),
    ]
    assert made[2].box == parts[0].box


def test_what_is_told_apart_is_the_largest_part_of_the_mask_within_a_candidate():
    parts = (part(5, 5, 9, 9), part(20, 4, 30, 16), part(41, 2, 60, 30))
    assert _drawn(part(0, 0, 40, 20), parts) is parts[1]
    faint = part(45, 35, 49, 40)
    assert _drawn(faint, parts) is faint


def test_of_several_parts_on_a_lesion_the_best_is_taken():
    regions = Regions([region("a", np.s_[10:20, 10:20], malignant=True)], SIZE, {})
    parts = (part(10, 10, 14, 20), part(15, 10, 20, 20))
    (made,) = predicted("i", outlined(*parts), regions, 0.1)
    assert made.box == parts[1].box


def test_a_small_part_within_a_lesion_is_neither_the_lesion_nor_normal_tissue():
    regions = Regions([region("a", np.s_[5:35, 5:25], malignant=True)], SIZE, {})
    # Five of its seven columns lie in the lesion, two of seven.
    parts = (part(10, 20, 14, 27), part(20, 23, 24, 30))
    (made,) = predicted("i", outlined(*parts), regions, 0.1)
    assert (made.shows, made.box) == ("normal", parts[1].box)


def test_a_lesion_of_unknown_nature_is_no_cut_out_and_uncertain_images_have_no_normal_ones():
    regions = Regions([region("a", np.s_[10:20, 10:20], malignant=None)], SIZE, {}, uncertain=["i"])
    parts = (part(10, 10, 20, 20), part(50, 2, 55, 8))
    assert predicted("i", outlined(*parts), regions, 0.1) == []
    assert annotated(["i"], Regions([], SIZE, {})) == []


def test_tissue_is_cut_where_no_lesion_is_seen_always_at_the_same_place(cohort):
    store = PreparedStore(cohort)
    regions = regions_of(cohort, store, LesionsConfig())
    names = [f"i{number:03d}" for number in range(12)]
    with_lesions = [name for name in names if regions.of(name)]
    made = tissue(names, regions, store, margin=0.5, seed=1)
    assert set(with_lesions) & {cutout.image_id for cutout in made}
    for cutout in made:
        half = (cutout.box.x_max - cutout.box.x_min) / 2
        for lesion in regions.boxes(cutout.image_id):
            apart = max(
                lesion.x_min - cutout.box.x_max,
                cutout.box.x_min - lesion.x_max,
                lesion.y_min - cutout.box.y_max,
                cutout.box.y_min - lesion.y_max,
            )
            assert apart >= half
    assert made == tissue(names, regions, store, margin=0.5, seed=1)
    assert made != tissue(names, regions, store, margin=0.5, seed=2)


def test_no_tissue_is_cut_where_lesions_leave_no_room_or_are_not_placed(cohort):
    store = PreparedStore(cohort)
    size, name = (store.config.height, store.config.width), "i000"
    geometry = store.read_geometry(name)
    everywhere = Box(0, 0, geometry.original_width, geometry.original_height)
    whole = Region("a", name, "mass", True, everywhere)  # noqa: FBT003
    full = Regions([(whole, encode(np.ones(size, bool)))], size, {name: geometry})
    assert tissue([name], full, store, margin=0.5, seed=1) == []
    unknown = Regions([], size, {}, uncertain=[name])
    assert tissue([name], unknown, store, margin=0.5, seed=1) == []


def test_a_cut_out_has_its_margin_and_is_black_beyond_the_image():
    pixels = np.full((40, 40), 100, np.uint8)
    pixels[10:20, 10:20] = 200
    square = cut_square(pixels, Box(10, 10, 20, 20), 0.5, 20)
    assert square.shape == (20, 20)
    assert (square[5:15, 5:15] == 200).all()
    assert (square[:5] == 100).all()
    corner = cut_square(pixels, Box(0, 0, 10, 10), 0.5, 20)
    assert (corner[:5] == 0).all()
    assert (corner[6:, 6:14] == 100).all()
    wide = cut_square(pixels, Box(10, 12, 20, 18), 0.0, 8)
    assert wide.shape == (8, 8)


def test_classes_count_alike_in_balanced_accuracy():
    true = np.array([0, 0, 0, 0, 1])
    called = np.array([0, 0, 0, 0, 0])
    assert balanced_accuracy(called, true) == 0.5
    assert balanced_accuracy(true, true) == 1
    weight = np.array([1.0, 1, 1, 1, 0])
    assert balanced_accuracy(called, true, weight) == 1


def test_auroc_is_the_mean_over_classes_that_can_be_told():
    true = np.array([0, 0, 1, 1])
    malignant = np.array([0.1, 0.6, 0.5, 0.9])
    two = np.stack([1 - malignant, malignant], axis=1)
    assert mean_auroc(two, true) == pytest.approx(0.75)
    # Of a third class, which none is, nothing is known.
    assert mean_auroc(np.column_stack([two, np.zeros(4)]), true) == pytest.approx(0.75)
    three = np.column_stack([two, [0.0, 0.0, 0.0, 1.0]])
    assert mean_auroc(three, np.array([0, 0, 1, 2])) == pytest.approx((3 / 4 + 1 / 3 + 1) / 3)
    assert np.isnan(mean_auroc(two, np.zeros(4, dtype=int)))


def test_training_cut_outs_are_moved_and_scaled_as_jitter_says_and_others_are_not(cohort):
    store = PreparedStore(cohort)
    regions = regions_of(cohort, store, LesionsConfig())
    cutouts = annotated(["i001", "i002", "i004", "i005"], regions)
    still = AugmentConfig(
        flip_vertical=False, rotate_degrees=0, scale=0, shift=0, gamma=0, flip_horizontal=False
    )

    def shown(jitter, augment=still):
        stages = StagesConfig(cutout_px=32, jitter=jitter)
        images = CutoutDataset(store, cutouts, stages, max_value=255, augment=augment, seed=1)
        return [
            images[Place(item, epoch)][0].numpy()
            for item in range(len(cutouts))
            for epoch in range(4)
        ]

    true = shown(0.4, augment=None)
    assert all((a == b).all() for a, b in zip(true, shown(0.0), strict=True))
    moved = shown(0.4)
    assert all((a == b).all() for a, b in zip(moved, shown(0.4), strict=True))
    assert sum((a != b).any() for a, b in zip(true, moved, strict=True)) > 12
    # The lesion's share of its cut-out differs, as what is cut is larger or smaller.
    lit = [(image > 100).mean() for image in moved]
    assert min(lit) < 0.7 * (true[0] > 100).mean()
    assert max(lit) > 1.2 * (true[0] > 100).mean()
