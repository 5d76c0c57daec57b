"""A study as one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mammoscope.evaluation.page_frame import framed
from mammoscope.pages import Html, element, joined, table
from mammoscope.pages.drawing import bar

__all__ = ["render_page"]

_STYLE = """
.numbers td, .numbers tbody th { white-space: nowrap; }
svg.bar { width: 180px; height: 12px; display: block; }
svg.plot { width: 100%; height: auto; display: block; }
svg .axis { stroke: var(--line); stroke-width: 1; }
svg .trough { fill: var(--line); }
svg .fill { fill: var(--accent); }
svg .tick { fill: var(--soft); font-size: 14px; }
svg .done { fill: var(--accent); }
svg .cut { fill: none; stroke: var(--soft); }
svg .best { fill: none; stroke: #d55e00; stroke-width: 2; }
.slices { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 1.2rem; }
"""
_NAMES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "pf1": "pF1",
    "f1": "F1 of the best threshold",
}
_STATES = {"complete": "complete", "pruned": "stopped early", "fail": "failed", "running": "cut"}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640.0, 220.0, 52.0, 28.0


def render_page(report: dict[str, Any]) -> str:
    """Return the page as HTML with everything inside.

    Args:
        report: What ``report.json`` holds.
    """
    banner = "What is best on generated pictures need not be best on others."
    body = [
        element("div", _headline(report), class_="headlines"),
        *(element("p", note, class_="note") for note in report["notes"]),
        element("h2", "The best settings"),
        _best(report),
        element("h2", "History"),
        _history(report),
        element("h2", "What mattered"),
        _importances(report),
        element("div", *_slices(report), class_="slices"),
        element("h2", "All trials"),
        _trials(report),
    ]
    return framed(
        "mammoscope study",
        "A study of settings",
        body,
        synthetic=banner if report["synthetic"] else None,
        style=_STYLE,
    )


def _headline(report: dict[str, Any]) -> Html:
    counts, best = report["counts"], report["best"]
    told = (
        f"{counts['complete']} trials complete, {counts['pruned']} stopped early, "
        f"{counts['fail']} failed; fold {report['fold']} validated, the test split was not read"
    )
    name = f" validation {_NAMES[report['objective']]} of the best trial "
    value = "none" if best is None else f"{best['value']:.3f}"
    return element("p", element("b", value), name, element("span", told), class_="headline")


def _best(report: dict[str, Any]) -> Html:
    best = report["best"]
    if best is None:
        return element("p", "No trial is complete.", class_="note")
    rows = [(key, _plain(value)) for key, value in best["settings"].items()]
    text = (
        "The best of many trials on one fold flatters itself. best.yaml holds these settings: "
        "train them, on other folds too, and measure that run on the test split."
    )
    caption = f"Trial {best['number']}"
    return joined([element("p", text), table(("key", "value"), rows, caption)])


def _history(report: dict[str, Any]) -> Html:
    points = [(float(t["number"]), t["value"]) for t in report["trials"] if t["value"] is not None]
    cut = [
        (float(t["number"]), t["by_epoch"][-1])
        for t in report["trials"]
        if t["state"] == "pruned" and t["by_epoch"]
    ]
    if not points:
        return element("p", "No trial is complete.", class_="note")
    best: list[tuple[float, float]] = []
    for number, value in points:
        before = best[-1][1] if best else value
        # Level until this trial, then up.
        best += [(number, before), (number, max(before, value))]
    last = float(len(report["trials"]) - 1)
    best.append((last, best[-1][1]))
    label = f"{_NAMES[report['objective']]} by trial, and the best so far"
    plot = _plot(points, cut, label, [(0.0, "0"), (last, f"{last:.0f}")], line=best)
    words = "Dots are complete trials, rings those stopped early, the line the best so far."
    return element("figure", plot, element("figcaption", words))


def _importances(report: dict[str, Any]) -> Html:
    found = report["importances"]
    if not found:
        return element("p", "Too few trials to say.", class_="note")
    fanova, decrease = found["fanova"], found["mean_decrease_impurity"]
    rows = [
        (key, bar(share, f"{share:.2f}"), f"{share:.2f}", f"{decrease[key]:.2f}")
        for key, share in fanova.items()
    ]
    caption = (
        "Each key's share of the variation of the objective over complete trials: by functional "
        "ANOVA of a random forest (Hutter et al., ICML 2014), and by the mean decrease of impurity."
    )
    return table(("", "", "fANOVA", "mean decrease"), rows, caption, class_="numbers")


def _slices(report: dict[str, Any]) -> list[Html]:
    """Draw the objective against each key."""
    figures = []
    done = [t for t in report["trials"] if t["value"] is not None]
    for key, dimension in report["settings"]["space"].items():
        places, ticks = _axis(key, dimension, done)
        if not places:
            continue
        points = [(x, t["value"]) for x, t in zip(places, done, strict=True)]
        plot = _plot(points, [], f"{_NAMES[report['objective']]} by {key}", ticks)
        figures.append(element("figure", plot, element("figcaption", element("b", key))))
    return figures


def _axis(
    key: str, dimension: dict[str, Any], done: list[dict[str, Any]]
) -> tuple[list[float], list[tuple[float, str]]]:
    """Return where each trial's value lies, and places of the axis with their names."""
    values = [trial["settings"][key] for trial in done]
    if dimension["values"] is not None:
        known = list(dimension["values"])
        ticks = [(float(place), _plain(value)) for place, value in enumerate(known)]
        return [float(known.index(value)) for value in values], ticks

    def scale(value: float) -> float:
        return math.log(value) if dimension["log"] else float(value)

    ends = [(scale(dimension[end]), f"{dimension[end]:g}") for end in ("low", "high")]
    return [scale(value) for value in values], ends


def _plot(
    points: Sequence[tuple[float, float]],
    cut: Sequence[tuple[float, float]],
    label: str,
    ticks: Sequence[tuple[float, str]],
    line: Sequence[tuple[float, float]] = (),
) -> Html:
    """Draw points over an axis from the first tick to the last; upwards it spans the values."""
    left, right = ticks[0][0], ticks[-1][0]
    every = [y for _, y in (*points, *cut)]
    low, high = min(every), max(every)

    def across(x: float) -> float:
        share = 0.5 if right == left else (x - left) / (right - left)
        return _LEFT + 12 + (_WIDTH - _LEFT - 24) * share

    def place(point: tuple[float, float]) -> tuple[str, str]:
        y = 0.5 if high == low else (point[1] - low) / (high - low)
        return f"{across(point[0]):.1f}", f"{(_HEIGHT - _BOTTOM - 8) * (1 - y) + 8:.1f}"

    def dots(chosen: Sequence[tuple[float, float]], class_: str) -> list[Html]:
        made = []
        for point in chosen:
            x, y = place(point)
            made.append(element("circle", cx=x, cy=y, r=4, class_=class_))
        return made

    def tick(number: int) -> Html:
        anchor = {0: "start", len(ticks) - 1: "end"}.get(number, "middle")
        x, name = ticks[number]
        where = f"{across(x):.1f}"
        return element("text", name, x=where, y=_HEIGHT - 6, class_="tick", text_anchor=anchor)

    path = " ".join(",".join(place(point)) for point in line)
    floor = _HEIGHT - _BOTTOM + 4
    return element(
        "svg",
        element("line", x1=_LEFT, x2=_WIDTH, y1=floor, y2=floor, class_="axis"),
        element("text", f"{high:.3f}", x=0, y=14, class_="tick"),
        element("text", f"{low:.3f}", x=0, y=_HEIGHT - _BOTTOM, class_="tick"),
        *(tick(number) for number in range(len(ticks))),
        element("polyline", points=path, class_="best") if line else None,
        *dots(cut, "cut"),
        *dots(points, "done"),
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
        class_="plot",
        role="img",
        aria_label=label,
    )


def _trials(report: dict[str, Any]) -> Html:
    keys = list(report["settings"]["space"])
    rows = []
    for trial in sorted(report["trials"], key=_rank):
        value = "" if trial["value"] is None else f"{trial['value']:.3f}"
        state = _STATES[trial["state"]] + (f": {trial['reason']}" if trial["reason"] else "")
        cells = (_plain(trial["settings"].get(key, "")) for key in keys)
        rows.append((trial["number"], value, len(trial["by_epoch"]), *cells, state))
    caption = f"Validation {_NAMES[report['objective']]}, best first."
    return table(("trial", "value", "epochs", *keys, "how it ended"), rows, caption)


def _rank(trial: dict[str, Any]) -> tuple[bool, float, int]:
    value = trial["value"]
    return value is None, 0.0 if value is None else -value, trial["number"]


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
