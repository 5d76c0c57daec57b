"""Anomaly detection: cancer-free images alone, an autoencoder that learns them or a memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl
import torch
from torch import Tensor

from mammoscope.bundle import density_code, projection_code
from mammoscope.cohort.manifest import LABEL_COLUMNS
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import AnomalyConfig, Config, PreprocessConfig, TrainConfig
from mammoscope.errors import CohortError, ConfigError, RunError
from mammoscope.models import check_backbone
from mammoscope.models.anomaly import CELL, AnomalyModel, ConvVae, PatchCore, build_anomaly
from mammoscope.training.dataset import ImageDataset, Reader
from mammoscope.training.learning import BatchLoss, LearningTask, Measure
from mammoscope.training.loading import Loader
from mammoscope.training.sampling import EpochSampler
from mammoscope.training.tasks import (
    CLASSIFIERS_ONLY,
    Made,
    Parts,
    TaskPlan,
    refuse_settings,
    split_parts,
)

__all__ = ["PLAN", "AutoencoderTask", "MemoryTask", "condition_codes"]

_CODES = {"view": projection_code, "density": density_code}
_NAMED = 3
# Seeds of the memory's draws lie apart from those of other randomness of a run.
_MEMORY = 7


class AutoencoderTask(LearningTask):
    """Trains the autoencoder: squared error within the breast, and a KL term that warms up.

    Args:
        network: The autoencoder.
        config: Rates and schedule.
        anomaly: Weight of the KL term.
    """

    measure = Measure("psnr", "PSNR of normal images in dB")
    measures: ClassVar[tuple[str, ...]] = ("psnr", "loss", "kl")
    further_losses: ClassVar[tuple[str, ...]] = ("train_error", "train_kl")

    def __init__(self, network: ConvVae, config: TrainConfig, anomaly: AnomalyConfig) -> None:
        super().__init__(network, config)
        self._anomaly = anomaly
        self._seen: list[tuple[Tensor, Tensor]] = []

    def kl_weight(self) -> float:
        """Return the KL term's weight at this step: it rises linearly to its full value.

        Source: Bowman et al., Generating Sentences from a Continuous Space, CoNLL 2016 (annealing).
        """
        rise = self._anomaly.kl_warmup * float(self.trainer.estimated_stepping_batches)
        share = 1.0 if rise < 1 else min(1.0, self.trainer.global_step / rise)
        return self._anomaly.kl_weight * share

    def batch_loss(self, batch: Any) -> BatchLoss:
        """Return the loss of a batch.

        Args:
            batch: Images (B, 1, H, W), labels that are not used and, with conditions, a dictionary
                with their codes as ``targets`` (B, conditions).
        """
        images, _, *told = batch
        error, kl = (
            part.mean() for part in self.network.loss_terms(images, *_codes(told), sample=True)
        )
        beside = {"train_error": error.detach(), "train_kl": kl.detach()}
        return BatchLoss(error + self.kl_weight() * kl, len(images), beside)

    def judge(self, batch: Any) -> None:
        """Rebuild a batch of normal images from the latent means."""
        images, _, *told = batch
        error, kl = self.scored.loss_terms(images, *_codes(told), sample=False)
        self._seen.append((error.float().cpu(), kl.float().cpu()))

    def measured(self) -> dict[str, float]:
        """Measure over all normal validation images; the KL term counts in full."""
        error, kl = (torch.cat(part).mean() for part in zip(*self._seen, strict=True))
        self._seen.clear()
        if not (torch.isfinite(error) and torch.isfinite(kl)):
            raise RunError(
                f"a validation error is not finite in epoch {self.current_epoch}; "
                "the last good checkpoint is kept"
            )
        return {
            "psnr": float(-10 * torch.log10(error.clamp(min=1e-12))),
            "loss": float(error + self._anomaly.kl_weight * kl),
            "kl": float(kl),
        }


class MemoryTask(LearningTask):
    """Fills PatchCore's memory in one pass over the images; nothing is descended.

    Args:
        network: The model.
        config: Seed; an average of weights means nothing here.
        candidates: Patches to draw of each image.
    """

    measure = Measure(
        "distance", "distance of normal images from the memory", higher_is_better=False
    )
    measures: ClassVar[tuple[str, ...]] = ("distance",)

    def __init__(self, network: PatchCore, config: TrainConfig, candidates: int) -> None:
        super().__init__(network, config.model_copy(update={"ema": 0.0}))
        self._candidates = candidates
        self._drawn: list[Tensor] = []
        self._seen: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(config.seed + _MEMORY)

    def on_train_start(self) -> None:
        """Do nothing more where the pass was made before the run was stopped."""
        super().on_train_start()
        if self.trainer.current_epoch:
            self.trainer.should_stop = True

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        """Draw candidates of each image of a batch; without a loss Lightning takes no step."""
        del batch_idx
        with torch.no_grad(), self._exact():
            found, counts = self.network.patches(batch[0])
        for patches, inside in zip(found.cpu(), counts.cpu(), strict=True):
            within = patches[inside > 0]
            order = torch.randperm(len(within), generator=self._generator)
            self._drawn.append(within[order[: self._candidates]])

    def on_validation_epoch_start(self) -> None:
        """Choose the memory from the candidates."""
        drawn = torch.cat(self._drawn)
        self._drawn.clear()
        if not len(drawn):
            raise RunError(
                "no patch of the training images lies within the breast: use a smaller "
                "anomaly.edge_px, or larger images"
            )
        with self._exact():
            left = self.network.remember(drawn.to(self.device), self._generator)
        self.log("train_loss", left, batch_size=1)

    def _exact(self) -> torch.autocast:
        """Compute in 32 bits whatever ``train.precision`` is: small distances drown in fewer."""
        return torch.autocast(self.device.type, enabled=False)

    def judge(self, batch: Any) -> None:
        """Score a batch of normal images."""
        with self._exact():
            self._seen.append(self.network(batch[0]).score.cpu())

    def measured(self) -> dict[str, float]:
        """Return the mean score; one pass is all there is."""
        score = torch.cat(self._seen).mean()
        self._seen.clear()
        self.trainer.should_stop = True
        return {"distance": float(score)}


def condition_codes(rows: pl.DataFrame, conditions: Sequence[str]) -> Tensor:
    """Return the codes of what a model is told of images, (N, conditions) int64."""
    columns = [[_CODES[name](value) for value in rows[name]] for name in conditions]
    return torch.tensor(columns, dtype=torch.int64).reshape(len(conditions), rows.height).T


def _codes(told: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """Return one tensor for each condition of a batch's codes, if there are any."""
    return [*told[0]["targets"].long().T] if told else []


