"""Is an image shown as a negative: background bright, tissue dark?

Air has no texture, so the largest flat region that touches the border is the background;
its grey against that of everything else says how most images of a machine lie. Their mean,
each turned as its own air says, then decides for each image: by this comparison all 1,592
films of CBIS-DDSM look more like the others than their negatives do, while by flatness
alone one, with a white label over a tenth of it, is taken for a negative and 16 are undecided.
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
# A flat window deviates by less than this share of the image's own range; the strictest level
# that leaves a background is taken, as a smooth breast is flat by the loosest too.
_FLAT = (0.003, 0.006, 0.01, 0.02)
# Below this share of the image a flat region may be a label or a frame.
_LEAST_AREA = 0.1
# A background differs from the rest by at least this share of the image's range.
_LEAST_CONTRAST = 0.1
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
    for level in _FLAT:
        background = _largest_at_border((variance < (level * span) ** 2).astype(np.uint8))
        if background.mean() >= _LEAST_AREA:
            break
    else:
        return None
    if background.all():
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
        templates = _templates(images)
        inverted = [facts.image_id for facts in images if _is_inverted(facts, templates)]
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


def _templates(machine: Sequence[ImageFacts]) -> tuple[FloatImage, ...]:
    """Return how the machine's images look with air dark: any side, wall left, wall right.

    Each image counts turned the way its own air says; none where fewer than five have air.
    """
    upright = [
        1 - facts.thumbnail if facts.background_contrast > 0 else facts.thumbnail
        for facts in machine
        if facts.background_contrast is not None
    ]
    if len(upright) < _LEAST_IMAGES:
        return ()
    left = np.mean([_wall_left(image) for image in upright], axis=0)
    mean = np.mean(upright, axis=0)
    return mean + mean[:, ::-1], left, left[:, ::-1]


def _is_inverted(facts: ImageFacts, templates: Sequence[FloatImage]) -> bool:
    if not templates:
        return facts.background_contrast is not None and facts.background_contrast > 0
    upright = max(_correlation(facts.thumbnail, template) for template in templates)
    turned = max(_correlation(1 - facts.thumbnail, template) for template in templates)
    return turned > upright


def _wall_left(image: FloatImage) -> FloatImage:
    half = THUMBNAIL // 2
    return image if image[:, :half].mean() >= image[:, half:].mean() else image[:, ::-1]


def _correlation(first: FloatImage, second: FloatImage) -> float:
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
