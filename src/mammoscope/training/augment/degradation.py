"""What images lose on their way: sharpness, resolution, bits, and whole patches."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from mammoscope.training.augment.parameters import AugmentParameters
from mammoscope.types import FloatImage

__all__ = ["blanked", "degraded"]


def degraded(image: Tensor, parameters: AugmentParameters, max_value: float) -> Tensor:
    """Blur, lose resolution, compress and add noise, in this order, where there is tissue.

    The black around tissue is exact in serving, and stays so.

    Args:
        image: (1, H, W) in [0, max_value].
        parameters: What was drawn.
        max_value: Largest grey value.
    """
    lossy = (parameters.blur_px, parameters.downscale, parameters.jpeg_quality)
    if lossy != (0.0, 1.0, 0):
        # OpenCV's separable filters are several times as quick as torch's on one image.
        changed = torch.from_numpy(_lossy(image[0].numpy(), parameters, max_value))[None]
        image = torch.where(image > 0, changed, image)
    if parameters.noise > 0:
        generator = torch.Generator().manual_seed(parameters.noise_seed)
        noise = torch.randn(image.shape, generator=generator) * (parameters.noise * max_value)
        image = torch.where(image > 0, image + noise, image).clamp(0, max_value)
    return image


def blanked(image: Tensor, parameters: AugmentParameters) -> Tensor:
    """Blank the rectangles that were drawn (DeVries and Taylor, arXiv:1708.04552)."""
    if not parameters.holes:
        return image
    image = image.clone()
    height, width = image.shape[1:]
    for top, left, bottom, right in parameters.holes:
        rows = slice(round(top * height), max(1, round(bottom * height)))
        image[:, rows, round(left * width) : max(1, round(right * width))] = 0
    return image


def _lossy(pixels: FloatImage, parameters: AugmentParameters, max_value: float) -> FloatImage:
    if parameters.blur_px > 0:
        side = 2 * math.ceil(3 * parameters.blur_px) + 1
        pixels = cv2.GaussianBlur(pixels, (side, side), parameters.blur_px).astype(np.float32)
    if parameters.downscale != 1.0:
        height, width = pixels.shape
        small = (
            max(1, round(width * parameters.downscale)),
            max(1, round(height * parameters.downscale)),
        )
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA).astype(np.float32)
        pixels = cv2.resize(pixels, (width, height)).astype(np.float32)
    if parameters.jpeg_quality:
        # JPEG holds 8 bits, whatever the image had.
        grey = np.rint(pixels * (255 / max_value)).clip(0, 255).astype(np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, parameters.jpeg_quality]
        data = cv2.imencode(".jpg", grey, quality)[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        assert decoded is not None  # noqa: S101 - it was encoded a line above
        pixels = decoded.astype(np.float32) * np.float32(max_value / 255)
    return pixels
