"""Random changes of training images: drawn first, applied after, both on tensors.

By default there is no horizontal flip: preprocessing has put the chest wall on the left, and it
stays there in serving.
"""

from __future__ import annotations

from torch import Tensor

from mammoscope.training.augment.degradation import blanked, degraded
from mammoscope.training.augment.geometry import cropped, warped
from mammoscope.training.augment.grey import toned
from mammoscope.training.augment.parameters import AugmentParameters, draw

__all__ = ["AugmentParameters", "apply", "apply_to_mask", "draw"]


def apply(image: Tensor, parameters: AugmentParameters, max_value: float) -> Tensor:
    """Apply drawn changes to one image.

    Args:
        image: (1, H, W) float32 grey values in [0, max_value]; it is left as it is.
        parameters: What was drawn.
        max_value: Largest grey value.

    Returns:
        (1, H, W) float32 in [0, max_value]; what comes into view is black.
    """
    image = cropped(warped(image, parameters), parameters)
    image = degraded(toned(image, parameters, max_value), parameters, max_value)
    return blanked(image, parameters)


def apply_to_mask(mask: Tensor, parameters: AugmentParameters) -> Tensor:
    """Move a mask as :func:`apply` moves the image that it belongs to.

    What is cut away is no longer in the mask; behind a blanked hole there is still a lesion.

    Args:
        mask: (1, H, W) of whole numbers, such as the number of a lesion; it is left as it is.
        parameters: What was drawn.

    Returns:
        (1, H, W) of the same type; 0 where something came into view.
    """
    moved = warped(mask.float(), parameters, mode="nearest")
    return cropped(moved, parameters).to(mask.dtype)
