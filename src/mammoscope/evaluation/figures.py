"""Figures of a report as SVG text: ROC, precision-recall, reliability, distribution."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscope.evaluation.bootstrap import draw
from mammoscope.evaluation.metrics import precision_recall_curve, roc_curve
from mammoscope.evaluation.tables import Scored
from mammoscope.pages import written_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BAND_REPLICATES", "BLUE", "GREY", "ORANGE", "draw_figures", "new_figure", "svg_text"]

# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#7a7a7a"
BAND_REPLICATES = 200
_NEAR_ZERO = 0.05
_FLOOR = 1e-6
# Sensitivity from which on a legend at the upper right hides precisions above this one.
_RIGHT, _BELOW_LEGEND = 0.4, 0.7
# Share of a figure's height that a line of its legend takes.
_LEGEND_LINE = 0.06
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mammoscope",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
}


def draw_figures(
    data: Scored,
    thresholds: dict[str, float],
    title: str,
    calibration: dict[str, Any] | None,
    seed: int = 0,
) -> dict[str, str]:
    """Draw all figures of one level.

    Args:
        data: Scores and labels.
        thresholds: Operating points by name.
        title: What the data are; says *synthetic* where they are.
        calibration: Reliability of the scores ``after`` calibration and, where there was one,
            ``before``, with their ``bins``; ``None`` for scores that are no chances.
        seed: Seed of the ROC band.

    Returns:
        SVG text by name: roc, precision_recall, reliability where it was given, scores.
    """
    pictures: dict[str, str] = {}
    draws: dict[str, Callable[[Axes], None]] = {
        "roc": lambda axes: _roc(axes, data, thresholds, seed),
        "precision_recall": lambda axes: _precision_recall(axes, data, thresholds),
    }
    if calibration is not None:
        draws["reliability"] = lambda axes: _reliability(axes, calibration)
    draws["scores"] = lambda axes: _scores(axes, data, thresholds)
    for name, drawn in draws.items():
        with new_figure() as figure:
            axes = figure.subplots()
            drawn(axes)
            axes.set_title(title, fontsize=10, color=GREY, loc="left")
            pictures[name] = svg_text(figure)
    return pictures


def _roc(axes: Axes, data: Scored, thresholds: dict[str, float], seed: int) -> None:
    grid = np.linspace(0, 1, 201)
    curves = []
    for times in draw(int(data.patient.max()) + 1, BAND_REPLICATES, seed):
        false_rate, true_rate = roc_curve(data.score, data.label, times[data.patient].astype(float))
        if false_rate.size:
            curves.append(np.interp(grid, false_rate, true_rate))
    if curves:
        low, high = np.quantile(curves, [0.025, 0.975], axis=0)
        axes.fill_between(grid, low, high, color=BLUE, alpha=0.15, lw=0, label="95 % of replicates")
    false_rate, true_rate = roc_curve(data.score, data.label)
    axes.plot(false_rate, true_rate, color=BLUE, lw=2)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    for name, threshold in thresholds.items():
        called = data.score >= threshold
        x, y = called[~data.label].mean(), called[data.label].mean()
        label = f"{name} (threshold {written_score(threshold, 3)})"
        axes.plot(x, y, "o", ms=7, label=label, color=_next(axes))
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)


def _precision_recall(axes: Axes, data: Scored, thresholds: dict[str, float]) -> None:
    weight = data.weight
    sensitivity, precision = precision_recall_curve(data.score, data.label, weight)
    # A step's precision holds for the sensitivity that it adds: average precision is the area.
    steps = np.concatenate([[0.0], sensitivity]), np.concatenate([precision[:1], precision])
    axes.step(*steps, where="pre", color=BLUE, lw=2)
    share = weight @ data.label / weight.sum()
    axes.axhline(share, color=GREY, lw=1, ls="--", label="share of positives")
    for name, threshold in thresholds.items():
        called = data.score >= threshold
        if called.any():
            x = called[data.label].mean()
            y = weight[called & data.label].sum() / weight[called].sum()
            axes.plot(x, y, "o", ms=7, label=name, color=_next(axes))
    axes.set(xlabel="sensitivity", ylabel="precision (PPV)", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")
    # Where the curve leaves room: a weak model's runs low.
    low = precision[sensitivity >= _RIGHT].max(initial=0.0) < _BELOW_LEGEND
    axes.legend(loc="upper right" if low else "lower left", fontsize=9)


def _reliability(axes: Axes, calibration: dict[str, Any]) -> None:
    """Observed share of positives in bins of equal size, with their intervals."""
    after, before = (calibration[key] for key in ("after", "before"))
    drawn = [(after, BLUE, BLUE, "as scored")]
    if before is not None:
        drawn.insert(0, (before, GREY, "white", "uncalibrated"))
    scores = np.array([part["mean_score"] for part in after["bins"]])
    # Scores for screening lie near 0, where a square of all shares would show one point. On the
    # other scale a share of 0 has no place: it stands on the floor.
    near_zero = float(np.median(scores)) < _NEAR_ZERO
    floor = max(float(scores.min()) / 3, _FLOOR) if near_zero else 0.0
    axes.plot([floor, 1], [floor, 1], color=GREY, lw=1, ls="--", label="perfect calibration")
    for found, colour, filling, name in drawn:
        mean, share, low, high = (
            np.array([part[key] for part in found["bins"]]).clip(floor)
            for key in ("mean_score", "share", "low", "high")
        )
        errors = np.clip(np.stack([share - low, high - share]), 0, None)
        axes.errorbar(
            mean, share, yerr=errors, fmt="o", color=colour, mfc=filling, capsize=3, label=name
        )
    axes.set(xlabel="mean score in bin", ylabel="share of positives")
    if near_zero:
        axes.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.1))
    else:
        axes.set(xlim=(0, 1), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize=9)


def _scores(axes: Axes, data: Scored, thresholds: dict[str, float]) -> None:
    edges = np.linspace(0, 1, 31).tolist()
    axes.hist(data.score[~data.label], edges, color=BLUE, alpha=0.6, label="negative")
    axes.hist(data.score[data.label], edges, color=ORANGE, alpha=0.7, label="positive")
    for index, (name, threshold) in enumerate(thresholds.items()):
        axes.axvline(threshold, color=GREY, ls=("-", "--", ":")[index % 3], lw=1.2, label=name)
    # Named, since looking for the best place takes matplotlib seconds on a busy machine; the bars
    # are kept below it.
    axes.legend(loc="upper center", ncols=2, fontsize=9, frameon=True, edgecolor="none")
    lines = math.ceil((2 + len(thresholds)) / 2)
    top = axes.get_ylim()[1] / (1 - _LEGEND_LINE * (lines + 1))
    axes.set(xlabel="score", ylabel="number", xlim=(0, 1), ylim=(0, top))


def _next(axes: Axes) -> str:
    colours = (ORANGE, "#009E73", "#CC79A7", "#56B4E9")
    drawn = sum(line.get_marker() == "o" for line in axes.get_lines())
    return colours[drawn % len(colours)]


@contextmanager
def new_figure() -> Iterator[Figure]:
    """Yield a figure in the house's style."""
    # Drawn without pyplot: no global state, no display.
    from matplotlib import rc_context
    from matplotlib.figure import Figure as NewFigure

    with rc_context(_STYLE):
        yield NewFigure(figsize=(4.8, 4.4), layout="constrained")


def svg_text(figure: Figure) -> str:
    """Return a figure as SVG, the same bytes for the same figure."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
