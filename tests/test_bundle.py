"""A bundle is what it was when it was written, or it is refused by name."""

from __future__ import annotations

import json
import shutil

import pytest

from mammoscope.artefacts import sha256_json
from mammoscope.bundle import MODEL_FILE, Companion, read_bundle
from mammoscope.errors import BundleError
from mammoscope.inference import load_bundle


@pytest.fixture
def copied(bundle_dir, tmp_path):
    return shutil.copytree(bundle_dir, tmp_path / "bundle")


def test_a_bundle_reads_back_with_its_input_contract(copied):
    bundle = read_bundle(copied)
    assert bundle.synthetic
    assert (bundle.input.preprocess.height, bundle.input.preprocess.width) == (256, 128)
    assert bundle.operating_points.threshold("image") == 0.5
    assert bundle.operating_points.threshold("breast") == 0.6
    assert bundle.operating_points.threshold("exam") == 0.7
    without = bundle.operating_points.model_copy(update={"exam": ()})
    assert without.threshold("exam") == 0.6
    assert bundle.input.level == "image"
    assert list(bundle.input.inputs) == ["image"]
    assert len(bundle.sha256) == 64


def test_a_bundle_of_before_other_tasks_scored_is_read_and_keeps_its_identity(copied):
    values = json.loads((copied / "bundle.json").read_text())
    del values["content_sha256"]
    # What earlier versions said of outputs that a graph does not have.
    none = ("breast_logit", "breast_score", "exam_logit", "exam_score")
    values["output"] |= dict.fromkeys(none)
    declared = sha256_json(values)
    (copied / "bundle.json").write_text(json.dumps({**values, "content_sha256": declared}))
    bundle = read_bundle(copied)
    assert bundle.sha256 == declared
    assert bundle.task == "classify"
    assert bundle.scoring is None


def test_a_second_stage_scores_no_image_and_has_a_first(copied):
    bundle = read_bundle(copied)
    said = {"name": "own", "synthetic": True, "preprocess": bundle.input.preprocess}
    second = Companion(
        task="segment-then-classify", file=MODEL_FILE, threshold=0, target="benign", **said
    )
    with pytest.raises(BundleError, match="a second stage scores no image"):
        _ = bundle.model_copy(update={"companions": (second,)}).task


def test_an_edited_model_is_refused_with_file_and_hash(copied):
    model = copied / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx was edited: its SHA-256 is [0-9a-f]{64}"):
        load_bundle(copied)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("operating_points", "image", 0, "threshold"), 0.01),
        (("input", "preprocess", "height"), 128),
        (("synthetic",), False),
    ],
)
def test_an_edited_description_is_refused_with_file_and_hash(copied, path, value):
    values = json.loads((copied / "bundle.json").read_text())
    target = values
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    (copied / "bundle.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match=r"bundle\.json was edited: its SHA-256 is"):
        load_bundle(copied)


def test_a_missing_file_another_format_or_another_kind_is_refused(copied, tmp_path):
    (copied / "model.onnx").rename(copied / "model")
    with pytest.raises(BundleError, match=r"model\.onnx is missing"):
        read_bundle(copied)
    values = json.loads((copied / "bundle.json").read_text())
    (copied / "bundle.json").write_text(json.dumps({**values, "format_version": 9}))
    with pytest.raises(BundleError, match="format 9; this version reads bundle format 4"):
        read_bundle(copied)
    (copied / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="cannot be read as JSON"):
        read_bundle(copied)
    with pytest.raises(BundleError, match="is not a folder"):
        read_bundle(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        read_bundle(tmp_path / "empty")


def test_nothing_in_a_bundle_is_code(copied):
    assert sorted(path.name for path in copied.iterdir()) == ["bundle.json", "model.onnx"]
