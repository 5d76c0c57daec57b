"""Names for received files: the sender's, where they are safe and free."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

__all__ = ["FileNames"]

_LONGEST = 100
_NOT_PLAIN = re.compile(r"[\x00-\x1f\x7f/\\:]")


class FileNames:
    """Gives each file of an upload a name of its own.

    A name becomes the image's ``image_id``, so it stays close to what the sender calls the
    file, and no two are alike although folders of a zip are laid flat.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, sent: str) -> str:
        """Return a plain name that no other file of this upload has."""
        path = PurePosixPath(sent.replace("\\", "/"))
        name = _plain(path.name)
        if name in self._taken and path.parent.name:
            name = _plain(f"{path.parent.name}_{path.name}")
        stem, dot, suffix = name.rpartition(".")
        if not stem:
            stem, dot, suffix = name, "", ""
        number = 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}{dot}{suffix}"
        self._taken.add(name)
        return name


def _plain(name: str) -> str:
    name = _NOT_PLAIN.sub("_", name.encode("utf-8", "replace").decode()).lstrip(". ").rstrip()
    if len(name.encode()) > _LONGEST:
        # The end is kept, as it carries the suffix and most often the number.
        name = name.encode()[-_LONGEST:].decode("utf-8", "ignore").lstrip(". ")
    return name or "file"
