"""What the page shows of an image: grey values and heatmap, hung as radiologists hang them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoscope.explain import heatmap_in_original_pixels
from mammoscope.types import Box, ByteImage, FloatImage, ImageResult, Laterality

__all__ = ["Rendering", "render"]

#: Largest size of a rendering: more than a viewport of a reading monitor is wide and high.
MAX_HEIGHT_PX = 1400
MAX_WIDTH_PX = 2400
# Heat below this stays clear, as in the overlays that `predict` writes.
_CLEAR_BELOW = 0.3
_PNG_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Rendering:
    """One image as the page shows it.

    Attributes:
        image_png: 8-bit grey, lossless.
        heatmap_png: RGBA of the same size, transparent where there is no heat; ``None`` where the
            model gives no map.
        width_px: Width of both.
        height_px: Height of both.
        flipped: Mirrored against the file, so that the chest walls meet when hung.
        pixel_aspect: True width of an original pixel over its height.
        breast: Where the breast is, in original pixels of the image as hung.
    """

    image_png: bytes
    heatmap_png: bytes | None
    width_px: int
    height_px: int
    flipped: bool
    pixel_aspect: float
    breast: Box


def render(
    result: ImageResult,
    pixels: FloatImage,
    *,
    chest_wall: Laterality,
    pixel_aspect: float = 1.0,
) -> Rendering:
    """Render one image for display.

    Args:
        result: With its geometry, and a heatmap where the model gives one.
        pixels: (H, W) float32 original presentation values in [0, 1].
        chest_wall: Side of the file's image on which the chest wall lies.
        pixel_aspect: True width of a pixel over its height.
    """
    height, width = pixels.shape
    scale = min(1.0, MAX_HEIGHT_PX / height, MAX_WIDTH_PX / (width * pixel_aspect))
    size = (max(1, round(width * pixel_aspect * scale)), max(1, round(height * scale)))
    # Hung right breast first: its chest wall belongs on the right of the image.
    flipped = (result.laterality is Laterality.R) != (chest_wall is Laterality.R)
    grey = np.clip(_fit(pixels, size, flip=flipped) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    heat = None
    if result.heatmap is not None:
        heat = np.clip(_fit(heatmap_in_original_pixels(result), size, flip=flipped), 0, 1)
    return Rendering(
        image_png=_png(grey),
        heatmap_png=None if heat is None else _png(_coloured(heat)),
        width_px=size[0],
        height_px=size[1],
        flipped=flipped,
        pixel_aspect=pixel_aspect,
        breast=_breast(result, flipped=flipped),
    )


def _breast(result: ImageResult, *, flipped: bool) -> Box:
    """Return the crop that the model saw, in the image as hung."""
    if result.geometry is None:
        return Box(0, 0, result.width_px, result.height_px)
    x_min, y_min, x_max, y_max = result.geometry["crop"]
    if result.geometry["mirrored"] != flipped:
        x_min, x_max = result.width_px - x_max, result.width_px - x_min
    return Box(x_min, y_min, x_max, y_max)


def _fit(values: FloatImage, size: tuple[int, int], *, flip: bool) -> FloatImage:
    fitted = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return np.asarray(fitted[:, ::-1] if flip else fitted, dtype=np.float32)


def _coloured(heat: FloatImage) -> ByteImage:
    """(h, w) in [0, 1] -> (h, w, 4) BGRA as OpenCV writes it."""
    colours = cv2.applyColorMap((heat * 255.0).astype(np.uint8), cv2.COLORMAP_INFERNO)
    strength = np.clip((heat - _CLEAR_BELOW) / (1 - _CLEAR_BELOW), 0, 1)
    alpha = (strength * 255.0 + 0.5).astype(np.uint8)
    # Colour under full transparency is never seen and would only make the file larger.
    colours[alpha == 0] = 0
    return np.dstack([colours, alpha])


def _png(image: NDArray[np.uint8]) -> bytes:
    options = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL]
    return cv2.imencode(".png", np.ascontiguousarray(image), options)[1].tobytes()
