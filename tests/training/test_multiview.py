"""Breast and exam models from cohort to predictions, on blobs."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from mammoscope.bundle import SIDES
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import AugmentConfig, Config, load_config
from mammoscope.errors import CohortError, ConfigError
from mammoscope.export import finish_run
from mammoscope.models import MultiViewClassifier, build_classifier
from mammoscope.training import fit, load_classifier
from mammoscope.training.balance import positive_weight, prior, shown
from mammoscope.training.dataset import Reader
from mammoscope.training.sampling import EpochSampler, Place
from mammoscope.training.units import UnitDataset, collate, group_units

NO_CHANGE = AugmentConfig(
    flip_vertical=False, rotate_degrees=0, scale=0, shift=0, gamma=0, drop_view=0, drop_fact=0
)


@pytest.fixture
def joined(quick):
    """A quick configuration of a breast or exam model."""

    def configure(level="breast", model=None, **train) -> Config:
        config = quick(**train)
        more = {"level": level, "dropout": 0.0, **(model or {})}
        return config.model_copy(update={"model": config.model.model_copy(update=more)})

    return configure


def rows_of(cohort):
    return PreparedStore(cohort).rows()


def test_images_are_grouped_by_breast_and_by_exam_and_keep_their_labels(exams):
    rows = rows_of(exams)
    breasts, both = (group_units(rows, level, "cancer") for level in ("breast", "exam"))
    assert len(both) == 12
    assert len(breasts) == 24
    for units in (breasts, both):
        names = [name for unit in units for name in unit.image_ids]
        assert sorted(names) == sorted(rows["image_id"])
    sick = {unit.image_ids[0] for unit in both if unit.label == 1}
    by_exam = rows.group_by("exam_id", maintain_order=True).agg(
        pl.col("image_id").first(), pl.col("cancer").max()
    )
    assert sick == set(by_exam.filter(pl.col("cancer") == 1)["image_id"])
    assert {len(unit.image_ids) for unit in both} == {4, 6}
    assert {len(set(unit.sides)) for unit in breasts} == {1}


def test_a_breast_is_unknown_where_a_label_is_and_none_is_positive():
    def label(first, second):
        rows = pl.DataFrame(
            {
                "image_id": ["a", "b"], "patient_id": ["p", "p"], "exam_id": ["e", "e"],
                "laterality": ["R", "R"], "view": ["CC", None], "cancer": [first, second],
                "age": [None, None], "density": [None, None], "implant": [None, 1],
            },
            schema_overrides={"cancer": pl.Int8, "age": pl.Float64, "density": pl.String},
        )  # fmt: skip
        (unit,) = group_units(rows, "exam", "cancer")
        assert np.isnan(unit.breast_labels[SIDES.index("L")])
        assert unit.facts[2] == 1
        assert np.isnan(unit.facts[:2]).all()
        assert unit.projections == (0, 2)
        return unit.breast_labels[0]

    assert label(1, None) == label(1, 0) == 1
    assert label(0, 0) == 0
    assert np.isnan(label(0, None))


def test_ages_of_one_exam_that_differ_are_settled_as_in_service():
    """The highest, as :func:`read_exam` has it; the first would be another input."""
    rows = pl.DataFrame(
        {
            "image_id": ["a", "b"], "patient_id": ["p", "p"], "exam_id": ["e", "e"],
            "laterality": ["R", "L"], "view": ["CC", "CC"], "cancer": [0, 0],
            "age": [61.0, 62.0], "density": ["B", None], "implant": [0, 1],
        }
    )  # fmt: skip
    (unit,) = group_units(rows, "exam", "cancer")
    assert unit.facts == (62.0, 1.0, 1.0)


def test_what_an_epoch_shows_is_drawn_by_seed_and_epoch_and_keeps_an_image_of_each_breast(exams):
    store, units = PreparedStore(exams), group_units(rows_of(exams), "exam", "cancer")

    def shown(drop, most, epoch):
        config = NO_CHANGE.model_copy(update={"drop_view": drop, "drop_fact": 0.5})
        reader = Reader(store, max_value=255, augment=config, seed=5)
        data = UnitDataset(reader, units, most_views=most, augment=config, seed=5)
        return [data[(number, epoch)][0] for number in range(len(units))]

    for unit, whole in zip(shown(0.9, 8, 0), units, strict=True):
        assert set(unit.sides) == {0, 1}
        assert set(unit.image_ids) <= set(whole.image_ids)
        assert unit.label == whole.label
    first = [unit.image_ids for unit in shown(0.5, 8, 1)]
    assert first == [unit.image_ids for unit in shown(0.5, 8, 1)]
    assert first != [unit.image_ids for unit in shown(0.5, 8, 2)]
    # Of a positive breast whose images are not all labelled so, one that is stays.
    mixed = replace(units[2], image_labels=(0.0, 1.0, 0.0, 0.0), breast_labels=(0.0, 1.0))
    dropping = NO_CHANGE.model_copy(update={"drop_view": 0.99})
    data = UnitDataset(Reader(store, max_value=255), [mixed], augment=dropping)
    assert all(1.0 in data[(0, epoch)][0].image_labels for epoch in range(8))
    few = shown(0, 4, 0)
    assert {len(unit.image_ids) for unit in few} == {4}
    # Of six images four are shown: one of each view before any is repeated.
    assert {len({*zip(u.sides, u.projections, strict=True)}) for u in few} == {4}
    assert [len(unit.image_ids) for unit in shown(0, 8, 0)] == [len(u.image_ids) for u in units]


def test_an_exam_that_an_epoch_repeats_shows_other_views_changed_otherwise(exams):
    store, units = PreparedStore(exams), group_units(rows_of(exams), "exam", "cancer")
    dropping = NO_CHANGE.model_copy(update={"drop_view": 0.5})
    views = UnitDataset(Reader(store, max_value=255), units, augment=dropping, seed=5)
    repeats = [[views[Place(n, 1, k)].unit.image_ids for n in range(12)] for k in range(2)]
    assert repeats[0] != repeats[1]
    assert repeats[0] == [views[n, 1].unit.image_ids for n in range(12)]
    toning = NO_CHANGE.model_copy(update={"gamma": 0.3})
    reader = Reader(store, max_value=255, augment=toning, seed=5)
    images = UnitDataset(reader, units, augment=toning, seed=5)
    assert not torch.equal(images[Place(0, 1, 0)].images, images[Place(0, 1, 1)].images)


@pytest.mark.parametrize("sampling", ["undersample", "oversample"])
def test_balanced_weights_count_each_level_as_it_is_drawn(make_exams, joined, sampling):
    # Of 14 exams two are positive, each with one breast of the two.
    def change(row):
        return {"cancer": int(row["exam_id"] in ("e001", "e002") and row["laterality"] == "L")}

    rows = rows_of(make_exams(14, change=change))
    config = joined("exam", sampling=sampling, negatives_per_positive=3)
    units = group_units(rows, "exam", "cancer")
    sampler = EpochSampler([unit.label for unit in units], config.train)
    drawn = [units[place.item] for place in sampler]
    counts = shown(rows, config)
    for level, labels in (
        ("image", [v for unit in drawn for v in unit.image_labels]),
        ("breast", [v for unit in drawn for v in unit.breast_labels]),
        ("exam", [unit.label for unit in drawn]),
    ):
        assert counts[level].positives == pytest.approx(labels.count(1.0)), level
        # Which negatives are drawn changes from epoch to epoch, and some have more images.
        assert counts[level].negatives == pytest.approx(labels.count(0.0), rel=0.15), level
    # One exam in four, one breast in eight.
    assert positive_weight(counts["exam"], config.train) == pytest.approx(3)
    assert positive_weight(counts["breast"], config.train) == pytest.approx(7)


def test_an_untrained_model_begins_at_the_share_that_is_drawn_and_weighted(cohort, exams, joined):
    rows = rows_of(cohort).head(20)
    sick = rows["cancer"].sum()
    plain = joined("image", positive_weight=1.0)
    assert prior(shown(rows, plain)["image"], plain.train) == sick / 20
    drawn = joined("image", positive_weight=2.0, sampling="undersample", negatives_per_positive=0.5)
    assert prior(shown(rows, drawn)["image"], drawn.train) == pytest.approx(4 / 5)
    balanced = joined("exam")
    assert prior(shown(rows_of(exams), balanced)["image"], balanced.train) == 0.5


def test_a_batch_is_padded_and_its_padding_has_no_label(exams):
    store, units = PreparedStore(exams), group_units(rows_of(exams), "exam", "cancer")[:2]
    data = UnitDataset(Reader(store, max_value=255), units)
    batch = collate([data[0], data[1]])
    assert batch.given.views.shape == (2, 6, 1, 64, 32)
    assert batch.given.mask.sum(dim=1).tolist() == [6, 4]
    assert torch.isnan(batch.image_label[1, 4:]).all()
    assert torch.equal(batch.given.views[1, 4:], torch.zeros(2, 1, 64, 32))
    assert batch.breast_label.shape == (2, 2)


@pytest.mark.parametrize(
    ("level", "facts", "train"),
    [
        ("breast", (), {"ema": 0.9}),
        ("exam", ("age", "density", "implant"), {"sampling": "oversample"}),
    ],
    ids=["breast", "exam"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    exams, tmp_path, joined, monkeypatch, level, facts, train
):
    config = joined(level, {"facts": facts}, epochs=3, **train)
    fit(exams, tmp_path / "whole", config)
    module = importlib.import_module("mammoscope.training.multiview")
    original = module.MultiViewTask.batch_loss

    def stopped(self, batch):
        if self.current_epoch == 1:
            raise OSError("the power went")
        return original(self, batch)

    monkeypatch.setattr(module.MultiViewTask, "batch_loss", stopped)
    with pytest.raises(OSError, match="the power went"):
        fit(exams, tmp_path / "run", config)
    monkeypatch.setattr(module.MultiViewTask, "batch_loss", original)
    torch.manual_seed(12345)
    fit(exams, tmp_path / "run", config, resume=True)
    whole, run = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "run"))
    assert whole.keys() == run.keys()
    assert all(torch.equal(whole[key], run[key]) for key in whole)
    ours, theirs = (
        pl.read_csv(tmp_path / name / "history.csv").drop("seconds", "waiting")
        for name in ("whole", "run")
    )
    assert ours.equals(theirs)


@pytest.mark.parametrize("level", ["breast", "exam"])
def test_it_overfits_eight_exams_and_its_graph_gives_the_scores_of_all_levels(
    make_exams, tmp_path, joined, level
):
    """Trained and validated on the same eight exams by their pixels: fold 1 is fold 0's twin."""
    folder = make_exams(16, folds=2, test=0)
    run = tmp_path / "run"
    config = joined(level, epochs=12, batch_size=4, lr=3e-3)
    plain = config.evaluation.model_copy(update={"calibration": "none"})
    config = config.model_copy(update={"augment": NO_CHANGE, "evaluation": plain})
    assert fit(folder, run, config).best > 0.9
    assert finish_run(run, folder) == rows_of(folder).filter(pl.col("fold") == 0).height
    predictions = pl.read_parquet(run / "predictions.parquet")
    breasts = predictions.group_by("exam_id", "laterality").agg(
        pl.col("breast_score", "breast_logit").n_unique(),
    )
    assert (breasts["breast_score"] == 1).all()
    assert ("exam_score" in predictions.columns) == (level == "exam")
    for name in ("", "breast_", *(["exam_"] if level == "exam" else [])):
        sigmoid = 1 / (1 + np.exp(-predictions[f"{name}logit"].to_numpy()))
        np.testing.assert_allclose(predictions[f"{name}score"], sigmoid, atol=1e-6)
    facts = json.loads((run / "run.json").read_text())
    assert facts["status"] == "finished"


