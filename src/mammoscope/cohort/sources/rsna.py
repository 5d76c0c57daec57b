"""RSNA challenge: ``train.csv`` and ``train_images/<patient_id>/<image_id>.dcm``."""

from __future__ import annotations

from pathlib import Path

from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.listing import ListedImage, Listing, read_csv_rows, without_row
from mammoscope.errors import Reason

__all__ = ["RsnaSource"]

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
        rejects: list[Reject] = []
        named: set[Path] = set()
        for number, row in enumerate(read_csv_rows(table, _REQUIRED), start=2):
            patient, image = row["patient_id"], row["image_id"]
            if not patient or not image:
                message = f"row {number} of {table.name} has no patient_id or no image_id"
                rejects.append(Reject("ingest", table.name, image, Reason.INVALID_VALUE, message))
                continue
            path = root / "train_images" / patient / f"{image}.dcm"
            named.add(path)
            if not path.is_file():
                relative = path.relative_to(root).as_posix()
                message = f"row {number} of {table.name} names {relative}, which does not exist"
                rejects.append(Reject("ingest", relative, image, Reason.MISSING_FILE, message))
                continue
            words = {ours: row.get(theirs, "") for theirs, ours in _COLUMNS.items()}
            images.append(ListedImage(path, {**words, "exam_id": patient}))
        there = sorted((root / "train_images").rglob("*"))
        strays = [path for path in there if path not in named and path.is_file()]
        rejects += [without_row(root, path, table.name) for path in strays]
        return Listing(images, rejects, synthetic=(root / "synthetic.json").is_file())
