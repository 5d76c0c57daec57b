"""What a task cannot follow is refused by all, and what weights have learnt from is told by all."""

from __future__ import annotations

import json
from typing import get_args

import polars as pl
import pytest

from mammoscope.artefacts import sha256_file
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, Task
from mammoscope.errors import ConfigError
from mammoscope.training.origin import check_origin
from mammoscope.training.tasks import CLASSIFIERS_ONLY, plan_of

OTHERS = [task for task in get_args(Task) if task != "classify"]
ASKED = {
    "model.level": "breast",
    "model.auxiliary": ["view"],
    "model.weights": "weights.safetensors",
    "train.layer_decay": 0.5,
    "train.gradient_checkpointing": True,
    "train.lesion_weight": 1.0,
    "train.frozen_epochs": 2,
}
# Both have a network of the section model, and parts of one that can be frozen.
KNOWN = {
    "segment": {"train.frozen_epochs"},
    "segment-then-classify": {"train.frozen_epochs", "model.weights"},
}


@pytest.fixture(scope="module")
def store(make_lesions):
    return PreparedStore(make_lesions())


def asking(task, key):
    section, name = key.split(".")
    values = {"model": {"backbone": "baseline_cnn"}, "segment": {"encoder": "small"}}
    if key == "train.lesion_weight":
        values["model"]["pool"] = "attention"
    values[section] = {**values.get(section, {}), name: ASKED[key]}
    return Config.model_validate({"task": task, **values})


@pytest.mark.parametrize("task", OTHERS)
def test_what_a_task_cannot_follow_is_refused_before_it_is_left_undone(store, task):
    assert set(CLASSIFIERS_ONLY) <= set(ASKED)
    for key in set(ASKED) - KNOWN.get(task, set()):
        with pytest.raises(ConfigError, match=rf"{key}=.*: task={task} cannot follow it"):
            plan_of(task).check(store, store.rows(), 0, asking(task, key))


def weights_of(folder, store, **facts):
    """Write weights beside the record of a run on the same images."""
    cohort = {
        f"{name}_sha256": sha256_file(store.cohort / f"{name}.parquet")
        for name in ("manifest", "splits")
    }
    record = {"preprocess": store.config.model_dump(mode="json"), "cohort": cohort, **facts}
    (folder / "run.json").write_text(json.dumps(record))
    return folder / "weights.safetensors"


def starting(task, weights):
    config = Config.model_validate({"task": task})
    section = config.weights_key.partition(".")[0]
    return Config.model_validate({"task": task, section: {"weights": weights}})


@pytest.mark.parametrize("task", get_args(Task))
def test_weights_that_have_learnt_from_held_out_images_are_told(store, tmp_path, task):
    config = starting(task, weights_of(tmp_path, store, fold=1))
    assert check_origin(config, store, 1) == []
    (told,) = check_origin(config, store, 0)
    assert "has learnt from the images of fold 0, which validate here" in told
    assert told.endswith("Validate on its fold, 1")


def test_weights_of_another_split_of_the_same_images_are_told(make_lesions, tmp_path):
    store = PreparedStore(make_lesions())
    config = starting("detect", weights_of(tmp_path, store, fold=1))
    path = store.cohort / "splits.parquet"
    pl.read_parquet(path).with_columns(fold=1 - pl.col("fold")).write_parquet(path)
    (told,) = check_origin(config, store, 1)
    assert "the same images, split otherwise" in told


def test_weights_of_other_women_have_seen_nothing_of_what_is_held_out(store, tmp_path):
    cohort = {"manifest_sha256": "other", "splits_sha256": "other"}
    config = starting("segment", weights_of(tmp_path, store, fold=0, cohort=cohort))
    assert check_origin(config, store, 0) == []


@pytest.mark.parametrize("task", get_args(Task))
def test_weights_of_images_prepared_otherwise_are_refused_by_every_task(store, tmp_path, task):
    theirs = store.config.model_dump(mode="json") | {"normalise": "breast"}
    config = starting(task, weights_of(tmp_path, store, fold=0, preprocess=theirs))
    with pytest.raises(ConfigError, match=r"prepare\.normalise 'window' \(theirs 'breast'\)"):
        check_origin(config, store, 0)
