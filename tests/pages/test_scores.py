"""A score next to 0 or 1 is not shown as 0 or 1."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscope.pages import written_score


@pytest.mark.parametrize(
    ("score", "digits", "text"),
    [
        (0.4149, 2, "0.41"),
        (0.4149, 4, "0.4149"),
        # The cut-off of a segmenter of synthetic masses; two digits made it 1.00.
        (0.9958111, 2, "0.996"),
        (0.9958111, 4, "0.9958"),
        (0.99972, 2, "0.9997"),
        (0.0049, 2, "0.005"),
        (0.9999999, 2, "> 0.999999"),
        (1e-9, 4, "< 0.000001"),
        (0, 2, "0.00"),
        (1, 3, "1.000"),
        # A cut-off that no score reaches.
        (math.nextafter(1, 2), 4, "> 1"),
    ],
)
def test_a_score_has_its_digits_and_more_where_they_would_make_it_0_or_1(score, digits, text):
    assert written_score(score, digits) == text


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(1, 6))
def test_what_is_neither_0_nor_1_never_reads_so_and_is_right_to_its_last_digit(score, digits):
    text = written_score(score, digits)
    value = float(text.removeprefix("> ").removeprefix("< "))
    assert 0 < value < 1
    if text.startswith(("> ", "< ")):
        assert score > value if text.startswith(">") else score < value
    else:
        assert len(text) - 2 >= digits
        assert abs(value - score) <= 0.5 * 10.0 ** (2 - len(text)) + 1e-12
