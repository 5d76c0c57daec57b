"""One module per data set, each in the layout in which its owner distributes it."""

from __future__ import annotations

from pathlib import Path

from mammoscope.cohort.sources.folder import FolderSource
from mammoscope.cohort.sources.listing import ListedImage, Listing, Source
from mammoscope.cohort.sources.rsna import RsnaSource
from mammoscope.errors import CohortError

__all__ = ["SOURCES", "ListedImage", "Listing", "Source", "find_source"]

#: Every source by name, the most particular first: the order in which ``auto`` asks.
SOURCES: dict[str, Source] = {"rsna": RsnaSource(), "folder": FolderSource()}


def find_source(root: Path, name: str = "auto") -> Source:
    """Return the source of this name, or the first that recognises the folder.

    Raises:
        CohortError: If the folder is missing, the name unknown, or no source recognises it.
    """
    if not Path(root).is_dir():
        raise CohortError(f"{root} is not a folder")
    if name != "auto":
        if name not in SOURCES:
            raise CohortError(f"unknown source {name!r}; known: auto, {', '.join(SOURCES)}")
        return SOURCES[name]
    for source in SOURCES.values():
        if source.recognises(Path(root)):
            return source
    raise CohortError(
        f"{root} is in no layout that a source knows ({', '.join(SOURCES)}): "
        "it holds neither train.csv with train_images/, nor labels.csv, nor image files"
    )
