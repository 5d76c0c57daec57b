"""What public notebooks of the RSNA challenge do with a file, to compare ours with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels import apply_voi_lut

__all__ = ["notebook"]


def notebook(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Prepare one image as public notebooks do.

    pydicom's default decoding, the VOI LUT in float64, inversion, scaling to 0-255, Otsu's
    threshold, the largest contour's box, and OpenCV's resize.

    Args:
        path: The file.
        size: (H, W) to prepare it at.
    """
    dataset = pydicom.dcmread(path)
    data = apply_voi_lut(dataset.pixel_array, dataset).astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        data = np.amax(data) - data
    data = data - np.min(data)
    data = data / np.max(data)
    grey = (data * 255).astype(np.uint8)
    _, binary = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    crop = grey[y : y + height, x : x + width]
    return np.asarray(cv2.resize(crop, size[::-1]), dtype=np.uint8)
