"""Random changes of training images: drawn first, applied after, both on tensors.

There is no horizontal flip: preprocessing has put the chest wall on the left, and it
stays there in serving.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mammoscope.config import AugmentConfig

__all__ = ["AugmentParameters", "apply", "draw"]


@dataclass(frozen=True, slots=True)
class AugmentParameters:
    """What was drawn for one image; the defaults change nothing.

    Attributes:
        flip_vertical: Mirror top to bottom.
        rotate_degrees: Rotation about the centre.
        zoom: Above 1 enlarges.
        shift_y: Downwards, as a share of the height.
        shift_x: To the right, as a share of the width.
        gamma: Exponent of the grey values.
        noise: Standard deviation of added noise, in [0, 1] grey.
        noise_seed: Seed of that noise.
    """

    flip_vertical: bool = False
    rotate_degrees: float = 0.0
    zoom: float = 1.0
    shift_y: float = 0.0
    shift_x: float = 0.0
    gamma: float = 1.0
    noise: float = 0.0
    noise_seed: int = 0


def draw(config: AugmentConfig, generator: torch.Generator) -> AugmentParameters:
    """Draw the changes of one image.

    Args:
        config: How far each may go.
        generator: Source of randomness; always the same number of draws is taken.
    """
    u = (2 * torch.rand(6, generator=generator, dtype=torch.float64) - 1).tolist()
    noise_seed = int(torch.randint(2**31, (1,), generator=generator))
    return AugmentParameters(
        flip_vertical=config.flip_vertical and u[0] > 0,
        rotate_degrees=config.rotate_degrees * u[1],
        zoom=1 + config.scale * u[2],
        shift_y=config.shift * u[3],
        shift_x=config.shift * u[4],
        gamma=1 + config.gamma * u[5],
        noise=config.noise,
        noise_seed=noise_seed,
    )


def apply(image: Tensor, parameters: AugmentParameters, max_value: float) -> Tensor:
    """Apply drawn changes to one image.

    Args:
        image: (1, H, W) float32 grey values in [0, max_value].
        parameters: What was drawn.
        max_value: Largest grey value.

    Returns:
        (1, H, W) float32 in [0, max_value]; what comes into view is black.
    """
    if parameters.flip_vertical:
        image = image.flip(1)
    geometry = (
        parameters.rotate_degrees,
        parameters.zoom,
        parameters.shift_y,
        parameters.shift_x,
    )
    if geometry != (0.0, 1.0, 0.0, 0.0):
        image = _warp(image, parameters)
    if parameters.gamma != 1.0:
        image = (image / max_value).clamp(0, 1).pow(parameters.gamma) * max_value
    if parameters.noise > 0:
        generator = torch.Generator().manual_seed(parameters.noise_seed)
        noise = torch.randn(image.shape, generator=generator) * (parameters.noise * max_value)
        # Only where there is tissue: the black around it is exact in serving.
        image = torch.where(image > 0, image + noise, image).clamp(0, max_value)
    return image


def _warp(image: Tensor, parameters: AugmentParameters) -> Tensor:
    """Rotate, zoom and shift in one interpolation, angles true whatever the aspect ratio."""
    height, width = image.shape[1:]
    angle = math.radians(parameters.rotate_degrees)
    cos, sin = math.cos(angle) / parameters.zoom, math.sin(angle) / parameters.zoom
    aspect = height / width
    # Maps output to input in grid_sample's coordinates, which run from -1 to 1.
    matrix = torch.tensor(
        [
            [cos, sin * aspect, -2 * parameters.shift_x],
            [-sin / aspect, cos, -2 * parameters.shift_y],
        ],
        dtype=torch.float32,
    )
    grid = functional.affine_grid(matrix[None], [1, 1, height, width], align_corners=False)
    return functional.grid_sample(
        image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]
