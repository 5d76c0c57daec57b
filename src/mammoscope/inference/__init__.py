"""From an exam's files to its result: no torch, no labels, one bundle."""

from mammoscope.inference.detector import Detector
from mammoscope.inference.exam import read_exam
from mammoscope.inference.predictor import Predictor, load_bundle
from mammoscope.inference.scorer import ExamInput, ExamScores, Scorer, Scores

__all__ = [
    "Detector",
    "ExamInput",
    "ExamScores",
    "Predictor",
    "Scorer",
    "Scores",
    "load_bundle",
    "read_exam",
]
