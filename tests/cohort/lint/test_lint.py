"""The verb from files to report: what it writes, its exit status, and what it leaves alone."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import polars as pl
import pytest

from fixtures.images import breast_pixels
from fixtures.lint import film
from mammoscope.cli import main
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.lint import CHECKS, Severity, lint
from mammoscope.cohort.lint.gather import sample_by_machine
from mammoscope.cohort.manifest import read_manifest
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.splits import split_cohort
from mammoscope.cohort.synthetic import write_cohort
from mammoscope.config import PreprocessConfig
from mammoscope.errors import CohortError, OutputError


@pytest.fixture
def cohort(rsna_folder, tmp_path):
    ingest(rsna_folder, tmp_path / "c")
    split_cohort(tmp_path / "c", folds=2)
    return tmp_path / "c"


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the verb: (exit status, standard output, standard error)."""
    monkeypatch.setattr("mammoscope.cli.console.console._width", 200)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exiting:
            main(["lint", *(str(word) for word in words), "--workers", "1"])
        out, err = capsys.readouterr()
        return int(exiting.value.code or 0), out, err

    return call


def test_a_cohort_without_errors_exits_0_and_leaves_its_report(run, cohort):
    status, out, err = run(cohort)
    assert (status, "errors 0," in err) == (0, True)
    report = json.loads((cohort / "lint.json").read_text())
    assert (report["kind"], report["format_version"]) == ("lint", 1)
    assert report["counts"]["error"] == 0
    assert report["looked_at"] == {"images": 36, "read": 36, "hashed": 36}
    found = {finding["code"] for finding in report["findings"]}
    assert found | set(report["skipped"]) | set(report["clean"]) == set(CHECKS)
    assert "skipped" in out
    assert "10 of each are needed" in report["skipped"]["column_predicts_label"]


def test_an_error_exits_1_and_names_images_and_what_to_do(run, cohort):
    splits = pl.read_parquet(cohort / "splits.parquet")
    torn = pl.when(pl.col("image_id") == "100").then(pl.lit("test")).otherwise("split")
    splits.with_columns(split=torn).write_parquet(cohort / "splits.parquet")
    status, out, err = run(cohort, "--sample", 3)
    assert status == 1
    assert "errors 1," in err
    assert "patient_in_two_splits splits.parquet" in out
    assert "100, 101, 102" in out
    assert "run mammoscope split --overwrite" in out
    assert "1 of 12" in out


def test_a_copy_in_the_files_is_found_before_and_after_prepare(
    cohort, rsna_folder, write_mammogram
):
    original = breast_pixels(laterality="L", seed=0)
    write_mammogram(
        rsna_folder / "train_images" / "5" / "500.dcm",
        (original[:, ::-1] // 16).astype("uint8"),
        WindowCenter=128,
        WindowWidth=256,
    )
    ingest(rsna_folder, cohort, overwrite=True)
    found = [f for f in lint(cohort).findings if f.code == "near_duplicates_across_patients"]
    assert [(f.count, f.of, f.examples) for f in found] == [(2, 36, ("0", "500"))]
    prepare(cohort, PreprocessConfig(height=128, width=96))
    found = [f for f in lint(cohort, sample=1).findings if "across_patients" in f.code]
    assert [(f.count, f.of, f.examples) for f in found] == [(2, 36, ("0", "500"))]


def test_the_report_depends_on_the_seed_and_not_on_workers(cohort, tmp_path):
    lint(cohort, sample=20, json_path=tmp_path / "one.json")
    lint(cohort, sample=20, workers=2, json_path=tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert not (cohort / "lint.json").exists()


def test_a_sample_is_drawn_from_each_machine_and_is_the_same_for_a_seed(cohort):
    manifest = read_manifest(cohort).with_columns(
        machine_id=pl.when(pl.col("patient_id").is_in(["1", "2"])).then(pl.lit("7")).otherwise(None)
    )
    drawn = sample_by_machine(manifest, 4, seed=0)
    groups = drawn.with_columns(pl.col("machine_id").fill_null(pl.col("site_id") + "?"))
    assert set(groups["machine_id"].value_counts()["count"]) == {4}
    assert groups["machine_id"].n_unique() == 3
    assert drawn.equals(sample_by_machine(manifest, 4, seed=0))
    assert not drawn.equals(sample_by_machine(manifest, 4, seed=1))
    assert sample_by_machine(manifest, 0, seed=0).height == 36


def test_images_that_cannot_be_read_are_a_finding(cohort, rsna_folder):
    (rsna_folder / "train_images" / "3" / "300.dcm").write_bytes(b"")
    (rsna_folder / "train_images" / "3" / "301.dcm").unlink()
    report = lint(cohort)
    (finding,) = [f for f in report.findings if f.code == "unreadable_images"]
    assert (finding.count, finding.of) == (2, 36)
    assert finding.examples == ("300", "301")


def test_a_source_that_is_gone_skips_what_needs_it(cohort, rsna_folder):
    shutil.rmtree(rsna_folder)
    report = lint(cohort)
    assert "is no longer there" in report.skipped["inverted_images"]
    assert "near_duplicates_across_patients" in report.skipped
    assert "patient_in_two_splits" in report.clean


def test_no_other_file_is_replaced_and_no_unknown_label_taken(cohort, tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"kind": "cohort"}')
    with pytest.raises(OutputError, match="no report of mammoscope lint"):
        lint(cohort, json_path=other)
    assert other.read_text() == '{"kind": "cohort"}'
    with pytest.raises(OutputError, match="is a folder"):
        lint(cohort, json_path=tmp_path)
    with pytest.raises(CohortError, match="unknown label 'canser'"):
        lint(cohort, label="canser")
    with pytest.raises(CohortError, match="run mammoscope ingest"):
        lint(tmp_path / "nowhere")


def test_a_clean_synthetic_cohort_raises_no_false_alarm(tmp_path):
    write_cohort(tmp_path / "s", patients=5, seed=3, scale=0.1)
    ingest(tmp_path / "s", tmp_path / "c")
    split_cohort(tmp_path / "c", folds=2)
    report = lint(tmp_path / "c")
    # Further exposures of a view are not copies; markers are burned in.
    views = pl.struct("patient_id", "laterality", "view")
    assert read_manifest(tmp_path / "c").filter(views.is_duplicated()).height > 10
    found = [(finding.code, finding.severity) for finding in report.findings]
    assert set(found) == {("burned_in_text", Severity.INFO)}


def test_stretched_files_are_told_unless_the_table_says_pixel_aspect(tmp_path):
    lines = ["file,patient_id,laterality,view,pixel_aspect"]
    (tmp_path / "s").mkdir()
    for number in range(10):
        wide = cv2.resize(film(number, size=(320, 256)), None, fx=1.7, fy=1)
        cv2.imwrite(str(tmp_path / "s" / f"{number}.png"), np.rint(wide * 255).astype("uint8"))
        lines.append(f"{number}.png,p{number},L,CC,{1 / 1.7}")
    (tmp_path / "s" / "labels.csv").write_text("\n".join(lines))
    ingest(tmp_path / "s", tmp_path / "given")
    assert "stretched_images" in lint(tmp_path / "given").clean
    dropped = [line.rpartition(",")[0] for line in lines]
    (tmp_path / "s" / "labels.csv").write_text("\n".join(dropped))
    ingest(tmp_path / "s", tmp_path / "dropped")
    found = [f for f in lint(tmp_path / "dropped").findings if f.code == "stretched_images"]
    assert [(f.count, f.severity) for f in found] == [(10, Severity.WARNING)]