def test_it_starts_where_an_image_model_ended(exams, tmp_path, joined, quick):
    start = tmp_path / "image.safetensors"
    torch.manual_seed(4)
    classifier, _ = build_classifier(quick().model, max_value=255, size=(64, 32))
    with torch.no_grad():
        classifier.local_logits.bias.fill_(0.25)
    save_file(classifier.state_dict(), start)
    fit(exams, tmp_path / "run", joined("breast", {"weights": start}, epochs=1, lr=1e-12))
    model, _, _ = load_classifier(tmp_path / "run")
    assert isinstance(model, MultiViewClassifier)
    for name, value in classifier.named_parameters():
        assert torch.allclose(dict(model.classifier.named_parameters())[name], value), name
    # And a breast model's weights serve the next one as well.
    again = joined("exam", {"weights": tmp_path / "run" / "weights.safetensors"}, epochs=1)
    fit(exams, tmp_path / "again", again)


def test_an_image_model_that_is_frozen_stays_as_it_is_while_views_learn_to_be_judged(
    exams, tmp_path, joined, quick
):
    start = tmp_path / "image.safetensors"
    config = quick().model.model_copy(update={"head": ("conv",)})
    torch.manual_seed(4)
    classifier, _ = build_classifier(config, max_value=255, size=(64, 32))
    save_file(classifier.state_dict(), start)
    part = {"frozen_epochs": "all", "frozen_part": "image_model"}
    settings = {"weights": start, "head": ("conv",)}
    fit(exams, tmp_path / "run", joined("exam", settings, epochs=2, **part))
    model, _, _ = load_classifier(tmp_path / "run")
    held = model.classifier.state_dict()
    assert any(name.startswith("head.") for name in held)
    for name, value in classifier.state_dict().items():
        assert torch.equal(held[name], value), name
    assert model.exam.known.weight.abs().max() > 0
    # The backbone frozen alone, the layers behind it learn.
    fit(exams, tmp_path / "backbone", joined("exam", settings, epochs=2, frozen_epochs="all"))
    behind = load_classifier(tmp_path / "backbone")[0].classifier.local_logits.weight
    assert not torch.equal(behind, classifier.local_logits.weight)
    with pytest.raises(ConfigError, match=r"image_model would keep .* model\.weights"):
        fit(exams, tmp_path / "none", joined("exam", epochs=2, **part))
    # Weights of another head are taken without it.
    other = {"weights": start, "head": ()}
    with pytest.raises(ConfigError, match="the same layers behind its backbone"):
        fit(exams, tmp_path / "none", joined("exam", other, epochs=2, **part))
    alone = quick(epochs=2, **part)
    with pytest.raises(ConfigError, match=r"leaves a model of images nothing to learn"):
        fit(exams, tmp_path / "none", alone)
    with pytest.raises(ConfigError, match="frozen_part=image_model needs frozen_epochs"):
        load_config(None, ["train.frozen_part=image_model"])


