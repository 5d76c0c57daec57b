"""Leakage and label faults of a cohort, found before anyone trains on them.

One module per family of checks; a check is a function from :class:`Evidence` to findings,
listed in ``registry.CHECKS``. Pixels are read once per image and measured for all checks.
"""

from mammoscope.cohort.lint.findings import Finding, Severity, Skipped
from mammoscope.cohort.lint.registry import CHECKS
from mammoscope.cohort.lint.report import LintReport, lint

__all__ = ["CHECKS", "Finding", "LintReport", "Severity", "Skipped", "lint"]
