from __future__ import annotations

import csv
import json
import math

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from mammoscope.config import Config
from mammoscope.models import build_classifier
from mammoscope.training import fit, load_classifier
from mammoscope.training.auxiliary import AuxiliaryHeads, Variable, encode, plan

NAN = float("nan")


@pytest.fixture
def rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "view": ["CC", "MLO", "CC", "ML"],
            "implant": [0, 1, None, 0],
            "age": [40.0, 60.0, None, 50.0],
            "density": [None, None, None, None],
            "machine_id": ["7", "7", None, "7"],
        },
        schema_overrides={"density": pl.String, "implant": pl.Int8},
    )


def test_a_column_is_a_category_or_a_quantity_and_one_that_says_nothing_is_left_out(rows):
    variables, notes = plan(rows, ["view", "implant", "age", "density", "machine_id"])
    view, implant, age = variables
    assert view == Variable("view", ("CC", "ML", "MLO"), known=4)
    assert implant == Variable("implant", ("0", "1"), known=3)
    assert (age.categories, age.mean, age.spread, age.known) == ((), 50.0, 10.0, 3)
    assert [v.outputs for v in variables] == [3, 2, 1]
    assert notes == [
        "auxiliary density left out: the training images hold no value at all",
        "auxiliary machine_id left out: the training images hold only 7",
    ]


def test_targets_are_places_and_standard_scores_and_unknown_is_nan(rows):
    variables, _ = plan(rows, ["view", "implant", "age"])
    targets = encode(rows, variables)
    expected = torch.tensor([[0, 0, -1], [2, 1, 1], [0, NAN, NAN], [1, 0, 0]], dtype=torch.float32)
    assert torch.equal(targets.nan_to_num(99), expected.nan_to_num(99))


def test_a_category_that_no_training_image_has_is_unknown(rows):
    variables, _ = plan(rows.head(2), ["view"])
    assert torch.isnan(encode(rows, variables)[3, 0])


def test_losses_are_those_of_a_hand_and_what_is_unknown_weighs_nothing():
    heads = AuxiliaryHeads(2, [Variable("view", ("CC", "MLO")), Variable("age", (), 50, 10)])
    with torch.no_grad():
        for head in heads.heads:
            head.weight.fill_(0.5)
            head.bias.zero_()
    features = torch.ones(3, 2, 4, 2, requires_grad=True)
    targets = torch.tensor([[1.0, 3.0], [NAN, NAN], [0.0, NAN]])
    # Both logits are equal, so that each category has a half; the quantity's head says 1.
    assert heads.loss(features, targets).item() == pytest.approx(math.log(2) + 0.5 * (3 - 1) ** 2)
    heads.loss(features, targets).backward()
    assert torch.count_nonzero(features.grad[1]) == 0
    assert torch.count_nonzero(features.grad[0]) > 0


def test_a_batch_in_which_nothing_is_known_adds_nothing():
    heads = AuxiliaryHeads(2, [Variable("view", ("CC", "MLO"))])
    loss = heads.loss(torch.ones(3, 2, 4, 2), torch.full((3, 1), NAN))
    loss.backward()
    assert loss.item() == 0
    assert all(torch.count_nonzero(p.grad) == 0 for p in heads.parameters())


def test_heads_and_what_lies_before_them_learn_to_tell():
    torch.manual_seed(0)
    heads = AuxiliaryHeads(8, [Variable("view", ("CC", "MLO")), Variable("age", (), 50, 10)])
    before = torch.nn.Conv2d(1, 8, 3)
    targets = torch.tensor([[0.0, -1.0], [1.0, NAN], [NAN, 2.0], [1.0, 0.5]])
    images = torch.randn(4, 1, 6, 6)
    optimizer = torch.optim.Adam([*heads.parameters(), *before.parameters()], lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = heads.loss(before(images), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < 1 < losses[0]


@pytest.fixture
def told(make_cohort):
    """A cohort whose views and ages can be told from nothing, with gaps, and one site."""

    def columns(number):
        return {
            "view": ("CC", "MLO")[number // 4 % 2],
            "age": None if number % 3 == 0 else 40.0 + number,
            "density": "AB"[number // 2 % 2],
            "site_id": "1",
        }

    return make_cohort(columns=columns)


@pytest.fixture
def configured(quick):
    def configure(**train) -> Config:
        config = quick(**train)
        names = ("view", "age", "density", "site_id")
        model = config.model.model_copy(update={"auxiliary": names})
        return config.model_copy(update={"model": model})

    return configure


def test_heads_are_trained_and_recorded_and_kept_out_of_the_weights(told, tmp_path, configured):
    run = tmp_path / "run"
    result = fit(told, run, configured(epochs=6, auxiliary_weight=1.0, lr=3e-3))
    facts = json.loads((run / "run.json").read_text())
    assert [variable["name"] for variable in facts["auxiliary"]] == ["view", "age", "density"]
    assert result.notes == ("auxiliary site_id left out: the training images hold only 1",)
    with (run / "history.csv").open(newline="") as stream:
        losses = [float(row["auxiliary_loss"]) for row in csv.DictReader(stream)]
    assert len(losses) == 6
    assert min(losses) > 0
    plain, _ = build_classifier(
        configured().model.model_copy(update={"auxiliary": ()}), max_value=255, size=(64, 32)
    )
    assert load_file(run / "weights.safetensors").keys() == plain.state_dict().keys()
    assert load_classifier(run)[0].state_dict().keys() == plain.state_dict().keys()


def test_a_resumed_run_has_the_heads_of_an_uninterrupted_one(
    told, tmp_path, configured, monkeypatch
):
    from mammoscope.training.task import ClassificationTask

    fit(told, tmp_path / "whole", configured(epochs=3))
    original = ClassificationTask.training_step

    def step(self, batch, batch_idx):
        if self.current_epoch == 1 and batch_idx == 1:
            monkeypatch.setattr(ClassificationTask, "training_step", original)
            raise OSError("the power went")
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", step)
    with pytest.raises(OSError, match="the power went"):
        fit(told, tmp_path / "run", configured(epochs=3))
    fit(told, tmp_path / "run", configured(epochs=3), resume=True)
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "run")
    )
    assert any(key.startswith("auxiliary.heads.") for key in ours)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_without_auxiliary_weight_the_classifier_learns_as_alone(told, tmp_path, quick, configured):
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    fit(told, alone, quick(epochs=2))
    fit(told, beside, configured(epochs=2, auxiliary_weight=0, gradient_clip=0))
    fit(told, alone, quick(epochs=2, gradient_clip=0), overwrite=True)
    ours, theirs = (load_file(run / "weights.safetensors") for run in (alone, beside))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
