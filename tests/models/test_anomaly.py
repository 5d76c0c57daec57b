from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mammoscope.config import AnomalyConfig
from mammoscope.errors import ConfigError, RunError
from mammoscope.models.anomaly import ConvVae, PatchCore, build_anomaly
from mammoscope.models.anomaly.breast import breast_of, mean_in_cells, top_mean
from mammoscope.models.anomaly.error_maps import squared_error, structural_error
from mammoscope.models.anomaly.patchcore import chosen_patches
from mammoscope.models.anomaly.vae import PreActivationBlock, TermWeights

SIZE = (64, 32)


def test_the_rim_of_the_breast_is_left_out_and_neither_the_chest_wall_nor_a_hole():
    image = torch.zeros(1, 1, 40, 30)
    image[..., 10:30, :20] = 100.0
    image[..., 20, 10] = 0.0
    breast = breast_of(image, 4)[0, 0]
    assert breast[20, 0] == 1
    assert breast[20, 10] == 1
    rows, columns = torch.nonzero(breast, as_tuple=True)
    assert (rows.min(), rows.max(), columns.max()) == (14, 25, 15)


def test_cells_take_the_mean_over_their_breast_and_count_from_one_half_of_it():
    values = torch.tensor([[1.0, 3, 5, 9], [1, 3, 5, 9]])[None, None]
    breast = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])[None, None]
    means, counts = mean_in_cells(values, breast, 2)
    assert means.tolist() == [[[2.0, 0.0]]]
    assert counts.tolist() == [[[1.0, 0.0]]]
    breast[..., 0, 3] = 1.0
    means, counts = mean_in_cells(values, breast, 2)
    assert means.tolist() == [[[2.0, 7.0]]]


def test_the_score_is_the_mean_of_the_highest_share_of_the_breast():
    heat = torch.tensor([[[9.0, 7, 5, 3], [100, 100, 100, 100]]])
    counts = torch.tensor([[[1.0, 1, 1, 1], [0, 0, 0, 0]]])
    assert top_mean(heat, counts, 0.5).tolist() == [8.0]
    assert top_mean(heat, counts, 1.0).tolist() == [6.0]
    # At least one cell.
    assert top_mean(heat, counts, 0.01).tolist() == [9.0]
    assert top_mean(heat, counts * 0, 0.5).tolist() == [0.0]


def test_structure_is_alike_where_images_are_and_unlike_where_one_is_turned_over():
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    inner = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    assert structural_error(image, image)[inner].max() < 1e-4
    assert structural_error(image, 1 - image)[inner].mean() > 0.8
    # Of flat images the means alone count: (2 a b + c) / (a² + b² + c).
    flat = structural_error(torch.full_like(image, 0.2), torch.full_like(image, 0.6))[inner]
    alike = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert torch.allclose(flat, torch.tensor((1 - alike) / 2), atol=1e-3)
    assert squared_error(image, image + 0.1).mean() == pytest.approx(0.01)


def test_the_kl_term_is_that_of_normal_distributions():
    torch.manual_seed(0)
    model = ConvVae(max_value=255, width=4, latent_width=3).eval()
    image = torch.rand(2, 1, *SIZE) * 255
    heads: list[torch.Tensor] = []
    model.latent.register_forward_hook(lambda _m, _i, output: heads.append(output))
    made = model.rebuild(image)
    mean, log_variance = heads[0].chunk(2, dim=1)
    own = Normal(mean, torch.exp(log_variance / 2))
    expected = kl_divergence(own, Normal(torch.zeros(()), torch.ones(()))).sum(dim=1)
    torch.testing.assert_close(made.kl, expected)
    assert made.kl.shape == (2, 2, 1)


def test_the_block_normalises_before_it_convolves_and_its_shortcut_carries_no_norm():
    torch.manual_seed(0)
    block = PreActivationBlock(2, 4).eval()
    names = [name for name, _ in block.named_children()]
    assert names == ["first_norm", "first", "second_norm", "second", "shortcut"]
    image = torch.rand(1, 2, 8, 8)
    for convolution in (block.first, block.second):
        torch.nn.init.zeros_(convolution.weight)
    ready = torch.relu(block.first_norm(image))
    torch.testing.assert_close(block(image), block.shortcut(ready))


def test_terms_are_told_in_units_of_normal_images():
    torch.manual_seed(0)
    image = torch.rand(4, 1, *SIZE) * 255
    model = ConvVae(
        max_value=255, width=4, latent_width=3, top_share=1.0, weights=TermWeights(1, 2, 0, 3)
    ).eval()
    with torch.no_grad():
        model.set_units(model.terms(image).mean(dim=0))
        score = model(image).score.mean()
    # The mean over the breast of each term is its weight.
    assert float(score) == pytest.approx(6.0, rel=1e-4)


