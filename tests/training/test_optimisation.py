from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from mammoscope.config import ModelConfig, TrainConfig, load_config
from mammoscope.errors import CohortError, ConfigError
from mammoscope.models import Classifier, build_classifier, registry
from mammoscope.training import fit, loop, sampling
from mammoscope.training.optimisation import (
    build_optimizer,
    parameter_groups,
    recompute_activations,
)
from mammoscope.training.sampling import EpochSampler
from mammoscope.training.task import ClassificationTask


def built(name: str, **model) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig(backbone=name, pretrained=False, **model)
    return build_classifier(config, max_value=255, size=(64, 32))[0]


@pytest.mark.parametrize("name", ["baseline_cnn", "resnet10t", "test_vit", "test_convnext"])
def test_deeper_layers_learn_faster_and_what_lies_behind_the_backbone_at_the_full_rate(name):
    classifier = built(name, head=("conv",))
    config = TrainConfig(lr=1e-3, layer_decay=0.5)
    groups = parameter_groups(classifier, [], config)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(classifier.parameters()))
    behind = [*classifier.head.parameters(), *classifier.local_logits.parameters()]
    assert {rates[id(p)] for p in behind} == {1e-3}
    body = [rates[id(p)] for p in classifier.backbone.parameters()]
    assert max(body) == pytest.approx(0.5e-3)
    depths = classifier.backbone.depths()
    named = dict(classifier.backbone.named_parameters())
    assert depths.keys() == named.keys()
    first = min(depths, key=lambda key: depths[key])
    assert rates[id(named[first])] == pytest.approx(1e-3 * 0.5 ** (1 + max(depths.values())))
    assert len({round(rate, 12) for rate in body}) > 2
    # history.csv tells the rate of the first group.
    assert groups[0]["lr"] == 1e-3


def test_one_rate_for_all_makes_two_groups():
    groups = parameter_groups(built("resnet10t"), [], TrainConfig(lr=1e-3))
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 0.01), (1e-3, 0.0)]


def test_position_embeddings_do_not_decay():
    classifier = built("test_vit")
    groups = parameter_groups(classifier, [], TrainConfig())
    free = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert id(classifier.backbone.body.pos_embed) in free
    assert id(classifier.backbone.body.patch_embed.proj.weight) not in free


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        ({"optimizer": "adamw"}, torch.optim.AdamW, {}),
        ({"optimizer": "adam"}, torch.optim.Adam, {}),
        ({"optimizer": "sgd", "momentum": 0.8}, torch.optim.SGD, {"momentum": 0.8}),
        ({"optimizer": "sgd", "nesterov": True}, torch.optim.SGD, {"nesterov": True}),
    ],
)
def test_the_optimiser_is_the_configured_one(settings, kind, expected):
    config = TrainConfig(**settings)
    made = build_optimizer(parameter_groups(built("baseline_cnn"), [], config), config)
    assert type(made) is kind
    assert {key: made.defaults[key] for key in expected} == expected


@pytest.mark.parametrize(
    "settings", [["train.nesterov=true"], ["train.nesterov=true", "train.optimizer=adam"],
                 ["train.optimizer=sgd", "train.nesterov=true", "train.momentum=0"]],
)  # fmt: skip
def test_nesterov_without_momentum_is_refused(settings):
    with pytest.raises(ConfigError, match="nesterov=true needs"):
        load_config(None, settings)


def test_an_unknown_optimiser_is_refused_with_those_accepted():
    with pytest.raises(ConfigError, match=r"train\.optimizer.*'adamw', 'adam' or 'sgd'"):
        load_config(None, ["train.optimizer=lion"])


