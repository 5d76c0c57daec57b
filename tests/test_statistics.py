"""Formulas against SciPy and against published examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mammoscope.statistics import (
    chi_square_tail,
    holm_adjusted,
    normal_two_sided,
    pearson_chi_square,
    wilson_interval,
)


def test_wilson_interval_of_a_published_example():
    """Newcombe, Stat. Med. 17, 1998, table I: 81 of 263 gives 0.2553 to 0.3662."""
    low, high = wilson_interval(np.array([81.0]), np.array([263.0]), z=1.959964)
    assert (round(float(low[0]), 4), round(float(high[0]), 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 12, 45, 200])
@pytest.mark.parametrize("statistic", [0.0, 1e-6, 0.5, 3.84, 12.0, 60.0, 900.0, 20_000.0])
def test_the_tail_of_chi_square_is_scipys(statistic, df):
    expected = stats.chi2.sf(statistic, df)
    assert chi_square_tail(statistic, df) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_pearsons_statistic_is_scipys():
    positives, total = np.array([12.0, 30.0, 7.0]), np.array([100.0, 150.0, 90.0])
    table = np.stack([positives, total - positives])
    expected = stats.chi2_contingency(table, correction=False).statistic
    assert pearson_chi_square(positives, total) == pytest.approx(expected)


def test_holms_adjustment_of_a_worked_example():
    """Four p-values times 4, 3, 2, 1 from the smallest, never falling; order is kept."""
    assert holm_adjusted([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm_adjusted([0.9, 0.6]) == [1.0, 1.0]
    assert holm_adjusted([]) == []


@pytest.mark.parametrize("z", [0.0, 0.3, -1.96, 5.0, -30.0])
def test_the_two_sided_tail_of_the_normal_distribution_is_scipys(z):
    assert normal_two_sided(z) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-12)
