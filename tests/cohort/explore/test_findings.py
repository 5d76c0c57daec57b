"""Annotations against images and labels, on findings with one fault each."""

from __future__ import annotations

import polars as pl
import pytest

from fixtures.hand_made import image
from mammoscope.cohort.explore import explore
from mammoscope.cohort.explore.findings import crops_of, judge_findings
from mammoscope.cohort.explore.tables import described
from mammoscope.cohort.manifest import MANIFEST_SCHEMA
from mammoscope.preprocessing import Geometry

SCHEMA = {
    "finding_id": pl.String(),
    "image_id": pl.String(),
    "kind": pl.String(),
    "malignant": pl.Int8(),
    "birads": pl.String(),
    **{name: pl.Float64() for name in ("x_min", "y_min", "x_max", "y_max")},
    "shape": pl.String(),
    "contour": pl.String(),
    "mask": pl.String(),
    "description": pl.String(),
}


def finding(number, of, box=(0.0, 0.0, 32.0, 32.0), **words):
    names = ("x_min", "y_min", "x_max", "y_max")
    corners = dict(zip(names, box or (None,) * 4, strict=True))
    words = {"kind": "mass", "malignant": 0, **words}
    made = {"finding_id": f"f{number}", "image_id": f"image{of:04}", **corners, **words}
    return dict.fromkeys(SCHEMA) | made


@pytest.fixture
def made(write_hand_made):
    """Images 0 to 4 are positive, 5 to 9 negative, all of 320 × 256 pixels."""
    cohort = write_hand_made([image(n, f"secret{n}", cancer=int(n < 5)) for n in range(10)])
    rows = [
        finding(0, 0, malignant=1),
        finding(1, 0, malignant=1, kind="calcification", box=(0, 0, 256, 320)),
        finding(2, 1, malignant=1, box=(200, 300, 257, 320)),  # one column outside
        finding(3, 2),  # positive image, benign finding
        finding(4, 3, malignant=None),  # unknown is no contradiction
        finding(5, 5, malignant=1),  # malignant on a negative image
        finding(6, 6, box=(10, 10, 10, 20)),  # no area
        finding(7, 7, box=None),  # nowhere
        finding(8, 8, box=None, mask="m.png"),
        finding(9, 99, malignant=1),  # no such image
    ]
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(cohort / "findings.parquet")
    return explore(cohort)


def test_each_fault_is_counted_once_and_names_its_image(made):
    faults = {
        row["what"]: (row["count"], row["examples"]) for row in made.report["findings"]["faults"]
    }
    assert faults == {
        "findings of images that the cohort does not hold": (1, ["image0099"]),
        "findings with neither box nor mask": (1, ["image0007"]),
        "boxes with no area": (1, ["image0006"]),
        "boxes that reach outside their image": (1, ["image0001"]),
        "malignant findings on images labelled negative": (1, ["image0005"]),
        "positive images without a finding": (1, ["image0004"]),
        "positive images whose findings are all benign": (1, ["image0002"]),
    }


def test_findings_are_counted_by_kind_and_image_and_boxes_by_size(made):
    values = made.report["findings"]
    assert (values["findings"], values["images"], values["with_box"], values["with_mask"]) == (
        10,
        8,
        7,
        1,
    )
    mass, calcification = values["kinds"]
    assert (mass["findings"], mass["malignant"], mass["benign"], mass["unknown"]) == (8, 3, 4, 1)
    assert (calcification["kind"], calcification["findings"]) == ("calcification", 1)
    assert values["per_image"] == {"0": 2, "1": 7, "2": 1}
    # 32 × 32 of 320 × 256 pixels is 1.25 %; the box of the whole image is in the last class.
    assert values["areas"]["quantiles"]["median"] == pytest.approx(0.0125)
    assert [row["boxes"] for row in values["areas"]["counts"]] == [0, 0, 0, 5, 0, 0, 1]


def test_the_page_shows_them_and_names_no_patient(made):
    page = made.path.read_text()
    assert "Boxes that reach outside their image" in page
    assert "<code>image0099</code>" in page
    assert "secret" not in page


class Store:
    """Crops of two images of 320 × 256: the left half, and the same of the mirrored one."""

    def read_geometry(self, image_id):
        mirrored = image_id == "image0001"
        return Geometry.fit((320, 256), (0, 0, 128, 320), (64, 32), mirrored=mirrored)


def test_boxes_that_the_crop_cuts_or_loses_are_named():
    crops = crops_of(Store(), ["image0000", "image0001"])
    assert crops.rows() == [("image0000", 0, 0, 128, 320), ("image0001", 128, 0, 256, 320)]
    left, right, across = (0, 0, 100, 100), (140, 0, 200, 100), (100, 0, 140, 100)
    boxes = [left, right, across, left, right, (128, 0, 256, 320)]
    rows = [finding(n, int(n > 2), box=box) for n, box in enumerate(boxes)]
    frame = described(
        pl.DataFrame([image(n, f"p{n}") for n in range(2)], schema=MANIFEST_SCHEMA), None
    )
    values = judge_findings(pl.DataFrame(rows, schema=SCHEMA), frame, crops)
    faults = {row["what"]: (row["count"], row["examples"]) for row in values["faults"]}
    assert faults["boxes of which the crop cuts over 1 %"] == (3, ["image0000", "image0001"])
    assert faults["boxes that the crop loses whole"] == (2, ["image0000", "image0001"])
