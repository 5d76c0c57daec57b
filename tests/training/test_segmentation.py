from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional

from fixtures.lesions import SIZE
from mammoscope.cohort.findings import read_findings, write_findings
from mammoscope.cohort.regions import Region, Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import AugmentConfig, Config, LesionsConfig, SegmentConfig
from mammoscope.errors import CohortError, ConfigError
from mammoscope.inference import cut_out
from mammoscope.masks import encode
from mammoscope.models import build_segmenter
from mammoscope.training import fit, load_network
from mammoscope.training.augment import AugmentParameters, apply, apply_to_mask, draw
from mammoscope.training.sampling import Place
from mammoscope.training.segmentation.dataset import (
    LesionImages,
    LesionPatches,
    Patch,
)
from mammoscope.training.segmentation.losses import LOSSES, mask_loss
from mammoscope.training.segmentation.plan import PLAN
from mammoscope.training.segmentation.task import SegmentationTask, dice_around
from mammoscope.types import Box


@pytest.fixture(scope="module")
def cohort(make_lesions):
    return make_lesions()


@pytest.fixture(scope="module")
def store(cohort):
    return PreparedStore(cohort)


@pytest.fixture(scope="module")
def regions(cohort, store):
    return regions_of(cohort, store, LesionsConfig())


def configured(train=None, **segment):
    values = {"epochs": 2, "batch_size": 4, "lr": 3e-3, "patience": 0, "seed": 3, **(train or {})}
    return Config.model_validate(
        {
            "task": "segment",
            "segment": {"encoder": "small", "patch_px": 32, **segment},
            "train": values,
        }
    )


# --- losses -------------------------------------------------------------------------


