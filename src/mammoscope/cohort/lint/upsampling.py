"""Was an image enlarged from a smaller one?

Nearest-neighbour enlarging repeats rows. Interpolation by u/d leaves pixels that depend on
their neighbours with weights of period u (Popescu and Farid, IEEE Trans. Signal Process.
53, 2005; Gallagher, CRV 2005): a predictor of a pixel from its neighbours does better with
weights of its own for each phase. Blocks of JPEG have a period too, 8, whose share in 2 and
4 is told by how much of the gain of eight phases two or four already bring. Factors of other
periods leave only the loss of high frequencies, which smoothing causes as well.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.facts import Resampling
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some
from mammoscope.types import FloatImage

__all__ = ["find_resampling", "upsampled_images"]

# Texture is judged on four tiles of this side in the middle of the breast.
_TILE = 192
_LEAST_TILE = 64
# Rows that repeat the one before: noise never does so over a whole tile's width.
_REPEATED = 0.05
#: By period: the least gain in prediction error of phases over one predictor, and the least
#: share that it has of the gain of eight phases. Chosen on CBIS-DDSM films stored as JPEG, of
#: which none of 100 reaches them (docs/reference/lint.md); pixels without JPEG stay at 1.00.
_LIMITS = {2: (1.02, 0.15), 3: (1.05, 0.0), 4: (1.03, 0.75), 5: (1.05, 0.0)}
_JPEG_PERIOD = 8
# Decades of power lost from 0.1 to 0.4 cycles a pixel.
_LOST_DECADES = 2.2


def find_resampling(pixels: FloatImage, box: tuple[int, int, int, int]) -> Resampling | None:
    """Look for traces of enlarging in the middle of the breast.

    Args:
        pixels: (H, W) float32.
        box: Where the breast is, in pixels.

    Returns:
        What was found, or ``None`` where the breast is below 64 pixels.
    """
    tiles = [tile for tile in _tiles(pixels, box) if np.ptp(tile) > 0]
    if not tiles:
        return None
    repeated = float(np.median([_repeats(tile) for tile in tiles]))
    gains = np.median([_gains(tile) for tile in tiles], axis=0)
    period = next(
        (
            period
            for (period, (least, share)), (gain, part) in zip(_LIMITS.items(), gains, strict=True)
            if gain > least and part > share
        ),
        None,
    )
    return Resampling(repeated, period, float(np.median([_lost_decades(tile) for tile in tiles])))


def _tiles(pixels: FloatImage, box: tuple[int, int, int, int]) -> list[FloatImage]:
    x_min, y_min, x_max, y_max = box
    side = min(_TILE, (y_max - y_min) // 2, (x_max - x_min) // 2)
    if side < _LEAST_TILE // 2:
        return []
    y, x = (y_min + y_max) // 2, (x_min + x_max) // 2
    return [
        np.ascontiguousarray(pixels[top : top + side, left : left + side])
        for top in (y - side, y)
        for left in (x - side, x)
    ]


def _repeats(tile: FloatImage) -> float:
    """Return the share of rows, or of columns, that repeat the one before; flat ones aside."""
    shares = []
    for rows in (tile, tile.T):
        textured = np.ptp(rows[1:], axis=1) > 0
        repeated = (rows[1:] == rows[:-1]).all(axis=1) & textured
        shares.append(float(repeated.sum()) / max(int(textured.sum()), 1))
    return max(shares)


def _gains(tile: FloatImage) -> NDArray[np.float64]:
    """Return (period, 2): gain of phases over one predictor, and its share of that of eight."""
    centred = tile - tile.mean()
    axes = []
    for rows in (centred, np.ascontiguousarray(centred.T)):
        one, jpeg = _error(rows, 1), _error(rows, _JPEG_PERIOD)
        errors = [_error(rows, period) for period in _LIMITS]
        axes.append([(one / e, (one - e) / max(one - jpeg, 1e-12)) for e in errors])
    # Both axes have to show it: images are enlarged both ways.
    return np.asarray(np.min(axes, axis=0), dtype=np.float64)


def _error(rows: FloatImage, period: int) -> float:
    """Return the mean squared error of pixels predicted from two neighbours on each side.

    One least-squares predictor for each phase of the period, along the first axis.
    """
    count = rows.shape[0] - 4
    target = rows[2 : 2 + count]
    near = np.stack([rows[at : at + count] for at in (0, 1, 3, 4)])
    total = 0.0
    for phase in range(period):
        known = near[:, phase::period].reshape(4, -1)
        wanted = target[phase::period].ravel()
        gram = (known @ known.T).astype(np.float64)
        weights = np.linalg.lstsq(gram, (known @ wanted).astype(np.float64), rcond=None)[0]
        residual = wanted - weights.astype(np.float32) @ known
        total += float(residual @ residual)
    return total / target.size + 1e-9


def _lost_decades(tile: FloatImage) -> float:
    """Return log10 of power at 0.10–0.15 over that at 0.40–0.45 cycles a pixel."""
    side = tile.shape[0]
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    power = np.abs(np.fft.rfft2((tile - tile.mean()) * window)) ** 2
    across = np.fft.rfftfreq(side)[None, :]
    down = np.abs(np.fft.fftfreq(side))[:, None]
    frequency = np.hypot(down, across)
    # Along the axes only: enlarging cuts each on its own.
    near_axis = np.minimum(down, across) < 0.1
    middle = power[near_axis & (frequency >= 0.10) & (frequency < 0.15)].mean()
    high = power[near_axis & (frequency >= 0.40) & (frequency < 0.45)].mean()
    return float(np.log10((middle + 1e-12) / (high + 1e-12)))


def upsampled_images(evidence: Evidence) -> Answer:
    """Images enlarged from a smaller size: repeated rows, traces of interpolation, lost detail.

    Repeated rows and traces of interpolation are warnings. Lost high frequencies alone are
    information: strong smoothing and a soft scanner look the same.
    """
    if isinstance(evidence.images, Skipped):
        return evidence.images
    findings = []
    for machine, images in evidence.by_machine(evidence.images).items():
        judged = [(f.image_id, f.resampling) for f in images if f.resampling is not None]
        certain = [name for name, r in judged if r.repeated > _REPEATED or r.period]
        soft = [name for name, r in judged if name not in certain and r.lost > _LOST_DECADES]
        if certain:
            findings.append(
                _finding(
                    Severity.WARNING,
                    machine,
                    certain,
                    len(judged),
                    "The images were enlarged from a smaller size: rows repeat, or pixels are "
                    "weighted means of their neighbours.",
                    "Take the originals; enlarged images hold no more than small ones, and their "
                    "traces tell a network where they came from.",
                )
            )
        if soft:
            findings.append(
                _finding(
                    Severity.INFO,
                    f"{machine}: lost frequencies",
                    soft,
                    len(judged),
                    "Fine detail is missing: smoothed, or enlarged by an odd factor.",
                    "Compare with the originals, if this machine's other images are sharper.",
                )
            )
    return findings


def _finding(
    severity: Severity, subject: str, images: list[str], of: int, what: str, todo: str
) -> Finding:
    return Finding(
        "upsampled_images", severity, subject, len(images), of, "images", what, todo, some(images)
    )
