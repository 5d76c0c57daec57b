"""Where pixels go: flips, and everything else in one interpolation."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mammoscope.training.augment.parameters import AugmentParameters

__all__ = ["cropped", "warped"]

# Points at which elastic displacements are drawn; between them they are smooth.
_ELASTIC_GRID = (9, 5)


def warped(
    image: Tensor,
    parameters: AugmentParameters,
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """Flip, then displace, rotate, zoom, shift, distort and enlarge in one interpolation.

    Args:
        image: (1, H, W).
        parameters: What was drawn.
        mode: Between pixels; ``nearest`` keeps the values that there are.
    """
    if parameters.flip_vertical:
        image = image.flip(1)
    if parameters.flip_horizontal:
        image = image.flip(2)
    if not _moves(parameters):
        return image
    height, width = image.shape[1:]
    grid = _grid(parameters, height, width)
    return functional.grid_sample(
        image[None], grid, mode=mode, padding_mode="zeros", align_corners=False
    )[0]


def cropped(image: Tensor, parameters: AugmentParameters) -> Tensor:
    """Blank what lies outside the part that is kept."""
    top, left, bottom, right = parameters.kept
    if (top, left, bottom, right) == (0.0, 0.0, 1.0, 1.0):
        return image
    height, width = image.shape[1:]
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    kept = torch.zeros_like(image)
    kept[:, rows, columns] = image[:, rows, columns]
    return kept


def _moves(parameters: AugmentParameters) -> bool:
    affine = (
        parameters.rotate_degrees,
        parameters.zoom,
        parameters.shift_y,
        parameters.shift_x,
        parameters.window,
    )
    bent = parameters.elastic or parameters.bands_y or parameters.bands_x
    return affine != (0.0, 1.0, 0.0, 0.0, (0.0, 0.0, 1.0, 1.0)) or bool(bent)


def _grid(parameters: AugmentParameters, height: int, width: int) -> Tensor:
    """Return where each output pixel is read, (1, H, W, 2) in [-1, 1], x before y."""
    matrix = _matrix(parameters, height / width)
    if parameters.bands_y or parameters.bands_x:
        y, x = _distorted(parameters.bands_y, height), _distorted(parameters.bands_x, width)
        at = torch.stack(
            [x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)],
            dim=-1,
        )
        grid = (at @ matrix.T)[None]
    else:
        grid = functional.affine_grid(matrix[None], [1, 1, height, width], align_corners=False)
    if parameters.elastic:
        grid = grid + _displacements(parameters, height, width)
    return grid


def _matrix(parameters: AugmentParameters, aspect: float) -> Tensor:
    """Return the affine map from output to input, (2, 3), angles true whatever the aspect ratio."""
    angle = math.radians(parameters.rotate_degrees)
    cos, sin = math.cos(angle) / parameters.zoom, math.sin(angle) / parameters.zoom
    matrix = torch.tensor(
        [
            [cos, sin * aspect, -2 * parameters.shift_x],
            [-sin / aspect, cos, -2 * parameters.shift_y],
        ],
        dtype=torch.float32,
    )
    top, left, bottom, right = parameters.window
    if parameters.window == (0.0, 0.0, 1.0, 1.0):
        return matrix
    window = torch.tensor(
        [[right - left, 0, left + right - 1], [0, bottom - top, top + bottom - 1], [0, 0, 1]],
        dtype=torch.float32,
    )
    return matrix @ window


def _distorted(bands: tuple[float, ...], size: int) -> Tensor:
    """Return the coordinate that each pixel of an axis is read from, piecewise linear."""
    centres = (np.arange(size) + 0.5) / size
    if bands:
        ends = np.concatenate([[0.0], np.cumsum(bands)])
        centres = np.interp(centres, np.linspace(0, 1, len(ends)), ends)
        # Beyond the outermost pixels' centres, black from outside would mix in.
        centres = centres.clip(0.5 / size, 1 - 0.5 / size)
    return torch.from_numpy(2 * centres - 1).float()


def _displacements(parameters: AugmentParameters, height: int, width: int) -> Tensor:
    """Return smooth displacements, (1, H, W, 2), of equal spread in pixels on both axes."""
    generator = torch.Generator().manual_seed(parameters.detail_seed)
    points = torch.randn(1, 2, *_ELASTIC_GRID, generator=generator)
    smooth = functional.interpolate(points, (height, width), mode="bicubic", align_corners=True)
    # A share of the width is twice as much in coordinates from -1 to 1.
    spread = 2 * parameters.elastic
    return smooth.permute(0, 2, 3, 1) * torch.tensor([spread, spread * width / height])
