import cv2
import numpy as np
import pytest

from fixtures.lesions import ORIGINAL, SIZE, circle, finding, row_of, write_lesion_cohort
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.regions import regions_of
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import LesionsConfig
from mammoscope.errors import CohortError
from mammoscope.preprocessing import Geometry
from mammoscope.types import Box


@pytest.fixture
def cohort(tmp_path):
    """Write one image with the findings given, and read them as regions."""

    def write(*findings, faults="repair", geometry=None, masks=None, more=(), **settings):
        folder = tmp_path / "cohort"
        rows = [row_of(0, sick=True), *more]
        pixels = {row["image_id"]: np.full(SIZE, 80, np.uint8) for row in rows}
        rejects = settings.pop("rejects", [])
        write_lesion_cohort(
            folder, rows, list(findings), pixels, geometry=geometry, rejects=rejects
        )
        for name, mask in (masks or {}).items():
            cv2.imwrite(str(folder / "source" / name), mask)
        config = LesionsConfig(faults=faults, **settings)
        return regions_of(folder, PreparedStore(folder), config)

    return write


def box(x_min, y_min, x_max, y_max, **facts):
    sides = {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}
    facts = {"kind": "mass", "shape": "box"} | sides | facts
    return finding("i000", **facts)


def masked(name="m.png", **facts):
    return box(20, 40, 40, 60, shape="mask", mask=name, **facts)


def drawn(size=ORIGINAL, where=np.s_[40:60, 20:40]):
    mask = np.zeros(size, np.uint8)
    mask[where] = 255
    return mask


def edges(mask):
    ys, xs = np.nonzero(mask)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_a_circle_lies_on_the_grid_where_it_was_drawn(cohort):
    regions = cohort(circle("i000", 30, 60, 12))
    (region,) = regions.of("i000")
    assert (region.kind, region.malignant) == ("mass", True)
    assert region.box == Box(18, 48, 42, 72)
    assert regions.boxes("i000") == [Box(9, 24, 21, 36)]
    mask = regions.mask(region)
    assert edges(mask) == (9, 24, 21, 36)
    assert mask.sum() == pytest.approx(np.pi * 36, rel=0.05)
    assert not regions.faults
    assert not regions.uncertain


def test_a_contour_is_followed_and_not_its_box(cohort):
    contour = [20.0, 20.0, 60.0, 20.0, 20.0, 100.0]
    regions = cohort(box(20, 20, 60, 100, shape="polygon", contour=contour))
    mask = regions.mask(regions.of("i000")[0])
    assert mask.sum() == pytest.approx(400, rel=0.03)
    assert mask[11, 11]
    assert not mask[45, 28]


def test_a_mask_file_is_followed_and_mirrored_with_its_image(cohort):
    geometry = Geometry.fit(ORIGINAL, (0, 0, 64, 128), SIZE, mirrored=True)
    mask = drawn()
    mask[40:60, 20:30] = 0
    regions = cohort(masked(), masks={"m.png": mask}, geometry=geometry)
    # Columns 30 to 40 of 64 are 24 to 34 when mirrored, and 12 to 17 on the grid.
    assert edges(regions.mask(regions.of("i000")[0])) == (12, 20, 17, 30)


@pytest.mark.parametrize(("box_as", "area"), [("box", 100), ("ellipse", 25 * np.pi)])
def test_a_box_is_filled_as_the_settings_say(cohort, box_as, area):
    regions = cohort(box(20, 40, 40, 60), box_as=box_as)
    assert regions.mask(regions.of("i000")[0]).sum() == pytest.approx(area, rel=0.04)


def test_a_lesion_smaller_than_a_pixel_of_the_grid_is_that_pixel(cohort):
    regions = cohort(circle("i000", 31, 61, 0.4))
    mask = regions.mask(regions.of("i000")[0])
    assert mask.sum() == 1
    assert mask[30, 15]
    assert regions.boxes("i000")[0].x_max - regions.boxes("i000")[0].x_min >= 1


def test_two_lesions_are_told_apart_and_joined(cohort):
    regions = cohort(circle("i000", 20, 20, 8), circle("i000", 40, 100, 8, finding_id="other"))
    assert len(regions) == 2
    one, two = (regions.mask(region) for region in regions.of("i000"))
    assert not (one & two).any()
    np.testing.assert_array_equal(regions.union("i000"), one | two)
    assert not regions.union("nobody").any()
    assert regions.boxes("nobody") == []


