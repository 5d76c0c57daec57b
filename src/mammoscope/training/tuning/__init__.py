"""Search of settings with Optuna: a study of trials, each a run that validates and never tests."""

from mammoscope.training.tuning.study import Studied, tune

__all__ = ["Studied", "tune"]
