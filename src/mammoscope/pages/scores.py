"""How scores and cut-offs are written, on pages, overlays and in the terminal."""

from __future__ import annotations

__all__ = ["written_score"]

# More digits than this nobody reads: what is nearer to an end is told as beyond them.
_MOST_DIGITS = 6


def written_score(score: float, digits: int = 2) -> str:
    """Write a score or a cut-off so that one next to 0 or 1 is not taken for 0 or 1.

    A network that is sure of itself gives most of its scores within a hundredth of 1, and a
    cut-off among them would read 1.00, which no score could reach. ``service/web/dom.js`` has the
    same rule for the page.

    Args:
        score: In [0, 1]; a cut-off that nothing reaches is above 1.
        digits: Behind the point; as many more as it takes to tell the score from 0 and 1.

    Returns:
        Such as 0.41, 0.996, > 0.999999 or, of a cut-off just above 1, > 1.
    """
    if score in (0, 1):
        return f"{score:.{digits}f}"
    for places in range(digits, max(digits, _MOST_DIGITS) + 1):
        text = f"{score:.{places}f}"
        if float(text) not in (0, 1):
            return text
    end = f"{10.0**-_MOST_DIGITS:.{_MOST_DIGITS}f}"
    if score > 1:
        return "> 1"
    return f"> {1 - float(end):.{_MOST_DIGITS}f}" if score > 0.5 else f"< {end}"
