"""The contract of every rule of the gate: it fires, it stays silent, it is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fixtures.eligibility import CASES
from mammoscope.config import EligibilityConfig
from mammoscope.dicom import read_dicom
from mammoscope.dicom.elements import tag_name
from mammoscope.dicom.eligibility import RULES, admit
from mammoscope.errors import IneligibleImageError, Reason

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "reasons.md"
ACTIONS = ("accept", "warn", "listed", "refuse")
CONFIGURED = [rule for rule in RULES if rule.code in EligibilityConfig.model_fields]


def headers(path, write_mammogram, cases):
    for number, elements in enumerate(cases):
        yield elements, read_dicom(write_mammogram(path / f"{number}.dcm", **elements)).header


def codes(warnings):
    """The rules that warned; contradictions within a header have no code."""
    return {warning.partition(":")[0] for warning in warnings} & set(CASES)


def judged(header, **actions):
    """Return the codes that refuse and those that warn."""
    try:
        return None, codes(admit(header, EligibilityConfig(**actions)).warnings)
    except IneligibleImageError as error:
        return error, set()


def test_every_rule_has_a_code_of_its_own_and_cases():
    assert [rule.code for rule in RULES] == list(dict.fromkeys(rule.code for rule in RULES))
    assert set(CASES) == {rule.code for rule in RULES}
    actions = {name for name, value in EligibilityConfig() if value in ACTIONS}
    assert actions == {rule.code.value for rule in CONFIGURED}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_refuses_what_it_is_for_in_the_standards_words(rule, tmp_path, write_mammogram):
    refuse = {rule.code.value: "refuse"} if rule in CONFIGURED else {}
    for elements, header in headers(tmp_path, write_mammogram, CASES[rule.code][0]):
        error, _ = judged(header, **refuse)
        assert error is not None, elements
        sentences = str(error).split("; and ")
        own = [
            text
            for text in sentences
            if any(tag_name(keyword) in text for keyword in rule.reads) and "accepted: " in text
        ]
        assert own, f"{error} names none of {rule.reads}"
        alone = {other.code.value: "accept" for other in CONFIGURED if other is not rule}
        alone_error, _ = judged(header, **{**alone, **refuse})
        assert alone_error is not None
        assert alone_error.reason is rule.code, elements


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_lets_its_neighbours_pass(rule, tmp_path, write_mammogram):
    refuse = {rule.code.value: "refuse"} if rule in CONFIGURED else {}
    alone = {other.code.value: "accept" for other in CONFIGURED if other is not rule}
    for elements, header in headers(tmp_path, write_mammogram, CASES[rule.code][1]):
        error, _ = judged(header, **{**alone, **refuse})
        assert error is None or error.reason is not rule.code, elements


@pytest.mark.parametrize("rule", CONFIGURED, ids=lambda rule: rule.code)
def test_a_rule_does_what_the_configuration_says(rule, tmp_path, write_mammogram):
    (_, header), *_ = headers(tmp_path, write_mammogram, CASES[rule.code][0][:1])
    accept = {other.code.value: "accept" for other in CONFIGURED}
    assert judged(header, **accept) == (None, set())
    assert judged(header, **{**accept, rule.code.value: "warn"}) == (None, {rule.code.value})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_has_its_row_with_tags_and_default(rule):
    section = PAGE.read_text().partition("## The eligibility gate")[2]
    (row,) = re.findall(rf"^\| `{rule.code}` \|.*$", section, re.MULTILINE)
    for keyword in rule.reads:
        assert tag_name(keyword).split()[0] in row, f"{keyword} is not in the row"
    default = str(getattr(EligibilityConfig(), rule.code, "refuse, fixed"))
    assert row.split(" | ")[3] == default
    assert rule.standard


def test_codes_that_no_rule_gives_are_no_keys_of_the_gate():
    assert not {code.value for code in set(Reason) - set(CASES)} & set(
        EligibilityConfig.model_fields
    )
