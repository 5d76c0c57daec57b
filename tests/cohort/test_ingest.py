"""Every image of a source ends in the manifest or, with a reason, in rejects.csv."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import polars as pl
import pytest

from mammoscope.artefacts import read_json
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import read_cohort, read_manifest, read_rejects
from mammoscope.errors import CohortError, OutputError


def reasons(cohort):
    return {reject.path: reject for reject in read_rejects(cohort)}


def test_the_rsna_layout_becomes_a_manifest_with_the_tables_words(rsna_folder, tmp_path):
    made = ingest(rsna_folder, tmp_path / "c")
    assert (made.source, made.images, made.patients, made.positives) == ("rsna", 36, 12, 8)
    assert made.rejects == {}
    rows = read_manifest(tmp_path / "c")
    row = rows.row(by_predicate=pl.col("image_id") == "101", named=True)
    assert (row["laterality"], row["view"], row["patient_id"]) == ("L", "MLO", "1")
    assert row["exam_id"] == "1"
    assert row["age"] == 51.0
    assert row["cancer"] == 0
    assert row["path"] == "train_images/1/101.dcm"
    # Site 2 has no density: unknown is null, never a class of its own.
    assert row["density"] is None
    assert rows.row(by_predicate=pl.col("image_id") == "1", named=True)["density"] == "B"
    facts = read_cohort(tmp_path / "c")
    assert facts["images"] == 36
    assert facts["synthetic"] is False


def test_source_files_are_not_touched(rsna_folder, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in rsna_folder.rglob("*")}
    ingest(rsna_folder, tmp_path / "c")
    assert {p: p.stat().st_mtime_ns for p in rsna_folder.rglob("*")} == before


def test_broken_files_are_refused_by_reason_and_the_rest_goes_on(rsna_folder, tmp_path):
    images = rsna_folder / "train_images"
    (images / "0" / "0.dcm").write_bytes(b"")
    (images / "1" / "100.dcm").write_text("this is not DICOM at all, it is a letter" * 20)
    whole = (images / "2" / "200.dcm").read_bytes()
    (images / "2" / "200.dcm").write_bytes(whole[: len(whole) // 2])
    made = ingest(rsna_folder, tmp_path / "c")
    found = reasons(tmp_path / "c")
    assert found["train_images/0/0.dcm"].reason == "empty_file"
    assert found["train_images/1/100.dcm"].reason == "not_an_image"
    assert found["train_images/2/200.dcm"].reason == "truncated_file"
    assert made.images == 33
    assert made.rejects == {"empty_file": 1, "not_an_image": 1, "truncated_file": 1}


def test_rows_without_file_and_files_without_row_are_listed_and_counted(rsna_folder, tmp_path):
    images = rsna_folder / "train_images"
    (images / "3" / "300.dcm").unlink()
    shutil.copy(images / "4" / "400.dcm", images / "4" / "stray.dcm")
    made = ingest(rsna_folder, tmp_path / "c")
    assert made.rejects == {"missing_file": 1, "no_table_row": 1}
    found = reasons(tmp_path / "c")
    assert "row 11 of train.csv" in found["train_images/3/300.dcm"].message
    assert "no row in train.csv" in found["train_images/4/stray.dcm"].message


def test_the_same_image_twice_is_refused_the_second_time_with_both_paths(
    rsna_folder, tmp_path, write_mammogram
):
    images = rsna_folder / "train_images"
    # Same pixels under another SOP Instance UID.
    write_mammogram(images / "5" / "500.dcm", laterality="L", seed=0, patient="5")
    made = ingest(rsna_folder, tmp_path / "c")
    assert made.rejects == {"duplicate": 1}
    reject = reasons(tmp_path / "c")["train_images/5/500.dcm"]
    assert "train_images/0/0.dcm" in reject.message
    assert "pixel data" in reject.message


def test_the_spacing_is_told_where_the_header_says_it(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "src" / "a.dcm", seed=1, PixelSpacing=[0.5, 0.25])
    ingest(tmp_path / "src", tmp_path / "c")
    manifest = read_manifest(tmp_path / "c")
    assert manifest.select("spacing_y_mm", "spacing_x_mm").rows() == [(0.5, 0.25)]
    # Cohorts of earlier versions do not tell it.
    manifest.drop("spacing_y_mm", "spacing_x_mm").write_parquet(tmp_path / "c/manifest.parquet")
    earlier = read_manifest(tmp_path / "c")
    assert dict(earlier.schema) == dict(manifest.schema)
    assert earlier["spacing_y_mm"].null_count() == earlier.height
    manifest.drop("pixel_aspect").write_parquet(tmp_path / "c/manifest.parquet")
    with pytest.raises(CohortError, match="lacks the columns pixel_aspect"):
        read_manifest(tmp_path / "c")


def test_the_same_sop_instance_is_a_duplicate_whatever_its_name(tmp_path, write_mammogram):
    one = write_mammogram(tmp_path / "src" / "a.dcm", seed=1)
    shutil.copy(one, tmp_path / "src" / "b.dcm")
    ingest(tmp_path / "src", tmp_path / "c")
    (reject,) = read_rejects(tmp_path / "c")
    assert reject.reason == "duplicate"
    assert "a.dcm" in reject.message
    assert "b.dcm" in reject.message


@pytest.mark.parametrize(
    ("removed", "tag", "reason"),
    [
        ("ImageLaterality", "(0020,0062)", "unknown_laterality"),
        ("ViewPosition", "(0018,5101)", "unknown_view"),
    ],
)
def test_laterality_or_view_in_neither_table_nor_header_is_refused_by_tag(
    tmp_path, write_mammogram, removed, tag, reason
):
    write_mammogram(tmp_path / "src" / "a.dcm", seed=1)
    write_mammogram(tmp_path / "src" / "b.dcm", seed=2, **{removed: None})
    ingest(tmp_path / "src", tmp_path / "c")
    (reject,) = read_rejects(tmp_path / "c")
    assert (reject.path, reject.reason) == ("b.dcm", reason)
    assert f"{tag} {removed}" in reject.message


def test_the_table_is_believed_over_the_header_and_the_contradiction_is_noted(
    tmp_path, write_mammogram
):
    write_mammogram(tmp_path / "src" / "a.dcm", laterality="L", view="CC")
    (tmp_path / "src" / "labels.csv").write_text("file,laterality,view,cancer\na.dcm,R,CC,1\n")
    ingest(tmp_path / "src", tmp_path / "c")
    row = read_manifest(tmp_path / "c").row(0, named=True)
    assert row["laterality"] == "R"
    assert "the table says laterality R, the header L" in row["notes"]


@pytest.mark.parametrize(
    ("column", "word"),
    [("cancer", "2"), ("age", "old"), ("density", "E"), ("laterality", "X"), ("view", "XCC")],
)
def test_a_table_word_that_is_not_accepted_is_refused_by_name(
    tmp_path, write_mammogram, column, word
):
    write_mammogram(tmp_path / "src" / "a.dcm", seed=1)
    write_mammogram(tmp_path / "src" / "b.dcm", seed=2)
    (tmp_path / "src" / "labels.csv").write_text(f"file,{column}\na.dcm,\nb.dcm,{word}\n")
    made = ingest(tmp_path / "src", tmp_path / "c")
    assert made.rejects == {"invalid_value": 1}
    (reject,) = read_rejects(tmp_path / "c")
    assert column in reject.message
    assert word in reject.message


def test_a_folder_of_pictures_needs_its_table(tmp_path):
    picture = np.zeros((160, 150), np.uint8)
    picture[:, :20] = 200
    (tmp_path / "src" / "in").mkdir(parents=True)
    for name in ("one", "two"):
        picture[0, 0] += 1
        cv2.imwrite(str(tmp_path / "src" / "in" / f"{name}.png"), picture)
    (tmp_path / "src" / "labels.csv").write_text(
        "file,patient_id,laterality,view,cancer,BIRADS,pixel_aspect\n"
        "in/one.png,p1,L,CC,1,4,0.5\n"
        "in/two.png,p2,L,CC,,,\n"
    )
    made = ingest(tmp_path / "src", tmp_path / "c")
    assert (made.source, made.images, made.positives) == ("folder", 2, 1)
    first, second = read_manifest(tmp_path / "c").iter_rows(named=True)
    assert (first["birads"], first["pixel_aspect"], first["image_id"]) == ("4", 0.5, "in-one")
    assert (second["cancer"], second["birads"], second["pixel_aspect"]) == (None, None, 1.0)


def test_an_object_of_another_modality_is_no_mammogram(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "src" / "a.dcm", seed=1)
    write_mammogram(tmp_path / "src" / "b.dcm", seed=2, Modality="CT")
    ingest(tmp_path / "src", tmp_path / "c")
    (reject,) = read_rejects(tmp_path / "c")
    assert reject.reason == "not_a_mammogram"
    assert "(0008,0060) Modality" in reject.message


def test_a_source_without_any_usable_image_says_where_the_reasons_are(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.dcm").write_bytes(b"")
    with pytest.raises(CohortError, match=r"rejects\.csv says why"):
        ingest(tmp_path / "src", tmp_path / "c")
    assert read_rejects(tmp_path / "c")[0].reason == "empty_file"


def test_faults_of_the_whole_source_are_found_before_anything_is_written(tmp_path, rsna_folder):
    with pytest.raises(CohortError, match="is not a folder"):
        ingest(tmp_path / "nowhere", tmp_path / "c")
    with pytest.raises(CohortError, match=r"unknown source 'vindr'; known: auto, rsna, .*folder"):
        ingest(rsna_folder, tmp_path / "c", "vindr")
    (rsna_folder / "train.csv").write_text("patient_id,image_id\n1,2\n")
    with pytest.raises(CohortError, match="lacks the columns laterality, view"):
        ingest(rsna_folder, tmp_path / "c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match="in no layout that a source knows"):
        ingest(tmp_path / "empty", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_cohort_is_replaced_only_when_told(rsna_folder, tmp_path):
    ingest(rsna_folder, tmp_path / "c")
    with pytest.raises(OutputError, match="--overwrite"):
        ingest(rsna_folder, tmp_path / "c")
    ingest(rsna_folder, tmp_path / "c", overwrite=True)
    # A folder that mammoscope did not make is not removed even then.
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(OutputError, match="did not make it"):
        ingest(rsna_folder, tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_the_number_of_workers_changes_nothing(rsna_folder, tmp_path):
    ingest(rsna_folder, tmp_path / "one", workers=1)
    ingest(rsna_folder, tmp_path / "four", workers=4)
    assert (tmp_path / "one" / "manifest.parquet").read_bytes() == (
        tmp_path / "four" / "manifest.parquet"
    ).read_bytes()
    assert read_json(tmp_path / "one" / "cohort.json", CohortError) == read_json(
        tmp_path / "four" / "cohort.json", CohortError
    )


def test_files_named_by_a_uid_are_found_and_keep_their_names(tmp_path, write_mammogram):
    for number in (1, 2):
        write_mammogram(tmp_path / "src" / f"1.2.840.1.{number}", seed=number)
    (tmp_path / "src" / "notes.v1").write_text("not an image, and not named like one")
    made = ingest(tmp_path / "src", tmp_path / "c")
    assert made.images == 2
    assert set(read_manifest(tmp_path / "c")["image_id"]) == {"1.2.840.1.1", "1.2.840.1.2"}


def test_a_patient_named_for_some_rows_only_is_not_guessed_for_the_others(
    tmp_path, write_mammogram
):
    for number in (1, 2):
        write_mammogram(tmp_path / "src" / f"{number}.dcm", seed=number, patient="X-77")
    (tmp_path / "src" / "labels.csv").write_text("file,patient_id\n1.dcm,W1\n2.dcm,\n")
    ingest(tmp_path / "src", tmp_path / "c")
    (reject,) = read_rejects(tmp_path / "c")
    assert (reject.path, reject.reason) == ("2.dcm", "missing_tag")
    assert "X-77" not in reject.message


def test_any_cut_of_a_file_is_a_row_and_never_an_end_of_ingest(tmp_path, write_mammogram):
    whole = write_mammogram(tmp_path / "whole.dcm", seed=1).read_bytes()
    cuts = range(1, 1400, 7)
    for cut in cuts:
        (tmp_path / "src" / f"{cut:04}.dcm").parent.mkdir(exist_ok=True)
        (tmp_path / "src" / f"{cut:04}.dcm").write_bytes(whole[:cut])
    (tmp_path / "src" / "whole.dcm").write_bytes(whole)
    made = ingest(tmp_path / "src", tmp_path / "c")
    assert made.images == 1
    assert len(read_rejects(tmp_path / "c")) == len(cuts)


def test_a_file_for_processing_is_no_file_for_presentation(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "src" / "a.dcm", seed=1)
    write_mammogram(tmp_path / "src" / "b.dcm", seed=2, PresentationIntentType="FOR PROCESSING")
    ingest(tmp_path / "src", tmp_path / "c")
    (reject,) = read_rejects(tmp_path / "c")
    assert reject.reason == "for_processing"
    assert "(0008,0068) PresentationIntentType is FOR PROCESSING" in reject.message