def _check(store: PreparedStore, rows: pl.DataFrame, fold: int, config: Config) -> Parts:
    """Return train, val and test rows; nothing but normal images in the first two."""
    _check_settings(config)
    label, anomaly = config.train.label, config.anomaly
    parts = split_parts(rows, fold)
    cancers = parts["train"].filter(pl.col(label) == 1)
    if cancers.height and anomaly.cancers == "refuse":
        raise CohortError(
            f"{_counted(cancers, label)} are among the training images of fold {fold}, and an "
            "anomaly model learns from images without: take them out of the cohort, or set "
            "anomaly.cancers=leave_out"
        )
    for name, words in (("train", "training"), ("val", "validation")):
        normal = parts[name].filter(pl.col(label) == 0)
        if not normal.height:
            raise CohortError(
                f"none of the {parts[name].height} {words} images of fold {fold} is normal "
                f"({label}=0): {_left_out(parts[name], label) or 'there are none'}"
            )
        parts[name] = normal
    for name in anomaly.conditions:
        known = (parts["train"][name].is_not_null()).sum()
        if not known:
            raise CohortError(
                f"anomaly.conditions names {name}, which is unknown of all "
                f"{parts['train'].height} normal training images: leave it out"
            )
    _check_images(store.config, parts["train"], config)
    return parts


def _check_settings(config: Config) -> None:
    """Refuse settings that an anomaly model cannot obey."""
    label, anomaly = config.train.label, config.anomaly
    if label not in LABEL_COLUMNS:
        raise ConfigError(f"train.label is {label!r}; accepted: {', '.join(LABEL_COLUMNS)}")
    refuse_settings(config, *CLASSIFIERS_ONLY, "model.weights", "train.frozen_epochs")
    if anomaly.method == "patchcore" and config.train.is_shared:
        raise ConfigError(
            "patchcore fills one memory in one process: set train.devices=1 and train.nodes=1"
        )
    if anomaly.method == "patchcore" or anomaly.score_perceptual:
        check_backbone(anomaly.backbone)


