from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mammoscope.config import ModelConfig, TrainConfig
from mammoscope.errors import RunError
from mammoscope.models import build_classifier
from mammoscope.training.callbacks import BestWeights
from mammoscope.training.optimisation import cosine_with_warmup
from mammoscope.training.task import ClassificationTask


@pytest.fixture
def task() -> ClassificationTask:
    torch.manual_seed(0)
    config = ModelConfig(backbone="baseline_cnn", dropout=0.0)
    classifier, _ = build_classifier(config, max_value=255, size=(64, 32))
    task = ClassificationTask(classifier, TrainConfig(lr=1e-3, ema=0.9), 1.0)
    task.log = lambda *_, **__: None
    return task


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [cosine_with_warmup(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)
    assert cosine_with_warmup(0, 100, 0) == 1


def test_it_overfits_eight_images(task, blob):
    labels = torch.tensor([0.0, 1.0] * 4)
    images = np.stack([blob(int(label), seed) for seed, label in enumerate(labels)])
    batch = torch.from_numpy(images)[:, None].float(), labels
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    for step in range(40):
        loss = task.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
    with torch.no_grad():
        logits = task.network.eval()(batch[0]).logit
    assert torch.equal((logits > 0).float(), labels)


def test_the_heatmap_of_an_overfitted_image_is_bright_where_the_disc_is(task, blob):
    images = np.stack([blob(seed % 2, seed) for seed in range(16)])
    batch = torch.from_numpy(images)[:, None].float(), torch.tensor([0.0, 1.0] * 8)
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    for step in range(40):
        optimizer.zero_grad()
        task.training_step(batch, step).backward()
        optimizer.step()
    with torch.no_grad():
        heatmaps = task.network.eval()(batch[0]).heatmap
    assert heatmaps[1::2].amax(dim=(1, 2)).min() > heatmaps[::2].amax(dim=(1, 2)).max()


def test_the_average_follows_closely_at_first_and_slowly_later(task):
    for step, kept in ((0, 0.1), (8, 0.5), (10_000, 0.9)):
        task._trainer = SimpleNamespace(global_step=step)
        before = copy.deepcopy(task.average.state_dict())
        with torch.no_grad():
            task.network.local_logits.bias.add_(1.0)
        task.on_train_batch_end(None, None, 0)
        name = "local_logits.bias"
        expected = kept * before[name] + (1 - kept) * task.network.state_dict()[name]
        assert torch.allclose(task.average.state_dict()[name], expected)
    assert task.scored is task.average
    assert not any(parameter.requires_grad for parameter in task.average.parameters())


def test_a_validation_logit_that_is_not_finite_is_an_error_and_never_a_score(task):
    task._trainer = SimpleNamespace(current_epoch=2)
    task._seen = [(torch.tensor([0.1, float("inf")]), torch.tensor([0.0, 1.0]))]
    with pytest.raises(RunError, match="validation logit is not finite in epoch 2"):
        task.on_validation_epoch_end()


def test_auroc_is_that_of_the_whole_set_and_leaves_unknown_labels_out(task):
    measured = {}
    task.log = lambda name, value, **_: measured.update({name: float(value)})
    # Ranked within batches this would be 1; over the whole set one pair is upside down.
    task._seen = [
        (torch.tensor([-3.0, -2.0]), torch.tensor([0.0, 1.0])),
        (torch.tensor([-1.0, 4.0, 9.0]), torch.tensor([0.0, 1.0, float("nan")])),
    ]
    task.on_validation_epoch_end()
    assert measured["val_auroc"] == pytest.approx(0.75)
    assert task._seen == []


def test_norms_and_biases_do_not_decay(task, monkeypatch):
    monkeypatch.setattr(
        ClassificationTask, "trainer", SimpleNamespace(estimated_stepping_batches=10)
    )
    made = task.configure_optimizers()
    decayed, free = made["optimizer"].param_groups
    assert decayed["weight_decay"] > 0 == free["weight_decay"]
    assert all(parameter.ndim == 4 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in free["params"])
    count = len(decayed["params"]) + len(free["params"])
    assert count == len(list(task.network.parameters()))


def test_of_epochs_that_measure_alike_the_one_of_lower_loss_is_kept(task, tmp_path):
    best = BestWeights(tmp_path / "weights.safetensors", task.measure)
    epochs = [(0.8, 0.9), (1.0, 0.6), (1.0, 0.7), (1.0, 0.5), (0.9, 0.1), (float("nan"), 0.0)]
    kept = []
    for number, (area, loss) in enumerate(epochs):
        metrics = {"val_auroc": torch.tensor(area), "val_loss": torch.tensor(loss)}
        trainer = SimpleNamespace(
            callback_metrics=metrics,
            sanity_checking=False,
            current_epoch=number,
            is_global_zero=True,
        )
        best.on_validation_end(trainer, task)
        kept.append(best.epoch)
    assert kept == [0, 1, 1, 3, 3, 3]
    again = BestWeights(tmp_path / "weights.safetensors", task.measure)
    again.load_state_dict(best.state_dict())
    assert (again.value, again.epoch) == (1.0, 3)
    assert again.loss == pytest.approx(0.5)
