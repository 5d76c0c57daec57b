"""What each source's words become: labels, patients, splits, and boxes in the right place."""

from __future__ import annotations

import json

import pytest

from fixtures.layouts import LAYOUTS, write_mask, write_picture, write_workbook
from mammoscope.cohort.findings import kind_of, read_findings
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import read_manifest, read_rejects
from mammoscope.errors import CohortError


@pytest.fixture
def read(build_layout, tmp_path):
    """Ingest one source: manifest by image_id, findings by image_id, rejects."""

    def call(name, spoil=None):
        root = build_layout(name)
        if spoil is not None:
            spoil(root)
        ingest(root, tmp_path / "c", overwrite=True)
        rows = {row["image_id"]: row for row in read_manifest(tmp_path / "c").to_dicts()}
        findings = {}
        for row in read_findings(tmp_path / "c").to_dicts():
            findings.setdefault(row["image_id"], []).append(row)
        return rows, findings, read_rejects(tmp_path / "c")

    return call


def box(row):
    return tuple(row[side] for side in ("x_min", "y_min", "x_max", "y_max"))


def pick(row, *names):
    return tuple(row[name] for name in names)


LABELS = ("patient_id", "laterality", "view", "cancer", "birads", "density", "split")


class TestCbis:
    def test_labels_are_of_the_film_over_both_tables(self, read):
        rows, _, _ = read("cbis-ddsm")
        # Benign calcifications and a malignant mass: the film has cancer.
        film = rows["Calc-Training_P_00001_LEFT_CC"]
        assert pick(film, *LABELS) == ("P_00001", "L", "CC", 1, "5", "C", "train")
        other = rows["Mass-Test_P_00002_RIGHT_MLO"]
        assert pick(other, *LABELS) == ("P_00002", "R", "MLO", 0, "0", "B", "test")
        assert film["biopsy"] is None

    def test_the_mask_is_known_by_its_size_whatever_the_table_calls_it(self, read):
        _, findings, _ = read("cbis-ddsm")
        found = {box(row): row for row in findings["Calc-Training_P_00001_LEFT_CC"]}
        # Two masses, of which one has swapped paths, and the calcifications of the same film.
        assert set(found) == {(30, 90, 60, 130), (70, 180, 95, 200), (100, 140, 112, 150)}
        mass = found[30, 90, 60, 130]
        assert pick(mass, "kind", "malignant", "birads", "shape") == ("mass", 1, "5", "mask")
        assert mass["description"] == "IRREGULAR; SPICULATED"
        assert mass["mask"].endswith("LEFT_CC_1/1.3.6.1.4.1.9590.100.1.2.1/"
                                     "1.3.6.1.4.1.9590.100.1.2.2/000001.dcm")  # fmt: skip
        node = found[70, 180, 95, 200]
        assert pick(node, "kind", "malignant", "birads") == ("lymph_node", 0, "2")
        assert node["mask"].endswith("LEFT_CC_2/1.3.6.1.4.1.9590.100.1.2.1/"
                                     "1.3.6.1.4.1.9590.100.1.2.2/000000.dcm")  # fmt: skip
        assert pick(found[100, 140, 112, 150], "kind", "malignant") == ("calcification", 0)

    def test_a_film_that_is_there_twice_is_one_image_with_the_findings_of_both(self, read):
        rows, findings, rejects = read("cbis-ddsm")
        (twice,) = [reject for reject in rejects if reject.reason == "duplicate"]
        assert twice.image_id == "Mass-Training_P_00001_LEFT_CC"
        assert twice.image_id not in rows
        assert "pixel data" in twice.message or "SOP" in twice.message
        ids = [row["finding_id"] for row in findings["Calc-Training_P_00001_LEFT_CC"]]
        assert ids == [f"Calc-Training_P_00001_LEFT_CC-{number}" for number in (1, 2, 3)]

    def test_a_mask_of_a_few_rows_more_is_taken(self, read):
        _, findings, _ = read("cbis-ddsm")
        assert box(findings["Mass-Test_P_00002_RIGHT_MLO"][0]) == (20, 60, 50, 80)

    def test_a_mask_under_a_name_that_the_table_does_not_know_is_found(self, read):
        def rename(root):
            for region in (root / "CBIS-DDSM").glob("Mass-Training_P_00001_LEFT_CC_*"):
                for path in region.rglob("*.dcm"):
                    path.rename(path.with_name(f"renamed-{path.name}"))

        _, findings, _ = read("cbis-ddsm", rename)
        found = {box(row) for row in findings["Calc-Training_P_00001_LEFT_CC"]}
        assert found == {(30, 90, 60, 130), (70, 180, 95, 200), (100, 140, 112, 150)}

    def test_a_region_without_any_file_has_no_readable_mask(self, read):
        def remove(root):
            for path in (root / "CBIS-DDSM").glob("Mass-Test_P_00002_RIGHT_MLO_1/*/*/*.dcm"):
                path.unlink()

        rows, _, rejects = read("cbis-ddsm", remove)
        assert "Mass-Test_P_00002_RIGHT_MLO" in rows
        (reject,) = [reject for reject in rejects if reject.reason == "mask_unreadable"]
        assert reject.message.startswith(
            "row 2 of mass_case_description_test_set.csv: the finding cannot be: its mask Mass-Test"
        )
        assert reject.message.endswith("does not exist")

    def test_a_finding_without_a_mask_of_its_size_is_refused_and_its_film_stays(self, read):
        def keep_the_crop(root):
            for mask in (root / "CBIS-DDSM").glob("Mass-Test_P_00002_RIGHT_MLO_1/*/*/1-2.dcm"):
                mask.unlink()

        rows, findings, rejects = read("cbis-ddsm", keep_the_crop)
        assert "Mass-Test_P_00002_RIGHT_MLO" in rows
        assert "Mass-Test_P_00002_RIGHT_MLO" not in findings
        (reject,) = [reject for reject in rejects if reject.reason == "mask_size"]
        assert reject.path == "mass_case_description_test_set.csv"
        assert "row 2 of mass_case_description_test_set.csv" in reject.message
        assert "no mask has the image's size of 320 x 256" in reject.message
        assert "is 30 x 40" in reject.message

    def test_a_copy_whose_mask_cannot_be_leaves_a_lesion_without_a_place(self, read):
        """It is of the image that is kept, under whose name it is listed."""

        def spoil(root):
            for path in (root / "CBIS-DDSM").glob("Mass-Training_P_00001_LEFT_CC_1/*/*/*.dcm"):
                path.unlink()

        _, findings, rejects = read("cbis-ddsm", spoil)
        assert len(findings["Calc-Training_P_00001_LEFT_CC"]) == 2
        (reject,) = [reject for reject in rejects if reject.reason == "mask_unreadable"]
        assert reject.image_id == "Calc-Training_P_00001_LEFT_CC"

    def test_a_crop_of_the_films_proportions_is_not_stretched_to_a_mask(self, read):
        def keep_the_crop(root):
            (region,) = (root / "CBIS-DDSM").glob("Mass-Test_P_00002_RIGHT_MLO_1")
            (mask,) = region.rglob("1-2.dcm")
            mask.unlink()
            (crop,) = region.rglob("1-1.dcm")
            write_mask(crop.with_suffix(".png"), (5, 5, 20, 20), (40, 32))
            crop.with_suffix(".png").rename(crop)

        _, findings, rejects = read("cbis-ddsm", keep_the_crop)
        assert "Mass-Test_P_00002_RIGHT_MLO" not in findings
        assert [r.reason for r in rejects if "mask" in r.message] == ["mask_size"]

    def test_a_pathology_that_is_no_word_is_refused_by_row(self, read):
        def spoil(root):
            table = root / "mass_case_description_test_set.csv"
            table.write_text(table.read_text().replace(",BENIGN,", ",PERHAPS,"))

        rows, _, rejects = read("cbis-ddsm", spoil)
        assert "Mass-Test_P_00002_RIGHT_MLO" not in rows
        assert any("pathology is 'PERHAPS'; MALIGNANT, " in r.message for r in rejects)


