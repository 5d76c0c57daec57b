"""One of each fault, from the annotation file through ingest to what a network learns from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fixtures.layouts import write_mask, write_picture
from mammoscope.cohort.faults import fit_mask, mend_box
from mammoscope.cohort.findings import read_findings
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import read_cohort, read_manifest, read_rejects
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.regions import regions_of
from mammoscope.cohort.splits import split_cohort
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import IngestConfig, LesionsConfig, PreprocessConfig
from mammoscope.errors import CohortError
from mammoscope.types import Box

GOOD = [22, 102, 38, 46]
PLACE = (22, 102, 60, 148)
# What the annotation says, and where the finding lies once it is repaired; none where it cannot be.
FAULTS = {
    "wrong_order": ({"bbox": [60, 148, -38, -46]}, PLACE),
    "over_border": ({"bbox": [-10, 120, 30, 30]}, (0, 120, 20, 150)),
    "outside_image": ({"bbox": [-60, 120, 65, 30]}, None),
    "no_area": ({"bbox": [22, 102, 0, 46]}, None),
    "mask_empty": ({"bbox": GOOD, "mask": "m/empty.png"}, PLACE),
    "mask_full": ({"bbox": GOOD, "mask": "m/full.png"}, PLACE),
    "mask_size": ({"bbox": GOOD, "mask": "m/half.png"}, (30, 110, 50, 140)),
    "mask_unreadable": ({"bbox": GOOD, "mask": "m/gone.png"}, PLACE),
    "not_a_contour": ({"bbox": GOOD, "segmentation": [[22, 102, 60]]}, PLACE),
}
SOUND = "sound"
MENDED = sorted(code for code, (_, place) in FAULTS.items() if place)
BEYOND = sorted(code for code, (_, place) in FAULTS.items() if not place)


@pytest.fixture
def source(tmp_path):
    """An image for each fault, named after it, and one whose annotation is sound."""
    root = tmp_path / "source"
    images, annotations = [], []
    lines = ["file,patient_id,laterality,view,cancer"]
    said = {name: words for name, (words, _) in FAULTS.items()} | {SOUND: {"bbox": GOOD}}
    for number, (name, words) in enumerate(said.items()):
        write_picture(root / f"{name}.png", number)
        lines.append(f"{name}.png,w{number},L,CC,1")
        size = {"height": 320, "width": 256}
        images.append({"id": number, "file_name": f"{name}.png", **size})
        annotations.append({"id": number, "image_id": number, "category_id": 1, **words})
    write_mask(root / "m" / "empty.png", (0, 0, 0, 0))
    write_mask(root / "m" / "full.png", (0, 0, 256, 320))
    write_mask(root / "m" / "half.png", (15, 55, 25, 70), (160, 128))
    coco = {"images": images, "annotations": annotations}
    coco["categories"] = [{"id": 1, "name": "mass"}]
    (root / "boxes.coco.json").write_text(json.dumps(coco))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def made(source, tmp_path):
    """Ingest and prepare by one rule; then what a network is to learn by another."""

    def call(rule):
        cohort = tmp_path / "cohort"
        summary = ingest(source, cohort, config=IngestConfig(faults=rule))
        prepare(cohort, PreprocessConfig(height=64, width=32), workers=1)
        split_cohort(cohort, folds=2, test=0.2)
        return cohort, summary

    return call


def learn(cohort, rule):
    return regions_of(cohort, PreparedStore(cohort), LesionsConfig(faults=rule))


def counts(codes, done):
    return {f"{code}: {done}": 1 for code in codes}


def test_what_can_be_repaired_is_named_counted_and_learnt_from(made):
    cohort, summary = made("repair")
    assert summary.repaired == dict.fromkeys(MENDED, 1)
    assert summary.rejects == dict.fromkeys(BEYOND, 1)
    facts = read_cohort(cohort)
    assert (facts["faults"], facts["repaired"]) == ("repair", summary.repaired)
    notes = {row["image_id"]: row["notes"] for row in read_manifest(cohort).to_dicts()}
    assert {name for name, note in notes.items() if note} == set(MENDED)
    rows = {row["image_id"]: row for row in read_findings(cohort).to_dicts()}
    assert set(rows) == {*MENDED, SOUND}
    for code in MENDED:
        place = tuple(rows[code][side] for side in ("x_min", "y_min", "x_max", "y_max"))
        assert (place, rows[code]["repaired"]) == (FAULTS[code][1], [code])
    assert rows[SOUND]["repaired"] is None
    assert {(r.image_id, r.reason) for r in read_rejects(cohort)} == {(c, c) for c in BEYOND}

    regions = learn(cohort, "repair")
    assert len(regions) == len(MENDED) + 1
    assert regions.uncertain == set(BEYOND)
    # The stretched mask is stretched each time that it is read.
    before = [code for code in MENDED if code != "mask_size"]
    assert regions.counts == (
        counts(before, "repaired by ingest")
        | counts(["mask_size"], "repaired")
        | counts(BEYOND, "left out by ingest")
    )
    assert any(note.startswith("1 finding left out by ingest (no area)") for note in regions.notes)
    assert any("repaired by ingest (wrong order)" in note for note in regions.notes)


def test_what_ingest_repaired_training_may_still_drop_or_refuse(made):
    cohort, _ = made("repair")
    regions = learn(cohort, "drop")
    assert len(regions) == 1
    assert regions.uncertain == set(FAULTS)
    assert regions.dropped == [f"{code}-1" for code in MENDED]
    assert regions.counts == counts(MENDED, "dropped") | counts(BEYOND, "left out by ingest")
    with pytest.raises(CohortError, match=r"9 of 10 findings are wrong \(.*1 no_area.*lesions\.fa"):
        learn(cohort, "refuse")


def test_all_that_is_wrong_is_left_out_where_that_is_asked_for(made):
    cohort, summary = made("drop")
    assert summary.repaired == {}
    assert summary.rejects == dict.fromkeys(sorted(FAULTS), 1)
    assert read_findings(cohort)["image_id"].to_list() == [SOUND]
    messages = {reject.image_id: reject.message for reject in read_rejects(cohort)}
    assert messages["wrong_order"] == (
        "the finding is wrong: its box (60, 148, 22, 102) has sides in the wrong order"
    )
    assert messages["outside_image"].startswith("the finding cannot be: 92% of its box")
    for rule in ("repair", "drop"):
        regions = learn(cohort, rule)
        assert len(regions) == 1
        assert regions.uncertain == set(FAULTS)
        assert regions.counts == counts(FAULTS, "left out by ingest")
    with pytest.raises(CohortError, match=r"9 of 10 findings are wrong.*and 6 more"):
        learn(cohort, "refuse")


def test_nothing_is_written_where_faults_are_refused(source, tmp_path):
    with pytest.raises(CohortError) as caught:
        ingest(source, tmp_path / "cohort", config=IngestConfig(faults="refuse"))
    assert "9 of 10 findings are wrong (" in str(caught.value)
    for part in ("1 mask_empty", "; and 6 more", "--faults is refuse", "set --faults to repair"):
        assert part in str(caught.value)
    assert not (tmp_path / "cohort").exists()


def test_a_source_without_faults_passes_the_strictest_rule(source, made):
    path = source / "boxes.coco.json"
    values = json.loads(path.read_text())
    values["annotations"] = values["annotations"][-1:]
    path.write_text(json.dumps(values))
    cohort, summary = made("refuse")
    assert (summary.findings, summary.repaired) == (1, {})
    assert not learn(cohort, "refuse").faults


@pytest.mark.parametrize(
    ("sides", "codes", "box"),
    [
        ((0, 0, 10, 10), [], Box(0, 0, 10, 10)),
        ((10, 0, 0, 10), ["wrong_order"], Box(0, 0, 10, 10)),
        ((5, 15, -5, 5), ["wrong_order", "over_border"], Box(0, 5, 5, 15)),
        ((-0.5, 0, 10, 20.5), [], Box(0, 0, 10, 20)),
        ((-0.6, 0, 10, 10), ["over_border"], Box(0, 0, 10, 10)),
        ((-6, 0, 5, 10), ["outside_image"], None),
        ((5, 5, 5, 5), ["no_area"], None),
        ((None, 0, 5, 5), ["no_number"], None),
    ],
)
def test_a_box_is_mended_or_refused_by_name(sides, codes, box):
    mended, wrong = mend_box(sides, (20, 30))
    assert (mended, [fault.code for fault in wrong]) == (box, codes)
    assert all(fault.remedy for fault in wrong) == (box is not None)


def test_a_mark_smaller_than_a_pixel_is_not_lost_when_its_mask_shrinks():
    mask = np.zeros((400, 600), dtype=bool)
    mask[123, 257] = True
    fitted, wrong = fit_mask(mask, "m.png", (20, 30), None)
    assert [fault.code for fault in wrong] == ["mask_size"]
    assert np.argwhere(fitted).tolist() == [[6, 12]]