def _check_images(preprocess: PreprocessConfig, rows: pl.DataFrame, config: Config) -> None:
    """Refuse images of which cells are parts, and batches of one cell, which have no variance."""
    anomaly = config.anomaly
    if anomaly.method != "vae":
        return
    size, step = (preprocess.height, preprocess.width), CELL * anomaly.shrink
    if any(side % step for side in size):
        raise ConfigError(
            f"the images are {size[0]} x {size[1]}, and cells of the error map {step} x {step}: "
            f"prepare images whose sides are multiples of {step}, or change anomaly.shrink"
        )
    cells = [-(-side // (32 * anomaly.shrink)) for side in size]
    if min(config.train.batch_size, rows.height) * cells[0] * cells[1] < 2:
        raise ConfigError(
            f"a batch of one image of {preprocess.height} x {preprocess.width} pixels has one "
            "latent cell, from which no mean can be learnt: use a larger train.batch_size, or "
            "more images"
        )


def _make(store: PreparedStore, parts: Parts, config: Config, *, fresh: bool) -> Made:
    """Make model, task and batches; notes say what was left out."""
    network, notes = _network(config, store.config, fresh=fresh)
    told, facts = _told_of_left_out(store, parts, config)
    loaders = (
        _loader(store, parts["train"], config, train=True),
        _loader(store, parts["val"], config, train=False),
    )
    task: LearningTask
    if isinstance(network, PatchCore):
        candidates = max(1, config.anomaly.bank_candidates // parts["train"].height)
        task = MemoryTask(network, config.train, candidates)
        notes = [*notes, "PatchCore fills its memory in one pass: train.epochs is not used"]
    elif isinstance(network, ConvVae):
        task = AutoencoderTask(network, config.train, config.anomaly)
    else:
        raise TypeError(f"nothing here trains a {type(network).__name__}")
    return Made(task, loaders, (*told, *notes), {"left_out": facts})


def _rebuild(config: Config, preprocess: PreprocessConfig) -> AnomalyModel:
    return _network(config, preprocess, fresh=False)[0]


def _network(
    config: Config, preprocess: PreprocessConfig, *, fresh: bool
) -> tuple[AnomalyModel, list[str]]:
    size = (preprocess.height, preprocess.width)
    return build_anomaly(config.anomaly, max_value=preprocess.max_value, size=size, fresh=fresh)


def _loader(store: PreparedStore, rows: pl.DataFrame, config: Config, *, train: bool) -> Loader:
    settings, conditions = config.train, config.anomaly.conditions
    # A memory is of images as they are.
    changes = train and config.anomaly.method == "vae"
    images = ImageDataset(
        Reader(
            store,
            max_value=store.config.max_value,
            augment=config.augment if changes else None,
            seed=settings.seed,
        ),
        rows["image_id"].to_list(),
        [0.0] * rows.height,
        condition_codes(rows, conditions) if conditions else None,
    )
    # All are of one class: there is nothing to balance.
    plain = settings.model_copy(update={"sampling": "all", "positives_per_batch": 0})
    sampler = EpochSampler([0.0] * rows.height, plain) if train else None
    return Loader(images, settings, sampler, keep_last=not changes)


def _told_of_left_out(
    store: PreparedStore, parts: Parts, config: Config
) -> tuple[list[str], dict[str, dict[str, int]]]:
    """Say which images of the training and the validation fold teach nothing, and count them."""
    label = config.train.label
    every = split_parts(store.rows(), int(parts["val"]["fold"][0]))
    sentences, counts = [], {}
    for name, words in (("train", "training"), ("val", "validation")):
        rows = every[name]
        counts[name] = {
            "cancer": rows.filter(pl.col(label) == 1).height,
            "unlabelled": rows[label].null_count(),
        }
        if left := _left_out(rows, label):
            why = "" if name == "train" else "; its thresholds are chosen on normal images alone"
            sentences.append(f"left out of the {words} images: {left}{why}")
    return sentences, counts


def _left_out(rows: pl.DataFrame, label: str) -> str:
    """Count and name the images that are not known to be normal; nothing where all are."""
    cancers, unknown = rows.filter(pl.col(label) == 1), rows.filter(pl.col(label).is_null())
    told = [_counted(cancers, label)] if cancers.height else []
    if unknown.height:
        told.append(f"{unknown.height} whose {label} is unknown (such as {_named(unknown)})")
    return ", ".join(told)


def _counted(rows: pl.DataFrame, label: str) -> str:
    return f"{rows.height} with {label}=1 (such as {_named(rows)})"


def _named(rows: pl.DataFrame) -> str:
    return ", ".join(str(name) for name in rows["image_id"].sort().head(_NAMED))


#: How anomaly models are learnt.
PLAN = TaskPlan(_check, _make, _rebuild)
