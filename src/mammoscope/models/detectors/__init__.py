"""Detectors of lesions: one contract, one registry."""

from mammoscope.models.detectors.contract import Candidates, Detector, Truth
from mammoscope.models.detectors.registry import DETECTORS, build_detector

__all__ = ["DETECTORS", "Candidates", "Detector", "Truth", "build_detector"]
