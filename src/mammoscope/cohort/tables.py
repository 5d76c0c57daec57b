"""The files of a new cohort folder, written together: tables, rejects, and what describes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.artefacts import sha256_file, write_json
from mammoscope.cohort.findings import write_findings
from mammoscope.cohort.manifest import FORMAT_VERSION, Reject, write_manifest, write_rejects

__all__ = ["Counts", "write_tables"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a cohort holds; ``repaired`` counts findings by fault, ``rejects`` counts by reason."""

    images: int
    patients: int
    positives: int
    findings: int
    repaired: dict[str, int]
    rejects: dict[str, int]


def write_tables(
    folder: Path,
    rows: list[dict[str, Any]],
    findings: list[dict[str, Any]],
    rejects: list[Reject],
    facts: dict[str, Any],
) -> Counts:
    """Write manifest, findings, rejects and ``cohort.json`` with counts and hashes.

    Args:
        folder: A folder that exists and is not yet the cohort's place.
        rows: Rows of the manifest.
        findings: Rows of the findings.
        rejects: What was refused.
        facts: What else ``cohort.json`` says: source, source_roots, synthetic.
    """
    counts = Counts(
        images=len(rows),
        patients=len({row["patient_id"] for row in rows}),
        positives=sum(row["cancer"] == 1 for row in rows),
        findings=len(findings),
        repaired=_counted(code for row in findings for code in row["repaired"] or ()),
        rejects=_counted(str(reject.reason) for reject in rejects),
    )
    write_rejects(folder, rejects)
    tables = [write_manifest(folder, rows), write_findings(folder, findings)]
    values = {
        "format_version": FORMAT_VERSION,
        "kind": "cohort",
        "package_version": __version__,
        **facts,
        "images": counts.images,
        "patients": counts.patients,
        "positives": counts.positives,
        "findings": counts.findings,
        "repaired": counts.repaired,
        "rejects": counts.rejects,
        "hashes": {table.name: sha256_file(table) for table in tables},
    }
    write_json(folder / "cohort.json", values)
    return counts


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))
