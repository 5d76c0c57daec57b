"""Prepared images, as a report may show them; who has them hands them in."""

from __future__ import annotations

from typing import Protocol

from mammoscope.preprocessing import Geometry
from mammoscope.types import GreyImage

__all__ = ["Pictures"]


class Pictures(Protocol):
    """What a report asks of a store of prepared images; evaluation itself reads tables only."""

    def __contains__(self, image_id: str) -> bool:
        """Say whether an image is there."""
        ...

    def read(self, image_id: str) -> GreyImage:
        """Return the pixels of one image, (H, W)."""
        ...

    def read_geometry(self, image_id: str) -> Geometry:
        """Return how its original maps to them."""
        ...
