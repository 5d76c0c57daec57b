"""Boxes through augmentation and tiles, and the whole path of a detector on a few discs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from fixtures.lesions import SIZE
from mammoscope.artefacts import read_json, sha256_file
from mammoscope.cohort.regions import Region, Regions, regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import AugmentConfig, Config, LesionsConfig, TileConfig
from mammoscope.errors import CohortError, ConfigError, RunError
from mammoscope.evaluation import evaluate_run
from mammoscope.export.detection import CANDIDATES_SCHEMA
from mammoscope.export.finish import finish_run
from mammoscope.inference.detector import Detector
from mammoscope.masks import encode
from mammoscope.models.detectors import Truth
from mammoscope.preprocessing import Geometry
from mammoscope.training import fit
from mammoscope.training.augment import AugmentParameters
from mammoscope.training.detection.data import LesionImages, WholeImages, collate
from mammoscope.training.fit import check_input
from mammoscope.training.sampling import Place
from mammoscope.types import Box

WHOLE = TileConfig()
STILL = AugmentConfig(flip_vertical=False, rotate_degrees=0, scale=0, shift=0, gamma=0, noise=0)


@pytest.fixture(scope="module")
def cohort(make_lesions):
    return make_lesions()


@pytest.fixture(scope="module")
def store(cohort):
    return PreparedStore(cohort)


@pytest.fixture(scope="module")
def regions(cohort, store):
    return regions_of(cohort, store, LesionsConfig())


def shown(store, regions, names, augment, tiles=WHOLE):
    return LesionImages(
        store, names, regions, (), max_value=255, tiles=tiles, augment=augment, seed=3
    )


def test_boxes_follow_the_discs_through_every_geometric_change(store, regions):
    names = [name for name in store if regions.of(name)]
    strong = AugmentConfig(
        flip_vertical=True, flip_horizontal=True, rotate_degrees=40, scale=0.2, shift=0.1,
        resized_crop=0.2, grid_distortion=0.2, gamma=0, noise=0,
    )  # fmt: skip
    images = shown(store, regions, names, strong)
    asked = 0
    for place in range(len(images)):
        batch = images[place]
        for box in batch.truths[0].boxes:
            x, y = ((box[:2] + box[2:]) / 2).long().tolist()
            # Discs are brighter than the noise around them, whatever was done.
            assert batch.images[0, 0, min(y, SIZE[0] - 1), min(x, SIZE[1] - 1)] > 150
            asked += 1
    assert asked > 0.7 * len(names)


def test_without_changes_boxes_are_those_of_the_findings(store, regions):
    names = [name for name in store if regions.of(name)]
    for image in (shown(store, regions, names, None), shown(store, regions, names, STILL)):
        for place, name in enumerate(names):
            (expected,) = regions.boxes(name)
            wanted = [expected.x_min, expected.y_min, expected.x_max, expected.y_max]
            (box,) = image[place].truths[0].boxes.tolist()
            assert np.abs(np.array(box) - wanted).max() <= 1


def one_lesion(mask, augment):
    """Return what training shows of one image that is black but for one lesion."""

    class Store:
        def read(self, _):
            return mask.astype(np.uint8) * 200

    ys, xs = np.nonzero(mask)
    box = Box(float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    seen = Geometry.fit(SIZE, (0, 0, SIZE[1], SIZE[0]), SIZE, mirrored=False)
    lesion = (Region("f", "i", None, None, box), encode(mask))
    return shown(Store(), Regions([lesion], SIZE, {"i": seen}), ["i"], augment)


def test_a_lesion_of_one_pixel_is_asked_for_wherever_it_moves():
    mask = np.zeros(SIZE, bool)
    mask[30, 16] = True
    images = one_lesion(mask, AugmentConfig(rotate_degrees=10, scale=0.1, shift=0.05, gamma=0))
    for epoch in range(20):
        batch = images[Place(0, epoch)]
        ((left, top, right, bottom),) = batch.truths[0].boxes.tolist()
        y, x = divmod(int(batch.images[0, 0].argmax()), SIZE[1])
        assert left <= x < right <= left + 2
        assert top <= y < bottom <= top + 2


@pytest.mark.parametrize(("rows", "asked"), [(slice(28, 40), 0), (slice(22, 38), 1)])
def test_what_a_resized_crop_mostly_cuts_away_is_not_asked_for_though_it_grew(rows, asked):
    """The upper half is enlarged to the whole: a third of the first lesion is left."""
    mask = np.zeros(SIZE, bool)
    mask[rows, 10:20] = True
    whole = Truth(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))
    upper_half = AugmentParameters(window=(0.0, 0.0, 0.5, 1.0))
    moved = one_lesion(mask, None)._moved("i", whole, upper_half)
    assert len(moved.boxes) == asked


def test_tiles_hold_lesions_as_often_as_asked_and_their_boxes_fit(store, regions):
    names = [name for name in store if regions.of(name)]
    tiles = TileConfig(size_px=32, lesion_share=1.0, per_image=4)
    images = shown(store, regions, names, None, tiles)
    assert len(images) == 4 * len(names)
    batch = collate([images[place] for place in range(len(images))])
    assert batch.images.shape == (len(images), 1, 32, 32)
    for tile, truth in zip(batch.images, batch.truths, strict=True):
        assert len(truth.boxes) == 1
        x_min, y_min, x_max, y_max = truth.boxes[0].long().tolist()
        assert 0 <= x_min < x_max <= 32
        assert tile[0, (y_min + y_max) // 2, (x_min + x_max) // 2] > 150


def test_validation_shows_every_tile_of_an_image(store, regions):
    tiles = TileConfig(size_px=32, overlap=0.25)
    whole = WholeImages(store, sorted(store)[:2], regions, (), tiles)
    batch = collate([whole[0], whole[1]])
    assert batch.images.shape == (6, 1, 32, 32)
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.corners[:3].tolist() == [[0, 0], [16, 0], [32, 0]]
    assert len(batch.truths) == 2


def config(**settings):
    values = {
        "task": "detect",
        "detect": {"most_candidates": 5, "score_floor": 0.001},
        "augment": {"rotate_degrees": 0},
        "train": {"epochs": 2, "batch_size": 4, "lr": 3e-3, "patience": 0, "seed": 1},
        "evaluation": {"bootstrap": 20},
    }
    for section, more in settings.items():
        values[section] = {**values.get(section, {}), **more}
    return Config.model_validate(values)


@pytest.mark.parametrize("side", [0, 32])
def test_from_images_to_candidates_whole_and_in_tiles(cohort, tmp_path, side):
    run = tmp_path / "run"
    fit(cohort, run, config(detect={"tiles": {"size_px": side}}), bar=False)
    facts = read_json(run / "run.json", RunError)
    assert facts["measure"]["name"] == "mean_sensitivity"
    assert facts["lesions"]["train"] > 0
    scored = finish_run(run, cohort)
    facts = read_json(run / "run.json", RunError)
    assert facts["status"] == "finished"
    for name, digest in facts["hashes"].items():
        assert sha256_file(run / name) == digest
    candidates = pl.read_parquet(run / "candidates.parquet")
    predictions = pl.read_parquet(run / "predictions.parquet")
    assert dict(candidates.schema) == CANDIDATES_SCHEMA
    assert predictions.height == scored
    assert predictions["image_id"].is_sorted()
    assert (candidates["x_max"] > candidates["x_min"]).all()
    assert candidates["x_max"].max() <= 64
    assert candidates["y_max"].max() <= 128
    best = candidates.filter(pl.col("candidate") == 0).select("image_id", best="score")
    both = predictions.join(best, on="image_id")
    np.testing.assert_allclose(both["score"], both["best"], atol=1e-6)
    assert Detector(run / "model.onnx").contract.tile_px == side
    assert "sensitivity_at_1" in str(evaluate_run(run).report)


def test_a_resumed_run_ends_as_an_uninterrupted_one(cohort, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(row):
        raise StoppedError

    whole, halved = tmp_path / "whole", tmp_path / "halved"
    fit(cohort, whole, config(), bar=False)
    with pytest.raises(StoppedError):
        fit(cohort, halved, config(), bar=False, progress=stop)
    fit(cohort, halved, config(), bar=False, resume=True)
    assert (whole / "weights.safetensors").read_bytes() == (
        halved / "weights.safetensors"
    ).read_bytes()


def test_a_cohort_without_findings_is_refused(make_cohort):
    with pytest.raises(CohortError, match=r"findings\.parquet"):
        check_input(make_cohort(), config(), 0)


def test_kinds_that_are_told_apart_must_be_named(cohort):
    with pytest.raises(ConfigError, match=r"lesions\.kinds=\[mass, calcification\]"):
        check_input(cohort, config(detect={"tell_kinds": True}), 0)


def test_folds_without_a_lesion_are_refused(cohort):
    with pytest.raises(CohortError, match="no finding"):
        check_input(cohort, config(lesions={"kinds": ["calcification"]}), 0)