# What is wrong, its code, and where the region lies after repair; none where it is dropped.
FAULTS = {
    "sides in the wrong order": (box(40, 60, 20, 40), "wrong_order", (20, 40, 40, 60)),
    "over the border": (box(50, 100, 70, 132), "over_border", (50, 100, 64, 128)),
    "outside the image": (box(70, 10, 90, 30), "outside_image", None),
    "mostly outside the image": (box(62, 10, 87, 30), "outside_image", None),
    "no area": (box(20, 40, 20, 60), "no_area", None),
    "half a box": (box(20, None, 40, 60), "no_number", None),
    "not a number": (box(20, float("nan"), 40, 60), "no_number", None),
    "half a point": (
        box(20, 40, 40, 60, shape="polygon", contour=[20.0, 40.0, 30.0, 50.0, 40.0, 60.0, 7.0]),
        "not_a_contour",
        (20, 40, 40, 60),
    ),
    "a mask of twice the size": (masked("double.png"), "mask_size", (20, 40, 40, 60)),
    "a mask of other proportions": (masked("square.png"), "mask_size", (20, 40, 40, 60)),
    "an empty mask": (masked("empty.png"), "mask_empty", (20, 40, 40, 60)),
    "a full mask": (masked("full.png"), "mask_full", (20, 40, 40, 60)),
    "no mask": (masked("gone.png"), "mask_unreadable", (20, 40, 40, 60)),
    "no picture": (masked("text.png"), "mask_unreadable", (20, 40, 40, 60)),
    "an empty mask and no box": (
        finding("i000", shape="mask", mask="empty.png"),
        "mask_empty",
        None,
    ),
}
MASKS = {
    "double.png": drawn((256, 128), np.s_[80:120, 40:80]),
    "square.png": drawn((90, 90), np.s_[80:90, 80:90]),
    "empty.png": drawn(where=np.s_[0:0, 0:0]),
    "full.png": drawn(where=np.s_[:, :]),
}


@pytest.fixture
def faulty(cohort, tmp_path):
    def write(wrong, **settings):
        (tmp_path / "cohort" / "source").mkdir(parents=True)
        (tmp_path / "cohort" / "source" / "text.png").write_text("no picture")
        good = circle("i001", 30, 60, 12)
        more = [row_of(1, sick=True)]
        return cohort(wrong, good, masks=MASKS, more=more, **settings)

    return write


@pytest.mark.parametrize(("wrong", "code", "place"), FAULTS.values(), ids=FAULTS)
def test_what_can_be_repaired_is_and_the_rest_is_dropped_by_name(faulty, wrong, code, place):
    regions = faulty(wrong)
    (fault,) = regions.faults
    assert (fault.code, fault.finding_id) == (code, "i000-1")
    assert fault.done == ("dropped" if place is None else "repaired")
    assert regions.counts == {f"{code}: {fault.done}": 1}
    assert any("1 finding " in note and fault.sentence in note for note in regions.notes)
    assert len(regions.of("i001")) == 1
    if place is None:
        assert regions.of("i000") == ()
        assert "i000" in regions.uncertain
    else:
        (region,) = regions.of("i000")
        assert region.box == Box(*place)
        assert edges(regions.mask(region)) == tuple(round(edge / 2) for edge in place)
        assert "i000" not in regions.uncertain


