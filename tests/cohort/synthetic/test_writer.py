"""Synthetic exams: the same seed gives the same bytes, and headers are as each profile says."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections import defaultdict

import cv2
import numpy as np
import polars as pl
import pydicom
import pytest
from polars.testing import assert_frame_equal

from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import read_manifest
from mammoscope.cohort.synthetic import write_cohort, write_exam, writer
from mammoscope.cohort.synthetic.population import draw_patient
from mammoscope.config import PreprocessConfig
from mammoscope.dicom import read_dicom
from mammoscope.errors import CohortError, ConfigError
from mammoscope.inference import read_exam
from mammoscope.preprocessing import Preprocessor, read_pixels
from mammoscope.types import Laterality, View

SCALE = 0.07


def files(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "s"
    made = write_cohort(folder, patients=12, seed=4, prevalence=0.5, scale=SCALE)
    return folder, made


CLINICAL = {"patients": 4, "seed": 6, "prevalence": 0.5, "scale": SCALE, "profile": "clinical"}


@pytest.fixture(scope="module")
def clinical(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinical") / "s"
    write_cohort(folder, **CLINICAL)
    return folder


def test_one_seed_gives_the_same_bytes_on_one_worker_or_eight(synthetic, tmp_path):
    folder, _ = synthetic
    write_cohort(tmp_path / "again", patients=12, seed=4, prevalence=0.5, scale=SCALE, workers=8)
    assert files(tmp_path / "again") == files(folder)


def test_clinical_exams_too_have_the_same_bytes_on_any_number_of_workers(clinical, tmp_path):
    write_cohort(tmp_path / "again", **CLINICAL, workers=3)
    assert files(tmp_path / "again") == files(clinical)


def test_both_profiles_are_of_the_same_exams(clinical, tmp_path):
    """Same women, same pixels, same lesions; another header and another layout."""
    write_cohort(tmp_path / "stripped", **{**CLINICAL, "profile": "rsna"})
    ours, theirs = rows(clinical / "labels.csv"), rows(tmp_path / "stripped" / "train.csv")
    assert [{k: v for k, v in row.items() if k != "file"} for row in ours] == theirs
    for row in ours:
        stripped = tmp_path / "stripped" / "train_images" / row["file"]
        one, other = pydicom.dcmread(clinical / row["file"]), pydicom.dcmread(stripped)
        assert one.PixelData == other.PixelData
        assert one.Modality == "MG"
        assert one.ViewPosition == row["view"]
        assert "Modality" not in other
    truth, found = (rows(at / "synthetic_findings.csv") for at in (clinical, tmp_path / "stripped"))
    assert truth == found
    for at in ("clinical", "stripped"):
        ingest(clinical if at == "clinical" else tmp_path / at, tmp_path / f"cohort-{at}")
    ours, theirs = (
        pl.read_parquet(tmp_path / f"cohort-{at}" / "findings.parquet")
        .sort("mask")
        .drop("finding_id", "image_id")
        for at in ("clinical", "stripped")
    )
    assert ours.height > 0
    assert_frame_equal(ours, theirs)


def test_masks_lie_on_their_findings(synthetic):
    folder, _ = synthetic
    found = rows(folder / "synthetic_findings.csv")
    assert sum(bool(row["mask"]) for row in found) > 0.9 * len(found)
    for row in found:
        if not row["mask"]:
            continue
        mask = cv2.imread(str(folder / row["mask"]), cv2.IMREAD_UNCHANGED)
        image = pydicom.dcmread(
            folder / "train_images" / row["patient_id"] / f"{row['image_id']}.dcm"
        )
        assert mask.shape == (image.Rows, image.Columns)
        x, y, width, height = cv2.boundingRect(mask)
        box = [float(row[side]) for side in ("x_min", "y_min", "x_max", "y_max")]
        assert box == [x, y, x + width, y + height]


@pytest.mark.parametrize("profile", ["rsna", "clinical"])
def test_ingest_accepts_every_image_of_both_profiles(synthetic, clinical, tmp_path, profile):
    folder = synthetic[0] if profile == "rsna" else clinical
    made = ingest(folder, tmp_path / "cohort")
    table = rows(folder / ("train.csv" if profile == "rsna" else "labels.csv"))
    assert made.synthetic
    assert made.rejects == {}
    assert made.source == ("rsna" if profile == "rsna" else "folder")
    assert made.images == len(table)
    assert made.findings == len(rows(folder / "synthetic_findings.csv"))
    manifest = {row["image_id"]: row for row in read_manifest(tmp_path / "cohort").to_dicts()}
    for row in table:
        kept = manifest[row["image_id"]]
        for word in ("view", "laterality", "patient_id", "density"):
            assert (kept[word] or "") == row[word], word
        assert kept["cancer"] == int(row["cancer"])
        assert (kept["birads"] or "") == row["BIRADS"]


def test_rare_views_are_drawn_and_say_what_they_are(tmp_path):
    patient = draw_patient(np.random.default_rng(1))
    breast = patient.breasts[0]
    record = dataclasses.replace(breast.record, views=tuple(View))
    rare = dataclasses.replace(breast, record=record)
    pictures = []
    for image in rare.images():
        path = tmp_path / f"{image.view}.dcm"
        identity = writer._Identity("1", 1, "0")
        rng = np.random.default_rng(0)
        writer._write_image(path, patient, rare, image, identity, rng, SCALE, "clinical")
        header = read_dicom(path).header
        assert (header.view, header.laterality) == (image.view, rare.laterality)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == len(View)


def test_another_seed_gives_other_patients(synthetic, tmp_path):
    folder, _ = synthetic
    write_cohort(tmp_path / "other", patients=1, seed=5, prevalence=0.5, scale=SCALE)
    ours, theirs = files(folder), files(tmp_path / "other")
    shared = [name for name in theirs if name in ours and name.endswith(".dcm")]
    assert shared
    assert all(ours[name] != theirs[name] for name in shared)


def test_a_patient_does_not_depend_on_how_many_there_are(synthetic, tmp_path):
    folder, _ = synthetic
    write_cohort(tmp_path / "few", patients=3, seed=4, prevalence=0.5, scale=SCALE)
    whole = files(folder)
    few = {name: data for name, data in files(tmp_path / "few").items() if name.endswith(".dcm")}
    assert len(few) >= 12
    assert all(whole[name] == data for name, data in few.items())


def test_the_table_names_every_file_and_counts_agree(synthetic):
    folder, made = synthetic
    table = rows(folder / "train.csv")
    named = {f"train_images/{r['patient_id']}/{r['image_id']}.dcm" for r in table}
    assert named == {name for name in files(folder) if name.endswith(".dcm")}
    assert made.images == len(table)
    sick = {r["patient_id"] for r in table if r["cancer"] == "1"}
    assert 0 < made.cancer_patients == len(sick) < made.patients == 12
    # Cancer is a breast's: all its views carry the label, the other breast's seldom do.
    labels = defaultdict(set)
    for r in table:
        labels[r["patient_id"], r["laterality"]].add(r["cancer"])
    assert all(len(found) == 1 for found in labels.values())
    assert {"0"} in [labels[patient, side] for patient in sick for side in "LR"]
    assert all(r["density"] == "" for r in table if r["site_id"] == "2")
    assert any(r["density"] for r in table)


def test_headers_are_stripped_as_the_challenges_are(synthetic):
    folder, _ = synthetic
    for path in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        for keyword in ("SOPClassUID", "Modality", "ViewPosition", "StudyDate", "PatientAge"):
            assert keyword not in dataset, keyword
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_machines_of_both_photometric_interpretations_occur(synthetic):
    folder, _ = synthetic
    found = set()
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        found.add((dataset.PhotometricInterpretation, dataset.file_meta.TransferSyntaxUID.name))
    assert {kind for kind, _ in found} == {"MONOCHROME1", "MONOCHROME2"}


def test_lesions_lie_in_the_breast_and_are_brighter_than_around(synthetic):
    folder, _ = synthetic
    truths = [r for r in rows(folder / "synthetic_findings.csv") if r["malignant"] == "1"]
    assert truths
    contrasts = []
    for truth in truths:
        path = folder / "train_images" / truth["patient_id"] / f"{truth['image_id']}.dcm"
        pixels = read_pixels(path).pixels
        height, width = pixels.shape
        x_min, y_min, x_max, y_max = (float(truth[k]) for k in ("x_min", "y_min", "x_max", "y_max"))
        assert 0 <= x_min < x_max <= width
        assert 0 <= y_min < y_max <= height
        across, down = (x_max - x_min) / 2, (y_max - y_min) / 2
        y, x = np.mgrid[0:height, 0:width]
        distance = np.hypot((x - x_min - across) / across, (y - y_min - down) / down)
        inside, ring = distance < 0.5, (distance > 1.2) & (distance < 1.8) & (pixels > 0.05)
        if inside.any() and ring.any():
            contrasts.append(float(pixels[inside].mean() - pixels[ring].mean()))
    assert np.mean(contrasts) > 0.02


def test_a_scale_at_which_pixels_are_as_large_as_lesions_is_refused(tmp_path):
    for scale in (0.06, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="accepted"):
            write_cohort(tmp_path / "s", patients=1, scale=scale)
        with pytest.raises(ConfigError, match="accepted"):
            write_exam(tmp_path / "e", seed=1, cancer=True, scale=scale)
    assert not list(tmp_path.iterdir())


def test_a_cohort_that_was_stopped_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "write_table", stopped)
    for profile in ("rsna", "clinical"):
        with pytest.raises(KeyboardInterrupt):
            write_cohort(tmp_path / profile, patients=1, seed=1, scale=SCALE, profile=profile)
        with pytest.raises(CohortError, match=r"not finished.*--overwrite"):
            ingest(tmp_path / profile, tmp_path / "c", "folder")


def test_a_clinical_file_is_known_for_synthetic_wherever_it_lies(clinical, tmp_path):
    study = next(path for path in sorted(clinical.iterdir()) if path.name.isdigit())
    shutil.copytree(study, tmp_path / "inbox")
    assert ingest(tmp_path / "inbox", tmp_path / "c").synthetic
    facts = json.loads((tmp_path / "c" / "cohort.json").read_text())
    assert (facts["synthetic"], facts["partly_synthetic"]) == (True, False)
    for number, path in enumerate(sorted((tmp_path / "inbox").iterdir())):
        dataset = pydicom.dcmread(path)
        dataset.Manufacturer = "HOLOGIC, Inc." if number else dataset.Manufacturer
        dataset.save_as(path)
    assert ingest(tmp_path / "inbox", tmp_path / "d").synthetic
    facts = json.loads((tmp_path / "d" / "cohort.json").read_text())
    assert (facts["synthetic"], facts["partly_synthetic"]) == (True, True)


def test_other_settings_give_other_uids(tmp_path):
    """Two images under one UID would be taken for copies."""
    seen = set()
    for number, settings in enumerate(({}, {"difficulty": 1.0}, {"conspicuity": 0.0})):
        out = tmp_path / str(number)
        write_cohort(out, patients=1, seed=1, scale=SCALE, **settings)
        seen |= {pydicom.dcmread(path).SOPInstanceUID for path in out.rglob("*.dcm")}
    images = len(list((tmp_path / "0").rglob("*.dcm")))
    assert len(seen) == 3 * images


def test_an_exam_too_is_known_for_synthetic(tmp_path):
    write_exam(tmp_path / "e", seed=1, cancer=False, scale=SCALE)
    assert ingest(tmp_path / "e", tmp_path / "c").synthetic


def test_an_exam_has_four_views_with_clinical_headers(tmp_path):
    written = write_exam(tmp_path / "exam", seed=9, cancer=True, scale=SCALE)
    exam = read_exam(tmp_path / "exam")
    assert len(written) == 4
    assert {(i.laterality, i.view) for i in exam.images} == {
        (side, view) for side in Laterality for view in (View.CC, View.MLO)
    }
    assert exam.refused == ()
    assert exam.warnings == ()
    dataset = pydicom.dcmread(written[0])
    assert dataset.Modality == "MG"
    assert "SYNTHETIC" in dataset.SeriesDescription
    assert dataset.PresentationIntentType == "FOR PRESENTATION"


def test_preprocessing_finds_the_breast_of_every_image(synthetic):
    folder, _ = synthetic
    preprocessor = Preprocessor(PreprocessConfig(height=128, width=64))
    for row in rows(folder / "train.csv"):
        path = folder / "train_images" / row["patient_id"] / f"{row['image_id']}.dcm"
        source = read_pixels(path)
        prepared = preprocessor(source.pixels, Laterality(row["laterality"]))
        assert prepared.warnings == ()
        # The chest wall is on the left: the first columns are brighter than the last.
        assert prepared.pixels[:, :6].mean() > prepared.pixels[:, -6:].mean()
