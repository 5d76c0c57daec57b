"""Frozen configuration: defaults, then a YAML file, then ``--set key=value``.

Every model forbids unknown keys; an error names the key, what is accepted, and the
nearest valid name.
"""

from mammoscope.config.anomaly import AnomalyConfig
from mammoscope.config.augmentation import AugmentConfig
from mammoscope.config.detection import (
    DetectionConfig,
    DetectorName,
    MatchingConfig,
    TileConfig,
    ViewMatching,
)
from mammoscope.config.evaluation import EvaluationConfig
from mammoscope.config.exporting import EngineName, ExportConfig, Precision
from mammoscope.config.imaging import EligibilityConfig, IngestConfig, PreprocessConfig
from mammoscope.config.ladder import LadderConfig, Rung, load_ladder, rung_settings
from mammoscope.config.learning import (
    AuxiliaryName,
    Config,
    ModelConfig,
    Task,
    TrainConfig,
    check_many,
    load_config,
)
from mammoscope.config.lesions import FaultRule, LesionKind, LesionsConfig
from mammoscope.config.loading import load_settings, validated
from mammoscope.config.networks import network_of
from mammoscope.config.segmentation import CandidateScore, MaskLoss, SegmentConfig
from mammoscope.config.stages import CutoutClass, StagesConfig
from mammoscope.config.tracking import TrackingConfig
from mammoscope.config.tuning import TuneConfig

__all__ = [
    "AnomalyConfig",
    "AugmentConfig",
    "AuxiliaryName",
    "CandidateScore",
    "Config",
    "CutoutClass",
    "DetectionConfig",
    "DetectorName",
    "EligibilityConfig",
    "EngineName",
    "EvaluationConfig",
    "ExportConfig",
    "FaultRule",
    "IngestConfig",
    "LadderConfig",
    "LesionKind",
    "LesionsConfig",
    "MaskLoss",
    "MatchingConfig",
    "ModelConfig",
    "Precision",
    "PreprocessConfig",
    "Rung",
    "SegmentConfig",
    "StagesConfig",
    "Task",
    "TileConfig",
    "TrackingConfig",
    "TrainConfig",
    "TuneConfig",
    "ViewMatching",
    "check_many",
    "load_config",
    "load_ladder",
    "load_settings",
    "network_of",
    "rung_settings",
    "validated",
]
