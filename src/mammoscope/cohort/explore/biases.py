"""The biases that tests can see, each in a sentence with its figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from mammoscope.cohort.explore.clustered import Outcome, compare_means, compare_shares, shares_by
from mammoscope.cohort.explore.tables import ATTRIBUTES, in_order
from mammoscope.statistics import holm_adjusted

__all__ = ["SIGNIFICANCE", "find_biases"]

#: Level of Holm's adjusted p below which a difference is called found.
SIGNIFICANCE = 0.05

# What a difference of the share of cancer means, by attribute. A screening cohort differs
# by age and by the reader's opinion; it should not differ by the room the image was made in.
_MEANING = {
    "source": "a model may learn the source",
    "site_id": "a model may learn the site",
    "machine_id": "a model may learn the machine",
    "view": "a model may learn the view",
    "laterality": "a model may learn the side",
    "split": "the splits are not alike, and a measure on one does not hold for the other",
    "implant": "a model may learn the implant",
    "age_band": "expected, since cancer is commoner in older women; compare results at equal age",
    "density": "partly expected, since density is a risk; compare results at equal density",
    "birads": "expected, since it is the reader's opinion; it must not be a model's input",
}
_EXPECTED = frozenset({"age_band", "density", "birads"})
# Columns whose absence says something about where and how a woman was examined.
_MAY_BE_MISSING = ("age", "density", "birads", "implant", "site_id", "machine_id")

Family = Literal["cancer", "missing", "composition", "mean"]


@dataclass(frozen=True, slots=True)
class _Test:
    """One comparison to make, and the words around its figures."""

    family: Family
    subject: str
    column: str
    by: str
    meaning: str
    outcome: Outcome | None
    expected: bool = False


def find_biases(frame: pl.DataFrame, measured: pl.DataFrame | None) -> dict[str, Any]:
    """Make every test that the data allow, and say what was found.

    Args:
        frame: From :func:`~.tables.described`.
        measured: image_id, patient_id, machine_id, cancer and ``tissue_grey`` of sampled
            prepared images, if there are any.

    Returns:
        ``tests``: every test with its figures, p, Holm-adjusted p and sentence; ``found``:
        sentences of unexpected differences; ``expected``: of expected ones; ``facts``: what
        is plain without a test; ``untested``: comparisons with too few images.
    """
    made = list(_tests(frame, measured))
    done = [(test, test.outcome) for test in made if test.outcome is not None]
    adjusted = holm_adjusted([outcome.p for _, outcome in done])
    tests = [_written(test, outcome, p) for (test, outcome), p in zip(done, adjusted, strict=True)]
    # The surest first; of very sure ones p is 0 to the last digit, and chi-square tells.
    found = [test for test in tests if test["found"]]
    ranked = sorted(found, key=lambda test: (test["p"], -test["chi_square"] / test["df"]))
    return {
        "significance": SIGNIFICANCE,
        "tests": tests,
        "found": [test["sentence"] for test in ranked if not test["expected"]],
        "expected": [test["sentence"] for test in ranked if test["expected"]],
        "facts": [*_confounded(frame), *_inverted_machines(frame)],
        "untested": [test.subject for test in made if test.outcome is None],
    }


def _tests(frame: pl.DataFrame, measured: pl.DataFrame | None) -> Iterator[_Test]:
    for column, name in ATTRIBUTES.items():
        if _several(frame, column) and _several(frame, "cancer"):
            yield _Test(
                "cancer",
                f"share of cancer by {name}",
                "cancer",
                column,
                _MEANING[column],
                compare_shares(shares_by(frame, column, "cancer")),
                column in _EXPECTED,
            )
    for column in _MAY_BE_MISSING:
        if not 0 < frame[column].null_count() < frame.height:
            continue
        name = ATTRIBUTES.get(column, column)
        absent = frame.with_columns(pl.col(column).is_null().cast(pl.Int8).alias("absent"))
        for by in ("site_id", "cancer"):
            if by == column or not _several(frame, by):
                continue
            by_words = absent.with_columns(pl.col(by).cast(pl.String()))
            yield _Test(
                "missing",
                f"missing {name} by {ATTRIBUTES.get(by, by)}",
                name,
                by,
                "its absence tells the site"
                if by == "site_id"
                else "its absence hints at the label",
                compare_shares(shares_by(by_words, by, "absent")),
            )
    yield from _composition(frame)
    if _several(frame, "site_id") and _several(frame, "age"):
        yield _Test(
            "mean",
            "mean age by site",
            "age",
            "site_id",
            "a difference between sites may be one of age",
            compare_means(frame, "site_id", "age"),
        )
    if measured is not None:
        yield from _measured(measured)


def _several(frame: pl.DataFrame, column: str) -> bool:
    return frame[column].drop_nulls().n_unique() > 1


def _composition(frame: pl.DataFrame) -> Iterator[_Test]:
    """Whether some sites or machines lie more in one split than others."""
    if set(frame["split"].drop_nulls().unique()) != {"train", "test"}:
        return
    parts = frame.with_columns(
        pl.col("split")
        .replace_strict({"train": 0, "test": 1}, return_dtype=pl.Int8())
        .alias("tested")
    )
    for by in ("source", "site_id", "machine_id"):
        if _several(frame, by):
            yield _Test(
                "composition",
                f"share held out for the test by {ATTRIBUTES[by]}",
                "test split",
                by,
                f"the test split weighs the {ATTRIBUTES[by]}s otherwise than training does",
                compare_shares(shares_by(parts, by, "tested")),
            )


def _measured(measured: pl.DataFrame) -> Iterator[_Test]:
    words = measured.with_columns(pl.col("cancer").cast(pl.String()))
    for by, meaning in (
        ("machine_id", "a model sees the machine in the grey values"),
        ("cancer", "overall brightness alone tells something of the label"),
    ):
        if _several(words, by):
            yield _Test(
                "mean",
                f"mean grey of tissue by {ATTRIBUTES.get(by, by)}",
                "grey of tissue",
                by,
                meaning,
                compare_means(words, by, "tissue_grey"),
            )


def _written(test: _Test, outcome: Outcome, adjusted: float) -> dict[str, Any]:
    levels = sorted(outcome.levels, key=lambda row: (-row["value"], in_order(str(row["level"]))))
    found = adjusted < SIGNIFICANCE
    return {
        "family": test.family,
        "subject": test.subject,
        "by": test.by,
        "chi_square": outcome.statistic,
        "df": outcome.df,
        "p": outcome.p,
        "p_adjusted": adjusted,
        "found": found,
        "expected": test.expected,
        "levels": levels,
        "pooled_or_left_out": outcome.pooled,
        "sentence": _sentence(test, outcome, levels, adjusted) if found else None,
    }


def _sentence(test: _Test, outcome: Outcome, levels: list[dict[str, Any]], adjusted: float) -> str:
    by = ATTRIBUTES.get(test.by, test.by)
    what = {
        "cancer": f"The share of cancer differs by {by}",
        "missing": f"How often {test.column} is missing differs by {by}",
        "composition": f"The share held out for the test differs by {by}",
        "mean": f"The mean {test.column} differs by {by}",
    }[test.family]
    say = _mean if test.family == "mean" else _share
    p = "adjusted p < 0.001" if adjusted < 0.001 else f"adjusted p = {adjusted:.3f}"
    return (
        f"{what}: {say(test, levels[0], first=True)} against {say(test, levels[-1])} "
        f"(chi-square {outcome.statistic:.1f}, {outcome.df} df, {p}): {test.meaning}."
    )


def _share(test: _Test, row: dict[str, Any], *, first: bool = False) -> str:
    of = ""
    if first:
        of = " of images lack it" if test.family == "missing" else " of images"
    share = f"{100 * row['value']:.1f} %"
    counts = f"({row['positives']:,} of {row['images']:,})"
    return f"{share}{of} {_at(test.by, row['level'])} {counts}"


def _mean(test: _Test, row: dict[str, Any], *, first: bool = False) -> str:
    age = test.column == "age"
    value = f"{row['value']:.1f}" if age else f"{row['value']:.3f}"
    unit = (" years" if age else " of white") if first else ""
    return f"{value}{unit} {_at(test.by, row['level'])} ({row['patients']:,} patients)"


def _at(by: str, level: Any) -> str:
    """Say a level as one would: at site 2, on machine 49, with density B."""
    if level == "others":
        return "elsewhere"
    if by == "cancer":
        return "with cancer" if level == "1" else "without cancer"
    if by == "age_band":
        return (
            f"of women {level}" if "over" in level or "under" in level else f"of women of {level}"
        )
    if by == "implant":
        return "with an implant" if level == "yes" else "without an implant"
    if by == "laterality":
        return f"on the {'left' if level == 'L' else 'right'}"
    phrase = {
        "source": "from {}",
        "site_id": "at site {}",
        "machine_id": "on machine {}",
        "view": "in {}",
        "density": "with density {}",
        "birads": "with BI-RADS {}",
        "split": "in the {} split",
    }[by]
    return phrase.format(level)


def _confounded(frame: pl.DataFrame) -> Iterator[str]:
    """Say where machines are nested in sites: their effects cannot be told apart."""
    pairs = frame.select("site_id", "machine_id").drop_nulls().unique()
    sites, machines = pairs["site_id"].n_unique(), pairs["machine_id"].n_unique()
    if sites > 1 and machines > 1 and pairs.height == machines:
        yield (
            f"Each of the {machines} machines stands at one of the {sites} sites: what differs "
            "by machine and what differs by site cannot be told apart within this cohort."
        )
    for name in ("site_id", "machine_id"):
        if frame[name].null_count() == frame.height:
            words = ATTRIBUTES[name]
            yield f"No {words} is known: no bias of the {words} can be seen here."
    if frame["cancer"].drop_nulls().n_unique() == 1:
        yield "All known labels are the same: no bias of the label can be seen here."


def _inverted_machines(frame: pl.DataFrame) -> Iterator[str]:
    """Say which machines write all their images inverted (PS3.3 C.7.6.3.1.2)."""
    inverted = (pl.col("photometric_interpretation") == "MONOCHROME1").mean().alias("share")
    machines = frame.drop_nulls(["machine_id", "photometric_interpretation"])
    by_machine = machines.group_by("machine_id").agg(inverted)
    whole = by_machine.filter(pl.col("share") == 1)["machine_id"].to_list()
    if 0 < len(whole) < by_machine.height:
        names = ", ".join(sorted(whole, key=in_order))
        yield (
            f"Every image of machine {names} is MONOCHROME1 and must be inverted: a reader that "
            "forgets it gets whole machines wrong."
        )