def test_a_brighter_spot_raises_the_score_of_an_autoencoder_at_its_place():
    torch.manual_seed(0)
    model = ConvVae(max_value=255, width=4, latent_width=3, weights=TermWeights(1, 0)).eval()
    image = torch.full((1, 1, *SIZE), 128.0)
    spotted = image.clone()
    spotted[..., 40:48, 8:16] = 255.0
    with torch.no_grad():
        plain, found = model(image), model(spotted)
    assert found.score > plain.score
    row, column = divmod(int(found.heatmap[0].argmax()), found.heatmap.shape[2])
    assert (row, column) in [(10, 2), (10, 3), (11, 2), (11, 3)]


def test_the_memory_takes_what_lies_farthest_from_what_it_has():
    cluster = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 0.01
    far = torch.tensor([[5.0, 0, 0], [0, 9, 0], [0, 0, 7]])
    chosen, left = chosen_patches(torch.cat([cluster, far]), 4, torch.Generator().manual_seed(1))
    assert {50, 51, 52} <= set(chosen.tolist())
    assert len(set(chosen.tolist())) == 4
    assert left < 0.02
    everything, left = chosen_patches(cluster, 80, torch.Generator())
    assert everything.tolist() == list(range(50))
    assert left == 0.0


def memory(bank_size: int = 30) -> PatchCore:
    torch.manual_seed(0)
    config = AnomalyConfig(method="patchcore", bank_size=bank_size, edge_px=0)
    model, notes = build_anomaly(config, max_value=255, size=SIZE)
    assert isinstance(model, PatchCore)
    assert "random" in notes[0]
    return model.eval()


def test_the_distance_is_that_to_the_nearest_patch_of_the_memory():
    model = memory()
    image = torch.rand(2, 1, *SIZE) * 255
    with torch.no_grad():
        found, _ = model.patches(image)
        model.remember(found[0].reshape(-1, found.shape[-1])[:50], torch.Generator())
        # Of another image: a distance of 0 would be rounding alone.
        other = found[1:]
        scaled = (other - model.offset) / model.scale
        apart = torch.cdist(scaled.reshape(-1, found.shape[-1]).double(), model.bank.double())
        nearest = model.distance(other).flatten().double()
        torch.testing.assert_close(nearest, apart.amin(dim=1), atol=1e-3, rtol=1e-3)
        assert model.distance(found[:1]).min() < 0.05


def test_a_memory_with_room_to_spare_repeats_what_it_has():
    model = memory(bank_size=30)
    patches = torch.rand(7, model.bank.shape[1])
    model.remember(patches, torch.Generator())
    assert model.bank.shape[0] == 30
    assert len(torch.unique(model.bank, dim=0)) == 7
    assert torch.isfinite(model(torch.rand(1, 1, *SIZE) * 255).score).all()


def test_features_of_a_classifiers_run_and_their_source_are_told(tmp_path):
    from safetensors.torch import save_file

    from mammoscope.config import ModelConfig
    from mammoscope.models import build_classifier

    torch.manual_seed(5)
    classifier, _ = build_classifier(ModelConfig(backbone="baseline_cnn"), max_value=255, size=SIZE)
    path = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in classifier.state_dict().items()}, path)
    config = AnomalyConfig(method="patchcore", weights=path)
    model, notes = build_anomaly(config, max_value=255, size=SIZE)
    assert isinstance(model, PatchCore)
    ours, theirs = model.features.backbone.state_dict(), classifier.backbone.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert str(path) in notes[0]
    assert "learnt from cancers" in notes[0]
    with pytest.raises(RunError, match="cannot be read"):
        build_anomaly(
            config.model_copy(update={"weights": tmp_path / "none"}), max_value=255, size=SIZE
        )


@pytest.mark.parametrize("backbone", ["baseline_cnn", "resnet10t", "test_vit"])
def test_stages_of_a_backbone_lie_on_the_first_ones_grid(backbone):
    config = AnomalyConfig(method="patchcore", backbone=backbone, layers=(0, 1))
    model, _ = build_anomaly(config, max_value=255, size=SIZE)
    assert isinstance(model, PatchCore)
    with torch.no_grad():
        finest, coarser = model.features.stages(torch.rand(1, 1, *SIZE))
        found, counts = model.eval().patches(torch.rand(1, 1, *SIZE) * 255)
    assert found.shape[1:3] == finest.shape[2:] == counts.shape[1:]
    assert found.shape[3] == finest.shape[1] + coarser.shape[1]
    # Frozen, and its running statistics too.
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.train().features.backbone.modules())


def test_stages_that_a_backbone_lacks_are_named():
    config = AnomalyConfig(method="patchcore", layers=(1, 7))
    with pytest.raises(ConfigError, match=r"anomaly.layers=\[1, 7\]"):
        build_anomaly(config, max_value=255, size=SIZE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "patchcore", "conditions": ["view"]}, "patchcore takes none"),
        ({"score_l2": 0, "score_ssim": 0}, "all 0"),
        ({"bank_candidates": 10}, "fewer than bank_size"),
        ({"specificities": []}, "at least one"),
        ({"layers": [1, 1]}, "twice"),
        ({"conditions": ["view", "view"]}, "twice"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AnomalyConfig.model_validate(values)