class TestVindr:
    def test_cancer_is_birads_5_by_convention_and_the_rest_is_the_tables(self, read):
        rows, _, _ = read("vindr-mammo")
        assert pick(rows["i1"], *LABELS) == ("s1", "L", "CC", 1, "5", "C", "train")
        assert pick(rows["i2"], *LABELS) == ("s1", "R", "CC", 0, "2", "C", "train")
        assert pick(rows["i3"], *LABELS) == ("s2", "L", "MLO", 0, "4", "A", "test")
        assert rows["i1"]["machine_id"] == "Mammomat Inspiration"
        assert rows["i2"]["machine_id"] is None

    def test_a_list_of_categories_is_a_finding_each_and_no_finding_none(self, read):
        _, findings, _ = read("vindr-mammo")
        kinds = [pick(row, "kind", "malignant", "birads") for row in findings["i1"]]
        assert kinds == [("mass", 1, "5"), ("calcification", 1, "5"), ("asymmetry", 0, "3")]
        assert box(findings["i1"][0]) == box(findings["i1"][1]) == (20.5, 100.25, 60.0, 140.75)
        assert findings["i1"][1]["description"] == "Suspicious Calcification"
        assert "i2" not in findings
        assert findings["i3"][0]["kind"] == "skin_thickening"

    @pytest.mark.parametrize(
        ("old", "new", "reason", "says"),
        [
            ("20.5,100.25,60.0,140.75", "60,100,60,140", "no_area", "has no area"),
            ("20.5,100.25,60.0,140.75", "600,100,620,140", "outside_image", "100% of its box"),
            ("20.5,100.25,60.0,140.75", "a,100,620,140", "invalid_finding", "not all finite"),
            ("20.5,100.25,60.0,140.75", "nan,100,620,140", "invalid_finding", "not all finite"),
            ("['Focal Asymmetry']", "Focal Asymmetry", "invalid_finding", "not a list"),
            ("i3,L,MLO,320,256", "i3,L,MLO,320,300", "invalid_finding", "other proportions"),
            ("s2,x,i3", "s2,x,i9", "invalid_finding", "i9 is not in breast-level_annotations.csv"),
        ],
    )
    def test_a_finding_that_cannot_be_is_refused_and_its_image_stays(
        self, read, old, new, reason, says
    ):
        def spoil(root):
            table = root / "finding_annotations.csv"
            assert old in table.read_text()
            table.write_text(table.read_text().replace(old, new))

        rows, _, rejects = read("vindr-mammo", spoil)
        assert len(rows) == 3
        assert {reject.reason for reject in rejects} == {reason}
        assert all(reject.path == "finding_annotations.csv" for reject in rejects)
        assert says in rejects[0].message
        assert "of finding_annotations.csv" in rejects[0].message


