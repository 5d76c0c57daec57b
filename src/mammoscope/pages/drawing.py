"""Small drawings as inline SVG. Colours come from the page's sheet, so dark pages stay legible."""

from __future__ import annotations

from collections.abc import Sequence

from mammoscope.pages.markup import Html, element

__all__ = ["bar", "histogram", "interval"]


def interval(
    value: float, low: float, high: float, *, upper: float, reference: float, label: str
) -> Html:
    """Draw a share as a dot on its interval, with a dashed line where all data lie.

    Args:
        value: The share.
        low: Lower end of its interval.
        high: Upper end.
        upper: Where the axis ends; it begins at 0. What lies beyond is cut.
        reference: The dashed line.
        label: The same in words.
    """
    width, middle = 160.0, 8.0

    def x(share: float) -> str:
        return f"{4 + (width - 8) * min(max(share / upper, 0.0), 1.0):.1f}"

    return element(
        "svg",
        element("line", x1=4, x2=width - 4, y1=middle, y2=middle, class_="axis"),
        element("line", x1=x(reference), x2=x(reference), y1=0, y2=16, class_="reference"),
        element("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="whisker"),
        element("circle", cx=x(value), cy=middle, r=3.6, class_="dot"),
        viewBox=f"0 0 {width:.0f} 16",
        class_="interval",
        role="img",
        aria_label=label,
    )


def bar(share: float, label: str) -> Html:
    """Draw a share of 1 as a filled bar."""
    return element(
        "svg",
        element("rect", x=0, y=2, width=100, height=8, rx=2, class_="trough"),
        element("rect", x=0, y=2, width=f"{100 * share:.2f}", height=8, rx=2, class_="fill"),
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_label=label,
    )


def histogram(
    heights: Sequence[float],
    label: str,
    *,
    reference: Sequence[float] | None = None,
    peak: float | None = None,
    ends: tuple[str, str] = ("", ""),
) -> Html:
    """Draw a histogram, and the outline of another behind it.

    Args:
        heights: Of the bins, from left to right.
        label: The same in words.
        reference: Heights of the other, in as many bins.
        peak: Height that fills the drawing; the highest bin by default.
        ends: Words under the left and the right end.
    """
    width, height = 320.0, 110.0
    top = peak or max([*heights, *(reference or ()), 1e-12])
    step = width / len(heights)

    def outline(values: Sequence[float]) -> str:
        points = []
        for number, value in enumerate(values):
            y = height - (height - 4) * min(value / top, 1.0)
            points += [f"{number * step:.1f},{y:.1f}", f"{(number + 1) * step:.1f},{y:.1f}"]
        return " ".join([f"0,{height:.0f}", *points, f"{width:.0f},{height:.0f}"])

    return element(
        "svg",
        element("polygon", points=outline(heights), class_="fill"),
        None
        if reference is None
        else element("polyline", points=outline(reference), class_="over"),
        element("line", x1=0, x2=width, y1=height, y2=height, class_="axis"),
        element("text", ends[0], x=0, y=height + 16, class_="tick"),
        element("text", ends[1], x=width, y=height + 16, class_="tick", text_anchor="end"),
        viewBox=f"0 0 {width:.0f} {height + 20:.0f}",
        class_="histogram",
        role="img",
        aria_label=label,
    )
