"""The contract of every anomaly model: one is tested by standing in the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures.engines import by_openvino
from mammoscope.config import AnomalyConfig
from mammoscope.errors import BundleError
from mammoscope.export.anomaly import export_anomaly
from mammoscope.inference import AnomalyScorer, Scorer
from mammoscope.models.anomaly import ANOMALY_MODELS, AnomalyModel, PatchCore, build_anomaly

# Not a multiple of 32, the sides of a latent cell.
SIZE = (72, 40)
SMALL = {"width": 4, "latent_width": 3, "bank_size": 20, "bank_candidates": 100}
KINDS = [
    *({"method": name} for name in ANOMALY_MODELS),
    {
        "conditions": ["view", "density"],
        "score_kl": 0.5,
        "score_perceptual": 0.5,
        "shrink": 2,
        "top_share": 1.0,
    },
]


def images(number: int = 3) -> Tensor:
    """Noise in a half disc, 0 elsewhere, as prepared images are."""
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randint(1, 255, (number, 1, *SIZE), generator=rng).float()
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    return pixels * (((y - SIZE[0] / 2) ** 2 + x**2) < 32**2)


@pytest.fixture(scope="module", params=KINDS, ids=lambda made: made.get("method", "told"))
def model(request: pytest.FixtureRequest) -> AnomalyModel:
    torch.manual_seed(0)
    config = AnomalyConfig.model_validate(SMALL | request.param)
    made, _ = build_anomaly(config, max_value=255, size=SIZE)
    made.eval()
    with torch.no_grad():
        # Shifted images, as distances of 0 would be rounding alone.
        seen = images().roll(3, dims=2)
        if isinstance(made, PatchCore):
            found, counts = made.patches(seen)
            made.remember(found[counts > 0][::7], torch.Generator().manual_seed(0))
        codes = given(made, 3)
        made.set_units(made.terms(seen, *codes).mean(dim=0))
        made.standardise(made(seen, *codes).score)
    return made


def given(model: AnomalyModel, number: int) -> list[Tensor]:
    """Unknown view and density, as a graph is told them."""
    codes = {"projection": 2, "density": 4}
    return [torch.full((number,), codes[name]) for name in model.conditions]


def test_a_score_and_a_map_that_is_0_outside_the_breast(model):
    with torch.no_grad():
        made = model(images(), *given(model, 3))
    assert made.score.shape == (3,)
    assert made.score.dtype == made.heatmap.dtype == torch.float32
    assert torch.isfinite(made.score).all()
    assert torch.isfinite(made.heatmap).all()
    assert (made.score > 0).all()
    assert (made.heatmap >= 0).all()
    height, width = made.heatmap.shape[1:]
    # The lower right corner is air.
    assert (made.heatmap[:, -height // 8 :, -width // 8 :] == 0).all()
    if made.reconstruction is not None:
        assert made.reconstruction.min() >= 0
        assert made.reconstruction.max() <= 255


@pytest.mark.parametrize("value", [0.0, 255.0])
def test_a_flat_image_gives_a_finite_score(model, value):
    with torch.no_grad():
        made = model(torch.full((2, 1, *SIZE), value), *given(model, 2))
    assert torch.isfinite(made.score).all()


def test_an_image_scores_alike_alone_and_in_a_batch(model):
    with torch.no_grad():
        together = model(images(), *given(model, 3)).score
        alone = torch.cat([model(i[None], *given(model, 1)).score for i in images()])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_exported_graph_gives_score_map_and_reconstruction_at_any_batch(
    model, engine, tmp_path: Path
):
    path = tmp_path / "model.onnx"
    export_anomaly(model, SIZE, path)
    if engine == "openvino":
        by_openvino(path)
    scorer = AnomalyScorer(path, threads=1)
    for number in (3, 1):
        batch = images(number)
        pixels = [image[0].numpy().astype(np.uint8) for image in batch]
        with torch.no_grad():
            expected = model(batch, *given(model, number))
        made = scorer(pixels)
        np.testing.assert_allclose(made.anomaly, expected.score, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(made.heatmap, expected.heatmap, rtol=1e-2, atol=1e-3)
        logit = (expected.score - model.centre) / model.spread
        np.testing.assert_allclose(made.logit, logit, atol=1e-2)
        np.testing.assert_allclose(made.score, torch.sigmoid(logit), atol=1e-2)
        inside = made.heatmap > 0
        assert (made.local_score[~inside] == 0).all()
        assert ((made.local_score[inside] >= 0) & (made.local_score[inside] <= 1)).all()
        assert (made.reconstruction is None) == (expected.reconstruction is None)
        if made.reconstruction is not None:
            rebuilt = expected.reconstruction[:, 0]
            np.testing.assert_allclose(made.reconstruction, rebuilt, atol=1e-2)
    with pytest.raises(BundleError, match="'anomaly'"):
        Scorer(path)
    assert scorer.inputs == ["image", *model.conditions]
    if "density" in model.conditions:
        # Unknown is not A.
        told = [float(scorer(pixels, densities=[d]).anomaly[0]) for d in ("A", "B", None)]
        assert len(set(told)) == 3
        assert told[2] == float(scorer(pixels).anomaly[0])


def test_a_classifiers_graph_is_refused(bundle_dir):
    with pytest.raises(BundleError, match="graph of anomalies"):
        AnomalyScorer(bundle_dir / "model.onnx")
