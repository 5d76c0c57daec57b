"""The contract of every recipe and ladder in configs/: it is tested by lying there."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from mammoscope.config import Config, TuneConfig, load_config, load_ladder, rung_settings
from mammoscope.config.loading import load_settings
from mammoscope.models import build_classifier, build_multiview, check_backbone
from mammoscope.training.augment import apply, draw
from mammoscope.training.auxiliary import AuxiliaryHeads, encode, plan
from mammoscope.training.dataset import Reader
from mammoscope.training.multiview import MultiViewTask, PositiveWeights
from mammoscope.training.optimisation import check_optimisation, recompute_activations
from mammoscope.training.task import ClassificationTask
from mammoscope.training.tuning.space import base_config, check_space
from mammoscope.training.units import UnitBatch, UnitDataset, collate, group_units

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted((CONFIGS / "recipes").glob("*.yaml"))
LADDERS = sorted((CONFIGS / "ladders").glob("*.yaml"))
SPACES = sorted((CONFIGS / "spaces").glob("*.yaml"))
# The smallest input that every backbone takes: Inception's stem alone eats 75 pixels.
SIZE = (96, 96)
SMALL_SIZE = (48, 48)
# A small network of timm for each family, to overfit with in seconds.
SMALL = {
    "seresnext50_32x4d": "test_resnet",
    "deit3_base_patch16_384": "test_vit",
    "convnext_tiny": "test_convnext",
    "convnext_small": "test_convnext",
    "baseline_cnn": "baseline_cnn",
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small are quicker on one thread, and on a busy machine by far."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_exams(size: tuple[int, int], count: int = 8) -> tuple[torch.Tensor, pl.DataFrame]:
    """Images (N, 1, H, W), a bright disc in every other one, and rows with auxiliary columns."""
    rng = np.random.default_rng(0)
    images = rng.integers(20, 90, (count, 1, *size)).astype(np.float32)
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    for number in range(1, count, 2):
        centre = rng.integers(size[0] // 4, 3 * size[0] // 4, 2)
        near = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (size[0] / 6) ** 2
        images[number, 0, near] = 240
    rows = pl.DataFrame(
        {
            "cancer": [number % 2 for number in range(count)],
            "site_id": ["1", "2"] * (count // 2),
            "laterality": ["L", "R"] * (count // 2),
            "view": ["CC", "CC", "MLO", "MLO"] * (count // 4),
            "implant": [0, 0, 0, 1] * (count // 4),
            "biopsy": [0, 1] * (count // 2),
            "invasive": [0, 1, 0, None] * (count // 4),
            "birads": ["1", None, "2", None] * (count // 4),
            "density": ["A", "B", None, "C"] * (count // 4),
            "difficult_negative_case": [0, 0, 1, 0] * (count // 4),
            "machine_id": ["29", "48", None, "29"] * (count // 4),
            "age": [41.0, None, 63.5, 70.0] * (count // 4),
        }
    )
    return torch.from_numpy(images), rows


def task_of(config: Config, rows: pl.DataFrame, size: tuple[int, int]) -> ClassificationTask:
    torch.manual_seed(0)
    model = config.model.model_copy(update={"pretrained": False})
    joined = model.level != "image"
    network, notes = (build_multiview if joined else build_classifier)(
        model, max_value=255, size=size
    )
    assert notes == []
    looker = network.classifier if joined else network
    assert check_optimisation(looker, config.model, config.train) == ""
    if config.train.gradient_checkpointing:
        recompute_activations(looker, config.model)
    variables, left_out = plan(rows, config.model.auxiliary)
    assert left_out == []
    heads = AuxiliaryHeads(looker.channels, variables) if variables else None
    if joined:
        task = MultiViewTask(network, config.train, PositiveWeights(1.0, 1.0, 1.0), heads)
    else:
        task = ClassificationTask(network, config.train, 1.0, heads)
    task.log = lambda *_, **__: None
    task._trainer = SimpleNamespace(estimated_stepping_batches=200, current_epoch=0, global_step=0)
    return task


class Held:
    """Images by name, as a store gives them."""

    def __init__(self, images: dict[str, torch.Tensor]) -> None:
        self.images = images

    def read(self, image_id: str) -> np.ndarray:
        return self.images[image_id][0].numpy().astype(np.uint8)


def exams_of(config: Config, images, rows, places) -> UnitBatch:
    """Each image as the two views of one exam, batched as the loader does."""
    names = [f"{n}-{view}" for n in places for view in ("CC", "MLO")]
    table = rows[[n for n in places for _ in "12"]].with_columns(
        image_id=pl.Series(names),
        patient_id=pl.Series([name.partition("-")[0] for name in names]),
        view=pl.Series([name.partition("-")[2] for name in names]),
    )
    table = table.with_columns(exam_id="patient_id")
    held = Held({name: images[int(name.partition("-")[0])] for name in names})
    variables, _ = plan(rows, config.model.auxiliary)
    targets = dict(zip(names, encode(table, variables), strict=True)) if variables else None
    units = UnitDataset(
        Reader(held, max_value=255, augment=config.augment),
        group_units(table, config.model.level, "cancer"),
        targets,
        augment=config.augment,
    )
    return collate([units[n] for n in range(len(units))])


def rungs_of_other_networks() -> list[tuple[str, Config]]:
    """One rung for each backbone that no recipe has by itself, by name."""
    found: dict[str, Config] = {}
    own = {load_config(path).model.backbone for path in RECIPES}
    for path in LADDERS:
        ladder = load_ladder(path)
        for arm in ladder.arms:
            for place in range(len(ladder.rungs)):
                config, _ = rung_settings(ladder, arm, place)
                if config.model.backbone not in own:
                    found.setdefault(config.model.backbone, config)
    return sorted(found.items())


def batch_of(config: Config, images, rows, places) -> tuple[torch.Tensor, ...] | UnitBatch:
    """A batch as the loader makes it: changed images, labels, auxiliary targets."""
    if config.model.level != "image":
        return exams_of(config, images, rows, places)
    changed = [
        apply(images[n], draw(config.augment, torch.Generator().manual_seed(n)), 255.0)
        for n in places
    ]
    labels = torch.tensor(rows["cancer"].to_list(), dtype=torch.float32)[places]
    variables, _ = plan(rows, config.model.auxiliary)
    targets = [{"targets": encode(rows, variables)[places]}] if variables else []
    return torch.stack(changed), labels, *targets


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_trains_a_step_with_its_own_backbone(path):
    trains_a_step(load_config(path))


@pytest.mark.parametrize(
    "config", [pytest.param(c, id=name) for name, c in rungs_of_other_networks()]
)
def test_a_rung_trains_a_step_with_a_backbone_that_no_recipe_has(config):
    trains_a_step(config)


def test_the_ladders_have_the_published_networks():
    named = {name for name, _ in rungs_of_other_networks()}
    assert named == {"efficientnet_b0", "efficientnet_b4", "inception_v3", "resnet50"}


def trains_a_step(config: Config) -> None:
    size = tuple(side * config.model.shrink for side in SIZE)
    images, rows = small_exams(size)
    task = task_of(config, rows, size).train()
    optimizer = task.configure_optimizers()["optimizer"]
    before = task.looker.local_logits.weight.clone()
    loss = task.training_step(batch_of(config, images, rows, [2, 3]), 0)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert not torch.equal(task.looker.local_logits.weight, before)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_overfits_eight_exams(path):
    config = load_config(path)
    small = SMALL[config.model.backbone]
    # What keeps a network from overfitting is off; what is learnt, and how, is the recipe's.
    model = config.model.model_copy(update={"backbone": small, "dropout": 0.0, "drop_path": 0.0})
    train = config.train.model_copy(
        update={"gradient_checkpointing": False, "layer_decay": 1.0, "ema": 0.0}
    )
    config = config.model_copy(update={"model": model, "train": train})
    size = tuple(side * config.model.shrink for side in SMALL_SIZE)
    images, rows = small_exams(size)
    task = task_of(config, rows, size).train()
    optimizer = task.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:
        # Networks this small and at random need larger steps than large pretrained ones.
        group["lr"] = 3e-2 if train.optimizer == "sgd" else 2e-3
    batch = batch_of(config, images, rows, list(range(8)))
    for step in range(80):
        optimizer.zero_grad()
        task.training_step(batch, step).backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        if step % 5 == 4:
            with torch.no_grad():
                logits, labels = task.eval().judged(batch)
            task.train()
            if torch.equal((logits > 0).float(), labels):
                return
    pytest.fail(f"eight exams are not told apart after 80 steps: {logits.tolist()}")


@pytest.mark.parametrize("path", LADDERS, ids=lambda path: path.stem)
def test_every_rung_of_a_ladder_differs_from_the_one_below_it_and_every_arm_from_others(path):
    ladder = load_ladder(path)
    assert ladder.recipe in RECIPES or ladder.recipe.resolve() in RECIPES
    tops = []
    for arm in ladder.arms:
        configs = [rung_settings(ladder, arm, place) for place in range(len(ladder.rungs))]
        assert configs[-1] not in tops
        tops.append(configs[-1])
        for config, _ in configs:
            check_backbone(config.model.backbone)
        # Each rung differs from the one below it.
        for below, above in pairwise(configs):
            assert below != above


def test_the_top_of_the_ladder_is_the_recipe():
    ladder = load_ladder(CONFIGS / "ladders" / "umich.yaml")
    square = {"height": 384, "width": 384}
    for arm, name, size in (("cnn", "umich", {}), ("vit", "umich_vit", square)):
        top, prepare = rung_settings(ladder, arm, len(ladder.rungs) - 1)
        assert top == load_config(CONFIGS / "recipes" / f"{name}.yaml")
        assert prepare == {"crop": True, "mask": True, "orient": True, **size}


def test_every_recipe_says_where_it_is_from_and_how_to_prepare_for_it():
    for path in RECIPES:
        comment = path.read_text(encoding="utf-8").partition("model:")[0]
        assert "mammoscope prepare cohort --size" in comment, path
        assert f"--config configs/recipes/{path.name}" in comment, path


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_space_is_searched_around_a_recipe(path):
    tune = load_settings(TuneConfig, path)
    check_space(tune)
    assert base_config(tune) == load_config(CONFIGS / "recipes" / path.name)
