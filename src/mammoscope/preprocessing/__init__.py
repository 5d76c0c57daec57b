"""From a file's pixels to the network's input, with the way back."""

from mammoscope.preprocessing.breast import BreastRegion, find_breast
from mammoscope.preprocessing.preprocessor import PreparedImage, Preprocessor
from mammoscope.preprocessing.reading import SourceImage, SourcePixels, read_pixels
from mammoscope.preprocessing.resample import Geometry

__all__ = [
    "BreastRegion",
    "Geometry",
    "PreparedImage",
    "Preprocessor",
    "SourceImage",
    "SourcePixels",
    "find_breast",
    "read_pixels",
]
