"""How far a reconstruction lies from its image, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["squared_error", "structural_error"]

# Wang et al. 2004: a Gaussian window of 11 x 11 with a spread of 1.5, and two constants that keep
# flat regions from dividing by 0.
_WINDOW, _SPREAD = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def squared_error(image: Tensor, other: Tensor) -> Tensor:
    """Return the squared difference of grey values in [0, 1], (B, 1, H, W)."""
    return (image - other) ** 2


def structural_error(image: Tensor, other: Tensor) -> Tensor:
    """Return (1 - SSIM) / 2 around each pixel, (B, 1, H, W) in [0, 1].

    Args:
        image: (B, 1, H, W) grey values in [0, 1].
        other: The same size.

    Source: Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity,
    IEEE Trans. Image Process. 13, 2004, equation 13.
    """
    across = torch.arange(_WINDOW, dtype=image.dtype, device=image.device) - _WINDOW // 2
    line = torch.exp(-(across**2) / (2 * _SPREAD**2))
    line = line / line.sum()
    window = (line[:, None] * line[None])[None, None]  # (1, 1, 11, 11)

    def mean(values: Tensor) -> Tensor:
        return functional.conv2d(values, window, padding=_WINDOW // 2)

    one, two = mean(image), mean(other)
    # Rounding may put a variance just below 0.
    spread_one = (mean(image**2) - one**2).clamp(min=0)
    spread_two = (mean(other**2) - two**2).clamp(min=0)
    together = mean(image * other) - one * two
    alike = ((2 * one * two + _C1) * (2 * together + _C2)) / (
        (one**2 + two**2 + _C1) * (spread_one + spread_two + _C2)
    )
    return ((1 - alike) / 2).clamp(0, 1)
