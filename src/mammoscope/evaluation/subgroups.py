"""How a model does in parts of the women, and whether the parts differ by more than chance."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import polars as pl

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import Draws, draw, interval_of, samples, values, widened
from mammoscope.evaluation.measures import measures_at, measures_of_ranks
from mammoscope.evaluation.tables import Level, Scored, labelled, units
from mammoscope.types import Bools, Floats

__all__ = ["ATTRIBUTES", "LEAST", "subgroups"]


#: Fewer positives or negatives than this, and a group's figures are not shown.
LEAST = 10
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Attribute:
    """A column by which women or images are parted.

    ``parts`` says who is parted: invasive is a word of cancers, so each kind of cancer meets
    all negatives; a difficult negative is one of the negatives, and meets all cancers.
    """

    title: str
    parts: Literal["all", "positives", "negatives"] = "all"
    flag: bool = False


ATTRIBUTES = {
    "site_id": _Attribute("Site"),
    "machine_id": _Attribute("Machine"),
    "view": _Attribute("View"),
    "laterality": _Attribute("Laterality"),
    "age_band": _Attribute("Age"),
    "density": _Attribute("Density"),
    "implant": _Attribute("Implant", flag=True),
    "invasive": _Attribute("Invasive cancer, against all negatives", "positives", flag=True),
    "difficult_negative_case": _Attribute(
        "Difficult negative, against all positives", "negatives", flag=True
    ),
    "source": _Attribute("Source"),
}
# What the images of a breast or exam differ in by design.
_NOT_OF: dict[Level, tuple[str, ...]] = {
    "image": (),
    "breast": ("view",),
    "exam": ("view", "laterality"),
}
# Words in sentences.
_WORDS = {
    "site_id": "site",
    "machine_id": "machine",
    "age_band": "age",
    "invasive": "invasive cancer:",
    "difficult_negative_case": "difficult negative:",
    "implant": "implant:",
}


@dataclass(frozen=True, slots=True)
class _Group:
    """One group measured: what the report holds, and its AUROC in every replicate."""

    record: dict[str, Any]
    replicates: Floats | None


def subgroups(
    rows: pl.DataFrame, level: Level, threshold: float, config: EvaluationConfig
) -> dict[str, Any]:
    """Measure every group of every attribute at a frozen threshold.

    Args:
        rows: Predictions of the measured split with the columns of :data:`ATTRIBUTES`.
        level: Image, breast or exam; a breast has no view, an exam no laterality either.
        threshold: Of the primary operating point.
        config: Replicates, confidence and seed.

    Returns:
        ``groups`` (attribute, group, n, positives, negatives, patients, suppressed, and
        AUROC, sensitivity and specificity with intervals, or null where suppressed),
        ``absent`` (attributes of which nothing is known) and ``gap``, see :func:`_gap`.
    """
    columns = [name for name in ATTRIBUTES if name not in _NOT_OF[level]]
    data, known = labelled(units(rows, level, columns))
    draws = draw(data.patients, config.bootstrap, config.seed)
    absent = [name for name in columns if known[name].null_count() == known.height]
    groups: list[_Group] = []
    for name in columns:
        if name in absent:
            continue
        attribute = ATTRIBUTES[name]
        for value, chosen in _parts(known[name], data.label, attribute):
            part = Scored(data.score[chosen], data.label[chosen], data.patient[chosen])
            group = _measured(part, draws, threshold, config)
            named = {"attribute": name, "group": _text(value, attribute)}
            groups.append(_Group(named | group.record, group.replicates))
    return {
        "least": LEAST,
        "groups": [group.record for group in groups],
        "absent": absent,
        "gap": _gap(groups, config),
    }


def _parts(
    column: pl.Series, label: Bools, attribute: _Attribute
) -> Iterable[tuple[object, Bools]]:
    """Yield each value of a column with the rows of its group; unknown last."""
    split_by = {"all": np.ones_like(label), "positives": label, "negatives": ~label}
    parted = split_by[attribute.parts]
    found = column.filter(pl.Series(parted)).unique().to_list()
    for value in sorted((v for v in found if v is not None), key=_by_number):
        yield value, (column == value).fill_null(value=False).to_numpy() & parted | ~parted
    if None in found:
        yield None, column.is_null().to_numpy() & parted | ~parted


def _measured(part: Scored, draws: Draws, threshold: float, config: EvaluationConfig) -> _Group:
    negatives = int(part.label.size) - part.positives
    record: dict[str, Any] = {
        "n": int(part.label.size),
        "positives": part.positives,
        "negatives": negatives,
        "patients": part.patients,
        "suppressed": min(part.positives, negatives) < LEAST,
    }
    names = ("auroc", "sensitivity", "specificity")
    if record["suppressed"]:
        return _Group(record | dict.fromkeys(names), None)
    every = {**measures_of_ranks(config), **measures_at(threshold)}
    measures = {name: every[name] for name in names}
    found, drawn = values(part, measures), samples(part, measures, draws)
    made = {name: interval_of(found[name], drawn[name], config.confidence) for name in names}
    if config.bootstrap:
        made = widened(made, part, config.confidence)
    return _Group(record | {name: made[name].as_dict() for name in names}, drawn["auroc"])


def _gap(groups: list[_Group], config: EvaluationConfig) -> dict[str, Any]:
    """Find the largest difference of AUROC between groups of one attribute.

    The largest of many differences is large by being chosen. Its interval therefore holds
    all of them at once: the half-width is the quantile, over replicates, of the largest
    deviation of any difference from its value, in standard errors.

    Source: Romano and Wolf, Econometrica 73, 2005 (studentised maximum of a bootstrap).

    Returns:
        ``compared`` pairs; where there are any, the two groups, ``value``, ``low``, ``high``,
        ``more_than_chance`` (null without replicates), how many pairs are ``beyond_chance``,
        and always a ``sentence``.
    """
    shown = [g for g in groups if g.replicates is not None and g.record["group"] != UNKNOWN]
    pairs = [
        (a, b) if a.record["auroc"]["value"] >= b.record["auroc"]["value"] else (b, a)
        for a, b in combinations(shown, 2)
        if a.record["attribute"] == b.record["attribute"]
    ]
    if not pairs:
        return {"compared": 0, "sentence": "No attribute has two groups large enough to compare."}
    gaps = np.array([_area(a) - _area(b) for a, b in pairs])
    low, high = _simultaneous(gaps, pairs, config.confidence)
    widest = int(np.argmax(gaps))
    better, worse = pairs[widest]
    beyond = int((low > 0).sum())
    gap = {
        "compared": len(pairs),
        "attribute": better.record["attribute"],
        "groups": [better.record["group"], worse.record["group"]],
        "value": float(gaps[widest]),
        "low": _plain(low[widest]),
        "high": _plain(high[widest]),
        "more_than_chance": None if np.isnan(low[widest]) else bool(low[widest] > 0),
        "beyond_chance": beyond,
    }
    return gap | {"sentence": _sentence(gap, (_area(better), _area(worse)), config.confidence)}


def _simultaneous(
    gaps: Floats, pairs: list[tuple[_Group, _Group]], confidence: float
) -> tuple[Floats, Floats]:
    """Return ends of intervals that hold all gaps at once; NaN without replicates."""
    nothing = np.full(gaps.shape, np.nan)
    drawn = np.stack([_drawn(a) - _drawn(b) for a, b in pairs], axis=1)
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    if drawn.shape[0] < 2:
        return nothing, nothing
    error = drawn.std(axis=0, ddof=1)
    deviation = np.divide(np.abs(drawn - gaps), error, out=np.zeros_like(drawn), where=error > 0)
    half = np.quantile(deviation.max(axis=1), confidence) * error
    return gaps - half, gaps + half


def _sentence(gap: dict[str, Any], areas: tuple[float, float], confidence: float) -> str:
    word = _WORDS.get(gap["attribute"], gap["attribute"])
    names = [f"{word} {group}" for group in gap["groups"]]
    start = (
        f"The largest gap of AUROC lies between {names[0]} ({areas[0]:.3f}) and {names[1]} "
        f"({areas[1]:.3f}): {gap['value']:.3f}"
    )
    if gap["more_than_chance"] is None:
        return f"{start}. Without bootstrap replicates, chance is not judged."
    counted = "the only gap compared" if gap["compared"] == 1 else f"{gap['compared']} gaps at once"
    start += f" ({confidence:.0%} interval {gap['low']:.3f} to {gap['high']:.3f}, {counted})"
    if gap["more_than_chance"]:
        return f"{start}. That is more than chance explains."
    others = gap["beyond_chance"]
    rest = f" Of the smaller gaps, {others} are more than chance explains." if others else ""
    return f"{start}. Chance alone may explain it.{rest}"


def _by_number(value: object) -> tuple[int, str]:
    """Sort machine 9 before machine 10, and numbers before names."""
    text = str(value)
    return (int(text), "") if text.isdecimal() else (sys.maxsize, text)


def _area(group: _Group) -> float:
    return float(group.record["auroc"]["value"])


def _drawn(group: _Group) -> Floats:
    return np.empty(0) if group.replicates is None else group.replicates


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _text(value: object, attribute: _Attribute) -> str:
    if value is None:
        return UNKNOWN
    return ("yes" if value == 1 else "no") if attribute.flag else str(value)