def parts(share=0.5):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 8, 8)
    return logits, (torch.rand(2, 1, 8, 8) < share).float()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_with_what_is_right(name):
    config = SegmentConfig(losses={name: 1.0})
    _, truth = parts()
    values = [float(mask_loss((2 * truth - 1) * sure, truth, config)) for sure in (-9, 0, 1, 9)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.01


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_without_a_lesion(name):
    config = SegmentConfig(losses={name: 1.0})
    for level in (-50.0, 0.0, 50.0):
        logits = torch.full((2, 1, 8, 8), level, requires_grad=True)
        loss = mask_loss(logits, torch.zeros(2, 1, 8, 8), config)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


def test_losses_are_those_of_their_papers():
    logits, truth = parts()
    score = torch.sigmoid(logits)
    config = SegmentConfig(tversky_missed=0.8, focal_gamma=3.0, focal_alpha=0.6)
    both, one, other = (score * truth).sum(), score.sum(), truth.sum()
    assert LOSSES["dice"](logits, truth, config) == pytest.approx(
        float(1 - (2 * both + 2) / (one + other + 2)), abs=1e-6
    )
    missed, many = ((1 - score) * truth).sum(), (score * (1 - truth)).sum()
    assert LOSSES["tversky"](logits, truth, config) == pytest.approx(
        float(1 - (both + 1) / (both + 0.8 * missed + 0.2 * many + 1)), abs=1e-6
    )
    right = torch.where(truth == 1, score, 1 - score)
    alpha = torch.where(truth == 1, 0.6, 0.4)
    assert LOSSES["focal"](logits, truth, config) == pytest.approx(
        float((-alpha * (1 - right) ** 3 * right.log()).mean()), abs=1e-6
    )
    assert LOSSES["bce"](logits, truth, config) == pytest.approx(
        float(functional.binary_cross_entropy(score, truth)), abs=1e-6
    )


def test_a_small_lesion_counts_as_much_as_a_large_one_where_dice_is_of_images():
    config = SegmentConfig(losses={"image_dice": 1.0})
    truth, logits = torch.zeros(3, 1, 16, 16), torch.full((3, 1, 16, 16), -9.0)
    truth[0, :, 4:6, 4:6], truth[1, :, 2:14, 2:14] = 1, 1
    logits[1] = 18 * truth[1] - 9  # the large one is found, the small one is missed
    alone = [float(LOSSES["dice"](logits[i : i + 1], truth[i : i + 1], config)) for i in (0, 1)]
    assert mask_loss(logits, truth, config) == pytest.approx(sum(alone) / 2)
    assert LOSSES["dice"](logits, truth, config) < alone[0] / 10
    # What an image without a lesion shows is the other losses' affair.
    logits[2] = 9
    assert mask_loss(logits, truth, config) == pytest.approx(sum(alone) / 2)


def test_a_sum_of_losses_has_their_weights():
    logits, truth = parts()
    config = SegmentConfig(losses={"dice": 2.0, "focal": 0.5})
    expected = (
        2 * LOSSES["dice"](logits, truth, config) + LOSSES["focal"](logits, truth, config) / 2
    )
    assert mask_loss(logits, truth, config) == pytest.approx(float(expected))


# --- masks move with their images ---------------------------------------------------


def test_a_mask_moves_as_its_image_does():
    """The bright disc of the changed image is where the changed mask says."""
    config = AugmentConfig(
        rotate_degrees=40, scale=0.2, shift=0.1, elastic=0.02, flip_horizontal=True, gamma=0,
        resized_crop=0.2, grid_distortion=0.2,
    )  # fmt: skip
    y, x = np.mgrid[0:96, 0:64]
    disc = torch.from_numpy((y - 40) ** 2 + (x - 36) ** 2 < 144)[None]
    for seed in range(8):
        drawn = draw(config, torch.Generator().manual_seed(seed))
        image = apply(disc.float() * 255, drawn, 255.0) > 127
        mask = apply_to_mask(disc.to(torch.uint8) * 3, drawn)
        assert mask.dtype == torch.uint8
        assert set(mask.unique().tolist()) <= {0, 3}
        assert (image == (mask > 0)).float().mean() > 0.99


def test_what_is_cut_away_is_no_lesion_and_what_a_hole_hides_is():
    mask = torch.ones(1, 20, 10, dtype=torch.uint8)
    cut = apply_to_mask(mask, AugmentParameters(kept=(0.5, 0.0, 1.0, 1.0)))
    assert cut[:, :10].sum() == 0
    assert cut[:, 10:].all()
    hidden = apply_to_mask(mask, AugmentParameters(holes=((0.0, 0.0, 0.5, 0.5),)))
    assert hidden.all()


# --- data ---------------------------------------------------------------------------


def test_a_whole_image_comes_with_its_lesions(store, regions):
    images = LesionImages(store, ["i000", "i001"], regions, max_value=255)
    healthy, sick = images[0], images[1]
    assert sick[0].shape == sick[1].shape == (1, *SIZE)
    assert (sick[0].dtype, sick[1].dtype) == (torch.float32, torch.uint8)
    assert healthy[1].sum() == 0
    assert (sick[0][sick[1] > 0] == 220).float().mean() > 0.95
    assert (sick[0][sick[1] == 0] < 100).all()


@pytest.mark.parametrize("kind", ["images", "patches"])
def test_randomness_depends_on_seed_epoch_and_place_alone(store, regions, kind):
    def made(seed):
        changes = {"max_value": 255, "augment": AugmentConfig(), "seed": seed}
        if kind == "images":
            return LesionImages(store, ["i001", "i002"], regions, **changes)
        patches = [Patch("i001", regions.boxes("i001")[0]), Patch("i002", None)]
        return LesionPatches(store, patches, regions, side_px=32, **changes)

    images, again, other = made(1), made(1), made(2)
    for item in (0, 1):
        first = images[Place(item, 3)]
        assert all(torch.equal(a, b) for a, b in zip(first, again[Place(item, 3)], strict=True))
        for place in (Place(item, 4), Place(item, 3, 1)):
            assert not torch.equal(first[0], images[place][0])
        assert not torch.equal(first[0], other[Place(item, 3)][0])


def test_a_patch_around_a_lesion_holds_it_and_one_of_tissue_lies_anywhere(store, regions):
    patches = [Patch("i001", regions.boxes("i001")[0]), Patch("i001", None)]
    plain = LesionPatches(store, patches, regions, side_px=32, max_value=255)
    image, labels = plain[0]
    assert image.shape == labels.shape == (1, 32, 32)
    assert labels.sum() == regions.union("i001").sum()
    ys, xs = np.nonzero(labels[0].numpy())
    assert abs(ys.mean() + 0.5 - 16) < 1.5
    assert abs(xs.mean() + 0.5 - 16) < 1.5
    turned = LesionPatches(
        store, patches, regions, side_px=32, max_value=255, augment=AugmentConfig()
    )
    shown = [turned[Place(0, epoch)] for epoch in range(6)]
    assert all(labels.any() for _, labels in shown)
    assert all(image.shape == (1, 32, 32) for image, _ in shown)
    # Tissue: the middle of each is not black.
    assert all(plain[Place(1, epoch)][0][0, 15:17, 15:17].max() > 0 for epoch in range(6))


def test_what_lies_beyond_an_image_is_black():
    pixels = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(cut_out(pixels, -1, 2, 3), [[0, 0, 0], [3, 4, 0], [7, 8, 0]])
    assert not cut_out(pixels, 10, 10, 2).any()
    assert not cut_out(pixels, -5, -5, 2).any()


def test_the_smaller_of_two_lesions_lies_on_top():
    size = (8, 8)
    large, small = np.zeros(size, bool), np.zeros(size, bool)
    large[1:7, 1:7] = True
    small[3:5, 3:5] = True
    made = [
        (Region(name, "i", None, None, Box(0, 0, 1, 1)), encode(mask))
        for name, mask in (("small", small), ("large", large))
    ]
    labels = Regions(made, size, {}).labels("i")
    np.testing.assert_array_equal(labels == 1, small)
    np.testing.assert_array_equal(labels == 2, large & ~small)


# --- what is checked before training ------------------------------------------------


def checked(store, fold=0, **settings):
    return PLAN.check(store, store.rows(), fold, configured(**settings))


def test_an_unknown_decoder_or_fold_is_refused(store):
    with pytest.raises(ConfigError, match=r"segment.decoder: 'nonet'"):
        checked(store, encoder="resnet18", decoder="nonet")
    with pytest.raises(ConfigError, match="fold 7 is not"):
        checked(store, fold=7)


def test_a_fold_without_a_lesion_is_refused(make_lesions):
    # Images 0 to 2 are of fold 0, image 3 alone of fold 1: it has none.
    few = PreparedStore(make_lesions(images=6, held_out=2))
    with pytest.raises(CohortError, match="none of the 1 validation images of fold 1 has a lesion"):
        checked(few, fold=1)


def test_images_whose_lesions_nobody_places_are_not_learnt_from(make_lesions):
    cohort = make_lesions()
    findings = read_findings(cohort)
    # One to learn from, and one that is held out.
    unplaced = pl.col("image_id").is_in(["i001", "i016"])
    write_findings(cohort, findings.filter(~unplaced).to_dicts())
    store, config = PreparedStore(cohort), configured()
    parts = PLAN.check(store, store.rows(), 1, config)
    assert "i001" not in parts["train"]["image_id"]
    assert "i000" in parts["train"]["image_id"]
    notes = PLAN.make(store, parts, config, fresh=True).notes
    assert any(note.startswith("1 images left out of training and valid") for note in notes)


@pytest.mark.parametrize(("share", "tissue"), [(1.0, 0), (0.8, 1), (0.5, 4), (0.2, 16)])
def test_patches_are_mixed_in_their_shares(store, share, tissue):
    # However whole images would be drawn.
    train = {"sampling": "undersample", "keep_negatives": 0.1}
    config = configured(train, train_on="patches", lesion_share=share)
    parts = PLAN.check(store, store.rows(), 0, config)
    made = PLAN.make(store, parts, config, fresh=True)
    lesions = sum(parts["train"]["cancer"])
    images = made.loaders[0].dataset
    shown = [place.item for place in made.loaders[0].sampler]
    assert lesions == 4
    assert sorted(item for item in shown if item < lesions) == [0, 1, 2, 3]
    assert len([item for item in shown if item >= lesions]) == tissue
    assert all(images[item][1].any() for item in shown if item < lesions)
    # As many of tissue as around lesions are validated on, whatever the share.
    assert len(made.loaders[1].dataset) == 2 * sum(parts["val"]["cancer"])
    assert made.facts["lesions"] == {"used": 12, "faults": {}, "dropped": []}


# --- Dice ---------------------------------------------------------------------------


def test_a_lesion_is_judged_in_a_window_around_it():
    lesion = np.zeros((40, 40), bool)
    lesion[10:20, 10:20] = True
    mask = lesion.copy()
    assert dice_around(mask, lesion, 0.5) == 1
    mask[15:20] = False
    assert dice_around(mask, lesion, 0.5) == pytest.approx(2 * 50 / 150)
    # Within the window a mark counts, beyond it does not.
    mask[24] = True
    assert dice_around(mask, lesion, 0.5) == pytest.approx(2 * 50 / (150 + 20))
    mask[30:] = True
    assert dice_around(mask, lesion, 0.5) == pytest.approx(2 * 50 / (150 + 20))


def test_what_a_patch_shows_a_part_of_is_judged_in_a_patch_of_its_own():
    task = SegmentationTask(
        build_segmenter(SegmentConfig(encoder="small"), max_value=255, size=(32, 32))[0],
        configured().train,
        SegmentConfig(encoder="small", train_on="patches", patch_px=32),
        margin=0.5,
    )
    labels = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    labels[..., 10:20, 10:40] = 1  # around it, though it runs out
    labels[..., 28:, :6] = 2  # of another
    labels[..., 2:6, 2:6] = 3  # of another, and whole
    with torch.no_grad():
        task.judge((torch.zeros(1, 1, 32, 32), labels))
    assert len(task._dice) == 2
    measured = task.measured()
    assert set(measured) == set(task.measures)
    assert measured["found"] in (0.0, 0.5, 1.0)


# --- training -----------------------------------------------------------------------


def test_a_resumed_run_equals_an_uninterrupted_one(make_lesions, tmp_path, monkeypatch):
    cohort = make_lesions(18)
    config = configured(train={"epochs": 3}, train_on="patches")

    def stop(row):
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    whole = fit(cohort, tmp_path / "whole", config, bar=False)
    with pytest.raises(KeyboardInterrupt):
        fit(cohort, tmp_path / "parts", config, bar=False, progress=stop)
    parts = fit(cohort, tmp_path / "parts", config, bar=False, resume=True)
    assert parts.best == whole.best
    first, second = (load_network(tmp_path / name)[0] for name in ("whole", "parts"))
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
