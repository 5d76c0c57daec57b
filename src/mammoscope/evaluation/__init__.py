"""Measures from predictions alone; never a model."""

from mammoscope.evaluation.report import (
    Report,
    evaluate_run,
    read_report,
    run_evaluation_config,
    summary_rows,
)

__all__ = ["Report", "evaluate_run", "read_report", "run_evaluation_config", "summary_rows"]
