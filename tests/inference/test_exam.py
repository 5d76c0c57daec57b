"""Every file of a study is an image of the exam or a refusal with its reason."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from mammoscope.errors import ConfigError, DicomError, IncompleteExamError
from mammoscope.inference import read_exam
from mammoscope.types import Laterality, View


def test_a_folder_becomes_an_exam_named_after_it(exam_folder):
    exam = read_exam(exam_folder)
    assert exam.exam_id == "exam"
    assert [image.image_id for image in exam.images] == [
        "L_CC.dcm",
        "L_MLO.dcm",
        "R_CC.dcm",
        "R_MLO.dcm",
    ]
    assert exam.images[0].laterality is Laterality.L
    assert exam.images[1].view is View.MLO
    assert exam.refused == ()


def test_one_file_and_a_list_of_files_are_exams_too(exam_folder):
    assert len(read_exam(exam_folder / "L_CC.dcm").images) == 1
    pair = [exam_folder / "L_CC.dcm", exam_folder / "R_CC.dcm"]
    assert len(read_exam(pair).images) == 2


def test_what_cannot_be_read_is_refused_by_name_and_the_rest_is_kept(exam_folder):
    (exam_folder / "letter.bin").write_bytes(b"Dear colleague, " * 50)
    (exam_folder / "empty.dcm").write_bytes(b"")
    whole = (exam_folder / "R_CC.dcm").read_bytes()
    (exam_folder / "R_CC.dcm").write_bytes(whole[:900])
    exam = read_exam(exam_folder)
    assert len(exam.images) == 3
    assert {(r.image_id, r.reason) for r in exam.refused} == {
        ("letter.bin", "not_an_image"),
        ("empty.dcm", "empty_file"),
        ("R_CC.dcm", "truncated_file"),
    }


def test_companions_of_a_study_are_not_mistaken_for_images(exam_folder):
    for name in ("DICOMDIR", "report.txt", ".DS_Store", "train.csv"):
        (exam_folder / name).write_text("x")
    assert read_exam(exam_folder).refused == ()


def test_files_of_one_name_in_several_folders_keep_apart(exam_folder, tmp_path):
    for source, folder in (("L_CC", "S1"), ("R_CC", "S2")):
        (tmp_path / "study" / folder).mkdir(parents=True)
        shutil.copy(exam_folder / f"{source}.dcm", tmp_path / "study" / folder / "000000.dcm")
    exam = read_exam(tmp_path / "study")
    assert [image.image_id for image in exam.images] == ["S1/000000.dcm", "S2/000000.dcm"]


def test_the_same_object_twice_is_refused_once(exam_folder):
    shutil.copy(exam_folder / "L_CC.dcm", exam_folder / "copy.dcm")
    exam = read_exam(exam_folder)
    (refusal,) = exam.refused
    assert refusal.reason == "duplicate"
    assert len(exam.images) == 4


def test_files_of_two_patients_are_no_exam_and_neither_is_named(exam_folder, write_mammogram):
    write_mammogram(exam_folder / "other.dcm", patient="Doe^Jane", seed=9)
    with pytest.raises(DicomError, match="2 patients") as caught:
        read_exam(exam_folder)
    assert "Doe" not in str(caught.value)


def test_two_studies_of_one_patient_are_scored_with_a_warning(exam_folder, write_mammogram):
    write_mammogram(exam_folder / "later.dcm", seed=9, StudyInstanceUID="1.2.3")
    assert any("2 studies" in warning for warning in read_exam(exam_folder).warnings)


def test_stripped_headers_are_served_by_a_table(rsna_folder, tmp_path):
    study = rsna_folder / "train_images" / "1"
    without = read_exam(study)
    assert without.images == ()
    assert {r.reason for r in without.refused} == {"unknown_view"}
    exam = read_exam(study, table=rsna_folder / "train.csv")
    assert [(i.laterality, i.view) for i in exam.images] == [
        (Laterality.L, View.CC),
        (Laterality.L, View.MLO),
        (Laterality.R, View.CC),
    ]
    (tmp_path / "t.csv").write_text("image_id,side\n1,L\n")
    with pytest.raises(ConfigError, match="lacks the columns laterality, view"):
        read_exam(study, table=tmp_path / "t.csv")
    with pytest.raises(ConfigError, match=r"nothing\.csv"):
        read_exam(study, table=tmp_path / "nothing.csv")


def test_a_study_that_is_not_there_or_holds_no_file_is_an_error(tmp_path):
    with pytest.raises(IncompleteExamError, match="does not exist"):
        read_exam(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(IncompleteExamError, match="no files"):
        read_exam(tmp_path / "empty")


def test_the_table_wins_over_the_header_with_a_warning(exam_folder, tmp_path):
    (tmp_path / "t.csv").write_text("image_id,laterality,view\nL_CC,R,CC\n")
    exam = read_exam(exam_folder / "L_CC.dcm", table=tmp_path / "t.csv")
    assert exam.images[0].laterality is Laterality.R
    assert "table believed" in exam.warnings[0]


def test_pixels_are_not_read_with_the_exam(exam_folder, write_mammogram):
    write_mammogram(exam_folder / "L_CC.dcm", np.zeros((160, 120), np.uint16), seed=0)
    # A blank image is refused when it is scored; reading the exam does not decode it.
    assert len(read_exam(exam_folder).images) == 4


def test_the_same_pixels_under_another_uid_are_refused(exam_folder, write_mammogram):
    write_mammogram(exam_folder / "again.dcm", laterality="L", view="CC", seed=1)
    (refusal,) = read_exam(exam_folder).refused
    assert refusal.reason == "duplicate"
    assert "pixel data" in refusal.message


def test_a_table_that_contradicts_itself_is_refused(exam_folder, tmp_path):
    (tmp_path / "t.csv").write_text("image_id,laterality,view\nL_CC,L,CC\nL_CC,R,MLO\n")
    with pytest.raises(ConfigError, match="names image_id L_CC twice"):
        read_exam(exam_folder, table=tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("image_id,laterality,view\nL_CC,L,CC\nL_CC, L,CC\n")
    assert len(read_exam(exam_folder, table=tmp_path / "t.csv").images) == 4


def test_a_table_serves_files_named_by_a_uid(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "e" / "1.2.840.1.7", ViewPosition=None)
    (tmp_path / "t.csv").write_text("image_id,laterality,view\n1.2.840.1.7,L,MLO\n")
    exam = read_exam(tmp_path / "e", table=tmp_path / "t.csv")
    assert exam.images[0].view is View.MLO


def test_a_table_tells_age_and_density_and_is_believed(exam_folder, tmp_path, write_mammogram):
    assert read_exam(exam_folder).density is None
    told = "image_id,laterality,view,age,density\nL_CC,L,CC,61,\nR_CC,R,CC,63.5,C\nL_MLO,L,MLO,,\n"
    (tmp_path / "t.csv").write_text(told)
    exam = read_exam(exam_folder, table=tmp_path / "t.csv")
    assert (exam.age, exam.density) == (63.5, "C")
    for wrong, words in (("sixty", "an age of 'sixty'"), ("-1", "an age of '-1'")):
        (tmp_path / "t.csv").write_text(f"image_id,laterality,view,age\nL_CC,L,CC,{wrong}\n")
        with pytest.raises(ConfigError, match=words):
            read_exam(exam_folder, table=tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("image_id,laterality,view,density\nL_CC,L,CC,2\n")
    with pytest.raises(ConfigError, match="density of '2'; accepted are A, B, C, D"):
        read_exam(exam_folder, table=tmp_path / "t.csv")
