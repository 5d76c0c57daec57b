"""The worst come first, with what is wrong in words."""

from __future__ import annotations

import polars as pl
import pytest

from fixtures.hand_made import image
from mammoscope.cohort.explore.quality import quality
from mammoscope.cohort.explore.tables import described
from mammoscope.cohort.manifest import MANIFEST_SCHEMA, Reject
from mammoscope.errors import Reason

WRONG_SIDE = "laterality is L, but the chest wall lies on the right"


@pytest.fixture
def judged():
    rows = [
        image(n, f"p{n}", machine_id="49" if n < 30 else None, laterality="LLR"[min(n, 2)])
        for n in range(40)
    ]
    frame = described(pl.DataFrame(rows, schema=MANIFEST_SCHEMA), None)
    facts = pl.DataFrame(
        {
            "image_id": [row["image_id"] for row in rows],
            "breast_fraction": [0.3, 0.9, 0.03] + [0.3] * 37,
            "kept_fraction": [0.65, 0.4, 0.95] + [1.0] * 37,
            "borders": ["left,top,right", "right", "top,left"] + ["right"] * 37,
            "quality": [0.2, 0.5, 0.1, 0.7] + [1.0] * 36,
            "warnings": ["", WRONG_SIDE, f"{WRONG_SIDE}; tape left"] + [""] * 37,
            "decoder": ["imagecodecs"] * 39 + [None],
        }
    )
    rejects = [
        Reject("prepare", "a", "a", Reason.NO_BREAST, ""),
        Reject("prepare", "b", "b", Reason.NO_BREAST, ""),
        Reject("ingest", "c", "c", Reason.DUPLICATE, ""),
    ]
    return quality(facts, frame, rejects)


def test_the_worst_come_first_and_say_what_is_wrong(judged):
    worst = judged["worst"]
    assert len(worst) == 24
    assert [row["image_id"] for row in worst[:4]] == [
        "image0002",
        "image0000",
        "image0001",
        "image0003",
    ]
    # On an image whose sides are exchanged, a right breast has its chest wall on the left.
    assert worst[0]["wrong"] == [
        "the breast covers 3.0 % of the image",
        "the breast touches top",
        f"{WRONG_SIDE}; tape left",
    ]
    assert worst[1]["wrong"] == [
        "the mask keeps 65.0 % of what is bright around it",
        "the breast touches top, nipple side",
    ]
    assert worst[2]["wrong"] == [
        "the mask keeps 40.0 % of what is bright around it",
        "the breast covers 90.0 % of the image",
        WRONG_SIDE,
    ]
    assert worst[3]["wrong"] == ["the outline is ragged or the breast is hardly brighter than air"]
    assert worst[4]["wrong"] == []


def test_everything_noted_is_counted(judged):
    assert judged["kept_below"] == [
        {"share": 0.9, "images": 2},
        {"share": 0.7, "images": 2},
        {"share": 0.5, "images": 1},
    ]
    assert judged["borders"] == [
        {"what": "chest wall", "images": 40},
        {"what": "top", "images": 2},
        {"what": "nipple side", "images": 1},
    ]
    assert judged["warnings"] == [
        {"what": WRONG_SIDE, "images": 2},
        {"what": "tape left", "images": 1},
    ]
    assert judged["disagreements"] == 2
    assert judged["decoders"] == {"imagecodecs": 39, "unknown": 1}
    assert judged["refused"] == [{"reason": "no_breast", "images": 2}]
    assert judged["quantiles"]["quality"]["least"] == 0.1
    assert [
        (row["machine_id"], row["images"], row["disagreements"]) for row in judged["machines"]
    ] == [
        ("49", 30, 2),
        (None, 10, 0),
    ]
