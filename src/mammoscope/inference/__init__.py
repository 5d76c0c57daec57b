"""From an exam's files to its result: no torch, no labels, one bundle."""

from mammoscope.inference.exam import read_exam
from mammoscope.inference.outlining import Candidate, MaskSettings, Outlined, Outliner
from mammoscope.inference.predictor import Predictor, load_bundle
from mammoscope.inference.scorer import ExamInput, ExamScores, Scorer, Scores
from mammoscope.inference.segmenter import Segmenter

__all__ = [
    "Candidate",
    "ExamInput",
    "ExamScores",
    "MaskSettings",
    "Outlined",
    "Outliner",
    "Predictor",
    "Scorer",
    "Scores",
    "Segmenter",
    "load_bundle",
    "read_exam",
]
