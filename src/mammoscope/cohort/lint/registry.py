"""All checks by name, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable

from mammoscope.cohort.lint import (
    aspect,
    duplicates,
    inversion,
    labels,
    orientation,
    patients,
    predictors,
    reading,
    text,
    upsampling,
)
from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer

__all__ = ["CHECKS", "Check"]

#: Looks at the evidence and answers; its docstring says what it looks for.
Check = Callable[[Evidence], Answer]

_ALL: tuple[Check, ...] = (
    patients.patient_in_two_splits,
    patients.stale_splits,
    patients.split_differs_from_source,
    patients.patient_in_two_sources,
    duplicates.near_duplicates_across_splits,
    duplicates.near_duplicates_across_patients,
    duplicates.near_duplicates_within_patient,
    labels.labels_differ_within_breast,
    labels.impossible_labels,
    labels.birads_against_cancer,
    labels.exam_facts_differ,
    labels.header_contradicts_table,
    predictors.column_predicts_label,
    reading.unreadable_images,
    inversion.inverted_images,
    upsampling.upsampled_images,
    aspect.stretched_images,
    orientation.chest_wall_contradicts_laterality,
    text.burned_in_text,
)

#: Every check; findings carry the name of theirs as ``code``.
CHECKS: dict[str, Check] = {check.__name__: check for check in _ALL}
