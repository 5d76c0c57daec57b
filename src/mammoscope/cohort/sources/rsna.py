"""RSNA challenge: ``train.csv`` and ``train_images/<patient_id>/<image_id>.dcm``.

RSNA Screening Mammography Breast Cancer Detection, 2023. Labels are the table's own
columns; ``cancer`` is per breast. There are no boxes, but for synthetic exams, which
come in this layout with the truth in ``synthetic_findings.csv``.
"""

from __future__ import annotations

from pathlib import Path

from mammoscope.cohort.findings import kind_of
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.listing import (
    ListedFinding,
    ListedImage,
    Listing,
    bad_row,
    of_no_image,
    says_synthetic,
    without_row,
)
from mammoscope.cohort.sources.tables import number_or_none, numbers, read_csv_rows, yes_or_no
from mammoscope.errors import Reason

__all__ = ["RsnaSource"]

_TRUTH = "synthetic_findings.csv"
_REQUIRED = ("patient_id", "image_id", "laterality", "view")
# The table's own spellings, and the manifest's.
_COLUMNS = {
    "site_id": "site_id",
    "patient_id": "patient_id",
    "image_id": "image_id",
    "laterality": "laterality",
    "view": "view",
    "age": "age",
    "cancer": "cancer",
    "biopsy": "biopsy",
    "invasive": "invasive",
    "BIRADS": "birads",
    "implant": "implant",
    "density": "density",
    "machine_id": "machine_id",
    "difficult_negative_case": "difficult_negative_case",
    "split": "split",
}


class RsnaSource:
    """The challenge's download. One exam a patient; the table gives view and laterality."""

    name = "rsna"

    def recognises(self, root: Path) -> bool:
        """A folder with ``train.csv`` and ``train_images``."""
        return (root / "train.csv").is_file() and (root / "train_images").is_dir()

    def list_images(self, root: Path) -> Listing:
        """List ``train.csv`` against the files of ``train_images``."""
        table = root / "train.csv"
        images: list[ListedImage] = []
        findings, rejects = _read_truth(root)
        named: set[Path] = set()
        for number, row in enumerate(read_csv_rows(table, _REQUIRED), start=2):
            patient, image = row["patient_id"], row["image_id"]
            if not patient or not image:
                message = f"row {number} of {table.name} has no patient_id or no image_id"
                rejects.append(Reject("ingest", table.name, image, Reason.INVALID_VALUE, message))
                continue
            mine = findings.pop(image, [])
            path = root / "train_images" / patient / f"{image}.dcm"
            named.add(path)
            if not path.is_file():
                relative = path.relative_to(root).as_posix()
                message = f"row {number} of {table.name} names {relative}, which does not exist"
                rejects.append(Reject("ingest", relative, image, Reason.MISSING_FILE, message))
                continue
            words = {ours: row.get(theirs, "") for theirs, ours in _COLUMNS.items()}
            words |= {"exam_id": patient}
            images.append(ListedImage(path, words, tuple(mine)))
        there = sorted((root / "train_images").rglob("*"))
        strays = [path for path in there if path not in named and path.is_file()]
        rejects += [without_row(root, path, table.name) for path in strays]
        rejects += of_no_image(findings, table.name)
        return Listing(images, rejects, synthetic=says_synthetic(root))


def _read_truth(root: Path) -> tuple[dict[str, list[ListedFinding]], list[Reject]]:
    """Read the truth of synthetic exams, by image."""
    findings: dict[str, list[ListedFinding]] = {}
    rejects: list[Reject] = []
    if not (root / _TRUTH).is_file():
        return findings, rejects
    columns = ("image_id", "kind", "malignant", "x_min", "y_min", "x_max", "y_max")
    for number, row in enumerate(read_csv_rows(root / _TRUTH, columns), start=2):
        try:
            x_min, y_min, x_max, y_max = numbers(*(row[c] for c in columns[3:]))
            malignant = yes_or_no(row["malignant"])
            # Older tables do not have them.
            contrast, conspicuity = (
                number_or_none(row.get(c)) for c in ("contrast", "conspicuity")
            )
        except ValueError as error:
            rejects.append(
                bad_row(
                    _TRUTH,
                    number,
                    str(error),
                    image_id=row["image_id"],
                    reason=Reason.INVALID_FINDING,
                )
            )
            continue
        finding = ListedFinding(
            _TRUTH,
            number,
            kind_of(row["kind"]),
            malignant,
            description=row["kind"],
            box=(x_min, y_min, x_max, y_max),
            masks=(root / row["mask"],) if row.get("mask") else (),
            contrast=contrast,
            conspicuity=conspicuity,
        )
        findings.setdefault(row["image_id"], []).append(finding)
    return findings, rejects
