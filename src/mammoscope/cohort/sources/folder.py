"""A user's own data: any tree of images, with ``labels.csv`` in the RSNA table's words.

Labels are the table's own columns. A finding is an annotation of ``boxes.coco.json`` (COCO's
object detection format: its box, or its ``segmentation`` where that is one polygon; and where it
has them ``malignant``, ``birads`` and ``mask``, a file of the tree) or the file of the column
``mask``. A box and the mask that agrees with it (intersection
over union of at least a half) are one finding. A finding's ``malignant`` is the annotation's;
else 0 in an image without cancer, 1 where an image with cancer has but one box, else unknown.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammoscope.artefacts import read_json
from mammoscope.cohort.findings import kind_of
from mammoscope.cohort.manifest import MANIFEST_SCHEMA, Reject
from mammoscope.cohort.sources.listing import (
    ListedFinding,
    ListedImage,
    Listing,
    malignant_by_image,
    safe_id,
    says_synthetic,
    without_row,
)
from mammoscope.cohort.sources.tables import number_or_none, read_csv_rows, yes_or_no
from mammoscope.dicom.file import is_dicom
from mammoscope.errors import CohortError, Reason
from mammoscope.preprocessing.reading import PICTURE_SUFFIXES, without_suffix

__all__ = ["FolderSource"]

_TABLE = "labels.csv"
_BOXES = "boxes.coco.json"
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
# Words that a table may carry; everything else in the manifest is read from the file.
_WORDS = frozenset(MANIFEST_SCHEMA) - {
    "path",
    "source",
    "sop_instance_uid",
    "pixel_sha256",
    "rows",
    "columns",
    "spacing_y_mm",
    "spacing_x_mm",
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
        synthetic = says_synthetic(root)
        boxes, unread = _read_boxes(root)
        rejects: list[Reject] = []
        images: list[ListedImage] = []
        named = {entry["mask_path"] for found in boxes.values() for entry in found}
        if not (root / _TABLE).is_file():
            paths = [p for p in sorted(root.rglob("*")) if p not in named and _looks_like_image(p)]
            images = [_listed(root, path, {}, boxes) for path in paths]
            rejects = [*_of_images(unread, images), *_of_no_image(root, boxes)]
            return Listing(images, rejects, synthetic)
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
                boxes.pop(path, None)
                continue
            words = {_alias(key): value for key, value in row.items() if _alias(key) in _WORDS}
            images.append(_listed(root, path, words, boxes))
        strays = [p for p in sorted(root.rglob("*")) if p not in named and _looks_like_image(p)]
        rejects += [without_row(root, path, _TABLE) for path in strays]
        for path in strays:
            boxes.pop(path, None)
        rejects = [*_of_images(unread, images), *rejects, *_of_no_image(root, boxes)]
        return Listing(images, rejects, synthetic)


def _listed(
    root: Path, path: Path, words: dict[str, str], boxes: dict[Path, list[dict[str, Any]]]
) -> ListedImage:
    """Put a file, its words and its findings together; takes its boxes out of ``boxes``."""
    filled = {key: value for key, value in words.items() if value}
    mine = boxes.pop(path, [])
    # A box and a mask are one finding as a rule, or the mask is of the boxes together.
    malignant = malignant_by_image(filled.get("cancer", ""), max(1, len(mine)))
    findings = [_finding(annotation, malignant) for annotation in mine]
    if filled.get("mask"):
        mask = root / filled["mask"]
        findings.append(ListedFinding(filled["mask"], malignant=malignant, masks=(mask,)))
    name = safe_id(without_suffix(_below(root, path)).as_posix())
    return ListedImage(path, {"image_id": name, **filled}, tuple(findings))


def _below(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)


def _finding(annotation: dict[str, Any], by_image: int | None) -> ListedFinding:
    x, y, width, height = annotation["bbox"]
    malignant = annotation["malignant"]
    birads = annotation.get("birads")
    mask = annotation["mask_path"]
    return ListedFinding(
        origin=_BOXES,
        kind=kind_of(annotation["category"]),
        malignant=by_image if malignant is None else malignant,
        birads=None if birads is None else str(birads),
        description=annotation["category"],
        box=(x, y, x + width, y + height),
        contour=annotation["contour"],
        masks=(mask,) if mask else (),
        contrast=annotation["contrast"],
        conspicuity=annotation["conspicuity"],
        drawn_on=annotation["drawn_on"],
    )


def _read_boxes(
    root: Path,
) -> tuple[dict[Path, list[dict[str, Any]]], list[tuple[Path | None, Reject]]]:
    """Read the boxes by file, and what cannot be read with its file where that is known.

    See https://cocodataset.org/#format-data.

    Raises:
        CohortError: If the file is not of the format as a whole.
    """
    boxes: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    unread: list[tuple[Path | None, Reject]] = []
    path = root / _BOXES
    if not path.is_file():
        return boxes, unread
    values = read_json(path, CohortError)
    try:
        images = {image["id"]: image for image in values["images"]}
        categories = {entry["id"]: str(entry["name"]) for entry in values["categories"]}
        annotations = list(values["annotations"])
    except (KeyError, TypeError) as error:
        raise CohortError(f"{path} is not in COCO's detection format: {error!r}") from error
    for number, annotation in enumerate(annotations, start=1):
        file = None
        try:
            image = images[annotation["image_id"]]
            file = root / image["file_name"]
            size = (int(image["height"]), int(image["width"])) if "height" in image else None
            bbox = tuple(float(value) for value in annotation["bbox"])
            if len(bbox) != 4:
                raise ValueError(f"bbox has {len(bbox)} numbers, not x, y, width, height")
            category = categories.get(annotation.get("category_id"), "")
            mask, malignant = annotation.get("mask"), annotation.get("malignant")
            known = {
                "bbox": bbox,
                "category": category,
                "drawn_on": size,
                "contour": _contour(annotation),
                "mask_path": root / str(mask) if mask else None,
                "malignant": None if malignant is None else yes_or_no(str(malignant)),
                "contrast": number_or_none(annotation.get("contrast")),
                "conspicuity": number_or_none(annotation.get("conspicuity")),
            }
            boxes[file].append({**annotation, **known})
        except (LookupError, TypeError, ValueError) as error:
            message = f"annotation {number} of {_BOXES} cannot be read: {error!r}"
            unread.append((file, Reject("ingest", _BOXES, "", Reason.INVALID_FINDING, message)))
    return boxes, unread


def _of_images(unread: list[tuple[Path | None, Reject]], images: list[ListedImage]) -> list[Reject]:
    """Name the images of annotations that cannot be read: each has a finding without a place."""
    names = {image.path: safe_id(image.words["image_id"]) for image in images}
    return [
        replace(reject, image_id=names.get(path, "") if path else "") for path, reject in unread
    ]


def _contour(annotation: dict[str, Any]) -> tuple[float, ...] | None:
    """Return a segmentation that is one polygon; of several, or runs, the box says where."""
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list) or len(polygons) != 1:
        return None
    return tuple(float(value) for value in polygons[0])


def _of_no_image(root: Path, boxes: dict[Path, list[dict[str, Any]]]) -> list[Reject]:
    """List the boxes of files that the table does not name and that are not there."""
    return [
        Reject(
            "ingest",
            _BOXES,
            safe_id(without_suffix(_below(root, path)).as_posix()),
            Reason.INVALID_FINDING,
            f"{_BOXES} has {len(found)} boxes of {path.name}, which is not listed",
        )
        for path, found in boxes.items()
        if found
    ]


def _alias(column: str) -> str:
    return column.lower() if column in ("BIRADS", "Birads") else column


def _looks_like_image(path: Path) -> bool:
    """By suffix, or by the DICOM preamble: files of a PACS are often named by a UID alone."""
    if path.is_dir() or path.name.startswith("."):
        return False
    if path.suffix.lower() in PICTURE_SUFFIXES | _DICOM_SUFFIXES:
        # A link to nowhere too: it is refused, not passed over.
        return True
    return path.is_file() and path.name != "DICOMDIR" and is_dicom(path)
