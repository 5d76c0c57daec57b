"""Images of one patient count together; images of many patients as they always did."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from mammoscope.cohort.explore.clustered import compare_means, compare_shares, shares_by


def frame(rows):
    """Rows of (patient, level, outcome)."""
    schema = {"patient_id": pl.String(), "level": pl.String(), "y": pl.Int8()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def singles(counts):
    """One image per patient: {level: (positives, total)}."""
    rows = []
    for level, (positives, total) in counts.items():
        rows += [(f"{level}-{i}", level, int(i < positives)) for i in range(total)]
    return frame(rows)


def by_level(shares):
    return {row["level"]: row for row in shares.to_dicts()}


def test_one_image_per_patient_is_the_plain_interval_and_the_plain_test():
    shares = shares_by(singles({"a": (81, 263), "b": (20, 200)}), "level", "y")
    a = by_level(shares)["a"]
    assert (a["images"], a["patients"], a["positives"], a["positive_patients"]) == (
        263,
        263,
        81,
        81,
    )
    assert a["design_effect"] == 1
    plain = stats.binomtest(81, 263).proportion_ci(method="wilson")
    assert (a["low"], a["high"]) == pytest.approx((plain.low, plain.high), abs=1e-4)
    outcome = compare_shares(shares)
    table = [[81, 20], [263 - 81, 200 - 20]]
    expected = stats.chi2_contingency(table, correction=False)
    assert outcome.statistic == pytest.approx(expected.statistic)
    assert (outcome.df, outcome.p) == (1, pytest.approx(expected.pvalue))


def test_copies_of_the_same_images_prove_nothing_more():
    once = singles({"a": (40, 120), "b": (20, 130)})
    copies = pl.concat([once] * 4)
    first, second = (compare_shares(shares_by(data, "level", "y")) for data in (once, copies))
    assert second.statistic == pytest.approx(first.statistic)
    a = by_level(shares_by(copies, "level", "y"))["a"]
    assert (a["images"], a["patients"], a["design_effect"]) == (480, 120, pytest.approx(4))
    assert a["low"] == pytest.approx(by_level(shares_by(once, "level", "y"))["a"]["low"])


def test_a_level_without_a_positive_takes_a_patients_images_as_one():
    rows = [(f"p{i}", "a", 0) for i in range(10) for _ in range(4)]
    a = by_level(shares_by(frame(rows), "level", "y"))["a"]
    assert a["design_effect"] == 4
    assert a["high"] == pytest.approx(
        stats.binomtest(0, 10).proportion_ci(method="wilson").high, abs=1e-4
    )


def test_images_of_a_patient_that_differ_do_not_widen():
    """One of a patient's two images is positive: less spread than chance, never below plain."""
    rows = [(f"p{i}", "a", k) for i in range(30) for k in (0, 1)]
    assert by_level(shares_by(frame(rows), "level", "y"))["a"]["design_effect"] == 1


def test_unknown_outcomes_are_counted_and_not_shared():
    rows = [("p1", "a", 1), ("p2", "a", None), ("p3", "b", None), ("p4", None, 0)]
    shares = by_level(shares_by(frame(rows), "level", "y"))
    assert (shares["a"]["images"], shares["a"]["known"], shares["a"]["share"]) == (2, 1, 1.0)
    b = shares["b"]
    assert (b["images"], b["known"]) == (1, 0)
    assert [b[name] for name in ("share", "low", "high", "design_effect")] == [None] * 4
    assert shares[None]["images"] == 1


def test_small_levels_are_pooled_or_left_out_and_the_unknown_is_not_a_level():
    counts = {"a": (50, 200), "b": (30, 200), "c": (6, 12), "d": (5, 12)}
    data = singles(counts)
    outcome = compare_shares(shares_by(data, "level", "y"))
    levels = {row["level"]: row["positives"] for row in outcome.levels}
    assert levels == {"a": 50, "b": 30, "others": 11}
    assert (outcome.df, sorted(outcome.pooled)) == (2, ["c", "d"])
    tiny = compare_shares(shares_by(singles(counts | {"d": (0, 1)}), "level", "y"))
    assert [row["level"] for row in tiny.levels] == ["a", "b"]
    unknown = pl.concat(
        [data.filter(pl.col("level") == "a"), data.with_columns(level=pl.lit(None, pl.String()))]
    )
    assert compare_shares(shares_by(unknown, "level", "y")) is None


def test_nothing_is_compared_where_all_are_alike_or_one_level_is_left():
    assert compare_shares(shares_by(singles({"a": (0, 50), "b": (0, 50)}), "level", "y")) is None
    assert compare_shares(shares_by(singles({"a": (9, 50)}), "level", "y")) is None


def test_a_null_difference_is_found_as_often_as_it_should_be():
    """Alike patients of four images: the plain test errs in a third, ours in about 5 %."""
    rng = np.random.default_rng(0)
    found = plain = 0
    rounds = 120
    for _ in range(rounds):
        sick = np.repeat(rng.random(200) < 0.3, 4).astype(int)
        site = np.repeat(rng.integers(0, 2, 200), 4)
        rows = list(
            zip(np.repeat(np.arange(200), 4).astype(str), site.astype(str), sick, strict=True)
        )
        shares = shares_by(frame([(p, s, int(y)) for p, s, y in rows]), "level", "y")
        found += compare_shares(shares).p < 0.05
        counts = [[int(((site == s) & (sick == y)).sum()) for s in (0, 1)] for y in (0, 1)]
        plain += stats.chi2_contingency(counts, correction=False).pvalue < 0.05
    assert found / rounds < 0.11
    assert plain / rounds > 0.2


def test_means_are_of_patients():
    rng = np.random.default_rng(1)
    rows = [
        (f"{g}{i}", g, float(rng.normal(50 + 8 * (g == "b"), 5))) for g in "ab" for i in range(40)
    ]
    schema = {"patient_id": pl.String(), "level": pl.String(), "v": pl.Float64()}
    data = pl.DataFrame(rows, schema=schema, orient="row")
    outcome = compare_means(data, "level", "v")
    a, b = ([v for _, g, v in rows if g == name] for name in "ab")
    # Of two groups, Welch's statistic is the square of Welch's t.
    assert outcome.statistic == pytest.approx(stats.ttest_ind(a, b, equal_var=False).statistic ** 2)
    copies = compare_means(pl.concat([data] * 3), "level", "v")
    assert copies.statistic == pytest.approx(outcome.statistic)
    assert compare_means(data.filter(pl.col("level") == "a"), "level", "v") is None
