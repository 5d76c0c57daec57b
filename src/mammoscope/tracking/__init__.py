"""Runs in MLflow: settings, metrics by epoch, the report's figures, the model and its signature."""

from mammoscope.tracking.tracker import RECORD, Tracker, track_report, tracked, ui_command

__all__ = ["RECORD", "Tracker", "track_report", "tracked", "ui_command"]
