"""A key or value that is not accepted is named, with what would be."""

from __future__ import annotations

import pytest

from mammoscope.config import Config, PreprocessConfig, load_config, network_of, validated
from mammoscope.errors import ConfigError


def test_defaults_then_file_then_overrides(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("train:\n  lr: 0.01\n  epochs: 3\nmodel: {backbone: convnext_tiny}\n")
    config = load_config(file, ["train.lr=3e-4", "augment.flip_vertical=false"])
    assert config.train.lr == 3e-4
    assert config.train.epochs == 3
    assert config.model.backbone == "convnext_tiny"
    assert config.augment.flip_vertical is False
    assert load_config() == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rat=1", r"unknown key train\.learning_rat"),
        ("train.epoch=1", r"unknown key train\.epoch; did you mean epochs\? Accepted here: epochs"),
        ("trian.lr=1", r"unknown key trian; did you mean train\?"),
        ("train.lr=fast", r"train\.lr: .*number.*\(found 'fast'\)"),
        ("train.lr=-1", r"train\.lr: .*greater than 0 \(found -1\)"),
        ("train.lr=.nan", r"train\.lr: .*finite"),
        ("train.epochs=2.5", r"train\.epochs: .*integer.*\(found 2\.5\)"),
        (
            "model.pool=median",
            r"model\.pool: .*'avg', 'max', 'lse' or 'attention' \(found 'median'\)",
        ),
        ("train=3", r"train: .*\(found 3\)"),
        ("train.lr.x=3", r"train\.lr: "),
        ("train.lr", r"--set 'train\.lr' is not of the form key=value"),
        ("evaluation.operating_points=[best]", r"'best' is not one of best_f1"),
        ("evaluation.operating_points=[sensitivity=2]", r"is a number between 0 and 1"),
        ("evaluation.operating_points=[specificity=abc]", r"'specificity=abc': its value is a"),
        ("train.positives_per_batch=17", r"=17 of a batch_size of 16: a batch cannot hold them"),
        ("segment.losses={lovasz: 1}", r"segment\.losses\.lovasz: .*'dice'.*\(found 'lovasz'\)"),
    ],
)
def test_what_is_not_accepted_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_two_overrides_that_contradict_in_shape_are_refused():
    with pytest.raises(ConfigError, match="train is a value, not a section"):
        load_config(None, ["train=3", "train.lr=1"])


def test_files_that_are_no_settings_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml"):
        load_config(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("train: [1, 2\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not valid YAML"):
        load_config(bad)
    bad.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError, match="holds a list, not a mapping"):
        load_config(bad)
    bad.write_text("")
    assert load_config(bad) == Config()


def test_a_configuration_survives_its_json():
    config = load_config(None, ["train.positive_weight=3.5", "model.weights=w.safetensors"])
    assert validated(Config, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("settings", "network"),
    [
        ({}, "resnet18"),
        ({"task": "detect"}, "centre on pyramid_cnn"),
        ({"task": "detect", "detect": {"name": "yolov8"}}, "yolov8"),
        ({"task": "segment", "segment": {"decoder": "fpn"}}, "fpn on efficientnet-b0"),
        ({"task": "anomaly"}, "vae"),
        ({"task": "anomaly", "anomaly": {"method": "patchcore"}}, "patchcore on baseline_cnn"),
        ({"task": "segment-then-classify"}, "resnet18 on cut-outs"),
    ],
)
def test_a_run_is_named_by_the_network_that_its_task_trains(settings, network):
    values = {"model": {"backbone": "resnet18"}} | settings
    assert network_of(Config.model_validate(values).model_dump(mode="json")) == network


def test_a_configuration_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        PreprocessConfig().height = 3
    assert PreprocessConfig(bits=16).max_value == 65535


def test_every_fault_is_listed_at_once():
    with pytest.raises(ConfigError, match=r"train\.lr.*; train\.epochs|train\.epochs.*; train\.lr"):
        load_config(None, ["train.lr=-1", "train.epochs=0"])
