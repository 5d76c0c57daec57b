"""The contract of every segmenter: decoders by being in the library, encoders by being listed."""

from __future__ import annotations

import pytest
import torch

from mammoscope.config import SegmentConfig
from mammoscope.errors import ConfigError
from mammoscope.models import build_segmenter

# After ours, which makes torchvision importable.
smp = pytest.importorskip("segmentation_models_pytorch")

SIZE = (128, 128)
# Vision transformers take images of one size, and only they go with DPT.
TRANSFORMER = ("dpt", "tu-vit_tiny_patch16_224")
DECODERS = [name for name in smp.MODEL_ARCHITECTURES_MAPPING if name != "dpt"]
NETWORKS = [("unet", "small"), ("unet", "efficientnet-b0"), ("unet", "tu-resnet10t"), TRANSFORMER]
NETWORKS += [(name, "resnet18") for name in DECODERS]


@pytest.fixture(scope="module", params=NETWORKS, ids="-".join)
def built(request):
    torch.manual_seed(0)
    decoder, encoder = request.param
    size = (224, 224) if request.param == TRANSFORMER else SIZE
    config = SegmentConfig(decoder=decoder, encoder=encoder, pretrained=False)
    made, notes = build_segmenter(config, max_value=255, size=size)
    assert notes == []
    return made, size


@pytest.fixture
def segmenter(built):
    return built[0]


@pytest.fixture
def images(built):
    return torch.rand(2, 1, *built[1], generator=torch.Generator().manual_seed(1)) * 255


def test_one_finite_logit_for_each_pixel(segmenter, images):
    with torch.no_grad():
        logits = segmenter.eval()(images)
    assert logits.shape == images.shape
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_an_untrained_network_sees_few_lesions():
    config = SegmentConfig(encoder="small")
    segmenter, _ = build_segmenter(config, max_value=255, size=SIZE)
    with torch.no_grad():
        logits = segmenter.eval()(torch.zeros(1, 1, *SIZE))
    assert torch.sigmoid(logits).mean() < 0.05


def test_an_image_is_outlined_alike_alone_and_in_a_batch(segmenter, images):
    segmenter.eval()
    with torch.no_grad():
        together = segmenter(images)
        alone = torch.cat([segmenter(image[None]) for image in images])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_every_weight_gets_a_finite_gradient(segmenter, images):
    segmenter.train()
    segmenter.zero_grad()
    segmenter(images).square().mean().backward()
    without = [n for n, p in segmenter.named_parameters() if p.grad is None]
    # Some decoders leave the deepest layers of their encoder aside.
    assert all(name.startswith("body.encoder.") for name in without)
    grads = [p.grad for p in segmenter.parameters() if p.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("size", [(50, 70), (33, 32), (100, 41)])
def test_any_size_is_filled_up_and_cut_again(size):
    config = SegmentConfig(encoder="small")
    segmenter, _ = build_segmenter(config, max_value=255, size=size)
    with torch.no_grad():
        assert segmenter.eval()(torch.zeros(1, 1, *size)).shape[-2:] == size


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"decoder": "unett"}, "segment.decoder: 'unett' is unknown; nearest: unet"),
        ({"encoder": "resnet81"}, "segment.encoder: 'resnet81' is unknown; nearest: resnet"),
        ({"encoder": "tu-resnet81"}, "'tu-resnet81' is unknown; nearest: tu-resnet"),
        ({"decoder": "dpt", "encoder": "resnet18"}, "cannot be built"),
    ],
)
def test_what_is_unknown_or_does_not_go_together_is_refused_by_name(settings, words):
    config = SegmentConfig(pretrained=False, **settings)
    with pytest.raises(ConfigError, match=words):
        build_segmenter(config, max_value=255, size=SIZE)
