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
    rows = [image(n, f"p{n}", machine_id="49" if n < 30 else None) for n in range(40)]
    frame = described(pl.DataFrame(rows, schema=MANIFEST_SCHEMA), None)
    facts = pl.DataFrame(
        {
            "image_id": [row["image_id"] for row in rows],
            "breast_fraction": [0.3] * 40,
            "kept_fraction": [0.85, 0.97, 0.9995] + [1.0] * 37,
            "borders": ["top,bottom", "", "top"] + [""] * 37,
            "quality": [0.2, 0.5, 0.1] + [1.0] * 37,
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
    assert worst[0]["wrong"] == ["breast touches top", f"{WRONG_SIDE}; tape left"]
    assert worst[1]["wrong"] == ["keeps 85.0 % of the breast", "breast touches top, bottom"]
    assert worst[2]["wrong"] == ["keeps 97.0 % of the breast", WRONG_SIDE]
    assert worst[3]["wrong"] == []


def test_everything_noted_is_counted(judged):
    assert judged["kept_below"] == [
        {"share": 0.999, "images": 2},
        {"share": 0.99, "images": 2},
        {"share": 0.95, "images": 1},
        {"share": 0.90, "images": 1},
    ]
    assert judged["borders"] == [{"what": "top", "images": 2}, {"what": "bottom", "images": 1}]
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
