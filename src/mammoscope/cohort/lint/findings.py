"""What a check answers: findings, or why it could not look."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

__all__ = ["MOST_EXAMPLES", "Answer", "Finding", "Severity", "Skipped", "some"]

#: A finding names at most this many images.
MOST_EXAMPLES = 10


class Severity(StrEnum):
    """How much a finding matters, the worst first; an error makes the exit status 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault that one check found.

    Attributes:
        code: Name of the check.
        severity: How much it matters.
        subject: What it concerns (a machine, a column, a file); empty where the code says all.
        count: How many are at fault.
        of: Of how many that were looked at.
        unit: What is counted: images, patients, breasts, exams.
        what: One sentence: what it is.
        todo: One sentence: what to do about it.
        examples: Image ids, at most :data:`MOST_EXAMPLES`; never a patient's name.
    """

    code: str
    severity: Severity
    subject: str
    count: int
    of: int
    unit: str
    what: str
    todo: str
    examples: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the plain form that JSON takes."""
        return {**asdict(self), "severity": str(self.severity), "examples": list(self.examples)}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A check that could not run, and why. It is never counted as passed."""

    reason: str


#: What a check returns: its findings, none where all is well, or why it could not run.
Answer = list[Finding] | Skipped


def some(image_ids: Iterable[str]) -> tuple[str, ...]:
    """Return the first examples in order of their names, so that reports are reproducible."""
    return tuple(sorted(set(image_ids))[:MOST_EXAMPLES])
