"""CBIS-DDSM: scanned film, a mask per abnormality, pathology.

Sawyer-Lee et al. 2016, https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY; Lee et al. 2017,
https://doi.org/10.1038/sdata.2017.177. One row of the tables is one abnormality.

- ``cancer`` of an image is 1 where any abnormality of that film, mass or calcification, is
  MALIGNANT, else 0 (BENIGN and BENIGN_WITHOUT_CALLBACK alike). There are no normal films.
- ``birads`` of an image is its highest assessment, where 0 (incomplete) counts lowest.
- ``density`` 1 to 4 is A to D. ``split`` is the official one, which was drawn for masses and
  for calcifications apart: some patients are in both parts, and ``split --by split`` says so.
- A finding is the mask of one abnormality; its box is computed from the mask's pixels.

Quirks: paths in the tables end in newlines, name UIDs where the present download names dates
and descriptions, and swap mask and crop in places. So files are found by the case folder, and
of those of a region the mask is the one of the image's size (ingest looks). The calcification
tables write ``breast density`` with a space. Films of masses and calcifications are there
twice: the second is refused as a duplicate and its findings go to the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
from mammoscope.cohort.sources.tables import density_letter, read_csv_rows
from mammoscope.errors import Reason

__all__ = ["CbisDdsmSource"]

_TABLES = "*_case_description_*_set.csv"
_REQUIRED = (
    "patient_id",
    "abnormality id",
    "abnormality type",
    "assessment",
    "pathology",
    "image file path",
    "ROI mask file path",
)
_CASE = re.compile(
    r"(?P<case>(?:Mass|Calc)-(?P<split>Training|Test)_(?P<patient>P_\d+)"
    r"_(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO))(?P<region>_\d+)?"
)
_MALIGNANT = {"MALIGNANT": 1, "BENIGN": 0, "BENIGN_WITHOUT_CALLBACK": 0}
_SPLITS = {"Training": "train", "Test": "test"}


@dataclass(frozen=True, slots=True)
class _Abnormality:
    """One row of a table that could be read."""

    case: str
    film: tuple[str, str, str]
    table: str
    number: int
    words: dict[str, str]


class CbisDdsmSource:
    """The TCIA download, under the folder names of the old and of the present one."""

    name = "cbis-ddsm"

    def recognises(self, root: Path) -> bool:
        """A folder with a table of case descriptions, or one that holds such a folder."""
        return first_below(root, [_TABLES]) is not None

    def list_images(self, root: Path) -> Listing:
        """List the tables' abnormalities, by film, against the DICOM files of the tree."""
        tables = sorted(needed_below(root, _TABLES).parent.glob(_TABLES))
        rejects: list[Reject] = []
        cases: dict[str, list[_Abnormality]] = {}
        films: dict[tuple[str, str, str], list[_Abnormality]] = {}
        for table in tables:
            for entry in _read_table(root, table):
                if isinstance(entry, Reject):
                    rejects.append(entry)
                    continue
                cases.setdefault(entry.case, []).append(entry)
                films.setdefault(entry.film, []).append(entry)
        files = files_below(root, [".dcm"])
        by_folder: dict[str, list[Path]] = {}
        for path in files:
            by_folder.setdefault(_case_folder(root, path), []).append(path)
        images: list[ListedImage] = []
        used: set[Path] = set()
        for case in sorted(cases):
            rows = cases[case]
            film = _one_of(by_folder.get(case, []), rows[0].words["image file path"])
            if film is None:
                numbers = ", ".join(str(row.number) for row in rows)
                message = f"rows {numbers} of {rows[0].table} name {case}, which is not there"
                rejects.append(Reject("ingest", case, case, Reason.MISSING_FILE, message))
                continue
            findings = tuple(_finding(root, row, by_folder) for row in rows)
            used |= {film, *(mask for finding in findings for mask in finding.masks)}
            images.append(ListedImage(film, _words(case, rows[0], films[rows[0].film]), findings))
        tables_named = ", ".join(table.name for table in tables)
        rejects += [without_row(root, path, tables_named) for path in files if path not in used]
        return Listing(images, rejects)


def _read_table(root: Path, table: Path) -> Iterator[_Abnormality | Reject]:
    origin = table.relative_to(root).as_posix()
    for number, row in enumerate(read_csv_rows(table, _REQUIRED), start=2):
        case = _CASE.match(row["image file path"])
        if case is None:
            message = f"image file path is {row['image file path']!r}, of no case's form"
            yield bad_row(origin, number, message)
        elif row["pathology"] not in _MALIGNANT:
            accepted = ", ".join(_MALIGNANT)
            message = f"pathology is {row['pathology']!r}; {accepted} are accepted"
            yield bad_row(origin, number, message, image_id=case["case"])
        else:
            film = (case["patient"], case["side"], case["view"])
            yield _Abnormality(case["case"], film, origin, number, row)


def _case_folder(root: Path, path: Path) -> str:
    """Return the folder of the path that names a case or a region of one, or nothing."""
    parts = path.relative_to(root).parts
    return next((part for part in parts if _CASE.fullmatch(part)), "")


def _one_of(files: list[Path], named: str) -> Path | None:
    """Return the file of the table's path, or the first where folders have other names."""
    exact = [path for path in files if path.as_posix().endswith(f"/{named}")]
    return next(iter([*exact, *files]), None)


def _words(case: str, row: _Abnormality, of_film: list[_Abnormality]) -> dict[str, str]:
    match = _CASE.fullmatch(case)
    assert match is not None  # noqa: S101 - it was read by the same pattern
    patient, side, view = row.film
    assessments = [entry.words["assessment"] for entry in of_film]
    density = row.words.get("breast_density") or row.words.get("breast density", "")
    return {
        "image_id": case,
        "patient_id": patient,
        "exam_id": patient,
        "laterality": side,
        "view": view,
        "cancer": str(max(_MALIGNANT[entry.words["pathology"]] for entry in of_film)),
        "birads": max(assessments),
        "density": density_letter(density),
        "split": _SPLITS[match["split"]],
    }


def _finding(root: Path, row: _Abnormality, by_folder: dict[str, list[Path]]) -> ListedFinding:
    words = row.words
    region = f"{row.case}_{words['abnormality id']}"
    files = by_folder.get(region, [])
    mask = words["ROI mask file path"]
    # The table's mask first, then whatever lies there: sizes decide, not names.
    masks = sorted(files, key=lambda path: not path.as_posix().endswith(f"/{mask}"))
    described = [
        words.get(column, "")
        for column in ("mass shape", "mass margins", "calc type", "calc distribution")
    ]
    # Its "masses" include distortions, asymmetries and lymph nodes, named as a shape.
    by_shape = kind_of(words.get("mass shape", ""))
    kind = by_shape if by_shape not in (None, "other") else kind_of(words["abnormality type"])
    return ListedFinding(
        origin=row.table,
        row=row.number,
        kind=kind,
        malignant=_MALIGNANT[words["pathology"]],
        birads=words["assessment"] or None,
        description="; ".join(word for word in described if word),
        masks=tuple(masks) or (root / (mask or region),),
        known_by_size=True,
    )
