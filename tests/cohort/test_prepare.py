"""Preparing is resumable, refuses by reason, and never leaves half an image."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from fixtures.images import breast_pixels
from mammoscope.cohort import prepare as module
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import read_manifest, read_rejects, source_roots
from mammoscope.cohort.prepare import prepare, prepare_image
from mammoscope.cohort.splits import split_cohort
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import PreprocessConfig
from mammoscope.errors import CohortError, ConfigError, MammoscopeError, OutputError

SMALL = PreprocessConfig(height=64, width=32)


@pytest.fixture
def cohort(rsna_folder, tmp_path):
    ingest(rsna_folder, tmp_path / "cohort")
    return tmp_path / "cohort"


def contents(cohort):
    return {path.name: path.read_bytes() for path in (cohort / "images").glob("*.safetensors")}


def test_every_image_is_prepared_once(cohort):
    made = prepare(cohort, SMALL)
    assert (made.prepared, made.found, made.refused) == (36, 0, 0)
    again = prepare(cohort, SMALL)
    assert (again.prepared, again.found, again.refused) == (0, 36, 0)
    store = PreparedStore(cohort)
    pixels = store.read("101")
    assert pixels.shape == (64, 32)
    assert pixels.dtype == np.uint8
    assert pixels.max() > 100
    assert store.config == SMALL


def test_the_number_of_workers_changes_no_byte(cohort):
    prepare(cohort, SMALL, workers=1)
    alone = contents(cohort)
    prepare(cohort, SMALL, workers=2, overwrite=True)
    assert contents(cohort) == alone
    assert len(alone) == 36


def test_a_blank_image_and_one_without_a_breast_are_refused_by_reason(
    cohort, rsna_folder, write_mammogram
):
    rng = np.random.default_rng(0)
    images = rsna_folder / "train_images"
    write_mammogram(images / "0" / "0.dcm", np.zeros((320, 256), np.uint16))
    speck = rng.integers(0, 3, (320, 256)).astype(np.uint16)
    speck[150:153, 120:123] = 3000
    write_mammogram(images / "1" / "100.dcm", speck)
    ingest(rsna_folder, cohort, overwrite=True)
    made = prepare(cohort, SMALL)
    assert (made.prepared, made.refused) == (34, 2)
    found = {reject.image_id: reject for reject in read_rejects(cohort)}
    assert found["0"].reason == "blank_image"
    assert found["100"].reason == "no_breast"
    assert found["0"].stage == "prepare"
    split_cohort(cohort, folds=2)
    kept = set(PreparedStore(cohort).rows()["image_id"])
    assert len(kept) == 34
    assert not kept & {"0", "100"}


def test_pixel_data_that_cannot_be_decoded_names_the_transfer_syntax(
    cohort, rsna_folder, write_mammogram
):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    write_mammogram(
        rsna_folder / "train_images" / "0" / "0.dcm",
        syntax=JPEG2000Lossless,
        encoder=lambda *_: encapsulate([b"\xff\x4f" + bytes(200)]),
    )
    ingest(rsna_folder, cohort, overwrite=True)
    prepare(cohort, SMALL)
    (reject,) = read_rejects(cohort)
    assert reject.reason == "decode_failed"
    assert "JPEG 2000" in reject.message


def test_a_file_that_is_gone_since_ingest_is_refused_by_name(cohort, rsna_folder):
    (rsna_folder / "train_images" / "0" / "0.dcm").unlink()
    prepare(cohort, SMALL)
    (reject,) = read_rejects(cohort)
    assert (reject.image_id, reject.reason) == ("0", "missing_file")


def test_a_file_that_is_another_one_since_ingest_is_refused_by_name(cohort, rsna_folder):
    path = rsna_folder / "train_images" / "0" / "0.dcm"
    path.write_bytes(path.read_bytes() + bytes(2))
    prepare(cohort, SMALL)
    (reject,) = read_rejects(cohort)
    assert (reject.image_id, reject.reason) == ("0", "changed_file")
    assert "at ingest" in reject.message


def test_a_rerun_prepares_cut_files_of_the_store_anew(cohort):
    prepare(cohort, SMALL)
    path = cohort / "images" / "0.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert prepare(cohort, SMALL).prepared == 1
    assert path.read_bytes() == whole


def test_a_rerun_asks_refused_images_again_and_lists_them_once(cohort, rsna_folder):
    path = rsna_folder / "train_images" / "0" / "0.dcm"
    whole = path.read_bytes()
    path.unlink()
    prepare(cohort, SMALL)
    prepare(cohort, SMALL)
    assert len(read_rejects(cohort)) == 1
    path.write_bytes(whole)
    assert prepare(cohort, SMALL).prepared == 1
    assert read_rejects(cohort) == []


def test_a_killed_prepare_is_finished_by_a_rerun_with_the_same_bytes(cohort, tmp_path):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from mammoscope.cohort.prepare import prepare\n"
        "from mammoscope.config import PreprocessConfig\n"
        "prepare(Path(sys.argv[1]), PreprocessConfig(height=64, width=32),\n"
        "        progress=lambda done, total: time.sleep(0.05))\n"
    )
    victim = subprocess.Popen([sys.executable, "-c", script, str(cohort)])
    deadline = time.monotonic() + 60
    while len(contents(cohort)) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    victim.wait(30)
    done = contents(cohort)
    assert 3 <= len(done) < 36
    # What a kill between write and rename leaves behind is neither read nor kept.
    (cohort / "images" / ".7.safetensors.abc.part").write_bytes(b"half an image")
    with pytest.raises(CohortError, match="run mammoscope prepare again"):
        PreparedStore(cohort).rows()
    made = prepare(cohort, SMALL)
    assert made.found == len(done)
    assert made.found + made.prepared == 36
    assert not list((cohort / "images").glob(".*.part"))
    finished = contents(cohort)
    prepare(cohort, SMALL, overwrite=True)
    assert contents(cohort) == finished


def dying_on_two_images(task):
    """Run by workers: what a codec does that crashes."""
    if task["image_id"] in ("101", "700"):
        os.abort()
    return prepare_image(task)


def dying_on_one_image(task):
    """Run by workers."""
    if task["image_id"] == "101":
        os.abort()
    return prepare_image(task)


def test_an_image_that_kills_its_worker_is_refused_by_name_and_costs_no_other(cohort, monkeypatch):
    monkeypatch.setattr(module, "prepare_image", dying_on_two_images)
    made = prepare(cohort, SMALL, workers=2)
    assert (made.prepared, made.refused) == (34, 2)
    rejects = read_rejects(cohort)
    assert {(reject.image_id, reject.reason) for reject in rejects} == {
        ("101", "decoder_crashed"),
        ("700", "decoder_crashed"),
    }
    # Alone it is no less deadly.
    monkeypatch.setattr(module, "prepare_image", dying_on_one_image)
    again = prepare(cohort, SMALL, workers=2)
    assert (again.refused, again.prepared) == (1, 36 - again.found - 1)
    last = prepare(cohort, SMALL, workers=2)
    assert (last.prepared, last.found, last.refused) == (0, 35, 1)
    monkeypatch.undo()
    done = prepare(cohort, SMALL)
    assert (done.prepared, done.found, done.refused) == (1, 35, 0)


def dying_always():
    os.abort()


def test_workers_that_cannot_start_are_not_the_images_fault(cohort, monkeypatch):
    monkeypatch.setattr(module, "prepare_image", dying_on_two_images)
    monkeypatch.setattr(module, "_ready", dying_always)
    with pytest.raises(MammoscopeError, match="end before they begin"):
        prepare(cohort, SMALL, workers=2)


def test_a_full_disk_stops_with_an_error_and_a_rerun_finishes(cohort, monkeypatch):
    real, written = module.write_prepared, []

    def full(images, image_id, prepared):
        if len(written) == 5:
            with module_write_atomically(images / f"{image_id}.safetensors") as temporary:
                temporary.write_bytes(b"half")
                raise OSError(28, os.strerror(28))
        written.append(image_id)
        return real(images, image_id, prepared)

    from mammoscope.artefacts import write_atomically as module_write_atomically

    monkeypatch.setattr(module, "write_prepared", full)
    with pytest.raises(OutputError, match="No space left on device"):
        prepare(cohort, SMALL)
    assert len(contents(cohort)) == 5
    assert not list((cohort / "images").glob(".*.part"))
    monkeypatch.undo()
    made = prepare(cohort, SMALL)
    assert (made.found, made.prepared) == (5, 31)


def test_images_of_two_configurations_are_not_mixed(cohort):
    prepare(cohort, SMALL)
    with pytest.raises(CohortError, match="another configuration"):
        prepare(cohort, PreprocessConfig(height=32, width=32))
    prepare(cohort, PreprocessConfig(height=32, width=32), overwrite=True)
    assert PreparedStore(cohort).read("101").shape == (32, 32)


def test_a_damaged_prepared_image_is_named(cohort):
    prepare(cohort, SMALL)
    path = cohort / "images" / "101.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CohortError, match=r"101\.safetensors is damaged"):
        PreparedStore(cohort).read("101")


def test_a_cohort_whose_source_has_gone_says_so(cohort, rsna_folder):
    rsna_folder.rename(rsna_folder.with_name("elsewhere"))
    with pytest.raises(CohortError, match="no longer there"):
        prepare(cohort, SMALL)


def test_geometry_lies_beside_the_pixels_and_leads_back(cohort):
    prepare(cohort, SMALL)
    geometry = PreparedStore(cohort).read_geometry("101")
    assert (geometry.height, geometry.width) == (64, 32)
    assert (geometry.original_height, geometry.original_width) == (320, 256)


@pytest.mark.parametrize(("file_format", "tolerance"), [("png", 0), ("jpeg", 12)])
def test_pictures_hold_the_same_pixels_as_the_store(cohort, file_format, tolerance):
    prepare(cohort, SMALL)
    prepare(cohort, SMALL, file_format=file_format, workers=2)
    store, folder = PreparedStore(cohort), cohort / f"images-{file_format}"
    pictures = sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg"))
    assert [path.stem for path in pictures] == list(store)
    for path in pictures[:3]:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(picture.astype(int), store.read(path.stem), atol=tolerance)
        facts = json.loads((folder / f"{path.stem}.facts.json").read_text())
        assert facts["geometry"] == store.read_geometry(path.stem).as_dict()
    pictures[0].unlink()
    assert prepare(cohort, SMALL, file_format=file_format).prepared == 1


def test_png_keeps_sixteen_bits_and_the_crops_own_size(cohort):
    config = SMALL.model_copy(update={"bits": 16, "resize": False})
    prepare(cohort, config, file_format="png")
    picture = cv2.imread(str(cohort / "images-png" / "101.png"), cv2.IMREAD_UNCHANGED)
    assert picture.dtype == np.uint16
    assert picture.shape[0] > 200


@pytest.mark.parametrize(
    ("changes", "file_format", "named"),
    [
        ({"bits": 16}, "jpeg", "JPEG holds 8 bits"),
        ({"resize": False}, "store", "images of one size"),
        ({}, "bmp", "accepted: store, png, jpeg"),
    ],
)
def test_a_format_that_cannot_hold_it_is_refused_before_work(cohort, changes, file_format, named):
    with pytest.raises(ConfigError, match=named):
        prepare(cohort, SMALL.model_copy(update=changes), file_format=file_format)
    assert not list(cohort.glob("images*"))


def test_the_store_says_how_each_image_was_read(cohort):
    prepare(cohort, SMALL)
    facts = PreparedStore(cohort).facts()
    assert facts.height == 36
    assert set(facts["decoder"]) == {"native"}
    assert facts["breast_fraction"].is_between(0.2, 0.8).all()


def test_what_one_format_refuses_says_nothing_of_another(cohort, rsna_folder, write_mammogram):
    inverted = (3000 - breast_pixels()).astype(np.uint16)
    write_mammogram(rsna_folder / "train_images" / "0" / "0.dcm", inverted, patient="0")
    ingest(rsna_folder, cohort, overwrite=True)
    assert prepare(cohort, SMALL.model_copy(update={"inverted": "refuse"})).refused == 1
    assert prepare(cohort, SMALL, file_format="png").refused == 0
    assert [reject.stage for reject in read_rejects(cohort)] == ["prepare"]
    split_cohort(cohort, folds=2)
    assert PreparedStore(cohort).rows().height == 35


def test_pictures_of_images_named_by_uid_keep_their_facts_apart(cohort, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    prepare(cohort, SMALL)
    task = {"root": "", "preprocess": SMALL, "format": "png", "images": str(folder)}
    manifest = read_manifest(cohort).head(2)
    for name, row in zip(("1.2.840.1", "1.2.840.2"), manifest.iter_rows(named=True), strict=True):
        root = source_roots(cohort)[row["source"]]
        row |= {"image_id": name, "root": str(root)}
        assert module.prepare_image({**task, **row}) == ()
    assert sorted(path.name for path in folder.glob("*.json")) == [
        "1.2.840.1.facts.json",
        "1.2.840.2.facts.json",
    ]


def test_another_version_does_not_finish_what_this_one_began(cohort):
    prepare(cohort, SMALL)
    marker = cohort / "images" / "prepare.json"
    marker.write_text(marker.read_text().replace(module.__version__, "0.0.1"))
    assert prepare(cohort, SMALL).prepared == 0
    next((cohort / "images").glob("*.safetensors")).unlink()
    with pytest.raises(CohortError, match=r"version 0\.0\.1 of mammoscope"):
        prepare(cohort, SMALL)
    assert prepare(cohort, SMALL, overwrite=True).prepared == 36
