"""Is an image shown as a negative: background bright, tissue dark?

Each image is judged as ``prepare`` judges it, by its air. The mean of a machine's images, each
turned as its own air says, then decides for each image: it outvotes what was taken for air, and
speaks for images that have none.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.facts import ImageFacts
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some
from mammoscope.types import FloatImage

__all__ = ["THUMBNAIL", "inverted_images", "thumbnail"]

#: Side of the square thumbnail by which images of a machine are compared.
THUMBNAIL = 32
# From this share of inverted images on, the machine itself is taken to be wrong.
_WHOLE_MACHINE = 0.5
_LEAST_IMAGES = 5


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

    Each image counts turned the way its own air says; none where fewer than five show a breast.
    """
    upright = [
        1 - facts.thumbnail if facts.inverted else facts.thumbnail
        for facts in machine
        if facts.inverted is not None
    ]
    if len(upright) < _LEAST_IMAGES:
        return ()
    left = np.mean([_wall_left(image) for image in upright], axis=0)
    mean = np.mean(upright, axis=0)
    return mean + mean[:, ::-1], left, left[:, ::-1]


def _is_inverted(facts: ImageFacts, templates: Sequence[FloatImage]) -> bool:
    if not templates:
        return bool(facts.inverted)
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
