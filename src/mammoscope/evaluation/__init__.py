"""Measures from predictions alone; never a model."""

from mammoscope.evaluation.comparison import compare_runs, comparison_rows
from mammoscope.evaluation.run_folder import Report, read_report, run_evaluation_config
from mammoscope.evaluation.tasks import evaluate_run, summary_rows

__all__ = [
    "Report",
    "compare_runs",
    "comparison_rows",
    "evaluate_run",
    "read_report",
    "run_evaluation_config",
    "summary_rows",
]
