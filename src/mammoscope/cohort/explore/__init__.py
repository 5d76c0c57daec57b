"""What is in a cohort, before anyone trains on it: numbers, pictures, and biases in sentences."""

from mammoscope.cohort.explore.report import Exploration, explore

__all__ = ["Exploration", "explore"]
