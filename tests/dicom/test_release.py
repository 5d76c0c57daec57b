"""A folder in, a folder without identities out: what is written, refused, and never touched."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEGLosslessSV1, SecondaryCaptureImageStorage

from fixtures.images import breast_pixels
from mammoscope.cohort.ingest import ingest
from mammoscope.dicom.burned_in import BurnedIn, PixelInspection
from mammoscope.dicom.pseudonyms import PseudonymKey
from mammoscope.dicom.release import deidentify_folder
from mammoscope.errors import MammoscopeError, OutputError

KEY = PseudonymKey(bytes(range(32)))
SYNTAX = JPEGLosslessSV1
FACTS = {"StudyDate": "20200301", "PatientName": "Doe^Jane"}


def sees_nothing(pixels: np.ndarray) -> PixelInspection:
    return PixelInspection(pixels > 0, ())


def sees_text(pixels: np.ndarray) -> PixelInspection:
    return PixelInspection(pixels > 0, ((1, 2, 3, 4), (4, 2, 6, 4)))


@pytest.fixture
def archive(tmp_path, write_mammogram) -> Path:
    """Two patients with two views each, and what lies around in such folders."""
    root = tmp_path / "archive"
    for number, (patient, laterality) in enumerate(
        [("p1", "L"), ("p1", "R"), ("p2", "L"), ("p2", "R")]
    ):
        path = root / f"{patient} Doe" / f"{laterality}.dcm"
        write_mammogram(path, syntax=SYNTAX, laterality=laterality, patient=patient, seed=number,
                        **FACTS)  # fmt: skip
    (root / "train.csv").write_text("patient_id,image_id\np1,1\n")
    (root / "empty.dcm").touch()
    whole = (root / "p1 Doe" / "L.dcm").read_bytes()
    (root / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    shutil.copy(root / "p1 Doe" / "L.dcm", root / "z copy.dcm")
    return root


def snapshot(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_is_written_and_what_cannot_be_is_listed(archive, tmp_path):
    before = snapshot(archive)
    made = deidentify_folder(archive, tmp_path / "out", KEY, sees_nothing)
    assert (made.images, made.patients, made.cleaned) == (4, 2, 0)
    assert made.refused == {
        "duplicate": 1, "empty_file": 1, "not_an_image": 1, "truncated_file": 1,
    }  # fmt: skip
    assert made.rejects == tmp_path / "out.rejects.csv"
    assert [row["path"] for row in rows(made.rejects)] == [
        "cut.dcm", "empty.dcm", "train.csv", "z copy.dcm",
    ]  # fmt: skip
    assert snapshot(archive) == before
    for path in (tmp_path / "out").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert path.relative_to(tmp_path / "out").parts == (
            dataset.PatientID, dataset.StudyInstanceUID, f"{dataset.SOPInstanceUID}.dcm",
        )  # fmt: skip


def test_the_release_names_nobody(archive, tmp_path):
    out = tmp_path / "out"
    deidentify_folder(archive, out, KEY, sees_nothing, crosswalk=tmp_path / "crosswalk.csv")
    report = json.loads((out / "deidentify.json").read_text())
    assert report["complete"] is True
    assert report["files"] == 8
    assert report["images"] == 4
    assert report["refused"]["duplicate"] == 1
    assert report["key_fingerprint"] == KEY.fingerprint
    for path in out.rglob("*"):
        assert "Doe" not in path.as_posix()
        assert "p1" not in path.name
        if path.is_file():
            assert b"Doe" not in path.read_bytes()
            assert str(archive).encode() not in path.read_bytes()


def test_pixels_are_the_same_bytes(archive, tmp_path):
    crosswalk = tmp_path / "crosswalk.csv"
    deidentify_folder(archive, tmp_path / "out", KEY, sees_nothing, crosswalk=crosswalk)
    assert stat.S_IMODE(crosswalk.stat().st_mode) == 0o600
    assert len(rows(crosswalk)) == 4
    for row in rows(crosswalk):
        before = pydicom.dcmread(archive / row["path"])
        after = pydicom.dcmread(written(tmp_path / "out", row))
        assert after.PixelData == before.PixelData
        assert after.file_meta.TransferSyntaxUID == SYNTAX
        assert before.PatientID == row["patient_id"]
        moved = np.datetime64("2020-03-01") + int(row["day_shift"])
        assert after.StudyDate == str(moved).replace("-", "")


def written(out: Path, row: dict[str, str]) -> Path:
    study = out / row["new_patient_id"] / row["new_study_uid"]
    return study / f"{row['new_sop_instance_uid']}.dcm"


def test_a_comment_in_the_codestream_does_not_reach_the_release(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "src" / "a.dcm", syntax=SYNTAX)
    dataset = pydicom.dcmread(path)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    comment = b"\xff\xfe" + (2 + len(b"Doe^Jane")).to_bytes(2) + b"Doe^Jane"
    dataset.PixelData = encapsulate([frame[:2] + comment + frame[2:]])
    dataset.save_as(path)
    deidentify_folder(path.parent, tmp_path / "out", KEY, sees_nothing)
    after = next((tmp_path / "out").rglob("*.dcm"))
    assert b"Doe^Jane" not in after.read_bytes()
    assert (pydicom.dcmread(after).pixel_array == breast_pixels()).all()


def test_results_do_not_depend_on_the_number_of_workers(archive, tmp_path):
    deidentify_folder(archive, tmp_path / "one", KEY, sees_nothing, workers=1)
    deidentify_folder(archive, tmp_path / "two", KEY, sees_nothing, workers=2)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    assert rows(tmp_path / "one.rejects.csv") == rows(tmp_path / "two.rejects.csv")


def test_ingest_reads_what_was_written(archive, tmp_path):
    deidentify_folder(archive, tmp_path / "out", KEY, sees_nothing)
    made = ingest(tmp_path / "out", tmp_path / "cohort", "folder")
    assert (made.images, made.patients) == (4, 2)
    assert set(made.rejects) <= {"not_an_image"}


def test_text_is_refused_unless_cleaning_is_asked_for(archive, tmp_path):
    with pytest.raises(MammoscopeError, match="burned_in_text"):
        deidentify_folder(archive, tmp_path / "out", KEY, sees_text)
    assert not list((tmp_path / "out").rglob("*.dcm"))
    report = json.loads((tmp_path / "out" / "deidentify.json").read_text())
    assert report["refused"]["burned_in_text"] == 5
    reject = next(r for r in rows(tmp_path / "out.rejects.csv") if r["path"] == "z copy.dcm")
    assert "2 text-like shapes" in reject["message"]
    assert "--burned-in clean" in reject["message"]


@pytest.mark.parametrize(
    ("elements", "phrase"),
    [
        ({"BurnedInAnnotation": "YES"}, "is YES"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "Secondary Capture"),
    ],
)
def test_the_header_is_believed_when_it_speaks_of_text(tmp_path, write_mammogram, elements, phrase):
    write_mammogram(tmp_path / "src" / "a.dcm", **elements)
    write_mammogram(tmp_path / "src" / "b.dcm", seed=1)
    made = deidentify_folder(tmp_path / "src", tmp_path / "out", KEY, sees_nothing)
    assert made.images == 1
    assert phrase in rows(made.rejects)[0]["message"]


def test_text_that_is_announced_and_not_found_cannot_be_cleaned(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "src" / "a.dcm", BurnedInAnnotation="YES")
    write_mammogram(tmp_path / "src" / "b.dcm", seed=1)
    made = deidentify_folder(
        tmp_path / "src", tmp_path / "out", KEY, sees_nothing, burned_in=BurnedIn.CLEAN_ALL
    )
    assert made.images == 1
    assert "may lie over it" in rows(made.rejects)[0]["message"]


def test_a_linked_folder_is_named_and_not_followed(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "src" / "a.dcm")
    write_mammogram(tmp_path / "elsewhere" / "b.dcm", seed=1)
    (tmp_path / "src" / "link").symlink_to(tmp_path / "elsewhere")
    made = deidentify_folder(tmp_path / "src", tmp_path / "new" / "out", KEY, sees_nothing)
    assert made.images == 1
    assert [row["path"] for row in rows(made.rejects)] == ["link"]


def test_a_link_that_leads_to_itself_is_refused_by_name(archive, tmp_path):
    (archive / "loop").symlink_to("loop")
    made = deidentify_folder(archive, tmp_path / "out", KEY, sees_nothing)
    assert made.refused["unreadable_file"] == 1
    assert "loop" in made.rejects.read_text()


def test_a_secondary_capture_that_denies_text_passes(tmp_path, write_mammogram):
    write_mammogram(
        tmp_path / "src" / "a.dcm",
        SOPClassUID=SecondaryCaptureImageStorage,
        BurnedInAnnotation="NO",
    )
    assert deidentify_folder(tmp_path / "src", tmp_path / "out", KEY, sees_nothing).images == 1


@pytest.mark.parametrize("kind", ["native", "compressed", "signed", "bytes"])
def test_cleaning_blanks_the_outside_and_nothing_else(tmp_path, write_mammogram, kind):
    pixels = breast_pixels()
    marker = (slice(5, 20), slice(200, 240))
    pixels[marker] = 3500
    if kind == "signed":
        pixels = (pixels // 2).astype(np.int16)
    elif kind == "bytes":
        pixels = (pixels // 16).astype(np.uint8)
    path = tmp_path / "src" / "a.dcm"
    syntax = {"syntax": SYNTAX} if kind == "compressed" else {}
    write_mammogram(path, pixels, **syntax)
    inside = breast_pixels() > 0
    made = deidentify_folder(
        path.parent, tmp_path / "out", KEY, Sees(inside), burned_in=BurnedIn.CLEAN
    )
    assert made.cleaned == 1
    after = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert (after.pixel_array[inside] == pixels[inside]).all()
    assert (after.pixel_array[~inside] == 0).all()
    assert not after["PixelData"].is_undefined_length
    assert after.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
    assert after.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


class Sees:
    """Text, and a breast where it is told to be."""

    def __init__(self, inside: np.ndarray) -> None:
        self.inside = inside

    def __call__(self, pixels: np.ndarray) -> PixelInspection:
        assert pixels.shape == self.inside.shape
        return PixelInspection(self.inside, ((200, 5, 210, 20), (220, 5, 230, 20)))


def test_clean_leaves_alone_what_clean_all_blanks(archive, tmp_path):
    some = deidentify_folder(
        archive, tmp_path / "some", KEY, sees_nothing, burned_in=BurnedIn.CLEAN
    )
    every = deidentify_folder(
        archive, tmp_path / "every", KEY, sees_nothing, burned_in=BurnedIn.CLEAN_ALL
    )
    assert (some.cleaned, every.cleaned) == (0, 4)


def test_other_objects_are_refused(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "src" / "a.dcm")
    write_mammogram(tmp_path / "src" / "us.dcm", seed=1, Modality="US")
    write_mammogram(tmp_path / "src" / "frames.dcm", seed=2, NumberOfFrames=2)
    write_mammogram(tmp_path / "src" / "nobody.dcm", seed=3, PatientID="")
    made = deidentify_folder(tmp_path / "src", tmp_path / "out", KEY, sees_nothing)
    found = {row["path"]: row["reason"] for row in rows(made.rejects)}
    assert found == {
        "us.dcm": "not_a_mammogram", "frames.dcm": "decode_failed", "nobody.dcm": "missing_tag",
    }  # fmt: skip


def test_a_value_that_breaks_its_type_is_refused_without_being_quoted(tmp_path, write_mammogram):
    write_mammogram(tmp_path / "src" / "a.dcm")
    path = write_mammogram(tmp_path / "src" / "b.dcm", seed=1)
    # An integer of six bytes, which pydicom takes apart only when it is asked for.
    whole = path.read_bytes()
    tag = b"\x28\x00\x06\x01"  # (0028,0106) Smallest Image Pixel Value
    at = whole.index(b"\x28\x00\x50\x10")
    path.write_bytes(whole[:at] + tag + b"UL\x06\x00Jane  " + whole[at:])
    made = deidentify_folder(tmp_path / "src", tmp_path / "out", KEY, sees_nothing)
    assert made.refused == {"invalid_value": 1}
    assert "Jane" not in made.rejects.read_text()


def test_a_rerun_needs_leave_and_gives_the_same(archive, tmp_path):
    out = tmp_path / "out"
    deidentify_folder(archive, out, KEY, sees_nothing)
    first = snapshot(out)
    with pytest.raises(OutputError, match="--overwrite"):
        deidentify_folder(archive, out, KEY, sees_nothing)
    deidentify_folder(archive, out, KEY, sees_nothing, overwrite=True)
    assert snapshot(out) == first


def test_a_stopped_run_says_that_it_is_not_complete(archive, tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deidentify_folder(archive, tmp_path / "out", KEY, sees_nothing, progress=stop)
    out = tmp_path / "out"
    assert json.loads((out / "deidentify.json").read_text())["complete"] is False
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".dcm", ".json"}
    assert all(pydicom.dcmread(path) for path in files if path.suffix == ".dcm")
    assert not (out / ".parts").exists()


@pytest.mark.parametrize(
    ("out", "crosswalk", "message"),
    [
        ("archive/out", None, "must not lie in each other"),
        (".", None, "must not lie in each other"),
        ("out", "out/crosswalk.csv", "meant to be handed on"),
        ("out", "archive/crosswalk.csv", "must not lie in the source"),
        ("out", "nowhere/crosswalk.csv", "cannot write the crosswalk"),
    ],
)
def test_places_that_would_leak_are_refused_before_any_work(
    archive, tmp_path, out, crosswalk, message
):
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match=message):
        deidentify_folder(
            archive, tmp_path / out, KEY, sees_nothing,
            crosswalk=tmp_path / crosswalk if crosswalk else None,
        )  # fmt: skip
    assert snapshot(tmp_path) == before


def test_a_name_that_is_not_utf_8_is_listed_as_it_is(archive, tmp_path):
    with open(os.fsencode(archive) + b"/M\xfcller.txt", "wb") as stream:  # noqa: PTH123
        stream.write(b"notes")
    made = deidentify_folder(archive, tmp_path / "out", KEY, sees_nothing)
    assert made.images == 4
    assert b"M\xfcller.txt,not_an_image" in made.rejects.read_bytes()


def test_a_source_that_is_none_is_refused(tmp_path):
    with pytest.raises(MammoscopeError, match="is not a folder"):
        deidentify_folder(tmp_path / "nowhere", tmp_path / "out", KEY, sees_nothing)
    (tmp_path / "bare").mkdir()
    with pytest.raises(MammoscopeError, match="holds no file"):
        deidentify_folder(tmp_path / "bare", tmp_path / "out", KEY, sees_nothing)
