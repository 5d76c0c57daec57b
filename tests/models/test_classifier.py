from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from mammoscope.bundle import MODEL_FILE
from mammoscope.config import ModelConfig
from mammoscope.export import PARITY_TOLERANCE, export_graph
from mammoscope.inference import Scorer
from mammoscope.models import Classifier, build_classifier
from mammoscope.models.classifier import FeatureExtractor


class Pooled(FeatureExtractor):
    """A backbone that only shrinks, so that local logits can be worked out by hand."""

    channels = 1

    def forward(self, image: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(image, 8)


def pooled(pool: str, local: Tensor) -> Tensor:
    classifier = Classifier(Pooled(), max_value=255, pool=pool)
    torch.nn.init.ones_(classifier.local_logits.weight)
    torch.nn.init.zeros_(classifier.local_logits.bias)
    return classifier.look(local[:, None, None]).logit.detach()


@pytest.fixture
def local() -> Tensor:
    return torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 3


def test_the_soft_maximum_lies_between_mean_and_maximum(local):
    mean, soft, top = (pooled(pool, local) for pool in ("avg", "lse", "max"))
    assert torch.all(mean < soft)
    assert torch.all(soft < top)
    assert torch.equal(mean, local.mean(1))
    assert torch.equal(top, local.max(1).values)


@pytest.mark.parametrize("pool", ["avg", "max", "lse"])
def test_a_flat_map_keeps_its_value_whatever_its_area(pool):
    for cells in (1, 7, 4096):
        assert pooled(pool, torch.full((2, cells), -1.5)).numpy() == pytest.approx(-1.5, abs=1e-5)


def test_the_soft_maximum_does_not_overflow():
    assert torch.isfinite(pooled("lse", torch.tensor([[1e4, -1e4]]))).all()


def test_the_heatmap_is_made_of_the_logits_that_are_pooled():
    classifier = Classifier(Pooled(), max_value=255, pool="max").eval()
    output = classifier(torch.rand(3, 1, 32, 16) * 255)
    assert output.heatmap.shape == (3, 4, 2)
    assert torch.allclose(torch.sigmoid(output.logit), output.heatmap.amax(dim=(1, 2)))


def test_attention_pools_where_it_looks_and_adds_what_the_whole_image_says():
    classifier = Classifier(Pooled(), max_value=255, pool="attention").eval()
    features = torch.tensor([0.0, 1.0, 2.0])[None, None, None]  # (1, 1, 1, 3)
    for layer, weight in (("attention", 3.0), ("local_logits", 2.0), ("context", 5.0)):
        torch.nn.init.constant_(getattr(classifier, layer).weight, weight)
        torch.nn.init.constant_(getattr(classifier, layer).bias, 0.25)
    with torch.no_grad():
        reading = classifier.look(features)
    share = torch.softmax(torch.tensor([0.25, 3.25, 6.25]), dim=0)
    local = torch.tensor([0.25, 2.25, 4.25])
    assert float(reading.logit) == pytest.approx(float((share * local).sum()) + 5.0 * 1.0 + 0.25)
    # Hot is what is both a lesion and of the label's kind.
    both = torch.sigmoid(torch.tensor([0.25, 3.25, 6.25])) * torch.sigmoid(local)
    assert torch.allclose(torch.sigmoid(reading.local)[0, 0], both, atol=1e-5)
    assert torch.allclose(
        classifier.lesion_logits(features)[0, 0], torch.tensor([0.25, 3.25, 6.25])
    )


def test_flips_at_the_test_are_means_and_turn_the_map_back():
    class Lopsided(FeatureExtractor):
        channels = 1

        def forward(self, image: Tensor) -> Tensor:
            height, width = image.shape[-2] // 8, image.shape[-1] // 8
            return torch.nn.functional.avg_pool2d(image, 8) * torch.rand(
                height, width, generator=torch.Generator().manual_seed(5)
            )

    image = torch.rand(2, 1, 32, 16, generator=torch.Generator().manual_seed(0)) * 255
    flipped = Classifier(
        Lopsided(), max_value=255, pool="max", test_flips=("vertical", "horizontal")
    )
    torch.nn.init.ones_(flipped.local_logits.weight)
    plain = Classifier(Lopsided(), max_value=255, pool="max").eval()
    plain.load_state_dict(flipped.state_dict())
    looks = [plain(image), plain(image.flip(-2)), plain(image.flip(-1))]
    made = flipped.eval()(image)
    assert torch.allclose(made.logit, torch.stack([look.logit for look in looks]).mean(dim=0))
    assert not torch.allclose(made.logit, looks[0].logit)
    turned = [looks[0].heatmap, looks[1].heatmap.flip(-2), looks[2].heatmap.flip(-1)]
    local = torch.stack([torch.logit(heat) for heat in turned]).mean(dim=0)
    assert torch.allclose(made.heatmap, torch.sigmoid(local), atol=1e-5)
    # A step of training looks once.
    assert torch.allclose(flipped.train()(image).logit, looks[0].logit)


def test_a_graph_turns_images_as_its_network_does(tmp_path):
    config = ModelConfig(backbone="residual_cnn", pretrained=False, test_flips=("vertical",))
    network, _ = build_classifier(config, max_value=255, size=(64, 32))
    export_graph(network.eval(), (64, 32), tmp_path / MODEL_FILE)
    images = np.random.default_rng(0).integers(0, 255, (3, 64, 32), np.uint8)
    made = Scorer(tmp_path / MODEL_FILE)(list(images))
    with torch.no_grad():
        expected = network(torch.from_numpy(images[:, None].astype(np.float32)))
    assert made.logit == pytest.approx(expected.logit.numpy(), abs=PARITY_TOLERANCE)
    assert made.heatmap == pytest.approx(expected.heatmap.numpy(), abs=PARITY_TOLERANCE)


def test_flips_at_the_test_are_of_image_models():
    with pytest.raises(ValidationError, match=r"test_flips.*image models: level is exam"):
        ModelConfig(level="exam", test_flips=("vertical",))
    with pytest.raises(ValidationError, match="vertical more than once"):
        ModelConfig(test_flips=("vertical", "vertical"))


def test_only_attention_says_where_lesions_are():
    with pytest.raises(TypeError, match="pools by attention"):
        Classifier(Pooled(), max_value=255).lesion_logits(torch.zeros(1, 1, 2, 2))


def test_eight_and_sixteen_bits_of_one_image_give_one_score():
    image = torch.rand(2, 1, 32, 16)
    classifiers = [Classifier(Pooled(), max_value=peak).eval() for peak in (255, 65535)]
    classifiers[1].load_state_dict(classifiers[0].state_dict())
    assert torch.allclose(classifiers[0](image * 255).logit, classifiers[1](image * 65535).logit)


@pytest.mark.parametrize("prior", [0.02, 0.5])
def test_an_untrained_network_starts_at_the_prior(prior):
    config = ModelConfig(backbone="baseline_cnn")
    classifier, _ = build_classifier(config, max_value=255, size=(64, 32), prior=prior)
    score = torch.sigmoid(classifier.eval()(torch.rand(4, 1, 64, 32) * 255).logit).mean()
    assert score.item() == pytest.approx(prior, rel=0.3)


def test_a_prior_of_nothing_is_still_finite():
    assert math.isfinite(Classifier(Pooled(), max_value=255, prior=0.0).local_logits.bias.item())


def test_dropout_acts_in_training_only():
    config = ModelConfig(backbone="baseline_cnn", dropout=0.9)
    classifier, _ = build_classifier(config, max_value=255, size=(64, 32))
    image = torch.rand(4, 1, 64, 32) * 255
    assert not torch.equal(classifier(image).logit, classifier(image).logit)
    classifier.eval()
    assert torch.equal(classifier(image).logit, classifier(image).logit)
