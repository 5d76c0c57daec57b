"""Frozen configuration: defaults, then a YAML file, then ``--set key=value``.

Every model forbids unknown keys; an error names the key, what is accepted, and the
nearest valid name.
"""

from mammoscope.config.imaging import EligibilityConfig, IngestConfig, PreprocessConfig
from mammoscope.config.learning import (
    AugmentConfig,
    Config,
    EvaluationConfig,
    ModelConfig,
    TrainConfig,
    load_config,
)
from mammoscope.config.loading import load_settings, validated
from mammoscope.config.tracking import TrackingConfig
from mammoscope.config.tuning import TuneConfig

__all__ = [
    "AugmentConfig",
    "Config",
    "EligibilityConfig",
    "EvaluationConfig",
    "IngestConfig",
    "ModelConfig",
    "PreprocessConfig",
    "TrackingConfig",
    "TrainConfig",
    "TuneConfig",
    "load_config",
    "load_settings",
    "validated",
]
