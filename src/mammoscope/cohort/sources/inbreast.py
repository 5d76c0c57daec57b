"""INbreast: 410 digital images with contours.

Moreira et al. 2012, https://doi.org/10.1016/j.acra.2011.09.014.

- ``cancer`` is 1 for BI-RADS 4a to 6, 0 for 1 to 3, as is commonly taken; biopsies are not
  part of the release. A finding's ``malignant`` is 0 in an image without cancer, 1 where an
  image with cancer has but one region, else unknown.
- The patient is the hash in the file name (the table's Patient ID is removed); the exam is
  the hash and the acquisition date. ``density`` ACR 1 to 4 is A to D.
- A finding is a region of ``AllXML/<image>.xml``, an Apple property list as OsiriX writes it:
  name and points "(x, y)". One point marks one calcification and is the pixel it lies in.

Quirks: the table has semicolons; file names say ML where the table says MLO, and the table
is believed.
"""

from __future__ import annotations

import plistlib
import re
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from mammoscope.cohort.findings import kind_of
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.listing import (
    ListedFinding,
    ListedImage,
    Listing,
    bad_row,
    files_below,
    first_below,
    malignant_by_image,
    needed_below,
    without_row,
)
from mammoscope.cohort.sources.tables import density_letter, read_csv_rows
from mammoscope.errors import Reason

__all__ = ["InbreastSource"]

_TABLE = "INbreast.csv"
_REQUIRED = ("Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads")
_FILE = re.compile(r"(?P<image>\d+)_(?P<patient>[0-9a-f]+)_MG_[LR]_[A-Z]+_ANON\.dcm")
_POINT = re.compile(r"\(\s*([^,()]+),\s*([^,()]+)\)")
_MALIGNANT = re.compile(r"[456][abc]?")
_BENIGN = re.compile(r"[123]")


class InbreastSource:
    """The release's folders ``AllDICOMs`` and ``AllXML`` with ``INbreast.csv``."""

    name = "inbreast"

    def recognises(self, root: Path) -> bool:
        """A folder with ``INbreast.csv``, or one that holds such a folder."""
        return first_below(root, [_TABLE]) is not None

    def list_images(self, root: Path) -> Listing:
        """List the table against ``AllDICOMs``, with the contours of ``AllXML``."""
        table = needed_below(root, _TABLE)
        origin = table.relative_to(root).as_posix()
        files = files_below(table.parent / "AllDICOMs", [".dcm"])
        by_image = {
            match["image"]: (path, match) for path in reversed(files) if (match := _match(path))
        }
        contours = {path.stem: path for path in files_below(table.parent / "AllXML", [".xml"])}
        images: list[ListedImage] = []
        rejects: list[Reject] = []
        named: set[Path] = set()
        for number, row in enumerate(read_csv_rows(table, _REQUIRED, ";"), start=2):
            image = row["File Name"]
            if not any(row.values()):
                continue
            if image not in by_image:
                message = f"row {number} of {origin} names image {image!r}, which is not there"
                path = f"AllDICOMs/{image}"
                rejects.append(Reject("ingest", path, image, Reason.MISSING_FILE, message))
                continue
            file, match = by_image[image]
            if file in named:
                rejects.append(bad_row(origin, number, "an earlier row names it", image_id=image))
                continue
            named.add(file)
            words = _words(row, image, match["patient"])
            findings, refused = _read_contours(root, contours.pop(image, None), words)
            rejects += refused
            images.append(ListedImage(file, words, tuple(findings)))
        rejects += [without_row(root, path, origin) for path in files if path not in named]
        rejects += [without_row(root, path, origin) for path in contours.values()]
        return Listing(images, rejects)


def _match(path: Path) -> re.Match[str] | None:
    return _FILE.fullmatch(path.name)


def _words(row: dict[str, str], image: str, patient: str) -> dict[str, str]:
    birads = row["Bi-Rads"].lower()
    cancer = "1" if _MALIGNANT.fullmatch(birads) else "0" if _BENIGN.fullmatch(birads) else ""
    return {
        "image_id": image,
        "patient_id": patient,
        "exam_id": f"{patient}-{row['Acquisition date']}",
        "laterality": row["Laterality"],
        "view": row["View"],
        "birads": birads,
        "cancer": cancer,
        "density": density_letter(row["ACR"]),
    }


def _read_contours(
    root: Path, path: Path | None, words: dict[str, str]
) -> tuple[list[ListedFinding], list[Reject]]:
    """Read the regions of one image; one that cannot be read is refused, the others stay."""
    if path is None:
        return [], []
    origin, image = path.relative_to(root).as_posix(), words["image_id"]
    findings: list[ListedFinding] = []
    rejects: list[Reject] = []
    try:
        with path.open("rb") as stream:
            regions = list(plistlib.load(stream)["Images"][0]["ROIs"])
    except (OSError, ExpatError, plistlib.InvalidFileException, ValueError, LookupError, TypeError):
        message = f"{origin} is not a property list with Images and ROIs"
        return [], [Reject("ingest", origin, image, Reason.INVALID_FINDING, message)]
    for number, region in enumerate(regions, start=1):
        try:
            contour = _contour(region)
        except (ValueError, LookupError, TypeError) as error:
            message = f"region {number} of {origin} has no readable contour: {error}"
            rejects.append(Reject("ingest", origin, image, Reason.INVALID_FINDING, message))
            continue
        name = str(region.get("Name", "")).strip()
        finding = ListedFinding(
            origin=origin,
            kind=kind_of(name),
            malignant=malignant_by_image(words["cancer"], len(regions)),
            description=name,
            contour=contour,
        )
        findings.append(finding)
    return findings, rejects


def _contour(region: Any) -> tuple[float, ...]:
    values: list[float] = []
    for text in region["Point_px"]:
        point = _POINT.fullmatch(str(text).strip())
        if point is None:
            raise ValueError(f"{text!r} is not a point (x, y)")
        values += [float(point[1]), float(point[2])]
    return tuple(values)
