"""The report of cohorts whose counts are known."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest

from fixtures.hand_made import image
from mammoscope.cohort.explore import explore
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.splits import read_splits, split_cohort
from mammoscope.errors import CohortError, OutputError, Reason

HOSTILE = "<script>alert(1)</script>"


def levels(report, attribute):
    return {row["level"]: row for row in report["balance"][attribute]["levels"]}


def test_everything_is_counted(write_hand_made, two_sites):
    rejects = (
        Reject(
            "ingest", "secret-99/1.dcm", "x", Reason.DUPLICATE, "secret-99/1.dcm is there twice"
        ),
        Reject(
            "ingest", "secret-98/1.dcm", "y", Reason.DUPLICATE, "secret-98/1.dcm is there twice"
        ),
        Reject("prepare", "secret-97/1.dcm", "z", Reason.NO_BREAST, "no breast"),
    )
    report = explore(write_hand_made(two_sites, rejects)).report
    about = report["about"]
    assert [about[name] for name in ("images", "patients", "exams", "breasts")] == [160, 40, 40, 80]
    assert about["positives"] == {"images": 22, "breasts": 11, "exams": 11, "patients": 11}
    assert about["rejects"] == [
        {"stage": "ingest", "reason": "duplicate", "count": 2},
        {"stage": "prepare", "reason": "no_breast", "count": 1},
    ]
    sites = levels(report, "site_id")
    assert {name: row["positives"] for name, row in sites.items()} == {"1": 20, "2": 2}
    assert sites["1"]["share"] == pytest.approx(20 / 80)
    assert sites["1"]["low"] < 0.25 < sites["1"]["high"]
    assert list(levels(report, "age_band")) == ["40 to 49", "50 to 59", "60 to 69"]
    assert levels(report, "age_band")["40 to 49"]["images"] == 4 * 10
    assert levels(report, "implant")["no"]["images"] == 160
    assert levels(report, "laterality")["R"]["share"] == 0
    assert "birads" not in report["balance"]
    assert "birads" in report["missing"]["absent"]
    assert report["missing"]["columns"] == [
        {"column": "density", "missing": 80, "by_site": [0, 80]}
    ]
    assert report["encodings"][0] == {
        "machine_id": "29",
        "photometric_interpretation": "MONOCHROME1",
        "bits_stored": 12,
        "transfer_syntax_uid": "1.2.840.10008.1.2.4.90",
        "images": 80,
        "transfer_syntax": "JPEG 2000 Image Compression (Lossless Only)",
    }


def test_exams_sizes_and_aspects_are_counted(write_hand_made):
    four = [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
    rows = [image(n, "p1", laterality=s, view=v) for n, (s, v) in enumerate(four)]
    rows += [image(4, "p1", laterality="R", view="MLO", rows=100, columns=50, pixel_aspect=1.5)]
    rows += [image(5, "p2", laterality="L", view="CC"), image(6, "p2", laterality="L", view="MLO")]
    report = explore(write_hand_made(rows)).report
    exams = report["exams"]
    assert (exams["exams"], exams["complete"], exams["repeated_views"]) == (2, 1, 1)
    assert exams["images_per_exam"] == {"2": 1, "5": 1}
    assert {row["views"]: row["exams"] for row in exams["missing_views"]} == {
        "none": 1,
        "R CC, R MLO": 1,
    }
    largest, other = report["sizes"]["largest"]
    assert (largest["rows"], largest["columns"], largest["images"]) == (320, 256, 6)
    assert other["aspect_min"] == pytest.approx(0.75)


def test_a_machine_with_more_cancers_is_a_bias_in_a_sentence(write_hand_made, two_sites):
    report = explore(write_hand_made(two_sites)).report
    tests = {test["subject"]: test for test in report["biases"]["tests"]}
    machine = tests["share of cancer by machine"]
    # Twenty women each; all her images count as one: 10 of 20 against 1 of 20 by halves.
    assert machine["df"] == 1
    assert machine["p"] < machine["p_adjusted"]
    missing = next(text for text in report["biases"]["found"] if "density" in text)
    assert missing.startswith(
        "How often density is missing differs by site: 100.0 % of images lack it at site 2 "
        "(80 of 80) against 0.0 % at site 1 (0 of 80) (chi-square "
    )
    assert any("Each of the 2 machines stands at one of the 2 sites" in t
               for t in report["biases"]["facts"])  # fmt: skip
    assert any("machine 29 is MONOCHROME1" in text for text in report["biases"]["facts"])
    assert machine["sentence"].startswith(
        "The share of cancer differs by machine: 25.0 % of images on machine 49 (20 of 80) "
        "against 2.5 % on machine 29 (2 of 80) (chi-square "
    )
    assert machine["sentence"].endswith("a model may learn the machine.")


def test_where_nothing_differs_no_bias_is_claimed(write_hand_made):
    """Two sites, alike woman for woman."""
    rows = [
        image(n, f"p{n}", cancer=int(n % 40 < 10), site_id=str(1 + n // 40), view=view)
        for n, view in enumerate(["CC", "MLO"] * 40)
    ]
    made = explore(write_hand_made(rows))
    assert made.report["biases"]["found"] == []
    assert made.report["biases"]["tests"]
    assert "No bias was found that these tests can see." in made.path.read_text()


def test_a_difference_that_screening_explains_is_apart_from_the_biases(write_hand_made):
    """Women of 70 have cancer more often than those of 45: no fault of the cohort."""
    rows = [
        image(n, f"p{n}", age=45.0 if n < 100 else 70.0, cancer=int(n % 10 < (1 if n < 100 else 6)))
        for n in range(200)
    ]
    made = explore(write_hand_made(rows))
    assert made.report["biases"]["found"] == []
    assert made.report["biases"]["expected"][0].startswith(
        "The share of cancer differs by age band: 60.0 % of images of women of 70 to 79 (60 of "
        "100) against 10.0 % of women of 40 to 49 (10 of 100) (chi-square 54.9, 1 df, adjusted "
        "p < 0.001): expected,"
    )
    assert "No bias was found that these tests can see." in made.path.read_text()


def test_too_few_images_are_said_to_be_too_few(write_hand_made):
    rows = [image(n, f"p{n}", cancer=n % 2, site_id=str(n % 2)) for n in range(4)]
    made = explore(write_hand_made(rows))
    assert made.report["biases"]["untested"] == ["share of cancer by site"]
    assert "No test could be made" in made.path.read_text()


def test_own_splits_are_shown_and_the_sources_only_without_them(write_hand_made, two_sites):
    cohort = write_hand_made([row | {"split": "train"} for row in two_sites])
    before = explore(cohort).report
    assert list(levels(before, "split")) == ["train"]
    assert any("not split yet" in note for note in before["notes"])
    split_cohort(cohort, folds=2, test=0.25)
    held_out = read_splits(cohort).filter(pl.col("split") == "test")
    after = explore(cohort, overwrite=True).report
    assert levels(after, "split")["test"]["images"] == held_out.height
    assert levels(after, "split")["train"]["images"] == 160 - held_out.height
    assert not any("not split yet" in note for note in after["notes"])


def test_before_prepare_there_are_no_pictures_and_the_page_says_so(write_hand_made, two_sites):
    made = explore(write_hand_made(two_sites))
    page = made.path.read_text()
    assert [made.report[name] for name in ("pixels", "gallery", "quality", "findings")] == [
        None
    ] * 4
    assert "No image is prepared yet" in page
    assert "<img" not in page
    assert "Crop quality" not in page


def test_the_page_is_whole_by_itself_and_escapes_what_is_hostile(write_hand_made, two_sites):
    rows = [
        row | {"site_id": HOSTILE, "machine_id": HOSTILE, "birads": HOSTILE, "source": HOSTILE}
        for row in two_sites[:80]
    ]
    page = explore(write_hand_made([*rows, *two_sites[80:]])).path.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert "url(" not in page
    assert page.count("<section") == page.count("</section>") > 4


def test_no_patient_is_named_in_page_or_numbers(write_hand_made, two_sites):
    rejects = (Reject("ingest", "secret-99/1.dcm", "", Reason.DUPLICATE, "secret-99 is twice"),)
    made = explore(write_hand_made(two_sites, rejects))
    for text in (made.path.read_text(), (made.path.parent / "explore.json").read_text()):
        assert "secret" not in text
        assert "someone" not in text


def test_a_synthetic_cohort_says_so_and_a_real_one_does_not(write_hand_made, two_sites):
    cohort = write_hand_made(two_sites, synthetic=True)
    page = explore(cohort).path.read_text()
    assert "<title>SYNTHETIC" in page
    assert "SYNTHETIC images." in page
    real = explore(write_hand_made(two_sites), overwrite=True).path.read_text()
    assert "synthetic" not in real.lower()


def test_numbers_on_disk_are_those_returned_and_the_same_every_time(prepared):
    first = explore(prepared, sample=40)
    folder = first.path.parent
    assert json.loads((folder / "explore.json").read_text()) == first.report
    texts = [(folder / name).read_text() for name in ("explore.json", "index.html")]
    explore(prepared, sample=40, overwrite=True)
    assert [(folder / name).read_text() for name in ("explore.json", "index.html")] == texts


def test_a_report_that_exists_is_not_overwritten_unasked(write_hand_made, two_sites):
    cohort = write_hand_made(two_sites)
    explore(cohort)
    with pytest.raises(OutputError, match="--overwrite"):
        explore(cohort)


def test_prepared_images_are_looked_at_by_machine(prepared):
    made = explore(prepared, sample=40)
    pixels = made.report["pixels"]
    assert pixels["sampled"] == 40
    dark, bright = pixels["machines"]
    # Dealt in turn: as many of either machine.
    assert (dark["machine"], dark["images"]) == ("29", 20)
    assert (bright["machine"], bright["images"]) == ("49", 20)
    assert dark["tissue_grey"]["median"] == pytest.approx(1800 / 4096, abs=0.06)
    assert bright["tissue_grey"]["median"] == pytest.approx(3000 / 4096, abs=0.06)
    assert sum(bright["histogram"]) == pytest.approx(1, abs=1e-4)
    found = [text for text in made.report["biases"]["found"] if "mean grey of tissue" in text]
    assert "on machine 49" in found[0]
    assert "against 0.4" in found[0]
    page = made.path.read_text()
    for machine in pixels["machines"]:
        for view in machine["views"]:
            assert f"mean {view} image, Machine {machine['machine']}" in page


def test_galleries_show_each_class_and_no_patient_twice(prepared):
    made = explore(prepared, sample=0)
    shown = {row["class"]: row for row in made.report["gallery"]}
    assert shown["cancer"]["images"] == 22
    assert shown["difficult negative"]["images"] == 10
    assert shown["normal or benign"]["images"] == 160 - 22 - 10
    for row in shown.values():
        patients = {int(image["image_id"][5:]) // 4 for image in row["shown"]}
        assert len(patients) == len(row["shown"]) == min(12, row["patients"])
    assert made.report["pixels"] is None
    assert any("--sample 0" in note for note in made.report["notes"])
    page = made.path.read_text()
    assert page.count("<img") == page.count('src="data:image/jpeg;base64,') > 24


def test_a_half_finished_prepare_is_named(prepared):
    for name in ("image0000", "image0001"):
        (prepared / "images" / f"{name}.safetensors").unlink()
    report = explore(prepared, sample=8).report
    assert report["prepared"] == 158
    assert any(note.startswith("2 images are not prepared yet") for note in report["notes"])


def test_a_cohort_without_findings_has_no_section_of_them(write_hand_made, two_sites):
    cohort = write_hand_made(two_sites)
    pl.DataFrame(schema={"image_id": pl.String()}).write_parquet(cohort / "findings.parquet")
    made = explore(cohort)
    assert made.report["findings"] is None
    assert "Annotations" not in made.path.read_text()


def test_findings_without_their_columns_are_refused_by_name(write_hand_made, two_sites):
    cohort = write_hand_made(two_sites)
    pl.DataFrame({"image_id": ["image0000"]}).write_parquet(cohort / "findings.parquet")
    with pytest.raises(CohortError, match="lacks the columns finding_id, kind"):
        explore(cohort)
    assert not (cohort / "explore").exists()


def test_images_of_a_known_site_beside_others_of_none_are_counted(write_hand_made, two_sites):
    """As in a merge of two data sets of which one names its sites."""
    rows = [
        {**row, "site_id": None} if number % 4 == 0 else row for number, row in enumerate(two_sites)
    ]
    made = explore(write_hand_made(rows))
    (site,) = (c for c in made.report["missing"]["columns"] if c["column"] == "site_id")
    assert site["missing"] == len(rows) // 4
    assert sum(site["by_site"]) == len(rows) // 4
    assert (made.path).read_text().count("<html") == 1


def test_a_difference_that_was_not_found_has_no_sentence(write_hand_made, two_sites):
    made = explore(write_hand_made(two_sites))
    for test in made.report["biases"]["tests"]:
        assert (test["sentence"] is not None) is test["found"]
