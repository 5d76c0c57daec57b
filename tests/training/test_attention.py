"""Attention is taught where known lesions are, and the score is pooled from there."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from mammoscope.cohort.findings import write_findings
from mammoscope.cohort.regions import regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import Config, load_config
from mammoscope.errors import CohortError, ConfigError
from mammoscope.training import fit, load_classifier, read_run


def config(level="image", **train) -> Config:
    values = {"epochs": 12, "batch_size": 4, "lr": 3e-3, "patience": 0, "lesion_weight": 1.0}
    model = {"backbone": "baseline_cnn", "pool": "attention", "level": level, "dropout": 0.0}
    augment = {"rotate_degrees": 0, "scale": 0, "shift": 0, "gamma": 0}
    return Config.model_validate({"model": model, "train": values | train, "augment": augment})


def hits(cohort, run) -> float:
    """How often attention is highest in a cell that a lesion touches, of images that have one."""
    store = PreparedStore(cohort)
    regions = regions_of(cohort, store, Config().lesions)
    network = load_classifier(run)[0]
    hit = []
    for name in store:
        union = regions.union(name)
        if union.any():
            batch = torch.from_numpy(store.read(name).astype(np.float32))[None, None]
            with torch.no_grad():
                where = network.lesion_logits(network.features(batch))[0].numpy()
            row, column = np.unravel_index(where.argmax(), where.shape)
            down, across = np.array(union.shape) // where.shape
            cell = union[row * down : (row + 1) * down, column * across : (column + 1) * across]
            hit.append(cell.any())
    return float(np.mean(hit))


def test_a_taught_network_looks_at_lesions_and_an_untaught_one_need_not(make_lesions, tmp_path):
    cohort = make_lesions(24)
    fit(cohort, tmp_path / "taught", config())
    assert hits(cohort, tmp_path / "taught") > 0.9
    with (tmp_path / "taught" / "history.csv").open() as stream:
        losses = [float(row["lesion_loss"]) for row in csv.DictReader(stream)]
    assert losses[-1] < losses[0] / 2
    fit(cohort, tmp_path / "untaught", config(epochs=1, lesion_weight=0.0))
    with (tmp_path / "untaught" / "history.csv").open() as stream:
        assert [row["lesion_loss"] for row in csv.DictReader(stream)] == [""]


def test_lesions_teach_a_model_of_breasts_too(make_lesions, tmp_path):
    cohort = make_lesions(24)
    fit(cohort, tmp_path / "run", config("breast", epochs=2))
    with (tmp_path / "run" / "history.csv").open() as stream:
        losses = [float(row["lesion_loss"]) for row in csv.DictReader(stream)]
    assert losses[1] < losses[0]


def test_a_cohort_without_lesions_trains_and_says_that_nothing_was_taught(make_lesions, tmp_path):
    cohort = make_lesions(12)
    write_findings(cohort, [])
    fit(cohort, tmp_path / "run", config(epochs=1))
    (note,) = read_run(tmp_path / "run")["notes"]
    assert "train.lesion_weight has no effect" in note


def test_wrong_findings_are_refused_before_training_where_that_is_asked(make_lesions, tmp_path):
    cohort = make_lesions(12)
    asked = config().model_copy(
        update={"lesions": Config().lesions.model_copy(update={"kinds": ("calcification",)})}
    )
    with pytest.raises(CohortError, match="calcification"):
        fit(cohort, tmp_path / "run", asked)
    assert not (tmp_path / "run").exists()


def test_other_pools_have_nothing_to_teach():
    with pytest.raises(ConfigError, match=r"lesion_weight=1 teaches model\.pool=attention"):
        load_config(None, ["train.lesion_weight=1"])
