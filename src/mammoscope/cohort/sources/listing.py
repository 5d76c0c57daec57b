"""What every source answers: a listing of images with the table's words for each."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mammoscope.cohort.manifest import Reject
from mammoscope.errors import CohortError, Reason

__all__ = ["ListedImage", "Listing", "Source", "read_csv_rows", "safe_id", "without_row"]


@dataclass(frozen=True, slots=True)
class ListedImage:
    """A file that the source names, with the table's words in the manifest's columns."""

    path: Path
    words: dict[str, str]


@dataclass(frozen=True, slots=True)
class Listing:
    """All images of a source and all faults found while listing them.

    Attributes:
        images: Files to look into, in a stable order.
        rejects: Table rows without a file, files without a row, rows without a name.
        synthetic: The source says that its data are synthetic.
    """

    images: list[ListedImage]
    rejects: list[Reject] = field(default_factory=list)
    synthetic: bool = False


class Source(Protocol):
    """A data set's layout."""

    name: str

    def recognises(self, root: Path) -> bool:
        """Say whether a folder is in this layout."""
        ...

    def list_images(self, root: Path) -> Listing:
        """List the images of a folder, opening no image file.

        Raises:
            CohortError: If the folder's table cannot be read at all.
        """
        ...


def read_csv_rows(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a table of labels as rows of stripped words.

    Raises:
        CohortError: If it is missing, not CSV in UTF-8, or lacks a required column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in required if name not in names]
            if missing:
                raise CohortError(f"{path} lacks the columns {', '.join(missing)}; found {names}")
            reader.fieldnames = names
            return [
                {key: (value or "").strip() for key, value in row.items() if key is not None}
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"{path} cannot be read as CSV: {error}") from error


def safe_id(text: str) -> str:
    """Turn a name into one that is safe as a file's name: letters, digits, ``._-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "image"


def without_row(root: Path, path: Path, table: str) -> Reject:
    """Return the reject of a file that the table does not mention."""
    relative = path.relative_to(root).as_posix()
    message = f"{relative} has no row in {table}"
    return Reject("ingest", relative, "", Reason.NO_TABLE_ROW, message)