class TestInbreast:
    def test_the_patient_is_the_hash_and_4a_is_malignant(self, read):
        rows, _, _ = read("inbreast")
        mlo = rows["20586908"]
        assert pick(mlo, *LABELS) == ("6c613a14b80a8591", "L", "MLO", 1, "4a", "D", None)
        assert mlo["exam_id"] == "6c613a14b80a8591-201001"
        assert mlo["age"] is None
        assert pick(rows["20586934"], "patient_id", "cancer") == ("6c613a14b80a8591", 0)
        assert pick(rows["20586960"], "cancer", "density") == (0, "B")

    def test_contours_are_kept_and_a_point_is_its_pixel(self, read):
        _, findings, _ = read("inbreast")
        mass, point = findings["20586908"]
        assert pick(mass, "kind", "shape", "malignant") == ("mass", "polygon", None)
        assert mass["contour"] == [30.5, 100.0, 60.25, 110.0, 45.0, 140.5]
        assert box(mass) == (30.5, 100.0, 60.25, 140.5)
        assert pick(point, "kind", "shape") == ("calcification", "polygon")
        assert box(point) == (12, 33, 13, 34)
        (region,) = findings["20586960"]
        assert pick(region, "kind", "malignant", "description") == ("asymmetry", 0, "Assymetry")

    def test_a_contour_that_cannot_be_read_is_refused_and_the_others_stay(self, read):
        def spoil(root):
            path = root / "INbreast Release 1.0" / "AllXML" / "20586908.xml"
            path.write_text(path.read_text().replace("(60.250000, 110.000000)", "(60.25; 110)"))
            (path.parent / "20586960.xml").write_text("<plist><dict>")

        rows, findings, rejects = read("inbreast", spoil)
        assert len(rows) == 3
        assert len(findings["20586908"]) == 1
        assert [r.reason for r in rejects] == ["invalid_finding"] * 2
        assert "region 1 of INbreast Release 1.0/AllXML/20586908.xml" in rejects[0].message
        assert "'(60.25; 110)' is not a point" in rejects[0].message
        assert "is not a property list" in rejects[1].message


