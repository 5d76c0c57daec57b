"""The contract of every check: it says what it looks for, finds it, and finds it only there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixtures.lint import PLANTED, clean, planted, skipped_everywhere
from mammoscope.cohort.lint.findings import MOST_EXAMPLES, Severity, Skipped
from mammoscope.cohort.lint.registry import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lint.md"


def test_every_check_has_a_planted_fault_and_a_row_in_the_reference():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert list(PLANTED) == list(CHECKS)
    assert rows == list(CHECKS)


@pytest.mark.parametrize("code", CHECKS)
def test_a_check_says_what_it_looks_for(code):
    first = (CHECKS[code].__doc__ or "").partition("\n")[0]
    assert len(first) > 20
    assert first.endswith((".", ":"))


@pytest.mark.parametrize("code", CHECKS)
def test_a_planted_fault_is_found_and_counted(code):
    findings = CHECKS[code](planted(code))
    assert not isinstance(findings, Skipped)
    assert [finding.count for finding in findings] == [PLANTED[code][1]]
    (finding,) = findings
    assert finding.code == code
    assert finding.count <= finding.of
    assert finding.what.endswith(".")
    assert finding.todo.endswith(".")
    assert 0 < len(finding.examples) <= MOST_EXAMPLES


@pytest.mark.parametrize("code", CHECKS)
def test_a_clean_cohort_has_no_finding(code):
    answer = CHECKS[code](clean())
    if code == "patient_in_two_sources":
        assert answer == Skipped("the cohort is of one source")
    else:
        assert answer == []


@pytest.mark.parametrize("code", CHECKS)
def test_examples_are_images_of_the_cohort_and_no_patients(code):
    evidence = planted(code)
    for finding in CHECKS[code](evidence):
        assert set(finding.examples) <= set(evidence.manifest["image_id"])
        text = f"{finding.subject} {finding.what} {finding.todo}"
        assert not any(name in text for name in set(evidence.manifest["patient_id"]))


@pytest.mark.parametrize("code", CHECKS)
def test_what_cannot_run_says_so(code):
    answer = CHECKS[code](skipped_everywhere())
    table_only = {
        "labels_differ_within_breast",
        "impossible_labels",
        "exam_facts_differ",
        "header_contradicts_table",
        "column_predicts_label",
    }
    assert isinstance(answer, Skipped) == (code not in table_only)


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("patient_in_two_splits", Severity.ERROR),
        ("near_duplicates_across_splits", Severity.ERROR),
        ("near_duplicates_across_patients", Severity.ERROR),
        ("near_duplicates_within_patient", Severity.WARNING),
        ("inverted_images", Severity.ERROR),
        ("column_predicts_label", Severity.ERROR),
        ("burned_in_text", Severity.INFO),
    ],
)
def test_severity(code, severity):
    (finding,) = CHECKS[code](planted(code))
    assert finding.severity is severity
