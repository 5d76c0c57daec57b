"""Checks of what the table says of a breast or an exam: labels that contradict each other."""

from __future__ import annotations

import polars as pl

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some
from mammoscope.cohort.manifest import LABEL_COLUMNS

__all__ = [
    "birads_against_cancer",
    "exam_facts_differ",
    "header_contradicts_table",
    "impossible_labels",
    "labels_differ_within_breast",
]

_BREAST = ("patient_id", "exam_id", "laterality")
_EXAM = ("patient_id", "exam_id")


def labels_differ_within_breast(evidence: Evidence) -> Answer:
    """One breast of one exam with both 0 and 1 of a label, or with two BI-RADS categories.

    Of a label by breast (as RSNA's) this is a fault; of a label by image (as CBIS-DDSM's,
    where a mass may be seen in one view only) it is a choice that training must know.
    """
    findings = []
    for column in (*LABEL_COLUMNS, "birads"):
        known = evidence.manifest.filter(pl.col(column).is_not_null())
        differ = known.filter(pl.col(column).n_unique().over(_BREAST) > 1)
        if differ.is_empty():
            continue
        findings.append(
            Finding(
                "labels_differ_within_breast",
                Severity.ERROR if column == evidence.label else Severity.WARNING,
                f"column {column}",
                differ.select(_BREAST).n_unique(),
                known.select(_BREAST).n_unique(),
                "breasts",
                f"Images of one breast of one exam have different values of {column}.",
                "Look at these breasts; if the label is by image and not by breast, take the "
                "highest of a breast before a breast is scored.",
                some(differ["image_id"]),
            )
        )
    return findings


#: Subject, condition of the fault, severity, what it is.
_IMPOSSIBLE = (
    (
        "invasive without cancer",
        (pl.col("invasive") == 1) & (pl.col("cancer") == 0),
        Severity.ERROR,
        "An invasive cancer is noted where cancer is 0.",
    ),
    (
        "difficult negative with cancer",
        (pl.col("difficult_negative_case") == 1) & (pl.col("cancer") == 1),
        Severity.ERROR,
        "A difficult negative case is noted where cancer is 1.",
    ),
    (
        "cancer without biopsy",
        (pl.col("cancer") == 1) & (pl.col("biopsy") == 0),
        Severity.WARNING,
        "Cancer is 1 where biopsy is 0, although cancer is proven by biopsy.",
    ),
)


def impossible_labels(evidence: Evidence) -> Answer:
    """Labels of one image that cannot be true together, such as invasive without cancer."""
    manifest = evidence.manifest
    findings = []
    for subject, condition, severity, what in _IMPOSSIBLE:
        columns = condition.meta.root_names()
        known = manifest.drop_nulls(columns)
        wrong = known.filter(condition)
        if wrong.height:
            todo = "Ask the source which of the two holds, and set the other to empty until then."
            findings.append(
                Finding(
                    "impossible_labels",
                    severity,
                    subject,
                    wrong.height,
                    known.height,
                    "images",
                    what,
                    todo,
                    some(wrong["image_id"]),
                )
            )
    return findings


def birads_against_cancer(evidence: Evidence) -> Answer:
    """BI-RADS categories that speak against the label cancer.

    Category 6 is a proven malignancy, 5 one of at least 95 % likelihood; 1 and 2 are
    negative and benign (ACR BI-RADS Atlas, fifth edition, 2013). A cancer under 1 or 2 may
    be an interval cancer, so that is a warning.
    """
    known = evidence.manifest.drop_nulls(["birads", "cancer"]).with_columns(
        category=pl.col("birads").str.extract(r"([0-6])", 1)
    )
    known = known.filter(pl.col("category").is_not_null())
    if known.is_empty():
        return Skipped("no image has both birads and cancer")
    rules = (
        ("6 without cancer", ("6",), 0, Severity.ERROR),
        ("5 without cancer", ("5",), 0, Severity.WARNING),
        ("1 or 2 with cancer", ("1", "2"), 1, Severity.WARNING),
    )
    findings = []
    for subject, categories, cancer, severity in rules:
        wrong = known.filter(pl.col("category").is_in(categories) & (pl.col("cancer") == cancer))
        if wrong.height:
            findings.append(
                Finding(
                    "birads_against_cancer",
                    severity,
                    f"BI-RADS {subject}",
                    wrong.height,
                    known.height,
                    "images",
                    f"The reader's category and the label disagree: BI-RADS {subject}.",
                    "Check that categories and labels are of the same exam; keep true interval "
                    "cancers and proven benign findings.",
                    some(wrong["image_id"]),
                )
            )
    return findings


def exam_facts_differ(evidence: Evidence) -> Answer:
    """Facts of the woman or the visit that differ between the images of one exam.

    Density is one of an exam (its denser breast); age and site cannot change.
    """
    findings = []
    for column in ("density", "age", "site_id"):
        known = evidence.manifest.filter(pl.col(column).is_not_null())
        differ = known.filter(pl.col(column).n_unique().over(_EXAM) > 1)
        if differ.height:
            findings.append(
                Finding(
                    "exam_facts_differ",
                    Severity.WARNING,
                    f"column {column}",
                    differ.select(_EXAM).n_unique(),
                    known.select(_EXAM).n_unique(),
                    "exams",
                    f"Images of one exam have different values of {column}.",
                    "Check that exam_id parts the visits; otherwise correct the table.",
                    some(differ["image_id"]),
                )
            )
    return findings


def header_contradicts_table(evidence: Evidence) -> Answer:
    """Laterality or view of the table that the DICOM header contradicts, as ingest noted."""
    noted = evidence.manifest.filter(pl.col("notes").fill_null("").str.contains("table believed"))
    if noted.is_empty():
        return []
    return [
        Finding(
            "header_contradicts_table",
            Severity.WARNING,
            "",
            noted.height,
            evidence.manifest.height,
            "images",
            "The header says another laterality or view than the table; the table was believed.",
            "Look at the examples: their column notes says both; correct the one that is wrong.",
            some(noted["image_id"]),
        )
    ]