class TestMias:
    def test_pairs_are_patients_and_all_are_mlo(self, read):
        rows, _, _ = read("mini-mias")
        assert pick(rows["mdb001"], *LABELS) == ("mdb001-002", "R", "MLO", 0, None, None, None)
        assert pick(rows["mdb002"], *LABELS[:4]) == ("mdb001-002", "L", "MLO", 0)
        assert pick(rows["mdb003"], "patient_id", "cancer") == ("mdb003-004", 0)
        assert pick(rows["mdb005"], "patient_id", "cancer") == ("mdb005-006", 1)

    def test_y_counts_from_the_bottom(self, read):
        _, findings, _ = read("mini-mias")
        (mass,) = findings["mdb002"]
        assert pick(mass, "kind", "shape", "malignant") == ("mass", "circle", 0)
        # Centre (522, 280) from the bottom of 1024 rows, radius 69.
        assert box(mass) == (453, 675, 591, 813)

    def test_several_rows_are_several_findings_and_a_note_is_no_place(self, read):
        _, findings, rejects = read("mini-mias")
        mass, calcification = findings["mdb005"]
        assert box(mass) == (447, 861, 507, 921)
        assert pick(calcification, "kind", "malignant", "shape") == ("calcification", 1, None)
        assert box(calcification) == (None, None, None, None)
        assert calcification["description"] == "CALC *NOTE 3*"
        assert "mdb003" not in findings
        assert rejects == []

    def test_a_circle_over_the_border_is_clipped_and_noted(self, read):
        def spoil(root):
            table = root / "Info.txt"
            table.write_text(table.read_text().replace("535 425 197", "100 425 197"))

        rows, findings, _ = read("mini-mias", spoil)
        assert box(findings["mdb001"][0]) == (0, 402, 297, 796)
        assert rows["mdb001"]["notes"] == (
            "the finding at (0, 402): its box (-97, 402, 297, 796) runs 97 px over the border of "
            "the image of 1024 x 1024: clipped"
        )

    @pytest.mark.parametrize(
        ("place", "reason"),
        [
            ("535 425", "invalid_finding"),
            ("535 425 x", "invalid_finding"),
            ("535 425 0", "no_area"),
        ],
    )
    def test_a_place_that_is_none_is_refused(self, read, place, reason):
        def spoil(root):
            table = root / "Info.txt"
            table.write_text(table.read_text().replace("535 425 197", place))

        rows, findings, rejects = read("mini-mias", spoil)
        assert "mdb001" in rows
        assert "mdb001" not in findings
        assert [reject.reason for reject in rejects] == [reason]
        assert "row 3 of Info.txt" in rejects[0].message


class TestCmmd:
    def test_labels_are_the_breasts_and_the_other_breast_is_unknown(self, read):
        rows, _, _ = read("cmmd")
        by_breast = {}
        for row in rows.values():
            key = pick(row, "patient_id", "laterality")
            by_breast.setdefault(key, set()).add(pick(row, "view", "cancer", "age"))
        assert by_breast == {
            ("D1-0001", "L"): {("CC", 1, 44.0), ("MLO", 1, 44.0)},
            ("D1-0001", "R"): {("CC", None, None)},
            ("D2-0004", "L"): {("CC", 0, 51.0)},
            ("D2-0004", "R"): {("CC", 1, 51.0)},
        }

    def test_rows_that_are_wrong_or_of_no_image_are_listed(self, read):
        head = ["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"]

        def spoil(root):
            rows = [
                head,
                ["D1-0001", "L", 44, 2, "mass", "Malignant", None],
                ["D1-0001", "L", 44, 2, "calcification", "Benign", None],
                ["D2-0004", "X", 51, 1, "mass", "Benign", None],
                ["D2-0004", "R", 51, 1, "mass", "Benign", None],
                ["D2-0500", "L", 60, 1, "mass", "Benign", None],
            ]
            write_workbook(root / "CMMD_clinicaldata_revision.xlsx", {"Sheet1": rows})

        rows, _, rejects = read("cmmd", spoil)
        # One breast, two lesions: any that is malignant makes it cancer.
        left = [r for r in rows.values() if pick(r, "patient_id", "laterality") == ("D1-0001", "L")]
        assert [row["cancer"] for row in left] == [1, 1]
        said = {reject.message.partition(" of ")[0]: reject for reject in rejects}
        assert "LeftRight is 'X'" in said["row 4"].message
        assert said["row 6"].reason == "missing_file"

    def test_a_row_of_a_breast_that_no_image_shows_is_listed(self, read):
        def spoil(root):
            for number in (0, 1):
                next(root.glob(f"CMMD/D1-0001/*/*/1-{number}.dcm")).unlink()

        _, _, (reject,) = read("cmmd", spoil)
        assert reject.reason == "missing_file"
        assert "row 2 of CMMD_clinicaldata_revision.xlsx is of a L breast" in reject.message


