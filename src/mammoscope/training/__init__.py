"""Training with Lightning: data, augmentation, loss, task, fit."""

from mammoscope.models import torchvision_compat

# Before the first import of Lightning, whose metrics import torchvision.
torchvision_compat.install()

from mammoscope.training.fit import (  # noqa: E402
    check_folds,
    check_start,
    fit,
    load_classifier,
    load_network,
)
from mammoscope.training.run_folder import (  # noqa: E402
    FitResult,
    check_run,
    fold_folder,
    read_run,
)

__all__ = [
    "FitResult",
    "check_folds",
    "check_run",
    "check_start",
    "fit",
    "fold_folder",
    "load_classifier",
    "load_network",
    "read_run",
]
