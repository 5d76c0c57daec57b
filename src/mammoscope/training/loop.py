"""Lightning's trainer as we use it: silent, without folders of its own, and interruptible."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint

from mammoscope.config import Config, TrainConfig
from mammoscope.errors import ConfigError
from mammoscope.processes import keep_memory
from mammoscope.training.callbacks import AtomicCheckpoints, History, Patience
from mammoscope.training.learning import LearningTask, Measure
from mammoscope.training.loading import Loader

__all__ = [
    "build_trainer",
    "last_checkpoint",
    "run_trainer",
    "with_precision",
]


def last_checkpoint(run: Path) -> Path:
    """Return where the checkpoint of the last whole epoch lies."""
    return run / "checkpoints" / "last.ckpt"


def with_precision(config: Config) -> Config:
    """Put this machine's number format in the place of ``auto``; a run records what it used."""
    if config.train.precision != "auto":
        return config
    if torch.cuda.is_available():
        quick = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Where it is emulated it is slower than 32 bits.
        # PyTorch below 2.10 does not say what the processor can do.
        able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        quick = bool(able.get("avx512_bf16"))
    precision = "bf16-mixed" if quick else "32-true"
    train = config.train.model_copy(update={"precision": precision})
    return config.model_copy(update={"train": train})


def build_trainer(
    run: Path,
    config: TrainConfig,
    history: History,
    measure: Measure,
    callbacks: list[lightning.Callback],
) -> lightning.Trainer:
    """Return the trainer of a run; nothing is written yet.

    Args:
        run: The run folder; checkpoints go to its ``checkpoints``.
        config: Optimisation.
        history: Keeps a row of each epoch.
        measure: What epochs are compared by.
        callbacks: More of what happens around an epoch; their state is checkpointed.

    Raises:
        ConfigError: If devices, nodes and strategy are not to be had here.
    """
    every: list[lightning.Callback] = [history, *callbacks]
    path = last_checkpoint(run)
    every.append(ModelCheckpoint(path.parent, filename=path.stem, enable_version_counter=False))
    if config.patience:
        mode = "max" if measure.higher_is_better else "min"
        every.append(Patience(measure.column, mode=mode, patience=config.patience))
    try:
        with _quiet():
            return lightning.Trainer(
                accelerator="auto",
                devices=config.devices,
                num_nodes=config.nodes,
                strategy=_strategy(config),
                # Our sampler deals batches to processes itself.
                use_distributed_sampler=False,
                accumulate_grad_batches=config.accumulate,
                max_epochs=config.epochs,
                precision="32-true" if config.precision == "auto" else config.precision,
                gradient_clip_val=config.gradient_clip or None,
                callbacks=every,
                plugins=[AtomicCheckpoints()],
                profiler=history.clock,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                default_root_dir=str(run),
            )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"train.devices={config.devices}, train.nodes={config.nodes}, "
            f"train.strategy={config.strategy} cannot be had on this machine: {reason}"
        ) from error


def _strategy(config: TrainConfig) -> str:
    """Return how processes share the work, in Lightning's words."""
    if config.strategy in ("auto", "ddp") and config.is_shared and config.frozen_epochs:
        # A frozen backbone has no gradients, for which plain ddp would wait.
        return "ddp_find_unused_parameters_true"
    return config.strategy


def run_trainer(
    trainer: lightning.Trainer,
    task: LearningTask,
    loaders: tuple[Loader, Loader],
    *,
    resume: Path | None,
) -> None:
    """Train to the last epoch or to the end of patience.

    Args:
        trainer: From :func:`build_trainer`.
        task: What is trained.
        loaders: Training and validation batches.
        resume: The checkpoint to go on from.

    Raises:
        KeyboardInterrupt: If it was stopped from the keyboard; the last epoch is kept.
    """
    keep_memory()
    with _quiet(), _interruptible():
        # A checkpoint is tensors and plain values; nothing in it is executed.
        checkpoint = str(resume) if resume else None
        trainer.fit(task, *loaders, ckpt_path=checkpoint, weights_only=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C through as what it is.

    Lightning turns it into an exit of the process and makes it ignore Ctrl-C from then on.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exiting:
        if not isinstance(exiting.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from None
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice; its errors stay."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
