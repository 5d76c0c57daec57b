"""Which images are one: the same SOP instance, or the same pixel data under another name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["Copies", "keys_of"]

Item = TypeVar("Item")

#: What an image is known by, in words, and its value.
Key = tuple[str, str]


def keys_of(sop_instance_uid: str | None, pixel_sha256: str | None) -> list[Key]:
    """Return by what an image can be known again, the surer first."""
    pairs = (("SOP Instance UID", sop_instance_uid), ("pixel data", pixel_sha256))
    return [(what, value) for what, value in pairs if value is not None]


class Copies(Generic[Item]):
    """The first of each image, and all that its copies are known by."""

    def __init__(self) -> None:
        self._first: dict[Key, Item] = {}

    def find(self, keys: Iterable[Key]) -> tuple[str, Item] | None:
        """Return by what an image is a copy, and of which; ``None`` if it is none."""
        keys = list(keys)
        for what, value in keys:
            if (what, value) in self._first:
                first = self._first[what, value]
                # A copy of the copy, alike in what the two do not share, is one too.
                for other in keys:
                    self._first.setdefault(other, first)
                return what, first
        return None

    def remember(self, keys: Iterable[Key], item: Item) -> None:
        """Take an image as the first that these keys stand for."""
        for key in keys:
            self._first.setdefault(key, item)