class TestCesm:
    def test_mammograms_are_read_and_subtracted_images_refused_by_name(self, read):
        rows, _, rejects = read("cdd-cesm")
        assert set(rows) == {"P1_L_DM_MLO", "P2_R_DM_CC", "P2_L_DM_CC"}
        assert pick(rows["P1_L_DM_MLO"], *LABELS) == ("1", "L", "MLO", 1, "5", "C", None)
        assert rows["P1_L_DM_MLO"]["age"] == 53
        # An underscore is unknown; of several assessments the highest counts.
        assert pick(rows["P2_R_DM_CC"], *LABELS) == ("2", "R", "CC", 0, "4", None, None)
        assert rows["P2_R_DM_CC"]["age"] is None
        assert [r.reason for r in rejects] == ["not_a_mammogram"] * 2
        assert "P1_L_CM_MLO.jpg is a subtracted image" in rejects[0].message

    def test_regions_of_the_annotator_become_findings(self, read):
        _, findings, _ = read("cdd-cesm")
        (mass,) = findings["P1_L_DM_MLO"]
        assert pick(mass, "kind", "malignant", "shape") == ("mass", 1, "polygon")
        assert mass["contour"] == [20, 90, 60, 95, 40, 130]
        circle, ellipse = findings["P2_R_DM_CC"]
        # Of an image with two kinds it is not known which is which.
        assert pick(circle, "kind", "malignant", "shape") == (None, 0, "circle")
        assert box(circle) == (180, 80, 220, 120)
        assert box(ellipse) == pytest.approx((70, 40, 130, 60), abs=1e-6)
        assert circle["description"] == "Mass$Calcification"

    @pytest.mark.parametrize("shape", ["{", '{"name": "spiral"}', '{"name": "circle", "cx": 1}'])
    def test_a_region_that_cannot_be_read_is_refused(self, read, shape):
        def spoil(root):
            table = root / "Radiology_hand_drawn_segmentations_v2.csv"
            quoted = shape.replace('"', '""')
            with table.open("a") as stream:
                stream.write(f'P2_L_DM_CC.jpg,1,{{}},1,0,"{quoted}"\n')

        rows, findings, rejects = read("cdd-cesm", spoil)
        assert "P2_L_DM_CC" in rows
        assert "P2_L_DM_CC" not in findings
        (reject,) = [reject for reject in rejects if reject.reason == "invalid_finding"]
        assert "row 6 of Radiology_hand_drawn_segmentations_v2.csv" in reject.message

    def test_a_workbook_without_the_columns_says_which(self, build_layout, tmp_path):
        root = build_layout("cdd-cesm")
        sheets = {"first": [["Image_name", "View"]], "second": []}
        write_workbook(root / "Radiology manual annotations.xlsx", sheets)
        with pytest.raises(CohortError, match="lacks the columns Patient_ID, Side, Type"):
            ingest(root, tmp_path / "c")

    def test_a_workbook_that_is_none_says_so(self, build_layout, tmp_path):
        root = build_layout("cdd-cesm")
        (root / "Radiology manual annotations.xlsx").write_bytes(b"PK, but not really")
        with pytest.raises(CohortError, match="cannot be read as an Excel workbook"):
            ingest(root, tmp_path / "c")


