"""Is an image shown as a negative: background bright, tissue dark?

Air has no texture, so the largest flat region that touches the border is the background;
its grey against that of everything else decides. Where there is none (the breast fills the
image) the image is compared with the others of its machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.facts import ImageFacts
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some
from mammoscope.types import FloatImage

__all__ = ["THUMBNAIL", "background_contrast", "inverted_images", "thumbnail"]

#: Side of the square thumbnail by which images of a machine are compared.
THUMBNAIL = 32
# Longest side of the copy on which flatness is judged.
_WORK_SIDE = 128
# A flat window spans less than this share of the image's own range.
_FLAT = 0.02
# Below this share of the image a flat region may be a label or a frame.
_LEAST_AREA = 0.1
# A background differs from the rest by at least this share of the image's range.
_LEAST_CONTRAST = 0.1
# How much better an image has to look like its machine's others turned than as it is.
_TURNED = 0.1
# From this share of inverted images on, the machine itself is taken to be wrong.
_WHOLE_MACHINE = 0.5
_LEAST_IMAGES = 5


def background_contrast(pixels: FloatImage) -> float | None:
    """Return the grey of the background less that of the rest, as a share of the range.

    Args:
        pixels: (H, W) float32 presentation values.

    Returns:
        Below 0 for a mammogram as it should be, above 0 for its negative; ``None`` where no
        flat region touches the border.
    """
    scale = _WORK_SIDE / max(pixels.shape)
    size = (max(8, round(pixels.shape[1] * scale)), max(8, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    low, high = np.quantile(small, (0.01, 0.99))
    span = float(high - low)
    if span <= 0:
        return None
    mean = cv2.blur(small, (5, 5))
    variance = cv2.blur(small * small, (5, 5)) - mean * mean
    flat = (variance < (_FLAT * span) ** 2).astype(np.uint8)
    background = _largest_at_border(flat)
    if background.mean() < _LEAST_AREA or background.all():
        return None
    contrast = float(np.median(small[background]) - np.median(small[~background])) / span
    return contrast if abs(contrast) >= _LEAST_CONTRAST else None


def _largest_at_border(flat: np.ndarray) -> np.ndarray:
    """Return the largest connected region that touches the border, (h, w) bool."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touching = np.setdiff1d(np.unique(border), [0])
    if touching.size == 0:
        return np.zeros(flat.shape, bool)
    largest = touching[np.argmax(stats[touching, cv2.CC_STAT_AREA])]
    return np.asarray(labels == largest)


def thumbnail(pixels: FloatImage) -> FloatImage:
    """Return a (32, 32) float32 copy without the outer 4 %, where frames lie."""
    height, width = pixels.shape
    down, across = round(0.04 * height), round(0.04 * width)
    inner = pixels[down : height - down, across : width - across]
    small = cv2.resize(inner, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def inverted_images(evidence: Evidence) -> Answer:
    """Images whose background is brighter than their tissue, or against their machine's others.

    Where half of a machine's images or more are inverted the machine is named: its headers
    say MONOCHROME2 for what is MONOCHROME1, or a re-export forgot the inversion.
    """
    if isinstance(evidence.images, Skipped):
        return evidence.images
    findings = []
    for machine, images in evidence.by_machine(evidence.images).items():
        inverted = [facts.image_id for facts in images if _is_inverted(facts, images)]
        if not inverted:
            continue
        whole = len(images) >= _LEAST_IMAGES and len(inverted) >= _WHOLE_MACHINE * len(images)
        findings.append(
            Finding(
                "inverted_images",
                Severity.ERROR,
                f"{machine}, as a whole" if whole else machine,
                len(inverted),
                len(images),
                "images",
                "Background is brighter than tissue: the machine's images are shown as negatives."
                if whole
                else "Background is brighter than tissue: these images are shown as negatives.",
                "Correct Photometric Interpretation (0028,0004) or the export that forgot "
                "MONOCHROME1, then ingest and prepare again.",
                some(inverted),
            )
        )
    return findings


def _is_inverted(facts: ImageFacts, machine: Sequence[ImageFacts]) -> bool:
    if facts.background_contrast is not None:
        return facts.background_contrast > 0
    others = [
        other.thumbnail
        for other in machine
        if other is not facts and (other.background_contrast or 0) < 0
    ]
    if len(others) < _LEAST_IMAGES:
        return False
    # Both sides of every image, so that left and right breasts make one mean.
    mean = np.mean([*others, *(other[:, ::-1] for other in others)], axis=0)
    left = np.mean([_wall_left(other) for other in others], axis=0)
    templates = (mean, left, left[:, ::-1])
    upright = max(_correlation(facts.thumbnail, template) for template in templates)
    turned = max(_correlation(1 - facts.thumbnail, template) for template in templates)
    return turned - upright > _TURNED


def _wall_left(image: FloatImage) -> FloatImage:
    half = THUMBNAIL // 2
    return image if image[:, :half].mean() >= image[:, half:].mean() else image[:, ::-1]


def _correlation(first: FloatImage, second: FloatImage) -> float:
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
