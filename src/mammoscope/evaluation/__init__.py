"""Measures from predictions alone; never a model."""

from mammoscope.evaluation.comparison import compare_runs, comparison_rows
from mammoscope.evaluation.lesions.comparison import (
    compare_lesions,
    finds_lesions,
    lesion_comparison_rows,
)
from mammoscope.evaluation.run_folder import Report, read_report, run_evaluation_config
from mammoscope.evaluation.tasks import evaluate_run, summary_rows

__all__ = [
    "Report",
    "compare_lesions",
    "compare_runs",
    "comparison_rows",
    "evaluate_run",
    "finds_lesions",
    "lesion_comparison_rows",
    "read_report",
    "run_evaluation_config",
    "summary_rows",
]
