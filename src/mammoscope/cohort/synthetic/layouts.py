"""Where the files and tables of a synthetic cohort lie, in each profile.

``rsna``: the challenge's, ``train.csv`` and ``train_images/<patient>/<image>.dcm``.
``clinical``: a study folder per patient, ``<patient>/<image>.dcm``, with ``labels.csv`` and
``boxes.coco.json``, as the source ``folder`` reads them. Both have ``synthetic_findings.csv``.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from mammoscope.artefacts import write_atomically, write_json
from mammoscope.cohort.synthetic.acquisition import Profile
from mammoscope.cohort.synthetic.records import TABLE_COLUMNS

__all__ = ["image_path", "write_csv", "write_table"]

# What only a synthetic finding is known by.
_TRUTH = ("contrast", "conspicuity")


def image_path(profile: Profile, patient_id: int, image_id: int) -> Path:
    """Return the path of an image, relative to the cohort's folder."""
    below = Path("train_images") if profile == "rsna" else Path()
    return below / str(patient_id) / f"{image_id}.dcm"


def write_table(
    out: Path, profile: Profile, rows: list[dict[str, Any]], findings: list[dict[str, Any]]
) -> None:
    """Write the table of the images and, where the layout wants them apart, their boxes."""
    if profile == "rsna":
        write_csv(out / "train.csv", TABLE_COLUMNS, rows)
        return
    files = {
        row["image_id"]: image_path(profile, row["patient_id"], row["image_id"]).as_posix()
        for row in rows
    }
    named = [{"file": files[row["image_id"]], **row} for row in rows]
    write_csv(out / "labels.csv", ("file", *TABLE_COLUMNS), named)
    kinds = sorted({finding["kind"] for finding in findings})
    write_json(
        out / "boxes.coco.json",
        {
            "images": [{"id": image, "file_name": file} for image, file in files.items()],
            "categories": [{"id": n, "name": kind} for n, kind in enumerate(kinds, start=1)],
            "annotations": [
                {
                    "id": number,
                    "image_id": finding["image_id"],
                    "category_id": 1 + kinds.index(finding["kind"]),
                    "bbox": _bbox(finding),
                    **{word: finding[word] for word in ("malignant", "mask", *_TRUTH)},
                }
                for number, finding in enumerate(findings, start=1)
            ],
        },
    )


def write_csv(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Write rows under their columns."""
    with write_atomically(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _bbox(finding: dict[str, Any]) -> list[float]:
    """Return COCO's box: left, top, width, height."""
    x_min, y_min, x_max, y_max = (finding[n] for n in ("x_min", "y_min", "x_max", "y_max"))
    return [x_min, y_min, round(x_max - x_min, 1), round(y_max - y_min, 1)]
