"""What is measured once on the pixels of an image, for all checks that look at pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoscope.types import FloatImage, Laterality

__all__ = ["Hash", "ImageFacts", "Resampling"]

#: A perceptual hash: (4,) uint64, 256 bits.
Hash = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Resampling:
    """Traces that enlarging leaves.

    Attributes:
        repeated: Share of rows or of columns that repeat the one before, the larger.
        period: Period in pixels of the trace of an interpolation, ``None`` without one.
        lost: log10 of the power at 0.10 to 0.15 cycles a pixel over that at 0.40 to 0.45.
    """

    repeated: float
    period: int | None
    lost: float


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Measures of one image as it is stored.

    Attributes:
        image_id: Which image.
        hash: Its perceptual hash.
        thumbnail: (32, 32) float32.
        inverted: Its air is bright and its tissue dark; ``None`` where no breast is found.
        resampling: Traces of enlarging; ``None`` where too little tissue is seen.
        anisotropy: log of the texture's gradient across over that down, on square pixels as
            the manifest's pixel_aspect gives them; ``None`` where too little tissue is seen.
        characters: Letters of burned-in text outside the breast.
        chest_wall: Side on which it lies; ``None`` where no breast is found.
    """

    image_id: str
    hash: Hash
    thumbnail: FloatImage
    inverted: bool | None
    resampling: Resampling | None
    anisotropy: float | None
    characters: int
    chest_wall: Laterality | None
