"""A user's own data: any tree of images, with ``labels.csv`` in the RSNA table's words."""

from __future__ import annotations

from pathlib import Path

from mammoscope.cohort.manifest import MANIFEST_SCHEMA, Reject
from mammoscope.cohort.sources.listing import (
    ListedImage,
    Listing,
    read_csv_rows,
    safe_id,
    without_row,
)
from mammoscope.dicom.header import is_dicom
from mammoscope.errors import Reason
from mammoscope.preprocessing.reading import PICTURE_SUFFIXES, without_suffix

__all__ = ["FolderSource"]

_TABLE = "labels.csv"
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
# Words that a table may carry; everything else in the manifest is read from the file.
_WORDS = frozenset(MANIFEST_SCHEMA) - {
    "path",
    "source",
    "sop_instance_uid",
    "pixel_sha256",
    "rows",
    "columns",
    "photometric_interpretation",
    "transfer_syntax_uid",
    "file_bytes",
    "notes",
}


class FolderSource:
    """Any tree of DICOM, PNG, TIFF, PGM or JPEG files.

    ``labels.csv`` is optional for DICOM, whose header says laterality and view; of its
    columns only ``file`` is required. Files named as ``mask`` are not images.
    """

    name = "folder"

    def recognises(self, root: Path) -> bool:
        """A folder with ``labels.csv``, or with any image file."""
        return (root / _TABLE).is_file() or any(_looks_like_image(p) for p in root.rglob("*"))

    def list_images(self, root: Path) -> Listing:
        """List ``labels.csv`` against the image files of the tree."""
        synthetic = (root / "synthetic.json").is_file()
        if not (root / _TABLE).is_file():
            paths = [path for path in sorted(root.rglob("*")) if _looks_like_image(path)]
            return Listing([ListedImage(p, _default_words(root, p)) for p in paths], [], synthetic)
        images: list[ListedImage] = []
        rejects: list[Reject] = []
        named: set[Path] = set()
        for number, row in enumerate(read_csv_rows(root / _TABLE, ("file",)), start=2):
            if not row["file"]:
                message = f"row {number} of {_TABLE} names no file"
                rejects.append(Reject("ingest", _TABLE, "", Reason.INVALID_VALUE, message))
                continue
            path = root / row["file"]
            named.add(path)
            if row.get("mask"):
                named.add(root / row["mask"])
            if not path.is_file():
                message = f"row {number} of {_TABLE} names {row['file']}, which does not exist"
                rejects.append(Reject("ingest", row["file"], "", Reason.MISSING_FILE, message))
                continue
            words = {_alias(key): value for key, value in row.items() if _alias(key) in _WORDS}
            filled = {key: value for key, value in words.items() if value}
            images.append(ListedImage(path, {**_default_words(root, path), **filled}))
        strays = [p for p in sorted(root.rglob("*")) if p not in named and _looks_like_image(p)]
        rejects += [without_row(root, path, _TABLE) for path in strays]
        return Listing(images, rejects, synthetic)


def _alias(column: str) -> str:
    return column.lower() if column in ("BIRADS", "Birads") else column


def _default_words(root: Path, path: Path) -> dict[str, str]:
    return {"image_id": safe_id(without_suffix(path.relative_to(root)).as_posix())}


def _looks_like_image(path: Path) -> bool:
    """By suffix, or by the DICOM preamble: files of a PACS are often named by a UID alone."""
    if not path.is_file() or path.name.startswith("."):
        return False
    if path.suffix.lower() in PICTURE_SUFFIXES | _DICOM_SUFFIXES:
        return True
    return path.name != "DICOMDIR" and is_dicom(path)
