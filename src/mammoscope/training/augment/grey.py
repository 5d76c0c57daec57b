"""How bright pixels are; black stays black, which is what surrounds tissue in serving too."""

from __future__ import annotations

import torch
from torch import Tensor

from mammoscope.training.augment.parameters import AugmentParameters

__all__ = ["toned"]

# Shares of tissue's pixels that auto-contrast leaves below black and above white.
_CUT = 0.01
_BINS = 256
_STRAIGHT = (1 / 3, 2 / 3)


def toned(image: Tensor, parameters: AugmentParameters, max_value: float) -> Tensor:
    """Change brightness, contrast, gamma and the curve of grey values, in this order.

    Args:
        image: (1, H, W) in [0, max_value].
        parameters: What was drawn.
        max_value: Largest grey value.
    """
    if parameters.auto_contrast:
        image = _stretched(image, max_value)
    if parameters.brightness != 1.0:
        image = (image * parameters.brightness).clamp(0, max_value)
    if parameters.contrast != 1.0:
        tissue = image > 0
        mean = image.sum() / tissue.sum().clamp(min=1)
        changed = ((image - mean) * parameters.contrast + mean).clamp(0, max_value)
        image = torch.where(tissue, changed, image)
    if parameters.gamma != 1.0:
        image = (image / max_value).clamp(0, 1).pow(parameters.gamma) * max_value
    if parameters.tone != _STRAIGHT:
        low, high = parameters.tone
        t = (image / max_value).clamp(0, 1)
        rest = 1 - t
        image = (3 * rest * t * (rest * low + t * high) + t**3) * max_value
    return image


def _stretched(image: Tensor, max_value: float) -> Tensor:
    """Stretch tissue's grey values to the whole range, but for the outermost ones."""
    tissue = image > 0
    counts = torch.histc(image[tissue], _BINS, 0, max_value)
    below = counts.cumsum(0) / counts.sum().clamp(min=1)
    low = int((below < _CUT).sum()) * max_value / _BINS
    high = (int((below < 1 - _CUT).sum()) + 1) * max_value / _BINS
    if high <= low:
        return image
    return torch.where(tissue, ((image - low) / (high - low)).clamp(0, 1) * max_value, image)