class TestMiniDdsm:
    def test_the_cancer_of_a_case_is_that_of_the_breast_marked_malignant(self, read):
        rows, _, _ = read("mini-ddsm")
        cancer = {name: row["cancer"] for name, row in rows.items()}
        assert cancer["C_0029_1.LEFT_CC"] == cancer["C_0029_1.LEFT_MLO"] == 1
        assert cancer["C_0029_1.RIGHT_CC"] == cancer["C_0029_1.RIGHT_MLO"] == 0
        assert cancer["A_1699_1.LEFT_CC"] == cancer["B_3001_1.RIGHT_CC"] == 0
        film = rows["C_0029_1.LEFT_CC"]
        assert pick(film, *LABELS) == ("C_0029", "L", "CC", 1, "5", "C", None)
        assert pick(film, "exam_id", "age") == ("C_0029_1", 61)

    def test_a_case_of_cancer_without_a_mark_is_unknown(self, read):
        def spoil(root):
            next(root.rglob("*.OVERLAY")).unlink()

        rows, _, _ = read("mini-ddsm", spoil)
        assert rows["C_0029_1.LEFT_CC"]["cancer"] is None
        assert rows["A_1699_1.LEFT_CC"]["cancer"] == 0

    def test_a_boundary_is_scaled_from_the_scanned_film_to_the_file(self, read):
        _, findings, _ = read("mini-ddsm")
        mass, calcification = findings["C_0029_1.LEFT_CC"]
        assert pick(mass, "kind", "malignant", "birads") == ("mass", 1, "5")
        assert calcification["kind"] == "calcification"
        assert mass["description"] == "MASS SHAPE IRREGULAR MARGINS SPICULATED"
        # Columns 240 to 399 and rows 800 to 879 at an eighth, through the pixels' centres.
        assert box(mass) == pytest.approx((30.0625, 100.0625, 49.9375, 109.9375))
        # Five corners are enough for a chain of hundreds of steps.
        assert len(mass["contour"]) == 2 * 5

    def test_a_mask_without_overlay_is_a_finding_of_unknown_kind(self, read):
        rows, findings, _ = read("mini-ddsm")
        (mask,) = findings["B_3001_1.RIGHT_CC"]
        assert pick(mask, "kind", "malignant", "shape") == (None, 0, "mask")
        assert box(mask) == (150, 100, 190, 160)
        assert not any("Mask" in name for name in rows)

    @pytest.mark.parametrize(
        ("drawn", "shapes"),
        [
            ((31, 101, 50, 110), [("polygon", True), ("polygon", False)]),
            ((100, 200, 120, 210), [("polygon", False), ("polygon", False), ("mask", True)]),
        ],
    )
    def test_a_mask_belongs_to_the_boundary_that_it_agrees_with(self, read, drawn, shapes):
        def spoil(root):
            path = next(root.rglob("C_0029_1.LEFT_CC.png"))
            write_mask(path.with_name("C_0029_1.LEFT_CC_Mask.png"), drawn)

        _, findings, _ = read("mini-ddsm", spoil)
        found = findings["C_0029_1.LEFT_CC"]
        assert [(row["shape"], row["mask"] is not None) for row in found] == shapes
        assert found[0]["contour"] is not None

    def test_other_copies_of_the_films_are_refused_as_such(self, read):
        def spoil(root):
            write_picture(root / "MINI-DDSM-Complete-JPEG-8/Normal/0001/A_1699_1.LEFT_CC.jpg", 10)

        rows, _, (reject,) = read("mini-ddsm", spoil)
        assert len(rows) == 12
        assert (reject.reason, reject.path) == (
            "duplicate",
            "MINI-DDSM-Complete-JPEG-8/Normal/0001/A_1699_1.LEFT_CC.jpg",
        )

    def test_an_overlay_without_a_boundary_is_refused_and_its_film_stays(self, read):
        def spoil(root):
            path = next(root.rglob("*.OVERLAY"))
            path.write_text(path.read_text().replace("#", ""))

        rows, findings, (reject,) = read("mini-ddsm", spoil)
        assert len(rows) == 12
        assert "C_0029_1.LEFT_CC" not in findings
        assert "has no BOUNDARY that ends in #" in reject.message


