"""Formulas that several rooms need, in plain numbers: shares, tails of distributions, Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mammoscope.types import Floats

__all__ = [
    "chi_square_tail",
    "holm_adjusted",
    "normal_two_sided",
    "pearson_chi_square",
    "wilson_interval",
]


def wilson_interval(positives: Floats, total: Floats, z: float = 1.96) -> tuple[Floats, Floats]:
    """Return the ends of Wilson's interval for a share.

    Source: Wilson, J. Am. Stat. Assoc. 22, 1927.
    """
    share = positives / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    spread = np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    half = z * spread / (1 + z**2 / total)
    return centre - half, centre + half


def pearson_chi_square(positives: Floats, total: Floats) -> float:
    """Return Pearson's statistic of equal shares, without continuity correction.

    Args:
        positives: (K,) counts, whole or effective, of each group's positives.
        total: (K,) counts of each group; neither all nor none are positive.

    Source: Pearson, Phil. Mag. 50, 1900.
    """
    share = positives.sum() / total.sum()
    return float(np.sum((positives - total * share) ** 2 / (total * share * (1 - share))))


def chi_square_tail(statistic: float, df: int) -> float:
    """Return the chance that a chi-square variable of ``df`` degrees exceeds ``statistic``.

    For whole degrees of freedom the incomplete gamma function is a finite sum.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.4.4 and 26.4.5.
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    order = 0.5 if df % 2 else 1.0
    tail = math.erfc(math.sqrt(half)) if df % 2 else math.exp(-half)
    while order < df / 2:
        # Through logarithms: a power and a gamma would each overflow long before their ratio.
        tail += math.exp(order * math.log(half) - half - math.lgamma(order + 1))
        order += 1
    return min(1.0, tail)


def normal_two_sided(z: float) -> float:
    """Return the chance that a standard normal variable lies further from 0 than ``z``.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.29.
    """
    return math.erfc(abs(z) / math.sqrt(2))


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the order given.

    Source: Holm, Scand. J. Stat. 6, 1979.
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
