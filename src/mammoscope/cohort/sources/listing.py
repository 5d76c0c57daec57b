"""What every source answers: a listing of images with the table's words for each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mammoscope.artefacts import read_json
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.tables import yes_or_no
from mammoscope.errors import CohortError, Reason

__all__ = [
    "ListedBreast",
    "ListedFinding",
    "ListedImage",
    "Listing",
    "Source",
    "bad_row",
    "files_below",
    "first_below",
    "malignant_by_image",
    "needed_below",
    "of_no_image",
    "safe_id",
    "says_synthetic",
    "without_row",
]


@dataclass(frozen=True, slots=True)
class ListedFinding:
    """What the source says of one finding, in its own coordinates and unchecked.

    ``masks``, ``contour``, ``circle`` or ``box`` says where it is; of several the first of these
    that can be used. None does where the owner names a finding and not its place.

    Attributes:
        origin: File below the root that says so, named where the finding is refused.
        row: Its row in that file, counted from 1 with the header.
        kind: A word of :data:`mammoscope.cohort.findings.KINDS`.
        malignant: 1, 0 or unknown.
        birads: BI-RADS assessment of this finding.
        description: The owner's words.
        box: (x_min, y_min, x_max, y_max), half-open, in pixels.
        contour: x0, y0, x1, y1 and so on, in pixels.
        circle: Centre and radius (x, y, r), in pixels.
        masks: Its mask; where it is known by size, files of which one is the mask.
        known_by_size: The mask is that of the image's size; without one of that size there is none.
        drawn_on: (rows, columns) of the image that the coordinates count in, where the file
            may be a copy of another size.
        contrast: Of a synthetic lesion: presentation value added at its centre.
        conspicuity: Of a synthetic lesion: what it adds, in deviations of the tissue around it.
    """

    origin: str
    row: int | None = None
    kind: str | None = None
    malignant: int | None = None
    birads: str | None = None
    description: str | None = None
    box: tuple[float, float, float, float] | None = None
    contour: tuple[float, ...] | None = None
    circle: tuple[float, float, float] | None = None
    masks: tuple[Path, ...] = ()
    known_by_size: bool = False
    drawn_on: tuple[int, int] | None = None
    contrast: float | None = None
    conspicuity: float | None = None


@dataclass(frozen=True, slots=True)
class ListedBreast:
    """What a table says of one breast of a patient.

    Attributes:
        words: By column of the manifest.
        table: File below the root that says so.
        row: Its row in that file, counted from 1 with the header.
    """

    words: dict[str, str]
    table: str
    row: int


@dataclass(frozen=True, slots=True)
class ListedImage:
    """A file that the source names, with the table's words in the manifest's columns.

    Attributes:
        path: The file.
        words: What the table says of it, by column.
        findings: What the table says is in it.
        breasts: What the table says of one breast, by laterality, where the layout leaves it
            to the header to say which breast the image shows.
    """

    path: Path
    words: dict[str, str]
    findings: tuple[ListedFinding, ...] = ()
    breasts: Mapping[str, ListedBreast] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """All images of a source and all faults found while listing them.

    Attributes:
        images: Files to look into, in a stable order.
        rejects: Table rows without a file, files without a row, rows without a name, findings
            that cannot be read.
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
        """List the images of a folder, opening tables and annotations and no image file.

        What only an image or a mask can say (its breast, its size, its pixels) is left to
        ingest, which opens each file once and in parallel: see ``ListedImage.breasts`` and
        ``ListedFinding.masks``.

        Raises:
            CohortError: If the folder's table cannot be read at all.
        """
        ...


def safe_id(text: str) -> str:
    """Turn a name into one that is safe as a file's name: letters, digits, ``._-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "image"


def says_synthetic(root: Path) -> bool:
    """Say whether ``synthetic.json`` calls what a folder holds synthetic.

    Raises:
        CohortError: If it says that the folder is not finished.
    """
    path = root / "synthetic.json"
    if not path.is_file():
        return False
    if read_json(path, CohortError).get("complete") is False:
        raise CohortError(
            f"{root} holds synthetic exams that were not finished: run mammoscope synth again "
            "with --overwrite"
        )
    return True


def without_row(root: Path, path: Path, table: str) -> Reject:
    """Return the reject of a file that the table does not mention."""
    relative = path.relative_to(root).as_posix()
    message = f"{relative} has no row in {table}"
    return Reject("ingest", relative, "", Reason.NO_TABLE_ROW, message)


def bad_row(
    table: str, row: int, message: str, *, image_id: str = "", reason: Reason = Reason.INVALID_VALUE
) -> Reject:
    """Return the reject of a table's row that cannot be read."""
    return Reject("ingest", table, image_id, reason, f"row {row} of {table}: {message}")


def files_below(root: Path, suffixes: Iterable[str]) -> list[Path]:
    """Return the files of a tree with these suffixes, sorted; hidden ones are left out."""
    wanted = frozenset(suffixes)
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in wanted and not path.name.startswith(".") and path.is_file()
    )


def malignant_by_image(cancer: str, findings: int) -> int | None:
    """Say of an image's findings what the image's label allows.

    None is malignant in an image without cancer; the only one is in an image with cancer; of
    several it is not known which.

    Args:
        cancer: The image's label; an unreadable one, for which ingest refuses it, says nothing.
        findings: How many findings it has.
    """
    try:
        label = yes_or_no(cancer)
    except ValueError:
        return None
    return label if label == 0 or findings == 1 else None


def of_no_image(findings: Mapping[str, Iterable[ListedFinding]], table: str) -> list[Reject]:
    """Return the rejects of findings, by image, of images that the table does not list."""
    return [
        bad_row(
            finding.origin,
            finding.row or 0,
            f"its image {image} is not in {table}",
            image_id=image,
            reason=Reason.INVALID_FINDING,
        )
        for image, lost in findings.items()
        for finding in lost
    ]


def first_below(root: Path, patterns: Iterable[str]) -> Path | None:
    """Return the first match of the patterns in a folder, or one level below it."""
    patterns = tuple(patterns)
    for below in ("", "*/"):
        for pattern in patterns:
            found = sorted(root.glob(below + pattern))
            if found:
                return found[0]
    return None


def needed_below(root: Path, *patterns: str) -> Path:
    """Return the first match of the patterns, as :func:`first_below` does.

    Raises:
        CohortError: If there is none.
    """
    found = first_below(root, patterns)
    if found is None:
        raise CohortError(f"{root} holds no {' or '.join(patterns)}, nor does a folder in it")
    return found