class TestFolder:
    def test_a_box_and_the_mask_that_agrees_are_one_finding(self, read):
        _, findings, _ = read("folder")
        (mass,) = findings["in-0"]
        assert pick(mass, "kind", "shape", "mask", "malignant") == ("mass", "mask", "m/0.png", 1)
        # The box is the owner's, not the mask's.
        assert box(mass) == (22, 102, 60, 148)
        (benign,) = findings["in-1"]
        assert pick(benign, "shape", "mask", "malignant") == ("box", None, 0)

    def test_of_two_boxes_the_one_that_agrees_gets_the_mask(self, read):
        _, findings, _ = read("folder")
        first, second = findings["in-2"]
        assert pick(first, "shape", "mask", "malignant") == ("box", None, None)
        assert pick(second, "shape", "mask", "malignant") == ("mask", "m/2.png", None)

    def test_a_mask_that_agrees_with_no_box_is_a_finding_of_its_own(self, read):
        def spoil(root):
            write_mask(root / "m" / "0.png", (100, 200, 130, 240))

        _, findings, _ = read("folder", spoil)
        drawn, mask = findings["in-0"]
        assert pick(drawn, "kind", "shape") == ("mass", "box")
        assert pick(mask, "kind", "shape", "mask") == (None, "mask", "m/0.png")

    @pytest.mark.parametrize(
        ("spoil_mask", "reason", "says"),
        [
            (lambda path: write_mask(path, (1, 1, 2, 2), (100, 100)), "mask_size",
             "m/0.png is 100 x 100, the image 320 x 256, of other proportions"),
            (lambda path: write_mask(path, (0, 0, 0, 0)), "mask_empty", "marks no pixel"),
            (lambda path: write_mask(path, (0, 0, 256, 320)), "mask_full", "marks every pixel"),
            (lambda path: path.unlink(), "mask_unreadable", "m/0.png does not exist"),
            (lambda path: path.write_bytes(b""), "mask_unreadable", "is empty"),
            (lambda path: path.write_bytes(b"a letter" * 99), "mask_unreadable", "is not a PNG"),
        ],
    )  # fmt: skip
    def test_the_only_box_stands_for_a_mask_that_cannot_be(self, read, spoil_mask, reason, says):
        """The two are one finding as a rule; of two boxes it is not known which."""

        def spoil(root):
            spoil_mask(root / "m" / "0.png")
            spoil_mask(root / "m" / "2.png")

        rows, findings, (reject,) = read("folder", spoil)
        (mended,) = findings["in-0"]
        assert pick(mended, "shape", "mask", "repaired") == ("box", None, [reason])
        assert says in rows["in-0"]["notes"]
        assert rows["in-0"]["notes"].endswith(": its box is taken")
        assert [pick(row, "shape", "repaired") for row in findings["in-2"]] == [("box", None)] * 2
        assert (reject.path, reject.reason, reject.image_id) == ("m/2.png", reason, "in-2")
        assert says.replace("m/0", "m/2") in reject.message

    def test_files_and_masks_may_lie_elsewhere(self, read, tmp_path):
        def spoil(root):
            for name in ("in/0.png", "m/0.png"):
                (tmp_path / name).parent.mkdir()
                (root / name).rename(tmp_path / name)
            table = root / "labels.csv"
            text = table.read_text().replace("in/0.png", str(tmp_path / "in/0.png"))
            table.write_text(text.replace("m/0.png", str(tmp_path / "m/0.png")))

        rows, findings, _ = read("folder", spoil)
        assert rows["0"]["path"] == str(tmp_path / "in/0.png")
        assert [row["mask"] for row in findings["0"]] == [str(tmp_path / "m/0.png")]

    @pytest.mark.parametrize(
        ("key", "value", "reason"),
        [("bbox", ["a", 2, 3, 4], "invalid_finding"), ("bbox", None, "invalid_finding"),
         ("image_id", 99, "invalid_finding"), ("bbox", [1, 2, -3, 4], "outside_image"),
         ("bbox", [1, 2, float("inf"), 4], "no_number"), ("contrast", "high", "invalid_finding"),
         ("malignant", "perhaps", "invalid_finding"),
         ("segmentation", [["a", 1, 2, 3]], "invalid_finding")],
    )  # fmt: skip
    def test_an_annotation_that_cannot_be_is_refused(self, read, key, value, reason):
        def spoil(root):
            path = root / "boxes.coco.json"
            values = json.loads(path.read_text())
            values["annotations"][1][key] = value
            path.write_text(json.dumps(values))

        rows, findings, (reject,) = read("folder", spoil)
        assert "in-1" in rows
        assert "in-1" not in findings
        assert (reject.path, reject.reason) == ("boxes.coco.json", reason)
        # The image has a lesion of which nobody knows where it is.
        assert reject.image_id == ("" if key == "image_id" else "in-1")

    def test_words_of_an_annotation_reach_the_findings(self, read):
        """Its polygon, its own mask, and whether it is malignant, however that is written."""

        def spoil(root):
            path = root / "boxes.coco.json"
            values = json.loads(path.read_text())
            first, second = values["annotations"][:2]
            first |= {"segmentation": [[22, 102, 60, 102, 60, 148]], "malignant": "1"}
            second |= {"mask": "own/1.png", "malignant": False, "contrast": 0.25, "conspicuity": 2}
            write_mask(root / "own" / "1.png", (40, 60, 80, 90))
            path.write_text(json.dumps(values))

        rows, findings, rejects = read("folder", spoil)
        assert rejects == []
        assert not any("own" in row["path"] for row in rows.values())
        (first,), (second,) = findings["in-0"], findings["in-1"]
        assert pick(first, "shape", "malignant") == ("polygon", 1)
        assert first["contour"] == [22, 102, 60, 102, 60, 148]
        assert pick(second, "shape", "mask", "malignant") == ("mask", "own/1.png", 0)
        assert box(second) == (40, 60, 80, 90)
        assert pick(second, "contrast", "conspicuity") == (0.25, 2.0)

    def test_a_label_in_words_serves_the_findings_too(self, read):
        def spoil(root):
            table = root / "labels.csv"
            lines = table.read_text().splitlines()
            at = lines[0].split(",").index("cancer")
            for number, line in enumerate(lines[1:], start=1):
                cells = line.split(",")
                cells[at] = {"1": "yes", "0": "no"}.get(cells[at], cells[at])
                lines[number] = ",".join(cells)
            table.write_text("\n".join(lines) + "\n")

        rows, findings, _ = read("folder", spoil)
        assert {rows[name]["cancer"] for name in ("in-0", "in-1")} == {0, 1}
        assert {findings[name][0]["malignant"] for name in ("in-0", "in-1")} == {0, 1}

    def test_boxes_of_no_image_and_of_no_form_are_listed(self, read):
        def spoil(root):
            path = root / "boxes.coco.json"
            values = json.loads(path.read_text())
            values["annotations"][0]["bbox"] = [1, 2, 3]
            values["images"][1]["file_name"] = "in/other.png"
            path.write_text(json.dumps(values))

        _, findings, rejects = read("folder", spoil)
        assert [row["shape"] for row in findings["in-0"]] == ["mask"]
        assert "in-1" not in findings
        assert "annotation 1 of boxes.coco.json cannot be read" in rejects[0].message
        assert "1 boxes of other.png, which is not listed" in rejects[1].message

    def test_boxes_of_another_format_stop_ingest(self, build_layout, tmp_path):
        root = build_layout("folder")
        (root / "boxes.coco.json").write_text('{"shapes": []}')
        with pytest.raises(CohortError, match="not in COCO's detection format"):
            ingest(root, tmp_path / "c")


