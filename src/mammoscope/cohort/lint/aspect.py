"""Were images stretched, so that their pixels are not square any more?

The texture of a breast has nearly the same gradient across as down. Stretching one axis by
s divides its gradient by s. One image cannot tell: between films the ratio varies by 15 %.
The mean of many can.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from mammoscope.cohort.lint.evidence import Evidence
from mammoscope.cohort.lint.findings import Answer, Finding, Severity, Skipped, some
from mammoscope.types import ByteImage, FloatImage

__all__ = ["stretched_images", "texture_anisotropy"]

# Texture is judged at this height, where it is coarser than noise and finer than the outline.
_WORK_HEIGHT = 320
_FINE_PX, _COARSE_PX = 2.0, 6.0
_INSIDE_PX = 10
_LEAST_TISSUE_PX = 500
#: Mean of :func:`texture_anisotropy` over 200 CBIS-DDSM films on square pixels: ducts and the
#: pectoral muscle run a little more across than down.
_USUAL = -0.085
# Deviation between images of one machine, of the same films; the least that is assumed.
_BETWEEN_IMAGES = 0.15
# A machine's mean may be off the usual by this much for other reasons (its processing).
_TOLERATED = math.log(1.15)
_LEAST_IMAGES = 10


def texture_anisotropy(pixels: FloatImage, mask: ByteImage, pixel_aspect: float) -> float | None:
    """Return log of the texture's root-mean-square gradient across over that down.

    Args:
        pixels: (H, W) float32.
        mask: (h, w) uint8, 1 in the breast.
        pixel_aspect: True width of a pixel over its height; undone before measuring.

    Returns:
        ``None`` where less than 500 pixels of tissue are seen.
    """
    height, width = pixels.shape
    size = (max(8, round(width * _WORK_HEIGHT / height * pixel_aspect)), _WORK_HEIGHT)
    shrinks = height >= _WORK_HEIGHT
    square = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    inside = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    # The skin line, frames and the border of the image are no texture.
    framed = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=_INSIDE_PX)
    tissue = eroded[1:-1, 1:-1] > 0
    if tissue.sum() < _LEAST_TISSUE_PX:
        return None
    fine = cv2.GaussianBlur(square, (0, 0), _FINE_PX)
    texture = fine - cv2.GaussianBlur(fine, (0, 0), _COARSE_PX)
    across = float((cv2.Sobel(texture, cv2.CV_32F, 1, 0)[tissue] ** 2).mean())
    down = float((cv2.Sobel(texture, cv2.CV_32F, 0, 1)[tissue] ** 2).mean())
    if across <= 0 or down <= 0:
        return None
    return 0.5 * math.log(across / down)


def stretched_images(evidence: Evidence) -> Answer:
    """Images of one machine and shape whose tissue is stretched, pixel_aspect considered.

    Decided for at least ten sampled images of one machine and one ratio of sides together,
    never for one image.
    """
    if isinstance(evidence.images, Skipped):
        return evidence.images
    shapes = {
        row["image_id"]: row["rows"] / row["columns"]
        for row in evidence.manifest.select("image_id", "rows", "columns").iter_rows(named=True)
        if row["rows"] and row["columns"]
    }
    findings = []
    groups: dict[tuple[str, float], list[tuple[str, float]]] = {}
    for machine, images in evidence.by_machine(evidence.images).items():
        for facts in images:
            if facts.anisotropy is not None and facts.image_id in shapes:
                shape = round(shapes[facts.image_id], 1)
                groups.setdefault((machine, shape), []).append((facts.image_id, facts.anisotropy))
    large = {key: group for key, group in groups.items() if len(group) >= _LEAST_IMAGES}
    if not large:
        return Skipped(f"no machine has {_LEAST_IMAGES} sampled images of one shape with tissue")
    for (machine, shape), group in large.items():
        values = np.array([value for _, value in group])
        spread = max(_BETWEEN_IMAGES, float(values.std(ddof=1)))
        residual = float(values.mean()) - _USUAL
        # 3 standard errors beyond what is tolerated.
        if abs(residual) > _TOLERATED + 3 * spread / math.sqrt(values.size):
            findings.append(
                Finding(
                    "stretched_images",
                    Severity.WARNING,
                    f"{machine}, rows / columns {shape:g}",
                    len(group),
                    len(group),
                    "images",
                    "Tissue is stretched: judged by its texture, a pixel's true width is about "
                    f"{math.exp(residual):.2f} of its height.",
                    "Give pixel_aspect in the table (true width over height of a pixel), or take "
                    "images whose sides were scaled alike.",
                    some(name for name, _ in group),
                )
            )
    return findings
