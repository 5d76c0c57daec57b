"""Run all checks on a cohort and write down what they answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.artefacts import read_json, sha256_file, write_json
from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Finding, Severity, Skipped
from mammoscope.cohort.lint.gather import gather
from mammoscope.cohort.lint.registry import CHECKS
from mammoscope.cohort.manifest import LABEL_COLUMNS
from mammoscope.errors import CohortError, OutputError

__all__ = ["LintReport", "lint", "run_checks"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LintReport:
    """What all checks answered.

    Attributes:
        findings: The faults, the worst first.
        skipped: Reason by name of each check that could not run.
        clean: Names of the checks that ran and found nothing.
        looked_at: What was looked at: images, and how many were read and hashed.
        path: Where the JSON form lies.
    """

    findings: Sequence[Finding]
    skipped: dict[str, str]
    clean: Sequence[str]
    looked_at: dict[str, int]
    path: Path | None = None

    def count(self, severity: Severity) -> int:
        """Count the findings of a severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the plain form that JSON takes."""
        return {
            "counts": {str(severity): self.count(severity) for severity in Severity},
            "looked_at": self.looked_at,
            "findings": [finding.as_dict() for finding in self.findings],
            "skipped": self.skipped,
            "clean": list(self.clean),
        }


def lint(
    cohort: Path,
    *,
    sample: int = 100,
    seed: int = 0,
    label: str = "cancer",
    workers: int = 1,
    json_path: Path | None = None,
    progress: Progress | None = None,
) -> LintReport:
    """Look for leakage, label faults and image faults in a cohort; write ``lint.json``.

    Args:
        cohort: The cohort folder.
        sample: Originals read per machine; 0 reads all.
        seed: Of the sample and of intervals: same seed, same report.
        label: Column that will be trained on.
        workers: Processes; the report does not depend on their number.
        json_path: Where to write, ``lint.json`` of the cohort by default.
        progress: Called with (done, total) images.

    Raises:
        CohortError: If the cohort is not ready or the label unknown.
        OutputError: If the report cannot be written, or would replace another kind of file.
    """
    cohort = Path(cohort)
    if label not in LABEL_COLUMNS:
        raise CohortError(f"unknown label {label!r}; known: {', '.join(LABEL_COLUMNS)}")
    path = _claim(json_path or cohort / "lint.json")
    evidence = gather(
        cohort, sample=sample, seed=seed, label=label, workers=workers, progress=progress
    )
    report = run_checks(evidence, path)
    write_json(
        path,
        {
            "format_version": 1,
            "kind": "lint",
            "package_version": __version__,
            "manifest_sha256": sha256_file(cohort / "manifest.parquet"),
            "options": {"sample": sample, "seed": seed, "label": label},
            **report.as_dict(),
        },
    )
    return report


def run_checks(evidence: Evidence, path: Path | None = None) -> LintReport:
    """Ask every check of the registry."""
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    clean: list[str] = []
    for name, check in CHECKS.items():
        answer = check(evidence)
        if isinstance(answer, Skipped):
            skipped[name] = answer.reason
        elif answer:
            findings += answer
        else:
            clean.append(name)
    order = list(Severity)
    looked_at = {
        "images": evidence.manifest.height,
        "read": 0 if isinstance(evidence.images, Skipped) else len(evidence.images),
        "hashed": 0 if isinstance(evidence.duplicates, Skipped) else evidence.duplicates.images,
    }
    # Sorting is stable: within a severity the registry's order stays.
    worst_first = sorted(findings, key=lambda finding: order.index(finding.severity))
    return LintReport(worst_first, skipped, clean, looked_at, path)


def _claim(path: Path) -> Path:
    """Check, before any work, that the report can be written; only a report is replaced."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; --json names a file")
    if path.exists() and read_json(path, OutputError).get("kind") != "lint":
        raise OutputError(f"{path} exists and is no report of mammoscope lint; it is not replaced")
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise OutputError(f"cannot write {path}: {place} is not a folder that can be written")
    return path