def test_the_label_is_no_auxiliary_target_and_none_is_named_twice():
    with pytest.raises(ConfigError, match="names biopsy, which is train"):
        load_config(None, ["model.auxiliary=[biopsy, view]", "train.label=biopsy"])
    with pytest.raises(ConfigError, match=r"model\.auxiliary: view more than once"):
        load_config(None, ["model.auxiliary=[view, view]"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_optimiser_learns_blobs(make_cohort, tmp_path, quick, optimizer):
    lr = {"sgd": 0.1, "adam": 3e-3}[optimizer]
    config = quick(epochs=8, batch_size=8, lr=lr, optimizer=optimizer)
    assert fit(make_cohort(52), tmp_path / "run", config).best > 0.9


def backbone(run) -> dict[str, torch.Tensor]:
    weights = load_file(run / "weights.safetensors")
    return {key: value for key, value in weights.items() if key.startswith("backbone.")}


def test_a_frozen_backbone_stays_as_it_is_with_its_running_statistics(cohort, tmp_path, quick):
    for epochs in (1, 3):
        result = fit(cohort, tmp_path / str(epochs), quick(epochs=epochs, frozen_epochs="all"))
    ours, theirs = (backbone(tmp_path / name) for name in ("1", "3"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert "frozen at random weights" in result.notes[0]


def test_a_backbone_is_let_go_after_its_frozen_epochs(cohort, tmp_path, quick):
    states = []
    original = ClassificationTask.on_train_batch_start

    def watch(self, batch, batch_idx):
        if batch_idx == 0:
            module = self.network.backbone
            norm = module.blocks[0].body[1]
            states.append((norm.training, norm.weight.requires_grad, norm.weight.clone()))
        original(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ClassificationTask, "on_train_batch_start", watch)
        fit(cohort, tmp_path / "run", quick(epochs=4, frozen_epochs=2))
    assert [state[:2] for state in states] == [(False, False)] * 2 + [(True, True)] * 2
    assert torch.equal(states[0][2], states[2][2])
    assert not torch.equal(states[2][2], states[3][2])


def test_accumulated_batches_make_one_step(cohort, tmp_path, quick):
    steps = []
    for accumulate in (1, 2):
        run = tmp_path / str(accumulate)
        fit(cohort, run, quick(epochs=2, batch_size=2, accumulate=accumulate, ema=0.5))
        last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        steps.append(last["global_step"])
    assert steps == [10, 6]


def test_the_average_moves_once_a_step_however_many_batches_that_takes():
    task = ClassificationTask(built("baseline_cnn"), TrainConfig(ema=0.9, accumulate=2), 1.0)
    task._trainer = SimpleNamespace(global_step=4, current_epoch=0)
    task.on_train_start()
    with torch.no_grad():
        task.network.local_logits.bias.add_(1.0)
    before = task.average.local_logits.bias.clone()
    task.on_train_batch_end(None, None, 0)
    assert torch.equal(task.average.local_logits.bias, before)
    task._trainer.global_step = 5
    task.on_train_batch_end(None, None, 1)
    assert not torch.equal(task.average.local_logits.bias, before)


@pytest.mark.parametrize("name", ["test_vit", "resnet10t"])
def test_recomputed_activations_give_the_same_gradients(name):
    image = torch.rand(2, 1, 64, 32) * 255
    gradients = []
    for recompute in (False, True):
        classifier = built(name, dropout=0.0).train()
        if recompute:
            recompute_activations(classifier, ModelConfig(backbone=name))
        classifier(image).logit.sum().backward()
        gradients.append(next(iter(classifier.backbone.parameters())).grad)
    assert torch.allclose(*gradients, atol=1e-6)


def test_what_a_network_cannot_do_is_said_before_anything_is_written(cohort, tmp_path, quick):
    run = tmp_path / "run"
    with pytest.raises(ConfigError, match="baseline_cnn cannot recompute its activations"):
        fit(cohort, run, quick(gradient_checkpointing=True))
    model = ModelConfig(backbone="baseline_cnn", drop_path=0.2)
    with pytest.raises(ConfigError, match=r"model\.drop_path: baseline_cnn has none"):
        fit(cohort, run, quick().model_copy(update={"model": model}))
    with pytest.raises(ConfigError, match=r"train\.strategy=nonsense cannot be had"):
        fit(cohort, run, quick(strategy="nonsense"))
    assert not run.exists()


def test_a_backbone_is_not_frozen_at_weights_that_could_not_be_had(
    cohort, tmp_path, quick, monkeypatch
):
    monkeypatch.setattr(registry, "hub_fault", lambda: "no way out")
    model = ModelConfig(backbone="test_resnet")
    config = quick(frozen_epochs="all").model_copy(update={"model": model})
    with pytest.raises(ConfigError, match=r"frozen_epochs=all would.*no way out.*model\.weights"):
        fit(cohort, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_several_processes_have_a_batch_each_or_are_refused(cohort, tmp_path, quick):
    with pytest.raises(CohortError, match="shows 10 images, fewer than a batch of 6 for each of 2"):
        fit(cohort, tmp_path / "run", quick(devices=2, batch_size=6))
    assert not (tmp_path / "run").exists()


def test_processes_that_share_a_frozen_backbone_wait_for_no_gradients_of_it():
    assert loop._strategy(TrainConfig(devices=2, frozen_epochs=1)).startswith("ddp_find_unused")
    assert loop._strategy(TrainConfig(devices=2, strategy="fsdp", frozen_epochs=1)) == "fsdp"
    assert loop._strategy(TrainConfig(frozen_epochs="all")) == "auto"


def test_each_process_drops_channels_of_its_own(monkeypatch):
    task = ClassificationTask(built("baseline_cnn"), TrainConfig(seed=3), 1.0)
    drawn = []
    for rank in range(2):
        task._trainer = SimpleNamespace(global_step=5, global_rank=rank)
        task.on_train_batch_start(None, 0)
        drawn.append(torch.rand(4))
    assert not torch.equal(*drawn)


def test_drop_path_is_given_to_the_backbone_or_refused():
    skipping = built("test_vit", drop_path=0.3)
    found = [m.drop_prob for m in skipping.modules() if type(m).__name__ == "DropPath"]
    assert max(found) == pytest.approx(0.3)
    with pytest.raises(ConfigError, match=r"model\.drop_path: inception_v3 has no residual paths"):
        build_classifier(
            ModelConfig(backbone="inception_v3", pretrained=False, drop_path=0.1),
            max_value=255,
            size=(96, 96),
        )


def test_several_processes_share_the_batches_of_one_order(monkeypatch):
    labels = [1.0] * 13 + [0.0] * 38
    config = TrainConfig(batch_size=4, positives_per_batch=1)
    whole = list(EpochSampler(labels, config))
    shares = []
    for process in range(3):
        monkeypatch.setattr(sampling, "_process", lambda process=process: (process, 3))
        sampler = EpochSampler(labels, config)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == 16
    batches = [whole[i : i + 4] for i in range(0, 48, 4)]
    for process, share in enumerate(shares):
        assert [share[i : i + 4] for i in range(0, 16, 4)] == batches[process::3]
