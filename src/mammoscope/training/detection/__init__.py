"""Detection of lesions: its rows, batches, losses and measures."""

from mammoscope.training.detection.plan import PLAN

__all__ = ["PLAN"]
