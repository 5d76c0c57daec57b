"""How like real mammograms synthetic ones are, measured on both by the same code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mammoscope.types import FloatImage

__all__ = ["spectrum_slopes"]

# Side of the windows; at 0.3 mm they are 38 mm wide.
_WINDOW_PX = 128
# Frequencies of the fit, in cycles over a window: below, the window's own shape shows, and above,
# noise and the point spread.
_LOWEST, _HIGHEST = 4, 40
# Darker than this no tissue is, and a logarithm says little.
_DARKEST = 0.02
# Share of a window that must lie in the breast.
_INSIDE = 0.999


def spectrum_slopes(pixels: FloatImage, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return beta of power falling as 1 / f^beta, for each window that lies in the breast.

    Args:
        pixels: (H, W) float32 presentation values in [0, 1], at about 0.3 mm a pixel; their
            logarithm is taken.
        inside: (H, W), where the breast is, a little inside its skin.

    Returns:
        (n,), of windows that overlap by half; a least-squares fit of the logarithm of the mean
        power in rings against that of frequency (Burgess, Med. Phys. 28, 2001).
    """
    taper = np.outer(np.hanning(_WINDOW_PX), np.hanning(_WINDOW_PX))
    frequency = np.hypot(np.fft.fftfreq(_WINDOW_PX)[:, None], np.fft.rfftfreq(_WINDOW_PX)[None, :])
    ring = np.rint(frequency * _WINDOW_PX).astype(int).ravel()
    members = np.bincount(ring)
    rings = np.arange(_LOWEST, _HIGHEST + 1)
    slopes = []
    for top in range(0, pixels.shape[0] - _WINDOW_PX + 1, _WINDOW_PX // 2):
        for left in range(0, pixels.shape[1] - _WINDOW_PX + 1, _WINDOW_PX // 2):
            where = np.s_[top : top + _WINDOW_PX, left : left + _WINDOW_PX]
            if inside[where].mean() < _INSIDE:
                continue
            part = np.log(np.maximum(pixels[where], _DARKEST))
            power = np.abs(np.fft.rfft2((part - part.mean()) * taper)) ** 2
            mean = np.bincount(ring, power.ravel()) / members
            slopes.append(-np.polyfit(np.log(rings), np.log(mean[rings] + 1e-12), 1)[0])
    return np.array(slopes)