@pytest.mark.parametrize(("wrong", "code", "place"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_dropped_where_that_is_asked_for(faulty, wrong, code, place):
    regions = faulty(wrong, faults="drop")
    assert [(fault.code, fault.done) for fault in regions.faults] == [(code, "dropped")]
    assert regions.of("i000") == ()
    assert "i000" in regions.uncertain


@pytest.mark.parametrize(("wrong", "code", "place"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_stops_everything_where_that_is_asked_for(faulty, wrong, code, place):
    with pytest.raises(CohortError, match=r"1 of 2 findings are wrong.*i000-1: .*repair or drop"):
        faulty(wrong, faults="refuse")


def test_a_mask_of_a_few_pixels_more_is_no_fault(cohort):
    regions = cohort(masked(), masks={"m.png": drawn((131, 60))})
    assert not regions.faults
    assert edges(regions.mask(regions.of("i000")[0])) == (10, 20, 20, 30)


def test_a_lesion_that_the_crop_leaves_out_is_dropped_by_name(cohort):
    geometry = Geometry.fit(ORIGINAL, (0, 0, 64, 100), SIZE, mirrored=False)
    regions = cohort(
        circle("i000", 30, 120, 5), circle("i000", 30, 98, 6, finding_id="seen"), geometry=geometry
    )
    assert regions.counts == {"outside_crop: dropped": 1}
    # It is in the image all the same, and missed by who does not see it.
    assert regions.dropped == []
    (region,) = regions.of("i000")
    assert region.finding_id == "seen"
    assert regions.mask(region).any()


def test_findings_are_filtered_by_kind_and_outcome(cohort):
    kinds = [
        circle("i000", 10, 20 * number, 4, kind=kind, malignant=malignant, finding_id=f"f{number}")
        for number, (kind, malignant) in enumerate(
            [("mass", 1), ("calcification", 1), (None, None), ("mass", 0)], start=1
        )
    ]
    found = cohort(*kinds, kinds=["mass"]).of("i000")
    assert [region.finding_id for region in found] == ["f1", "f4"]
    found = cohort(*kinds, malignant_only=True).of("i000")
    assert [region.finding_id for region in found] == ["f1", "f2", "f3"]


def test_a_cohort_without_findings_is_refused_by_name(cohort):
    with pytest.raises(CohortError, match="has no rows: the source names no lesions"):
        cohort()
    with pytest.raises(CohortError, match="no finding of kind calcification"):
        cohort(circle("i000", 30, 60, 12), kinds=["calcification"])


def test_findings_that_share_a_name_are_refused(cohort):
    with pytest.raises(CohortError, match=r"finding_id is not unique \(i000-1\)"):
        cohort(circle("i000", 30, 60, 12), circle("i000", 20, 20, 5))


def test_images_whose_lesions_nobody_places_are_uncertain(cohort):
    more = [row_of(number, sick=number != 3) for number in (1, 2, 3, 4)]
    reject = Reject("ingest", "boxes.json", "i003", "invalid_finding", "no area")
    copy = Reject("ingest", "copy.png", "i000", "duplicate", "the same pixels as i000.png")
    regions = cohort(
        circle("i000", 30, 60, 12),
        finding("i002", kind="mass"),
        circle("i004", 30, 60, 12),
        circle("gone", 30, 60, 12),
        more=more,
        rejects=[reject, copy],
    )
    # A cancer without a finding, a finding without a place, a finding that ingest refused.
    assert regions.uncertain == {"i001", "i002", "i003"}
    assert regions.counts == {"invalid_finding: left out by ingest": 1}
    assert regions.notes == (
        "1 finding left out by ingest (invalid finding), as i003: no area",
        "1 finding left out: not of prepared images",
    )


def test_half_a_pixel_over_the_border_is_no_fault(cohort):
    regions = cohort(box(50, 100, 64.4, 128.5))
    assert not regions.faults
    assert regions.of("i000")[0].box == Box(50, 100, 64, 128)


def test_what_ingest_left_out_or_repaired_is_refused_where_that_is_asked_for(cohort):
    sound = circle("i000", 30, 60, 12)
    gone = Reject("ingest", "boxes.json", "i000", "no_area", "no area")
    with pytest.raises(
        CohortError, match=r"1 of 2 findings are wrong \(1 no_area\).*i000: no area"
    ):
        cohort(sound, rejects=[gone], faults="refuse")
    with pytest.raises(CohortError, match=r"1 of 1 findings are wrong \(1 wrong_order\)"):
        cohort(sound | {"repaired": ["wrong_order"]}, faults="refuse")
    # Of an annotation that names no image, nobody knows whether it is of one.
    with pytest.raises(CohortError, match=r"boxes.json: annotation 3"):
        cohort(
            sound,
            rejects=[Reject("ingest", "boxes.json", "", "invalid_finding", "annotation 3")],
            faults="refuse",
        )
    other = Reject("ingest", "boxes.json", "elsewhere", "no_area", "no area")
    image = Reject("ingest", "b.png", "", "no_table_row", "b.png has no row")
    assert not cohort(sound, rejects=[other, image], faults="refuse").faults


def test_a_benign_finding_does_not_say_where_a_cancer_is(cohort):
    more = [row_of(number, sick=number != 3) for number in (1, 2, 3)]
    regions = cohort(
        circle("i000", 30, 60, 12, malignant=0),
        circle("i001", 30, 60, 12, malignant=0),
        circle("i001", 10, 20, 4, malignant=1, finding_id="cancer"),
        circle("i002", 30, 60, 12, malignant=None),
        circle("i003", 30, 60, 12, malignant=0),
        more=more,
    )
    # One of unknown nature may be the cancer; the image without cancer has all that it has.
    assert regions.uncertain == {"i000"}
    assert len(regions.of("i000")) == 1


@pytest.mark.parametrize(("faults", "named"), [("drop", ["i000-1"]), ("repair", [])])
def test_what_was_dropped_as_wrong_is_named(faulty, faults, named):
    assert faulty(box(40, 60, 20, 40), faults=faults).dropped == named


def test_a_source_that_was_moved_is_named(cohort, tmp_path):
    cohort(masked(), masks={"m.png": drawn()})
    source = tmp_path / "cohort" / "source"
    source.rename(tmp_path / "elsewhere")
    store = PreparedStore(tmp_path / "cohort")
    with pytest.raises(CohortError, match="is no longer there: put it back"):
        regions_of(tmp_path / "cohort", store, LesionsConfig())