def test_synthetic_truth_becomes_findings(read):
    rows, findings, _ = read("rsna")
    (lesion,) = findings["101"]
    assert pick(lesion, "kind", "malignant", "description") == ("mass", 0, "spiculated_mass")
    assert box(lesion) == (10, 100.5, 60, 150)
    assert rows["101"]["cancer"] == 0


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("Mass", "mass"),
        ("Suspicious Calcification", "calcification"),
        ("Cluster", "calcification"),
        ("Assymetry", "asymmetry"),
        ("ARCH", "architectural_distortion"),
        ("Suspicious Lymph Node", "lymph_node"),
        ("Nipple Retraction", "nipple_retraction"),
        ("Espiculated Region", "other"),
        ("", None),
        ("_", None),
    ],
)
def test_owners_words_become_ours(word, kind):
    assert kind_of(word) == kind


def test_every_public_source_has_a_layout():
    from mammoscope.cohort.sources import SOURCES

    assert set(LAYOUTS) | {"rsna"} == set(SOURCES)


class TestTruthOfSyntheticExams:
    """``synthetic_findings.csv``, in the challenge's layout."""

    HEAD = "image_id,kind,malignant,x_min,y_min,x_max,y_max,mask,contrast,conspicuity\n"

    @pytest.mark.parametrize(
        ("row", "says"),
        [
            ("{image},mass,1,10,10,40,40,,high,1", "'high'"),
            ("{image},mass,perhaps,10,10,40,40,,0.2,1", "'perhaps'"),
            ("{image},mass,1,10,ten,40,40,,0.2,1", "'ten'"),
            ("4711,mass,1,10,10,40,40,,0.2,1", "4711 is not in train.csv"),
        ],
    )
    def test_a_row_that_cannot_be_is_refused_and_its_image_stays(self, read, row, says):
        def spoil(root):
            image = next((root / "train_images").rglob("*.dcm")).stem
            (root / "synthetic_findings.csv").write_text(self.HEAD + row.format(image=image) + "\n")

        rows, findings, rejects = read("rsna", spoil)
        assert rows
        assert findings == {}
        (reject,) = [r for r in rejects if r.path == "synthetic_findings.csv"]
        assert reject.reason == "invalid_finding"
        assert says in reject.message

    def test_findings_of_a_missing_file_are_not_said_to_be_of_no_image(self, read):
        def spoil(root):
            path = next((root / "train_images").rglob("*.dcm"))
            row = f"{path.stem},mass,1,10,10,40,40,,0.2,1\n"
            (root / "synthetic_findings.csv").write_text(self.HEAD + row)
            path.unlink()

        _, _, rejects = read("rsna", spoil)
        assert [r.reason for r in rejects if "synthetic" in r.path] == []
        assert "missing_file" in {r.reason for r in rejects}
