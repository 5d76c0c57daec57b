"""VinDr-Mammo: 5,000 digital exams with BI-RADS per breast and boxes.

Nguyen et al. 2023, https://doi.org/10.1038/s41597-023-02100-7; PhysioNet.

- There is **no pathology**. ``cancer`` follows the field's common convention: 1 where the
  breast is BI-RADS 5, else 0. It is a reader's opinion: a BI-RADS 4 breast with cancer counts
  as 0. ``birads`` is there to choose otherwise. A finding's ``malignant`` follows its own
  BI-RADS by the same convention.
- The study stands for the patient: nothing says whether two studies are of one woman.
- ``density`` is the letter of ``DENSITY C``; ``split`` is the official training or test.
- A finding is a box; ``finding_categories`` is a list, and each category is a finding.
  ``No Finding`` is none. ``machine_id`` is the model name of ``metadata.csv``.
"""

from __future__ import annotations

import ast
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
    of_no_image,
    without_row,
)
from mammoscope.cohort.sources.tables import density_letter, numbers, read_csv_rows
from mammoscope.errors import Reason

__all__ = ["VindrMammoSource"]

_BREASTS = "breast-level_annotations.csv"
_FINDINGS = "finding_annotations.csv"
_REQUIRED = (
    "study_id",
    "image_id",
    "laterality",
    "view_position",
    "breast_birads",
    "breast_density",
    "split",
)
_BOX = ("xmin", "ymin", "xmax", "ymax")
_SIZE = ("height", "width")
_SPLITS = {"training": "train", "test": "test"}


class VindrMammoSource:
    """The PhysioNet download."""

    name = "vindr-mammo"

    def recognises(self, root: Path) -> bool:
        """A folder with ``breast-level_annotations.csv``, or one that holds such a folder."""
        return first_below(root, [_BREASTS]) is not None

    def list_images(self, root: Path) -> Listing:
        """List the breast-level table against the files of ``images``."""
        table = needed_below(root, _BREASTS)
        base = table.parent
        origin = table.relative_to(root).as_posix()
        findings, rejects = _read_findings(root, base / _FINDINGS)
        models = _read_models(base / "metadata.csv")
        images: list[ListedImage] = []
        named: set[Path] = set()
        for number, row in enumerate(read_csv_rows(table, _REQUIRED), start=2):
            study, image = row["study_id"], row["image_id"]
            if not study or not image:
                rejects.append(bad_row(origin, number, "it has no study_id or no image_id"))
                continue
            path = base / "images" / study / f"{image}.dicom"
            named.add(path)
            mine = tuple(findings.pop(image, ()))
            if not path.is_file():
                relative = path.relative_to(root).as_posix()
                message = f"row {number} of {origin} names {relative}, which does not exist"
                rejects.append(Reject("ingest", relative, image, Reason.MISSING_FILE, message))
                continue
            birads = _birads(row["breast_birads"])
            words = {
                "image_id": image,
                "patient_id": study,
                "exam_id": study,
                "laterality": row["laterality"],
                "view": row["view_position"],
                "birads": birads,
                "cancer": _by_convention(birads),
                "density": density_letter(row["breast_density"].upper().removeprefix("DENSITY ")),
                "split": _SPLITS.get(row["split"], row["split"]),
                "machine_id": models.get(image, ""),
            }
            images.append(ListedImage(path, words, mine))
        rejects += of_no_image(findings, origin)
        files = files_below(base / "images", [".dicom", ".dcm"])
        rejects += [without_row(root, path, origin) for path in files if path not in named]
        return Listing(images, rejects)


def _read_findings(root: Path, table: Path) -> tuple[dict[str, list[ListedFinding]], list[Reject]]:
    """Read the boxes by image; the table is optional, as breast-level work needs none."""
    findings: dict[str, list[ListedFinding]] = {}
    rejects: list[Reject] = []
    if not table.is_file():
        return findings, rejects
    origin = table.relative_to(root).as_posix()
    required = ("image_id", "finding_categories", "finding_birads", *_SIZE, *_BOX)
    for number, row in enumerate(read_csv_rows(table, required), start=2):
        image = row["image_id"]
        try:
            categories = _categories(row["finding_categories"])
            if not categories:
                continue
            x_min, y_min, x_max, y_max = numbers(*(row[side] for side in _BOX))
            height, width = numbers(*(row[side] for side in _SIZE))
        except ValueError as error:
            reason = Reason.INVALID_FINDING
            rejects.append(bad_row(origin, number, str(error), image_id=image, reason=reason))
            continue
        birads = _birads(row["finding_birads"])
        malignant = _by_convention(birads)
        findings.setdefault(image, []).extend(
            ListedFinding(
                origin=origin,
                row=number,
                kind=kind_of(category),
                malignant=int(malignant) if malignant else None,
                birads=birads or None,
                description=category,
                box=(x_min, y_min, x_max, y_max),
                drawn_on=(int(height), int(width)),
            )
            for category in categories
        )
    return findings, rejects


def _categories(word: str) -> list[str]:
    """Read a Python-style list of categories.

    Raises:
        ValueError: If it is none.
    """
    try:
        values = ast.literal_eval(word)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"finding_categories is {word!r}, not a list") from error
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"finding_categories is {word!r}, not a list of words")
    return [value for value in values if value != "No Finding"]


def _read_models(table: Path) -> dict[str, str]:
    """Read the machine of each image, where the table of headers is there."""
    if not table.is_file():
        return {}
    image, model = "SOP Instance UID", "Manufacturer's Model Name"
    return {row[image]: row[model] for row in read_csv_rows(table, (image, model))}


def _birads(word: str) -> str:
    return word.upper().removeprefix("BI-RADS").strip()


def _by_convention(birads: str) -> str:
    """BI-RADS 5 stands for cancer; nothing is known where there is no BI-RADS."""
    return {"": "", "5": "1"}.get(birads, "0")
