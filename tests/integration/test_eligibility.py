"""What may not be scored never is: through ingest, predict and the service, by one set of rules."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from fixtures.bundles import brightness_graph, operating_point
from fixtures.eligibility import CASES, CC, view
from fixtures.images import breast_pixels
from mammoscope.artefacts import read_json
from mammoscope.bundle import MODEL_FILE, write_bundle
from mammoscope.cli import main
from mammoscope.cohort.manifest import read_eligibility, read_manifest, read_rejects
from mammoscope.config import EligibilityConfig
from mammoscope.dicom.eligibility import RULES
from mammoscope.errors import CohortError, Reason

REASONS = list(Reason)
REFUSING = [
    rule.code for rule in RULES if rule.action(EligibilityConfig(), listed=False) == "refuse"
]
WARNING = [rule.code for rule in RULES if rule.code not in REFUSING]


def verb(*words: object) -> int:
    with pytest.raises(SystemExit) as exiting:
        main([str(word) for word in words])
    return exiting.value.code or 0


@pytest.fixture
def study(tmp_path, write_mammogram, exam_folder):
    """Four good views of one patient, and one image for each way in which a rule fires."""
    for code, (cases, _) in CASES.items():
        for number, elements in enumerate(cases):
            path = exam_folder / f"{code}-{number}.dcm"
            write_mammogram(path, seed=100 * REASONS.index(code) + number + 50, **elements)
    return exam_folder


def expected(path):
    return path.partition("-")[0]


def test_ingest_lists_every_refused_image_with_the_code_of_its_rule(study, tmp_path):
    assert verb("ingest", study, tmp_path / "c", "--source", "folder") == 0
    rejects = {reject.path: reject for reject in read_rejects(tmp_path / "c")}
    accepted = dict(read_manifest(tmp_path / "c").select("path", "notes").iter_rows())
    assert set(accepted) | set(rejects) == {path.name for path in study.iterdir()}
    for path, reject in rejects.items():
        assert reject.reason == expected(path), reject.message
        assert "accepted: " in reject.message
    assert {expected(path) for path in rejects} == {code.value for code in REFUSING}
    warned = {path: notes for path, notes in accepted.items() if notes}
    assert {expected(path) for path in warned} == set(WARNING) - {Reason.IMPLANT_DISPLACED}
    for path, notes in warned.items():
        assert notes.startswith(f"{expected(path)}: (0")
    assert sum(path[:2] in ("L_", "R_") for path in accepted) == 4


def test_predict_scores_what_ingest_accepts_and_lists_the_rest(study, bundle_dir, tmp_path):
    assert verb("predict", bundle_dir, study, "--out", tmp_path / "r") == 0
    (exam,) = json.loads((tmp_path / "r" / "results.json").read_text())["exams"]
    refused = {part["image_id"]: part for part in exam["refused"]}
    scored = {image["image_id"] for image in exam["images"]}
    assert {expected(name) for name in refused} == {code.value for code in REFUSING}
    assert all(part["reason"] == expected(name) for name, part in refused.items())
    assert scored.isdisjoint(refused)
    assert scored | set(refused) == {path.name for path in study.iterdir()}
    overlays = {path.name.removesuffix(".png") for path in (tmp_path / "r" / "exam").iterdir()}
    assert overlays == scored
    for code in (Reason.IMPLANT, Reason.PARTIAL_VIEW, Reason.WARPED, Reason.UNKNOWN_VENDOR):
        assert any(f"{code}-0.dcm: {code}: (0" in warning for warning in exam["warnings"])


def test_a_bundle_applies_its_own_rules_in_predict_and_in_the_service(
    exam_folder, write_mammogram, serving, as_form, tmp_path
):
    from mammoscope.inference import load_bundle

    write_mammogram(exam_folder / "implant.dcm", seed=60, BreastImplantPresent="YES")
    write_mammogram(exam_folder / "spot.dcm", seed=61, ViewCodeSequence=view(CC, "399055006"))
    write_bundle(
        tmp_path / "bundle",
        {MODEL_FILE: brightness_graph(tmp_path / "graph.onnx")},
        name="strict on implants",
        package_version="0",
        synthetic=True,
        intended_use="Tests only.",
        input={"preprocess": {"height": 256, "width": 128}},
        eligibility={"implant": "refuse", "spot_compression": "warn"},
        operating_points={
            "primary": "best_f1",
            "image": [operating_point(0.5)],
            "breast": [operating_point(0.6)],
        },
    )
    assert verb("predict", tmp_path / "bundle", exam_folder, "--out", tmp_path / "r") == 0
    (exam,) = json.loads((tmp_path / "r" / "results.json").read_text())["exams"]
    assert [(part["image_id"], part["reason"]) for part in exam["refused"]] == [
        ("implant.dcm", "implant")
    ]
    assert any("spot.dcm: spot_compression: (0054,0222)" in text for text in exam["warnings"])
    with serving(load_bundle(tmp_path / "bundle", threads=1)) as client:
        answer = client.post("/v1/exams", files=as_form(sorted(exam_folder.iterdir()))).json()
    (served,) = answer["exams"]
    assert {part["reason"] for part in served["refused"]} == {"implant"}
    assert len(served["images"]) == 5


def test_rules_are_set_at_ingest_and_kept_in_the_cohort(exam_folder, write_mammogram, tmp_path):
    write_mammogram(exam_folder / "implant.dcm", seed=60, BreastImplantPresent="YES")
    rules = tmp_path / "rules.yaml"
    rules.write_text("eligibility:\n  implant: refuse\n  vendors: [ACME]\n")
    words = ("--config", rules, "--set", "eligibility.min_side_px=200")
    assert verb("ingest", exam_folder, tmp_path / "c", "--source", "folder", *words) == 0
    assert [(r.path, r.reason) for r in read_rejects(tmp_path / "c")] == [
        ("implant.dcm", "implant")
    ]
    kept = EligibilityConfig(implant="refuse", vendors=("ACME",), min_side_px=200)
    assert read_eligibility(tmp_path / "c") == kept


def test_a_rule_that_is_misspelt_or_unknown_is_named(exam_folder, tmp_path, capsys):
    for setting, said in (
        ("eligibility.implants=refuse", "did you mean implant?"),
        ("eligibility.implant=ignore", "'accept', 'warn' or 'refuse'"),
        ("eligibility.min_long_side_mm=900", "min_long_side_mm is above max_long_side_mm"),
        ("eligibility.specimen=accept", "unknown key eligibility.specimen"),
    ):
        assert verb("ingest", exam_folder, tmp_path / "c", "--set", setting) == 1
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "c").exists()


def test_a_cohort_without_rules_says_what_to_do(exam_folder, tmp_path):
    verb("ingest", exam_folder, tmp_path / "c", "--source", "folder")
    facts = read_json(tmp_path / "c" / "cohort.json", CohortError)
    del facts["eligibility"]
    (tmp_path / "c" / "cohort.json").write_text(json.dumps(facts))
    with pytest.raises(CohortError, match="names no eligibility rules: run mammoscope ingest anew"):
        read_eligibility(tmp_path / "c")


def test_a_table_vouches_for_digitised_films_and_its_implants_count(
    exam_folder, write_mammogram, tmp_path
):
    lines = ["file,laterality,view,implant"]
    for number, (side, implant) in enumerate([("L", 0), ("R", 1), ("", 0)]):
        name = f"film{number}.dcm"
        write_mammogram(
            tmp_path / "src" / name,
            seed=70 + number,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
            Modality="MG",
        )
        lines.append(f"{name},{side},{'CC' if side else ''},{implant}")
    (tmp_path / "src" / "labels.csv").write_text("\n".join(lines) + "\n")
    rule = ("--set", "eligibility.implant=refuse")
    assert verb("ingest", tmp_path / "src", tmp_path / "c", *rule) == 0
    assert {reject.path: reject.reason for reject in read_rejects(tmp_path / "c")} == {
        "film1.dcm": "implant",
        "film2.dcm": "secondary_capture",
    }
    (notes,) = read_manifest(tmp_path / "c")["notes"]
    assert notes.startswith("secondary_capture: (0008,0016) SOPClassUID is Secondary Capture")


def test_a_table_is_believed_over_the_header_on_implants_and_it_is_told(write_mammogram, tmp_path):
    write_mammogram(tmp_path / "src" / "a.dcm", seed=84, BreastImplantPresent="YES")
    (tmp_path / "src" / "labels.csv").write_text("file,implant\na.dcm,0\n")
    assert verb("ingest", tmp_path / "src", tmp_path / "c") == 0
    (row,) = read_manifest(tmp_path / "c").iter_rows(named=True)
    assert row["implant"] == 0
    assert row["notes"] == (
        "the table says implant 0, (0028,1300) BreastImplantPresent 1: table believed"
    )


def test_a_table_is_believed_over_an_unsupported_view_but_undoes_no_modifier(
    write_mammogram, tmp_path
):
    write_mammogram(tmp_path / "src" / "a.dcm", seed=80, ViewCodeSequence=view("399192008"))
    write_mammogram(tmp_path / "src" / "b.dcm", seed=81, ViewPosition="SCC")
    (tmp_path / "src" / "labels.csv").write_text("file,laterality,view\na.dcm,L,CC\nb.dcm,L,CC\n")
    assert verb("ingest", tmp_path / "src", tmp_path / "c") == 0
    (row,) = read_manifest(tmp_path / "c").iter_rows(named=True)
    assert (row["path"], row["view"]) == ("a.dcm", "CC")
    assert "the table says view CC, the header XCCL: table believed" in row["notes"]
    (reject,) = read_rejects(tmp_path / "c")
    assert (reject.path, reject.reason) == ("b.dcm", "spot_compression")


def test_a_description_that_names_the_patient_is_not_repeated(write_mammogram, tmp_path):
    text = "Doe^Jane spot view"
    write_mammogram(tmp_path / "src" / "a.dcm", seed=82)
    write_mammogram(tmp_path / "src" / "b.dcm", seed=83, SeriesDescription=text)
    verb("ingest", tmp_path / "src", tmp_path / "c")
    (reject,) = read_rejects(tmp_path / "c")
    assert "(0008,103E) SeriesDescription holds 'spot'" in reject.message
    assert "Doe" not in reject.message


def test_a_thumbnail_is_refused_as_a_picture_too(tmp_path):
    (tmp_path / "src").mkdir()
    for name, size in (("whole", (400, 300)), ("thumbnail", (96, 72))):
        breast = breast_pixels(*size, peak=250).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "src" / f"{name}.png"), breast)
    rows = ["file,patient_id,laterality,view", "whole.png,p,L,CC", "thumbnail.png,p,L,MLO"]
    (tmp_path / "src" / "labels.csv").write_text("\n".join(rows) + "\n")
    assert verb("ingest", tmp_path / "src", tmp_path / "c") == 0
    (reject,) = read_rejects(tmp_path / "c")
    assert (reject.path, reject.reason) == ("thumbnail.png", "wrong_size")
    assert (
        "(0028,0010) Rows x (0028,0011) Columns is 96 x 72; accepted: 96 pixels" in reject.message
    )
