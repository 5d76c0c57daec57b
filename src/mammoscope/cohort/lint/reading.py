"""Can the sampled images be read at all?"""

from __future__ import annotations

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some

__all__ = ["unreadable_images"]


def unreadable_images(evidence: Evidence) -> Answer:
    """Sampled images that cannot be opened or decoded, and so were looked at by no check."""
    read = 0
    if not isinstance(evidence.images, Skipped):
        read = len(evidence.images)
    elif not evidence.unreadable:
        return evidence.images
    if not evidence.unreadable:
        return []
    first = evidence.unreadable[0][1].rstrip(".")
    return [
        Finding(
            "unreadable_images",
            Severity.WARNING,
            "",
            len(evidence.unreadable),
            len(evidence.unreadable) + read,
            "images",
            f"Sampled images cannot be read, the first because: {first}.",
            "Run mammoscope prepare, which lists all of them in rejects.csv with their reasons.",
            some(name for name, _ in evidence.unreadable),
        )
    ]
