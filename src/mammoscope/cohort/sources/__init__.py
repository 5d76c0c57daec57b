"""One module per data set, each in the layout in which its owner distributes it."""

from __future__ import annotations

from pathlib import Path

from mammoscope.cohort.sources.cbis_ddsm import CbisDdsmSource
from mammoscope.cohort.sources.cdd_cesm import CddCesmSource
from mammoscope.cohort.sources.cmmd import CmmdSource
from mammoscope.cohort.sources.folder import FolderSource
from mammoscope.cohort.sources.inbreast import InbreastSource
from mammoscope.cohort.sources.listing import ListedFinding, ListedImage, Listing, Source
from mammoscope.cohort.sources.mini_ddsm import MiniDdsmSource
from mammoscope.cohort.sources.mini_mias import MiniMiasSource
from mammoscope.cohort.sources.rsna import RsnaSource
from mammoscope.cohort.sources.vindr_mammo import VindrMammoSource
from mammoscope.errors import CohortError

__all__ = ["SOURCES", "ListedFinding", "ListedImage", "Listing", "Source", "find_source"]

_ALL: tuple[Source, ...] = (
    RsnaSource(),
    CbisDdsmSource(),
    VindrMammoSource(),
    InbreastSource(),
    MiniMiasSource(),
    CmmdSource(),
    CddCesmSource(),
    MiniDdsmSource(),
    FolderSource(),
)

#: Every source by name, the most particular first: the order in which ``auto`` asks.
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}


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
        f"{root} is in no layout that a source knows ({', '.join(SOURCES)}): it holds neither a "
        "data set's own table (docs/reference/sources.md names them), nor labels.csv, nor images"
    )
