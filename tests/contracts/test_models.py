"""The contract of every classifier: a backbone is tested by being listed here."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from mammoscope.config import ModelConfig
from mammoscope.inference.openvino_engine import OpenVino
from mammoscope.models import BASELINES, Classifier, build_classifier

SIZE = (64, 32)
# Layers that timm keeps behind the map of features, where nothing of ours passes.
BEHIND_THE_MAP = ("backbone.body.conv_head.", "backbone.body.norm_head.", "backbone.body.head.")
# Every network of ours, and one of timm for each kind of feature that it gives.
BACKBONES = [*BASELINES, "resnet10t", "mobilenetv3_small_050", "test_vit", "test_mambaout"]
# The last see the image at two resolutions, and pool by attention.
NETWORKS = [
    *((name, 1, "lse") for name in BACKBONES),
    ("baseline_cnn", 2, "lse"),
    ("baseline_cnn", 1, "attention"),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda made: "-".join(map(str, made)))
def classifier(request: pytest.FixtureRequest) -> Classifier:
    torch.manual_seed(0)
    name, shrink, pool = request.param
    config = ModelConfig(backbone=name, shrink=shrink, pool=pool, pretrained=False)
    return build_classifier(config, max_value=255, size=SIZE)[0]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(1)) * 255


def test_one_logit_per_image_and_a_heatmap_between_0_and_1(classifier, images):
    output = classifier.eval()(images)
    assert output.logit.shape == (3,)
    assert output.logit.dtype == output.heatmap.dtype == torch.float32
    assert output.heatmap.ndim == 3
    assert len(output.heatmap) == 3
    assert torch.isfinite(output.logit).all()
    assert output.heatmap.min() >= 0
    assert output.heatmap.max() <= 1


@pytest.mark.parametrize("value", [0.0, 255.0])
def test_a_flat_image_gives_a_finite_logit(classifier, value):
    output = classifier.eval()(torch.full((2, 1, *SIZE), value))
    assert torch.isfinite(output.logit).all()


def test_an_image_scores_alike_alone_and_in_a_batch(classifier, images):
    classifier.eval()
    with torch.no_grad():
        together = classifier(images).logit
        alone = torch.cat([classifier(image[None]).logit for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_every_weight_gets_a_finite_gradient(classifier, images):
    classifier.train()
    classifier.zero_grad()
    nn.functional.softplus(classifier(images).logit).sum().backward()
    for name, parameter in classifier.named_parameters():
        if name.startswith(BEHIND_THE_MAP):
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_exported_graph_gives_the_same_numbers_at_any_batch_and_by_each_engine(
    classifier, images, tmp_path: Path
):
    classifier.eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns of its own internals on every call.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            classifier,
            (torch.zeros(2, 1, *SIZE),),
            input_names=["image"],
            output_names=["logit", "heatmap"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    program.save(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch in (images, images[:1]):
        with torch.no_grad():
            expected = classifier(batch)
        got = session.run(None, {"image": batch.numpy()})
        for ours, theirs in zip(expected, got, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)
        openvino = OpenVino(tmp_path / "model.onnx", 1, "float32")
        got = openvino.run(["logit", "heatmap"], {"image": batch.numpy()})
        for ours, theirs in zip(expected, got, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)
