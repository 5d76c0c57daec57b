"""Grad-CAM against what it has to be where the network can be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mammoscope.models import Classifier
from mammoscope.models.classifier import FeatureExtractor
from mammoscope.models.grad_cam import grad_cam


class Convolved(FeatureExtractor):
    channels = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, stride=8, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)


def explained(classifier: Classifier, images: Tensor) -> Tensor:
    return grad_cam(classifier, classifier.backbone, images, lambda m, x: m(x).logit)


def classifier(pool: str = "avg") -> Classifier:
    torch.manual_seed(0)
    return Classifier(Convolved(), max_value=255, pool=pool).eval()


def test_with_a_mean_pool_it_is_the_map_of_local_logits_without_their_bias():
    model, images = classifier(), torch.rand(3, 1, 64, 32) * 255
    cam = explained(model, images)
    with torch.no_grad():
        features = model.backbone((images / 255 - 0.25) / 0.25)
        local = model.local_logits(features).squeeze(1) - model.local_logits.bias
    expected = torch.relu(local)
    expected = expected / expected.amax(dim=(1, 2), keepdim=True)
    assert cam.shape == (3, 8, 4)
    assert torch.allclose(cam, expected, atol=1e-5)


def test_an_image_has_one_map_alone_and_in_a_batch():
    model, images = classifier("lse"), torch.rand(3, 1, 64, 32) * 255
    together = explained(model, images)
    alone = torch.cat([explained(model, image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_it_leaves_the_network_as_it_was():
    model, images = classifier(), torch.rand(1, 1, 64, 32) * 255
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    with torch.inference_mode(mode=False), torch.no_grad():
        explained(model, images)
    assert not model.backbone._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_that_raises_the_logit_is_a_map_of_zeros():
    model = classifier()
    nn.init.zeros_(model.local_logits.weight)
    assert torch.count_nonzero(explained(model, torch.rand(1, 1, 64, 32))) == 0
