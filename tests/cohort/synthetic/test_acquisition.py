"""Every unit shows what was drawn, its noise follows the light, and its files are sound."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless

from mammoscope.cohort.synthetic.acquisition import write_dicom
from mammoscope.cohort.synthetic.detector import expose, tone_curve
from mammoscope.cohort.synthetic.exposure import choose_exposure
from mammoscope.cohort.synthetic.headers import ImageFacts
from mammoscope.cohort.synthetic.machines import MACHINES
from mammoscope.config import PreprocessConfig
from mammoscope.dicom import decode, read_dicom
from mammoscope.inference import read_exam
from mammoscope.preprocessing import Preprocessor, read_pixels
from mammoscope.types import Laterality, View

EVERY_MACHINE = pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda m: m.machine_id)
SIDES_AND_VIEWS = [(side, view) for side in Laterality for view in (View.CC, View.MLO)]
IMPLANTS = ({}, {"implant": True}, {"implant": True, "displaced": True})


def drawn(machine, scale=0.2):
    """A smooth breast: an ellipse at the chest wall, brighter downwards."""
    height, width = (round(side * scale) for side in machine.size)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    inside = (x / (0.5 * width)) ** 2 + ((y - height / 2) / (0.36 * height)) ** 2 < 1
    return np.where(inside, 0.25 + 0.6 * y / height, 0).astype(np.float32)


def exposed(machine, thickness_mm=53):
    return choose_exposure(machine, thickness_mm, np.random.default_rng(1))


def facts(machine, pixels, side=Laterality.L, view=View.MLO, thickness_mm=53, **more):
    return ImageFacts(
        **{
            "patient_id": "SYN1",
            "image_id": 7,
            "uid_seed": "test",
            "laterality": side,
            "view": view,
            "spacing_mm": machine.field_mm / pixels.shape[0],
            "exposure": exposed(machine, thickness_mm),
            "age": 58,
            **more,
        }
    )


def write(path, machine, *, side=Laterality.L, view=View.MLO, profile="clinical", **more):
    pixels = drawn(machine)
    stored = expose(pixels, machine, side, view, np.random.default_rng(5))
    write_dicom(path, stored, machine, facts(machine, pixels, side, view, **more), profile)
    return pixels


def flat(machine, relative=1.0, value=0.5, side_px=400, spacing_mm=0.1):
    """Presentation values of a uniform block, which show nothing but noise."""
    machine = replace(machine, field_mm=side_px * spacing_mm, border_mm=0)
    pixels = np.full((side_px, side_px), value, np.float32)
    exposure = replace(exposed(machine), relative=relative)
    stored = expose(
        pixels, machine, Laterality.L, View.CC, np.random.default_rng(0), exposure
    ).astype(float)
    # Below the marker.
    return stored[side_px // 2 :]


@EVERY_MACHINE
@pytest.mark.parametrize("profile", ["rsna", "clinical"])
def test_what_is_shown_is_what_was_drawn(machine, profile, tmp_path):
    side = Laterality.R
    pixels = write(tmp_path / "a.dcm", machine, side=side, profile=profile)
    read = read_pixels(tmp_path / "a.dcm")
    assert read.warnings == ()
    shown = read.pixels[:, ::-1]
    due = tone_curve(machine, pixels.astype(float))
    reach = round(8 * pixels.shape[0] / machine.field_mm)
    inside = cv2.erode((pixels > 0).astype(np.uint8), np.ones((reach, reach))) > 0
    difference = (shown - due)[inside]
    assert abs(float(np.median(difference))) < 0.01
    assert float(np.quantile(np.abs(difference), 0.99)) < 0.03
    # And the look bends it no further than a processing does.
    assert float(np.abs(due - pixels)[inside].max()) < 0.08
    outside = cv2.dilate((pixels > 0).astype(np.uint8), np.ones((3 * reach, 3 * reach))) == 0
    assert float(np.median(shown[outside])) == 0


@EVERY_MACHINE
def test_pixels_survive_every_codec(machine, tmp_path):
    """An independent decoder gives what ours gives, and what was exposed."""
    path = tmp_path / "a.dcm"
    write(path, machine)
    stored = expose(drawn(machine), machine, Laterality.L, View.MLO, np.random.default_rng(5))
    decoded = decode(read_dicom(path))
    np.testing.assert_array_equal(decoded.stored, stored)
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, stored)
    assert decoded.warnings == ()


@EVERY_MACHINE
def test_the_public_validator_finds_no_error(machine, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is absent; scripts/install-system-packages.sh installs dicom3tools")
    for side, view in SIDES_AND_VIEWS:
        for implant in IMPLANTS:
            path = tmp_path / "a.dcm"
            write(path, machine, side=side, view=view, **implant)
            done = subprocess.run(
                ["dciodvfy", str(path)], capture_output=True, text=True, check=False, timeout=60
            )
            said = (done.stdout + done.stderr).splitlines()
            assert "MammographyImageForPresentation" in said
            assert [line for line in said if line.startswith("Error")] == []
            warned = [line for line in said if line.startswith("Warning")]
            assert all("<View Position>" in line for line in warned), warned


@EVERY_MACHINE
def test_a_clinical_exam_is_accepted_without_warnings(machine, tmp_path):
    for number, (side, view) in enumerate(SIDES_AND_VIEWS):
        write(tmp_path / f"{number}.dcm", machine, side=side, view=view, image_id=number)
    exam = read_exam(tmp_path)
    assert {(i.laterality, i.view) for i in exam.images} == set(SIDES_AND_VIEWS)
    assert exam.refused == ()
    assert exam.warnings == ()


@EVERY_MACHINE
def test_preprocessing_finds_the_breast_beside_marker_and_border(machine, tmp_path):
    for side, view in SIDES_AND_VIEWS:
        pixels = write(tmp_path / "a.dcm", machine, side=side, view=view)
        source = read_pixels(tmp_path / "a.dcm")
        prepared = Preprocessor(PreprocessConfig(height=128, width=64))(source.pixels, side)
        assert prepared.warnings == ()
        x_min, y_min, x_max, y_max = prepared.geometry.crop
        height, width = pixels.shape
        assert 0.45 * width < x_max - x_min < 0.6 * width
        assert 0.68 * height < y_max - y_min < 0.85 * height


def test_same_facts_same_bytes(tmp_path):
    for machine in MACHINES.values():
        write(tmp_path / "a.dcm", machine)
        write(tmp_path / "b.dcm", machine)
        assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_noise_falls_with_light_and_with_the_size_of_pixels():
    machine = MACHINES[48]
    usual = flat(machine).std()
    assert flat(machine, relative=4).std() == pytest.approx(usual / 2, rel=0.05)
    assert flat(machine, spacing_mm=0.2).std() == pytest.approx(usual / 2, rel=0.05)
    # Dense tissue lets less light through.
    assert flat(machine, value=0.8).std() > 1.4 * usual


def test_electronic_noise_matters_where_there_is_little_light():
    machine = MACHINES[48]
    silent = replace(machine, detector=replace(machine.detector, electronic=0.0))
    dim = {"relative": 0.02, "value": 0.8, "spacing_mm": 0.05}
    assert flat(machine, **dim).std() > 1.1 * flat(silent, **dim).std()
    assert flat(machine).std() == pytest.approx(flat(silent).std(), rel=0.01)


@pytest.mark.parametrize("machine_id", [29, 49, 216])
def test_an_edge_is_as_wide_as_the_detector_spreads_it(machine_id):
    """Standard deviation of the line spread, from an edge, without noise."""
    machine = MACHINES[machine_id]
    detector = replace(machine.detector, photons_per_mm2=1e12, scatter=0.0)
    spacing = 0.02
    exact = replace(
        MACHINES[48],
        detector=detector,
        field_mm=1000 * spacing,
        look=replace(machine.look, gamma=1, sharpening=0),
    )
    pixels = np.full((1000, 400), 0.2, np.float32)
    pixels[:, 200:] = 0.7
    stored = expose(pixels, exact, Laterality.L, View.CC, np.random.default_rng(0))
    spread = np.diff(stored[800:].astype(float).mean(axis=0))
    at = np.arange(spread.size)
    centre = np.average(at, weights=spread)
    width_mm = spacing * np.sqrt(np.average((at - centre) ** 2, weights=spread))
    assert width_mm == pytest.approx(detector.blur_mm, rel=0.1)


def test_scatter_glows_beside_the_skin_and_not_far_from_it():
    machine = MACHINES[48]
    pixels = drawn(machine)
    stored = expose(pixels, machine, Laterality.L, View.CC, np.random.default_rng(0))
    row, spacing = stored[pixels.shape[0] // 2], machine.field_mm / pixels.shape[0]
    skin = int(np.flatnonzero(pixels[pixels.shape[0] // 2])[-1])
    assert row[skin + round(3 / spacing)] > 0
    assert not row[skin + round(25 / spacing) :].any()


def test_a_border_frames_three_sides_and_leaves_the_chest_wall():
    machine = MACHINES[216]
    pixels = drawn(machine)
    for side in Laterality:
        stored = expose(pixels, machine, side, View.CC, np.random.default_rng(0))
        light = stored < 512
        assert light[0].all()
        assert light[-1].all()
        wall, far = (0, -1) if side is Laterality.L else (-1, 0)
        assert light[:, far].all()
        assert not light[stored.shape[0] // 40 : stored.shape[0] // 9, wall].any()


@EVERY_MACHINE
def test_an_exposure_of_nothing_shows_a_marker_alone(machine):
    stored = expose(
        np.zeros((300, 250), np.float32), machine, Laterality.R, View.CC, np.random.default_rng(0)
    )
    black = stored[150, 125]
    assert black == (stored.max() if machine.display.inverted else 0)
    assert 0.0003 < float((stored != black)[4:-4, 4:-4].mean()) < 0.1


def test_machines_cover_what_readers_meet():
    machines = MACHINES.values()
    assert {m.site_id for m in machines} == {1, 2}
    assert len({m.syntax for m in machines}) == 5
    assert {m.display.function for m in machines} == {"LINEAR", "LINEAR_EXACT", "SIGMOID", "TABLE"}
    assert {m.display.bits_stored for m in machines} >= {8, 10, 12, 14, 16}
    assert {m.marker for m in machines} == {"plain", "lead", "boxed", "stacked"}
    assert MACHINES[29].size == (5355, 4915)
    assert MACHINES[29].syntax == JPEG2000Lossless
    assert all(0.05 <= m.field_mm / m.size[0] <= 0.125 for m in machines)


def test_an_exposure_rises_with_thickness_and_stays_plausible():
    for machine in MACHINES.values():
        made = [exposed(machine, thickness) for thickness in (15, 25, 40, 55, 70, 90, 120)]
        assert all(24 <= e.kvp <= 36 for e in made)
        assert all(25 <= e.exposure_mas <= 300 for e in made)
        assert all(0.4 <= e.dose_mgy <= 4 for e in made)
        assert [e.kvp for e in made] == sorted(e.kvp for e in made)
        assert made[1].exposure_mas < made[5].exposure_mas


def test_the_header_says_synthetic_and_what_the_exposure_was(tmp_path):
    machine = MACHINES[21]
    write(tmp_path / "a.dcm", machine, view=View.CC, implant=True, displaced=True, thickness_mm=62)
    header = pydicom.dcmread(tmp_path / "a.dcm", stop_before_pixels=True)
    for keyword in (
        "Manufacturer", "InstitutionName", "SeriesDescription", "StudyDescription",
        "ImageComments", "PatientComments", "PatientName",
    ):  # fmt: skip
        assert "SYNTHETIC" in str(header[keyword].value)
    exposure = exposed(machine, 62)
    assert header.BodyPartThickness == 62
    assert header.AnodeTargetMaterial == exposure.beam.anode == "RHODIUM"
    assert header.Exposure == exposure.exposure_mas
    assert float(header.OrganDose) == pytest.approx(exposure.dose_mgy / 100)
    (view,) = header.ViewCodeSequence
    assert view.CodeValue == "399162004"
    assert [m.CodeMeaning for m in view.ViewModifierCodeSequence] == ["implant displaced"]
    assert header.BreastImplantPresent == "YES"


@pytest.mark.parametrize(
    ("side", "view", "orientation"),
    [
        ("L", "CC", ["A", "R"]),
        ("R", "CC", ["P", "L"]),
        ("L", "MLO", ["A", "FR"]),
        ("R", "LMO", ["P", "FL"]),
        ("R", "AT", ["P", "FL"]),
        ("L", "ML", ["A", "F"]),
        ("R", "LM", ["P", "F"]),
    ],
)
def test_the_orientation_is_that_of_the_view(side, view, orientation, tmp_path):
    write(tmp_path / "a.dcm", MACHINES[49], side=Laterality(side), view=View(view))
    header = pydicom.dcmread(tmp_path / "a.dcm", stop_before_pixels=True)
    assert list(header.PatientOrientation) == orientation


def test_an_unknown_age_is_left_out(tmp_path):
    write(tmp_path / "a.dcm", MACHINES[49], age=None)
    assert "PatientAge" not in pydicom.dcmread(tmp_path / "a.dcm", stop_before_pixels=True)
