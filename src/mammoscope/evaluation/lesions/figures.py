"""Figures of a report on lesions as SVG text: FROC, precision, distribution of Dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscope.config import EvaluationConfig
from mammoscope.evaluation.bootstrap import draw
from mammoscope.evaluation.figures import (
    BAND_REPLICATES,
    BLUE,
    GREY,
    ORANGE,
    new_figure,
    svg_text,
)
from mammoscope.evaluation.lesions.found import Found
from mammoscope.evaluation.lesions.froc import curve, sensitivities
from mammoscope.evaluation.lesions.precision import precision_curve
from mammoscope.pages import written_score
from mammoscope.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_lesion_figures"]

_UNITS = {"lesion": BLUE, "image": "#009E73", "breast": "#CC79A7"}
_RATES = 80


def draw_lesion_figures(
    found: Found,
    cut_off: dict[str, Any],
    overlap: dict[str, Any] | None,
    title: str,
    config: EvaluationConfig,
) -> dict[str, str]:
    """Draw what was found.

    Args:
        found: Images that are measured.
        cut_off: The frozen cut-off: its threshold and what it gave.
        overlap: Of masks, where there are some.
        title: What the data are; says *synthetic* where they are.
        config: Rates and confidence.

    Returns:
        SVG text by name: froc, precision and, of masks, dice.
    """
    pictures = {}
    with new_figure() as figure:
        axes = figure.subplots()
        _froc(axes, found, cut_off, config)
        axes.set_title(title, fontsize=10, color=GREY, loc="left")
        pictures["froc"] = svg_text(figure)
    with new_figure() as figure:
        axes = figure.subplots()
        _precision(axes, found)
        axes.set_title(title, fontsize=10, color=GREY, loc="left")
        pictures["precision"] = svg_text(figure)
    if overlap is not None:
        with new_figure() as figure:
            axes = figure.subplots()
            _dice(axes, overlap)
            axes.set_title(title, fontsize=10, color=GREY, loc="left")
            pictures["dice"] = svg_text(figure)
    return pictures


def _froc(axes: Axes, found: Found, cut_off: dict[str, Any], config: EvaluationConfig) -> None:
    most = 1.25 * max(config.froc_false_positives)
    rates = np.linspace(0, most, _RATES)
    draws = draw(found.scene.patients, min(config.bootstrap, BAND_REPLICATES), config.seed)
    band = sensitivities(found.marks, {"lesion": found.targets["lesion"]}, rates.tolist(), draws)
    known = band["lesion"][~np.isnan(band["lesion"]).any(axis=1)]
    if len(known):
        tail = (1 - config.confidence) / 2
        low, high = np.quantile(known, [tail, 1 - tail], axis=0)
        label = f"{config.confidence:.0%} of replicates"
        axes.fill_between(rates, low, high, step="post", color=BLUE, alpha=0.15, lw=0, label=label)
    for name, colour in _UNITS.items():
        x, y = _steps(found, name, most)
        axes.step(x, y, where="post", color=colour, lw=2 if name == "lesion" else 1.2, label=name)
    x = cut_off["measured"]["false_positives_per_image"]["value"]
    y = cut_off["measured"]["sensitivity"]["lesion"]["value"]
    if x is not None and y is not None:
        label = f"frozen cut-off ({written_score(cut_off['threshold'], 3)})"
        axes.plot(x, y, "o", color=ORANGE, ms=7, label=label)
    axes.set(xlabel="false positives per image", ylabel="sensitivity")
    axes.set(xlim=(0, most), ylim=(0, 1.01))
    axes.legend(loc="lower right", fontsize=9)


def _steps(found: Found, name: str, most: float) -> tuple[Floats, Floats]:
    """Return the corners of a curve: at each rate the highest sensitivity, to the axis' end."""
    _, rate, sensitivity = curve(found.marks, found.targets[name])
    shown = rate <= most
    x = np.concatenate([[0.0], rate[shown], [most]])
    y = np.concatenate([[0.0], sensitivity[shown]])
    return x, np.concatenate([y, y[-1:]])


def _precision(axes: Axes, found: Found) -> None:
    sensitivity, precision = precision_curve(found)
    if sensitivity.size:
        steps = np.concatenate([[0.0], sensitivity]), np.concatenate([precision[:1], precision])
        axes.step(*steps, where="pre", color=BLUE, lw=2)
    axes.set(xlabel="sensitivity by lesion", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")


def _dice(axes: Axes, overlap: dict[str, Any]) -> None:
    counts = overlap["histogram"]
    edges = np.linspace(0, 1, len(counts) + 1)
    axes.bar(edges[:-1], counts, width=edges[1], align="edge", color=BLUE, alpha=0.7)
    axes.set_axisbelow(True)
    mean = overlap["window"]["dice"]["value"]
    if mean is not None:
        axes.axvline(mean, color=ORANGE, lw=1.4, label=f"mean {mean:.3f}")
        axes.legend(loc="upper left", fontsize=9)
    axes.set(xlabel="Dice in a window around the lesion", ylabel="lesions", xlim=(0, 1))
