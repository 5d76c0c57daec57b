"""What happens around an epoch: history, best weights, checkpoints, a bar for people."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors.torch import save

from mammoscope.artefacts import write_atomically
from mammoscope.training.learning import LearningTask, Measure
from mammoscope.training.loading import DataClock

__all__ = ["AtomicCheckpoints", "BestWeights", "EpochBar", "History", "Patience"]

# The loss of validation, where a task measures it.
_LOSS = "val_loss"


class History(Callback):
    """Writes a row per epoch to ``history.csv``; rows of an earlier part are kept.

    ``waiting`` is the share of the epoch's seconds in which there was no batch to work on.

    Args:
        path: The file.
        measured: Columns that the task logs.
        told: Called with each row.
    """

    def __init__(
        self,
        path: Path,
        measured: Sequence[str],
        told: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self._path = path
        self._measured = tuple(measured)
        self._told = told
        self._begun = 0.0
        #: To be the trainer's profiler.
        self.clock = DataClock()
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        del trainer, pl_module
        self._begun = time.perf_counter()
        self.clock.waited_s = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row and write the file anew."""
        del pl_module
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row: dict[str, float] = {name: metrics[name] for name in self._measured if name in metrics}
        seconds = time.perf_counter() - self._begun
        row |= {
            "epoch": trainer.current_epoch,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(seconds, 2),
            "waiting": round(self.clock.waited_s / seconds, 4),
        }
        self.rows.append(row)
        if not trainer.is_global_zero:
            return
        with write_atomically(self._path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["epoch", *self._measured, "lr", "seconds", "waiting"])
            writer.writeheader()
            writer.writerows(self.rows)
        if self._told is not None:
            self._told(dict(row))

    @property
    def seconds(self) -> float:
        """Of all epochs."""
        return sum(row["seconds"] for row in self.rows)

    @property
    def waiting(self) -> float:
        """Share of them in which there was no batch to work on."""
        return sum(row["seconds"] * row["waiting"] for row in self.rows) / max(self.seconds, 1e-9)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of the part before."""
        self.rows = list(state_dict["rows"])


class BestWeights(Callback):
    """Keeps the weights of the best epoch of validation as safetensors.

    Args:
        path: The file.
        measure: What makes an epoch the best.
        metadata: What the file says of itself; see :func:`origin_metadata`.
    """

    def __init__(
        self, path: Path, measure: Measure, metadata: dict[str, str] | None = None
    ) -> None:
        self._path = path
        self._measure = measure
        self._metadata = metadata
        self.value: float | None = None
        self.loss = math.inf
        self.epoch = -1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights where this epoch is the best so far.

        Of epochs that measure alike, as an easy task's at 1, the one of lower loss is better.
        """
        value = float(trainer.callback_metrics[self._measure.column])
        loss = float(trainer.callback_metrics.get(_LOSS, math.inf))
        better = self._measure.better(value, self.value)
        if trainer.sanity_checking or not (better or (value == self.value and loss < self.loss)):
            return
        if not isinstance(pl_module, LearningTask):
            raise TypeError(f"BestWeights serves LearningTask, not {type(pl_module)}")
        self.value, self.loss, self.epoch = value, loss, trainer.current_epoch
        if not trainer.is_global_zero:
            return
        weights = {k: v.contiguous() for k, v in pl_module.scored.state_dict().items()}
        with write_atomically(self._path) as temporary:
            temporary.write_bytes(save(weights, self._metadata))

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, for the checkpoint."""
        return {"value": self.value, "loss": self.loss, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best of the part before."""
        self.value, self.epoch = state_dict["value"], int(state_dict["epoch"])
        # Checkpoints of earlier versions have none.
        self.loss = state_dict.get("loss", math.inf)


class Patience(EarlyStopping):
    """Stops when validation has not become better for some epochs.

    A run that was killed between its last epoch and its record has nothing left to do when
    it is resumed; Lightning's own class would train one more epoch before it noticed.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where patience had run out before."""
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear whole or not at all.

    Lightning's own are written to the system's folder for temporary files and moved, which
    is a copy where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside, then rename."""
        del storage_options
        data = io.BytesIO()
        torch.save(checkpoint, data)
        with write_atomically(Path(path)) as temporary:
            # Written by Python: torch's own error of a full disk is no OSError.
            temporary.write_bytes(data.getbuffer())


class EpochBar(Callback):
    """A bar over all steps of all epochs, with the last epoch's measures beside it.

    Where nobody sees a bar, as in a log file, a line per epoch takes its place.

    Args:
        measure: What is told of validation.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        console = self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]train[/] {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("epoch 1", total=None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar."""
        del pl_module
        total = int(trainer.estimated_stepping_batches)
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        done = trainer.global_step
        self._progress.update(self._task, description=text, total=total, completed=done)
        self._progress.start()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar."""
        del pl_module, outputs, batch, batch_idx
        self._progress.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how the epoch went."""
        del pl_module
        metrics = trainer.callback_metrics
        text = (
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} "
            f"loss {float(metrics['train_loss']):.3f} "
            f"{self._measure.title} {float(metrics[self._measure.column]):.3f}"
        )
        self._progress.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(f"train {text}", soft_wrap=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the bar, however training ended."""
        del trainer, pl_module, stage
        self._progress.stop()
