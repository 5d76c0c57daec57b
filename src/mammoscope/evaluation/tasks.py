"""Which module measures a run, by what the run was trained for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from mammoscope.config import EvaluationConfig, Task
from mammoscope.evaluation.pictures import Pictures
from mammoscope.evaluation.run_folder import Report, read_run, run_evaluation_config

__all__ = ["EVALUATORS", "Evaluator", "evaluate_run", "summary_rows"]

#: The module of each task with its ``evaluate`` and ``summary_rows``.
EVALUATORS: dict[Task, str] = {
    "classify": "mammoscope.evaluation.report",
    "detect": "mammoscope.evaluation.lesions.report",
    "segment": "mammoscope.evaluation.lesions.report",
    "segment-then-classify": "mammoscope.evaluation.stages",
    "anomaly": "mammoscope.evaluation.anomaly",
}


class Evaluator(Protocol):
    """Measures a run of one task; see :func:`evaluate_run`."""

    def __call__(
        self,
        run: Path,
        facts: dict[str, Any],
        config: EvaluationConfig,
        *,
        overwrite: bool,
        cohort: Path | None,
        **shown: Pictures | None,
    ) -> Report:
        """Choose on validation, freeze, measure on test, write ``report/``."""
        ...


def evaluate_run(
    run: Path,
    config: EvaluationConfig | None = None,
    *,
    overwrite: bool = False,
    cohort: Path | None = None,
    pictures: Pictures | None = None,
) -> Report:
    """Measure a finished run from its tables.

    Args:
        run: The run folder.
        config: What to measure; the run's own by default.
        overwrite: Replace a report that is there.
        cohort: Where the run's cohort lies, if it was moved since training.
        pictures: Prepared images, for reports that show some.

    Raises:
        RunError: If the run is not finished, its predictions are damaged or edited, or the
            cohort named is not the run's.
        OutputError: If there is a report already.
    """
    run = Path(run)
    facts = read_run(run)
    config = config or run_evaluation_config(run)
    module = _module(facts)
    evaluate: Evaluator = module.evaluate
    # A module that shows images says so, and takes them beside the rest.
    shown = {"pictures": pictures} if getattr(module, "SHOWS_PICTURES", False) else {}
    return evaluate(run, facts, config, overwrite=overwrite, cohort=cohort, **shown)


def summary_rows(report: Report) -> list[list[str]]:
    """Return header and rows of a table for the terminal."""
    rows: list[list[str]] = _module(report.report["run"]).summary_rows(report)
    return rows


def _module(facts: dict[str, Any]) -> Any:
    # Runs of earlier versions name no task.
    task: Task = facts["config"].get("task", "classify")
    return importlib.import_module(EVALUATORS[task])
