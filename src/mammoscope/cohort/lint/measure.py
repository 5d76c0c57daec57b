"""Measure one image for all checks: read once, look at everything."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammoscope.cohort.lint.aspect import texture_anisotropy
from mammoscope.cohort.lint.duplicates import perceptual_hash
from mammoscope.cohort.lint.facts import Hash, ImageFacts
from mammoscope.cohort.lint.inversion import thumbnail
from mammoscope.cohort.lint.text import count_characters
from mammoscope.cohort.lint.upsampling import find_resampling
from mammoscope.cohort.store import PreparedStore
from mammoscope.errors import CohortError, DicomError, IneligibleImageError
from mammoscope.preprocessing import BreastRegion, find_breast, read_pixels
from mammoscope.types import FloatImage, GreyImage

__all__ = ["hash_filled_part", "hash_prepared", "measure_image", "measure_pixels"]


def measure_image(task: dict[str, Any]) -> ImageFacts | str:
    """Measure one original: a pure function of its row.

    Args:
        task: ``image_id``, ``path``, ``pixel_aspect`` of the manifest and ``root``.

    Returns:
        Its measures, or the sentence that says why it cannot be read.
    """
    cv2.setNumThreads(1)
    try:
        pixels = read_pixels(Path(task["root"]) / task["path"]).pixels
    except DicomError as error:
        return str(error)
    except OSError as error:
        return f"{Path(task['path']).name} cannot be opened: {error.strerror or error}"
    return measure_pixels(task["image_id"], pixels, task["pixel_aspect"] or 1.0)


def measure_pixels(image_id: str, pixels: FloatImage, pixel_aspect: float) -> ImageFacts:
    """Measure presentation pixels.

    Args:
        image_id: Which image.
        pixels: (H, W) float32 in [0, 1].
        pixel_aspect: True width of a pixel over its height.
    """
    region = _find_breast(pixels)
    upright = 1 - pixels if region and region.inverted else pixels
    height, width = pixels.shape
    box = region.box if region else (0, 0, width, height)
    return ImageFacts(
        image_id=image_id,
        hash=perceptual_hash(pixels),
        thumbnail=thumbnail(pixels),
        inverted=region.inverted if region else None,
        resampling=find_resampling(pixels, box),
        anisotropy=texture_anisotropy(upright, region.mask, pixel_aspect) if region else None,
        characters=count_characters(upright, region.mask if region else None),
        chest_wall=region.chest_wall if region else None,
    )


def _find_breast(pixels: FloatImage) -> BreastRegion | None:
    try:
        return find_breast(pixels)
    except IneligibleImageError:
        return None


def hash_prepared(task: dict[str, Any]) -> tuple[str, Hash] | None:
    """Hash one prepared image; ``None`` where its file is damaged or empty.

    Args:
        task: ``image_id`` and ``cohort``.
    """
    cv2.setNumThreads(1)
    store = _store(task["cohort"])
    try:
        pixels = store.read(task["image_id"])
    except CohortError:
        return None
    if not pixels.any():
        return None
    return task["image_id"], hash_filled_part(pixels, store.config.max_value)


def hash_filled_part(pixels: GreyImage, max_value: int) -> Hash:
    """Hash the part of a prepared image that is filled.

    The empty part of the canvas, whose size depends on the breast, is no likeness.

    Args:
        pixels: (H, W) uint8 or uint16, not all 0.
        max_value: The grey value of white.
    """
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    filled = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return perceptual_hash(filled.astype(np.float32) / np.float32(max_value))


@lru_cache(maxsize=1)
def _store(cohort: str) -> PreparedStore:
    return PreparedStore(Path(cohort))