def test_faults_of_the_input_are_found_before_anything_is_written(make_exams, tmp_path, joined):
    run = tmp_path / "run"
    without = make_exams(change=lambda _: {"exam_id": None})
    with pytest.raises(CohortError, match=r"24 of 24 images have no exam_id, i006 first.*=image"):
        fit(without, run, joined("exam"))
    sideless = make_exams(
        change=lambda row: {"laterality": None} if row["image_id"] == "i005" else {}
    )
    with pytest.raises(CohortError, match=r"1 of \d+ images have no laterality, i005 first"):
        fit(sideless, run, joined("breast"))
    blind = make_exams(
        change=lambda row: {"view": None} if row["patient_id"] in ("p001", "p011") else {}
    )
    with pytest.raises(CohortError, match=r"2 breasts have no image whose view is known.*i006"):
        fit(blind, run, joined("exam"))
    healthy = make_exams(change=lambda _: {"cancer": 0})
    with pytest.raises(CohortError, match=r"training exams of fold 0 hold cancer values \[0\]"):
        fit(healthy, run, joined("exam"))
    assert not run.exists()
    with pytest.raises(ConfigError, match="told to exam models only: level is breast"):
        load_config(None, ["model.level=breast", "model.facts=[age]"])
    assert load_config(None, ["model.level=exam", "model.facts=[age]"]).model.facts == ("age",)
