"""What every training task shares: seeds, averaged weights, a finite loss, rates, a measure."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mammoscope.config import TrainConfig
from mammoscope.errors import RunError
from mammoscope.training.optimisation import (
    build_optimizer,
    cosine_with_warmup,
    sorted_parameters,
)

__all__ = ["BatchLoss", "LearningTask", "Measure"]

# The averaged weights follow closely at first: the share kept is (1 + step) / (10 + step)
# until it reaches the configured decay, so that early epochs do not validate noise.
_AVERAGE_WARMUP = 10


@dataclass(frozen=True, slots=True)
class Measure:
    """What epochs are compared by, on validation.

    Attributes:
        name: As in ``history.csv``, after ``val_``.
        title: For people.
        higher_is_better: Whether the best epoch has the highest value.
    """

    name: str
    title: str
    higher_is_better: bool = True

    @property
    def column(self) -> str:
        """Its column of ``history.csv``."""
        return f"val_{self.name}"

    def better(self, value: float, than: float | None) -> bool:
        """Say whether a value beats the best so far, if there is one; NaN never does."""
        if value != value:
            return False
        if than is None:
            return True
        return value > than if self.higher_is_better else value < than


@dataclass(frozen=True, slots=True)
class BatchLoss:
    """The loss of a batch.

    Attributes:
        loss: What is minimised.
        count: How many images, breasts or exams it is of.
        told: Losses to be written down beside it, by column of ``history.csv``; where one is the
            ``train_loss`` it is told instead of the whole.
    """

    loss: Tensor
    count: int
    told: dict[str, Tensor] = field(default_factory=dict)


class LearningTask(lightning.LightningModule):
    """Trains one network; what is learnt from a batch, and how it is judged, is a subclass's.

    Args:
        network: What is trained.
        config: Rates, weights and schedule.
    """

    #: What epochs are compared by.
    measure: ClassVar[Measure]
    #: Columns of ``history.csv`` beside ``train_loss`` and the validation's.
    further_losses: ClassVar[tuple[str, ...]] = ()
    #: Names of what :meth:`measured` gives.
    measures: ClassVar[tuple[str, ...]]

    network: Any

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        # In the state dict, so that a resumed run goes on with the same average.
        self.average: Any = None
        if config.ema > 0:
            self.average = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self._averaged_step: int | None = None

    @property
    def scored(self) -> Any:
        """The weights that validate and are kept: the average where there is one."""
        return self.network if self.average is None else self.average

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the measured columns of ``history.csv``, in order."""
        return ("train_loss", *cls.further_losses, *(f"val_{name}" for name in cls.measures))

    def batch_loss(self, batch: Any) -> BatchLoss:
        """Return the loss of a training batch."""
        raise NotImplementedError

    def judge(self, batch: Any) -> None:
        """Look at a validation batch with :attr:`scored` and remember what :meth:`measured` needs.

        Called without gradients.
        """
        raise NotImplementedError

    def measured(self) -> dict[str, float]:
        """Return a value for each of :attr:`measures` over what was judged, and forget it."""
        raise NotImplementedError

    def groups(self) -> list[dict[str, Any]]:
        """Return groups of parameters for the optimiser, the full rate first."""
        return sorted_parameters(self._trained(), self.config)

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.network.named_parameters()  # type: ignore[no-any-return]

    def on_train_start(self) -> None:
        """Begin where the average stands."""
        self._averaged_step = self.trainer.global_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what layers draw (dropout) by the step, so that a resumed run draws alike.

        Of several processes each draws for itself.
        """
        del batch
        place = [self.config.seed, self.trainer.global_step]
        if self.config.accumulate > 1:
            place.append(batch_idx)
        process = (self.global_rank,) if self.global_rank else ()
        sequence = np.random.SeedSequence(place, spawn_key=process)
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Args:
            batch: As :meth:`batch_loss` takes it.
            batch_idx: Which batch of the epoch.

        Raises:
            RunError: If the loss is not finite; the last good checkpoint is kept.
        """
        made = self.batch_loss(batch)
        for name, value in ({"train_loss": made.loss} | made.told).items():
            self.log(name, value, on_step=False, on_epoch=True, batch_size=made.count)
        if not torch.isfinite(made.loss):
            raise RunError(
                f"the loss became {float(made.loss.detach())} in epoch {self.current_epoch}, "
                f"batch {batch_idx}; the last good checkpoint is kept. A lower train.lr, or "
                "train.precision=32-true, usually helps"
            )
        return made.loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the averaged weights towards the current ones."""
        del outputs, batch, batch_idx
        step = self.trainer.global_step
        # Where gradients accumulate, not every batch is a step.
        if self.average is None or step == self._averaged_step:
            return
        self._averaged_step = step
        kept = min(self.config.ema, (1 + step) / (_AVERAGE_WARMUP + step))
        with torch.no_grad():
            ours, theirs = self.average.state_dict(), self.network.state_dict()
            for name, value in ours.items():
                if value.dtype.is_floating_point:
                    value.lerp_(theirs[name], 1 - kept)
                else:
                    value.copy_(theirs[name])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge a batch of the validation set."""
        del batch_idx
        self.judge(batch)

    def on_validation_epoch_end(self) -> None:
        """Measure over the whole validation set."""
        for name, value in self.measured().items():
            self.log(f"val_{name}", value, batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser, with rates that rise over the warm-up and fall as a cosine."""
        optimizer = build_optimizer(self.groups(), self.config)
        total = int(self.trainer.estimated_stepping_batches)
        warmup = round(self.config.warmup * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine_with_warmup(step, total, warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
