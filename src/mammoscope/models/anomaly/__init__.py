"""Models of normal images: what is unlike them is an anomaly."""

from mammoscope.models.anomaly.contract import AnomalyModel, AnomalyOutput
from mammoscope.models.anomaly.patchcore import PatchCore
from mammoscope.models.anomaly.registry import ANOMALY_MODELS, build_anomaly
from mammoscope.models.anomaly.vae import CELL, ConvVae

__all__ = [
    "ANOMALY_MODELS",
    "CELL",
    "AnomalyModel",
    "AnomalyOutput",
    "ConvVae",
    "PatchCore",
    "build_anomaly",
]
