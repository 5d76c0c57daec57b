"""mini-MIAS: 322 scanned films, all MLO, with circles.

Suckling et al. 1994; http://peipa.essex.ac.uk/info/mias.html.

- ``cancer`` is 1 where any abnormality of the film is malignant (M), else 0.
- Two films are one patient: mdb001 and mdb002 and so on; even numbers are left, odd right.
- A finding is a circle. CIRC, SPIC and MISC are masses. **The owner counts y from the bottom**;
  ours counts from the top. Where coordinates are absent or ``*NOTE 3*`` (calcifications all
  over the film) the finding has no place.
- The background tissue (F, G, D) is not an ACR density and is not made one.
"""

from __future__ import annotations

import re
from pathlib import Path

from mammoscope.cohort.findings import kind_of
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.listing import (
    ListedFinding,
    ListedImage,
    Listing,
    bad_row,
    files_below,
    first_below,
    needed_below,
    without_row,
)
from mammoscope.errors import CohortError, Reason

__all__ = ["MiniMiasSource"]

_TABLES = ("Info.txt", "info.txt")
_FILMS = "mdb[0-9][0-9][0-9].pgm"
_ROW = re.compile(
    r"(?P<film>mdb(?P<number>\d{3}))\s+(?P<tissue>[FGD])\s+(?P<kind>[A-Z]{4})"
    r"(?:\s+(?P<severity>[BM]))?(?:\s+(?P<place>.*\S))?\s*"
)
_SIDE_PX = 1024


class MiniMiasSource:
    """The archive's ``.pgm`` files with ``Info.txt``."""

    name = "mini-mias"

    def recognises(self, root: Path) -> bool:
        """A folder with ``Info.txt`` and ``mdb001.pgm`` and so on, or one that holds such."""
        return first_below(root, _TABLES) is not None and first_below(root, [_FILMS]) is not None

    def list_images(self, root: Path) -> Listing:
        """List ``Info.txt`` against the ``.pgm`` files."""
        table = needed_below(root, *_TABLES)
        origin = table.relative_to(root).as_posix()
        files = files_below(root, [".pgm"])
        films = {path.stem: path for path in reversed(files)}
        rows, rejects = _read_rows(table, origin)
        images: list[ListedImage] = []
        for film, lines in rows.items():
            if film not in films:
                numbers = ", ".join(str(number) for number, _ in lines)
                message = f"rows {numbers} of {origin} name {film}.pgm, which does not exist"
                path = f"{film}.pgm"
                rejects.append(Reject("ingest", path, film, Reason.MISSING_FILE, message))
                continue
            findings: list[ListedFinding] = []
            for number, row in lines:
                try:
                    findings += _finding(origin, number, row)
                except ValueError as error:
                    reason = Reason.INVALID_FINDING
                    reject = bad_row(origin, number, str(error), image_id=film, reason=reason)
                    rejects.append(reject)
            number = int(lines[0][1]["number"])
            odd = number if number % 2 else number - 1
            words = {
                "image_id": film,
                "patient_id": f"mdb{odd:03}-{odd + 1:03}",
                "exam_id": f"mdb{odd:03}-{odd + 1:03}",
                "laterality": "R" if number % 2 else "L",
                "view": "MLO",
                "cancer": str(int(any(row["severity"] == "M" for _, row in lines))),
            }
            images.append(ListedImage(films[film], words, tuple(findings)))
        listed = {image.path for image in images}
        rejects += [without_row(root, path, origin) for path in files if path not in listed]
        return Listing(images, rejects)


def _read_rows(
    table: Path, origin: str
) -> tuple[dict[str, list[tuple[int, re.Match[str]]]], list[Reject]]:
    """Read the lines that begin like a film's name, by film; the file holds prose as well."""
    try:
        lines = table.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise CohortError(f"{table} cannot be read: {error.strerror}") from error
    rows: dict[str, list[tuple[int, re.Match[str]]]] = {}
    rejects: list[Reject] = []
    for number, line in enumerate(lines, start=1):
        if not re.match(r"mdb\d", line):
            continue
        row = _ROW.fullmatch(line)
        if row is None:
            rejects.append(bad_row(origin, number, f"{line.strip()!r} is not of the table's form"))
        else:
            rows.setdefault(row["film"], []).append((number, row))
    return rows, rejects


def _finding(origin: str, number: int, row: re.Match[str]) -> list[ListedFinding]:
    """Return the finding of a row, if it has one.

    Raises:
        ValueError: If its place is neither three numbers, nor a note, nor left out.
    """
    if row["kind"] == "NORM":
        return []
    circle = None
    place = row["place"] or ""
    if place and "NOTE" not in place:
        words = place.split()
        if len(words) != 3 or not all(word.isdigit() for word in words):
            raise ValueError(f"{place!r} is not x, y and radius")
        x, y, radius = (float(word) for word in words)
        circle = (x, _SIDE_PX - y, radius)
    finding = ListedFinding(
        origin=origin,
        row=number,
        kind=kind_of(row["kind"]),
        malignant={"M": 1, "B": 0}.get(row["severity"]),
        description=" ".join(filter(None, [row["kind"], place if circle is None else None])),
        circle=circle,
        drawn_on=(_SIDE_PX, _SIDE_PX),
    )
    return [finding]
