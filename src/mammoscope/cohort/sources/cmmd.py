"""CMMD, the Chinese Mammography Database: 1,775 patients, biopsy per breast.

Cui et al. 2021, https://doi.org/10.7937/tcia.eqde-4b16.

- ``cancer`` is the table's classification of the breast, Malignant or Benign; of several rows of
  one breast any Malignant. The other breast of a patient has images and no row: its ``cancer`` is
  unknown, not 0.
- Laterality and view are the header's, so ingest gives each image its breast's words.
- There are no findings: the table says of a breast that it has a mass or calcifications, not
  where. The molecular subtype is not carried over.
"""

from __future__ import annotations

import re
from pathlib import Path

from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.listing import (
    ListedBreast,
    ListedImage,
    Listing,
    bad_row,
    files_below,
    first_below,
    needed_below,
    safe_id,
    without_row,
)
from mammoscope.cohort.sources.tables import read_xlsx_rows
from mammoscope.errors import Reason

__all__ = ["CmmdSource"]

_TABLE = "CMMD_clinicaldata*.xlsx"
_REQUIRED = ("ID1", "LeftRight", "Age", "classification")
_PATIENT = re.compile(r"D[12]-\d{4}")
_CANCER = {"malignant": "1", "benign": "0"}


class CmmdSource:
    """The TCIA download with its table of clinical data."""

    name = "cmmd"

    def recognises(self, root: Path) -> bool:
        """A folder with ``CMMD_clinicaldata_revision.xlsx``, or one that holds such a folder."""
        return first_below(root, [_TABLE]) is not None

    def list_images(self, root: Path) -> Listing:
        """List the DICOM files by patient, each with the words of the patient's breasts."""
        table = needed_below(root, _TABLE)
        origin = table.relative_to(root).as_posix()
        patients, rejects = _read_breasts(table, origin)
        images: list[ListedImage] = []
        found: set[str] = set()
        for path in files_below(root, [".dcm"]):
            parts = path.relative_to(root).parts
            patient = next((part for part in parts if _PATIENT.fullmatch(part)), "")
            if patient not in patients:
                rejects.append(without_row(root, path, origin))
                continue
            found.add(patient)
            below = parts[parts.index(patient) :]
            words = {
                "image_id": safe_id("/".join(below).removesuffix(".dcm")),
                "patient_id": patient,
            }
            images.append(ListedImage(path, words, breasts=patients[patient]))
        for patient, breasts in patients.items():
            if patient not in found:
                rejects += [
                    bad_row(
                        origin,
                        breast.row,
                        "there is no image of its patient",
                        reason=Reason.MISSING_FILE,
                    )
                    for breast in breasts.values()
                ]
        return Listing(images, rejects)


def _read_breasts(
    table: Path, origin: str
) -> tuple[dict[str, dict[str, ListedBreast]], list[Reject]]:
    """Read the table by patient and breast; a breast with several rows has the worst of them."""
    patients: dict[str, dict[str, ListedBreast]] = {}
    rejects: list[Reject] = []
    for number, row in enumerate(read_xlsx_rows(table, _REQUIRED), start=2):
        patient, side = row["ID1"], row["LeftRight"].upper()
        cancer = _CANCER.get(row["classification"].lower())
        if not _PATIENT.fullmatch(patient) or side not in ("L", "R") or cancer is None:
            message = (
                f"LeftRight is {side!r}, classification {row['classification']!r}; accepted: L, R; "
                "Benign, Malignant; and an ID1 of the form D1-0001"
            )
            rejects.append(bad_row(origin, number, message))
            continue
        words = {"cancer": cancer, "age": row["Age"]}
        breasts = patients.setdefault(patient, {})
        if side not in breasts or cancer > breasts[side].words["cancer"]:
            breasts[side] = ListedBreast(words, origin, number)
    return patients, rejects
