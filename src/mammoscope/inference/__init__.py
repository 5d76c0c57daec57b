"""From an exam's files to its result: no torch, no labels, one bundle."""

from mammoscope.inference.anomaly import Anomalies, AnomalyScorer
from mammoscope.inference.cutouts import CutoutScorer, CutoutSettings, cut_out, cut_square
from mammoscope.inference.detector import Detector
from mammoscope.inference.exam import read_exam
from mammoscope.inference.outlining import (
    Candidate,
    MaskSettings,
    Outlined,
    Outliner,
    candidates_of,
)
from mammoscope.inference.predictor import Predictor, load_bundle
from mammoscope.inference.scorer import ExamInput, ExamScores, Scorer, Scores
from mammoscope.inference.segmenter import Segmenter

__all__ = [
    "Anomalies",
    "AnomalyScorer",
    "Candidate",
    "CutoutScorer",
    "CutoutSettings",
    "Detector",
    "ExamInput",
    "ExamScores",
    "MaskSettings",
    "Outlined",
    "Outliner",
    "Predictor",
    "Scorer",
    "Scores",
    "Segmenter",
    "candidates_of",
    "cut_out",
    "cut_square",
    "load_bundle",
    "read_exam",
]
