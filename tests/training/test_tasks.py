"""What a task cannot follow is refused by all, and what weights have learnt from is told by all."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from mammoscope.artefacts import sha256_file
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, Task
from mammoscope.errors import ConfigError, RunError
from mammoscope.training.origin import check_origin, learnt_before, origin_metadata
from mammoscope.training.tasks import CLASSIFIERS_ONLY, plan_of

OTHERS = [task for task in get_args(Task) if task != "classify"]
ASKED = {
    "model.level": "breast",
    "model.auxiliary": ["view"],
    "model.weights": "weights.safetensors",
    "train.layer_decay": 0.5,
    "train.gradient_checkpointing": True,
    "train.lesion_weight": 1.0,
    "train.frozen_part": "image_model",
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
    if key == "train.frozen_part":
        values["train"] = {"frozen_epochs": 1}
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


def telling(folder, store, **facts):
    """Write weights that say themselves what the record of a run would say, alone in a folder."""
    folder.mkdir()
    weights = weights_of(folder, store, **facts)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").unlink()
    record = {"config": {"task": "classify"}, "learnt_before": [], **record}
    save_file({"w": np.zeros(1)}, weights, origin_metadata(record))
    return weights


def starting(task, weights, **model):
    section = Config.model_validate({"task": task}).weights_key.partition(".")[0]
    values = {"model": model}
    values[section] = {**values.get(section, {}), "weights": weights}
    return Config.model_validate({"task": task, **values})


@pytest.mark.parametrize("write", [weights_of, telling], ids=["run.json", "metadata"])
@pytest.mark.parametrize("task", get_args(Task))
def test_weights_that_have_learnt_from_held_out_images_are_refused_unless_that_is_meant(
    store, tmp_path, task, write
):
    weights = write(tmp_path / "run" if write is telling else tmp_path, store, fold=1)
    config = starting(task, weights)
    assert check_origin(config, store, 1) == []
    said = "held out fold 1 and has learnt from the images of fold 0, which validate here"
    with pytest.raises(ConfigError, match=rf"{said}.*--fold 1\).*weights_held_out=any"):
        check_origin(config, store, 0)
    meant = starting(task, weights, weights_held_out="any")
    (told,) = check_origin(meant, store, 0)
    assert said in told
    assert "better than it is" in told
    # Each setting allows what it names and nothing else.
    with pytest.raises(ConfigError, match=said):
        check_origin(starting(task, weights, weights_prepared="any"), store, 0)


def test_weights_of_another_split_may_have_seen_the_test_split_and_are_refused(
    make_lesions, tmp_path
):
    store = PreparedStore(make_lesions())
    weights = weights_of(tmp_path, store, fold=1)
    path = store.cohort / "splits.parquet"
    pl.read_parquet(path).with_columns(fold=1 - pl.col("fold")).write_parquet(path)
    with pytest.raises(ConfigError, match=r"split otherwise: .* or are of the test split"):
        check_origin(starting("detect", weights), store, 1)
    (told,) = check_origin(starting("detect", weights, weights_held_out="any"), store, 1)
    assert "the same images, split otherwise" in told


def test_weights_of_other_women_have_seen_nothing_of_what_is_held_out(store, tmp_path):
    cohort = {"manifest_sha256": "other", "splits_sha256": "other"}
    config = starting("segment", weights_of(tmp_path, store, fold=0, cohort=cohort))
    assert check_origin(config, store, 0) == []


def test_weights_that_went_by_way_of_other_women_have_not_forgotten(store, tmp_path):
    (tmp_path / "first").mkdir()
    first = weights_of(tmp_path / "first", store, fold=1)
    before = learnt_before(starting("classify", first))
    cohort = {"manifest_sha256": "other", "splits_sha256": "other"}
    facts = {"fold": 0, "cohort": cohort, "learnt_before": before}
    config = starting("classify", telling(tmp_path / "second", store, **facts))
    assert check_origin(config, store, 1) == []
    with pytest.raises(ConfigError, match=r"held out fold 1 and has learnt from .* fold 0"):
        check_origin(config, store, 0)
    assert [place["fold"] for place in learnt_before(config)] == [0, 1]


def test_what_weights_say_themselves_counts_before_the_record_beside_them(store, tmp_path):
    weights = telling(tmp_path / "run", store, fold=0)
    weights_of(tmp_path / "run", store, fold=1)
    assert check_origin(starting("classify", weights), store, 0) == []
    save_file({"w": np.zeros(1)}, weights, {"mammoscope": "{"})
    with pytest.raises(RunError, match="their metadata cannot be read as JSON"):
        check_origin(starting("classify", weights), store, 0)
    # Of others nothing is known.
    save_file({"w": np.zeros(1)}, tmp_path / "timm.safetensors", {"format": "pt"})
    assert check_origin(starting("classify", tmp_path / "timm.safetensors"), store, 0) == []


@pytest.mark.parametrize("write", [weights_of, telling], ids=["run.json", "metadata"])
@pytest.mark.parametrize("task", get_args(Task))
def test_weights_of_images_prepared_otherwise_are_refused_by_every_task(
    store, tmp_path, task, write
):
    theirs = store.config.model_dump(mode="json") | {"normalise": "breast"}
    folder = tmp_path / "run" if write is telling else tmp_path
    config = starting(task, write(folder, store, fold=0, preprocess=theirs))
    with pytest.raises(ConfigError, match=r"prepare\.normalise 'window' \(theirs 'breast'\)"):
        check_origin(config, store, 0)
