"""One cohort of several: sources kept, names unique, nothing twice, contradictions refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fixtures.images import breast_pixels
from mammoscope.artefacts import read_json, sha256_file, write_json
from mammoscope.cohort.findings import read_findings
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import read_manifest, read_rejects, source_roots
from mammoscope.cohort.merge import merge
from mammoscope.cohort.prepare import prepare
from mammoscope.cohort.splits import split_cohort
from mammoscope.cohort.store import PreparedStore
from mammoscope.config import PreprocessConfig
from mammoscope.errors import CohortError, OutputError

SMALL = PreprocessConfig(height=64, width=32)


@pytest.fixture
def clinic(tmp_path, write_mammogram):
    """Ingest a folder of DICOM files: one image for each patient and seed, named by number."""

    def make(name, seeds, *, patients=None, cancer=0, side="L"):
        root = tmp_path / f"{name}-files"
        lines = ["file,patient_id,cancer"]
        for number, seed in enumerate(seeds):
            path = root / f"{number}.dcm"
            pixels = breast_pixels(laterality=side, seed=seed)
            patient = patients[number] if patients else f"{name}{number}"
            write_mammogram(path, pixels, laterality=side, patient=f"{name} {patient}")
            lines.append(f"{number}.dcm,{patient},{cancer}")
        (root / "labels.csv").write_text("\n".join(lines) + "\n")
        ingest(root, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def films(build_layout, tmp_path):
    """Cohorts of two public sets."""
    for name in ("cdd-cesm", "mini-ddsm"):
        ingest(build_layout(name), tmp_path / f"c-{name}")
    return [tmp_path / "c-cdd-cesm", tmp_path / "c-mini-ddsm"]


def test_sources_findings_and_rejects_of_all_are_in_the_whole(films, tmp_path):
    made = merge(tmp_path / "whole", films)
    whole = read_manifest(tmp_path / "whole")
    parts = [read_manifest(path) for path in films]
    assert made.images == whole.height == sum(part.height for part in parts)
    assert made.sources == ("cdd-cesm", "mini-ddsm")
    assert set(whole["source"]) == {"cdd-cesm", "mini-ddsm"}
    assert (made.prefixed, made.duplicates) == ((), 0)
    findings = read_findings(tmp_path / "whole")
    assert made.findings == findings.height == sum(read_findings(p).height for p in films)
    assert set(findings["image_id"]) <= set(whole["image_id"])
    assert [r.path for r in read_rejects(tmp_path / "whole")] == [
        f"cdd-cesm/{r.path}" for r in read_rejects(films[0])
    ]


def test_the_whole_describes_itself_and_its_parts(films, tmp_path):
    merge(tmp_path / "whole", films)
    facts = read_json(tmp_path / "whole" / "cohort.json", CohortError)
    assert facts["synthetic"] is False
    assert facts["source_roots"] == {
        "cdd-cesm": str(tmp_path / "cdd-cesm"),
        "mini-ddsm": str(tmp_path / "mini-ddsm"),
    }
    assert [part["cohort"] for part in facts["inputs"]] == [str(path) for path in films]
    for part, path in zip(facts["inputs"], films, strict=True):
        for table, digest in part["hashes"].items():
            assert sha256_file(path / table) == digest
    for table, digest in facts["hashes"].items():
        assert sha256_file(tmp_path / "whole" / table) == digest


def test_a_merged_cohort_is_prepared_from_all_its_folders(clinic, tmp_path):
    one, two = clinic("a", [1, 2]), clinic("b", [3], side="R")
    merge(tmp_path / "whole", [one, two])
    made = prepare(tmp_path / "whole", SMALL)
    assert (made.prepared, made.refused) == (3, 0)
    split_cohort(tmp_path / "whole", folds=2, test=0)
    prepared = PreparedStore(tmp_path / "whole")
    assert prepared.rows().height == 3
    # The image of the second folder, not the one of its name in the first.
    prepare(two, SMALL)
    row = read_manifest(tmp_path / "whole").filter(source="folder-b").row(0, named=True)
    assert (prepared.read(row["image_id"]) == PreparedStore(two).read("0")).all()
    assert not np.array_equal(prepared.read("folder-a-0"), prepared.read("folder-b-0"))


def test_a_part_whose_folder_has_gone_is_named(clinic, tmp_path):
    merge(tmp_path / "whole", [clinic("a", [1]), clinic("b", [3])])
    shutil.move(tmp_path / "b-files", tmp_path / "elsewhere")
    with pytest.raises(CohortError, match=r"b-files, which .* is no longer there"):
        prepare(tmp_path / "whole", SMALL)


def test_folders_of_one_layout_get_the_cohorts_name_and_equal_image_names_a_prefix(
    clinic, tmp_path
):
    made = merge(tmp_path / "whole", [clinic("a", [1, 2]), clinic("b", [3])])
    whole = read_manifest(tmp_path / "whole")
    assert made.sources == ("folder-a", "folder-b")
    assert made.prefixed == ("image_id",)
    assert set(whole["image_id"]) == {"folder-a-0", "folder-a-1", "folder-b-0"}
    assert set(whole["patient_id"]) == {"a0", "a1", "b0"}
    assert source_roots(tmp_path / "whole")["folder-b"] == tmp_path / "b-files"


def test_equal_patient_names_of_two_data_sets_are_two_women(clinic, films, tmp_path):
    # The contrast-enhanced set calls its patients 1 and 2.
    merge(tmp_path / "whole", [films[0], clinic("a", [1, 2], patients=["1", "w"])])
    whole = read_manifest(tmp_path / "whole")
    assert set(whole["patient_id"]) == {"cdd-cesm-1", "cdd-cesm-2", "folder-1", "folder-w"}


@pytest.mark.parametrize(
    ("patients", "names"),
    [("same", {"w1", "w2", "w3"}), ("apart", {"folder-a-w1", "folder-a-w2", "folder-b-w1",
                                              "folder-b-w3"})],
)  # fmt: skip
def test_equal_patient_names_of_two_folders_are_asked_about(clinic, tmp_path, patients, names):
    parts = [clinic("a", [1, 2], patients=["w1", "w2"]), clinic("b", [3, 4], patients=["w1", "w3"])]
    with pytest.raises(CohortError, match="--patients same") as asked:
        merge(tmp_path / "whole", parts)
    assert "w1" not in str(asked.value)
    assert not (tmp_path / "whole").exists()
    merge(tmp_path / "whole", parts, patients=patients)
    assert set(read_manifest(tmp_path / "whole")["patient_id"]) == names


def test_an_image_that_is_there_twice_is_kept_once(clinic, tmp_path):
    made = merge(tmp_path / "whole", [clinic("a", [1, 2]), clinic("b", [2, 3])])
    assert (made.images, made.duplicates) == (3, 1)
    (reject,) = read_rejects(tmp_path / "whole")
    assert (reject.reason, reject.path) == ("duplicate", "folder-b/0.dcm")
    assert "folder-a/1.dcm" in reject.message
    assert made.prefixed == ("image_id",)


def test_a_finding_that_was_refused_bears_the_name_of_its_image_in_the_whole(clinic, tmp_path):
    """The image is one with a lesion without a place there too, also where its copy was kept."""
    parts = [clinic("a", [1, 2]), clinic("b", [2, 3])]
    for name, number in (("a", 0), ("b", 0)):
        image = {"id": number, "file_name": f"{number}.dcm"}
        coco = {"images": [image], "categories": [], "annotations": []}
        coco["annotations"].append({"image_id": number, "bbox": [9, 9, 0, 9]})
        (tmp_path / f"{name}-files" / "boxes.coco.json").write_text(json.dumps(coco))
        ingest(tmp_path / f"{name}-files", tmp_path / name, overwrite=True)
    merge(tmp_path / "whole", parts)
    rejects = [(r.reason, r.image_id) for r in read_rejects(tmp_path / "whole")][:2]
    # The first image of b is the second of a.
    assert rejects == [("no_area", "folder-a-0"), ("no_area", "folder-a-1")]
    assert {"folder-a-0", "folder-a-1"} <= set(read_manifest(tmp_path / "whole")["image_id"])


def test_the_same_source_ingested_twice_is_itself(clinic, tmp_path):
    one = clinic("a", [1, 2])
    ingest(tmp_path / "a-files", tmp_path / "again")
    made = merge(tmp_path / "whole", [one, tmp_path / "again"])
    assert (made.images, made.duplicates, made.sources) == (2, 2, ("folder",))
    assert made.prefixed == ()
    assert read_manifest(tmp_path / "whole").equals(read_manifest(one))


def test_findings_of_both_copies_are_kept(build_layout, tmp_path):
    root = build_layout("folder")
    ingest(root, tmp_path / "with")
    (root / "boxes.coco.json").unlink()
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("m/0.png", "").replace("m/2.png", ""))
    shutil.rmtree(root / "m")
    ingest(root, tmp_path / "without")
    assert read_findings(tmp_path / "without").height == 0
    for parts in (["with", "without"], ["without", "with"]):
        merge(tmp_path / "whole", [tmp_path / part for part in parts], overwrite=True)
        assert read_findings(tmp_path / "whole").equals(read_findings(tmp_path / "with"))


def test_copies_that_contradict_each_other_stop_the_merge(clinic, tmp_path):
    parts = [clinic("a", [1, 2], cancer=0), clinic("b", [2, 3], cancer=1)]
    with pytest.raises(CohortError, match="are one image, and cancer is 0 in one and 1 in the"):
        merge(tmp_path / "whole", parts)
    assert not (tmp_path / "whole").exists()


def test_a_merge_can_be_merged(clinic, films, tmp_path):
    merge(tmp_path / "films", films)
    made = merge(tmp_path / "whole", [tmp_path / "films", clinic("a", [1])])
    assert made.sources == ("cdd-cesm", "mini-ddsm", "folder")
    assert read_manifest(tmp_path / "whole").height == 16
    assert read_rejects(tmp_path / "whole")[0].path.startswith("cdd-cesm/Subtracted")


def test_synthetic_parts_make_a_synthetic_whole(clinic, tmp_path):
    one, two = clinic("a", [1]), clinic("b", [2])
    facts = read_json(two / "cohort.json", CohortError)
    write_json(two / "cohort.json", {**facts, "synthetic": True})
    assert merge(tmp_path / "whole", [one, two]).synthetic is True


def test_input_is_checked_before_anything_is_written(clinic, tmp_path):
    one, two = clinic("a", [1]), clinic("b", [2])
    with pytest.raises(CohortError, match="two or more different cohorts"):
        merge(tmp_path / "whole", [one])
    # Replacing what is read would delete its prepared images.
    with pytest.raises(CohortError, match="one of the cohorts to be merged"):
        merge(one, [one, two], overwrite=True)
    assert (one / "manifest.parquet").is_file()
    with pytest.raises(CohortError, match="two or more different cohorts"):
        merge(tmp_path / "whole", [one, two, one])
    with pytest.raises(CohortError, match=r"cohort\.json is missing"):
        merge(tmp_path / "whole", [one, tmp_path / "nowhere"])
    with (two / "findings.parquet").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(CohortError, match=r"findings\.parquet is missing or was edited"):
        merge(tmp_path / "whole", [one, two])
    (two / "findings.parquet").write_bytes((two / "findings.parquet").read_bytes()[:-1])
    taken = clinic("c", [3])
    with pytest.raises(OutputError, match="--overwrite"):
        merge(taken, [one, two])
    assert not (tmp_path / "whole").exists()


def test_cohorts_of_different_eligibility_rules_are_not_one(clinic, tmp_path):
    one, two = clinic("one", [1]), clinic("two", [2])
    facts = read_json(two / "cohort.json", CohortError)
    facts["eligibility"]["implant"] = "refuse"
    write_json(two / "cohort.json", facts)
    with pytest.raises(CohortError, match=r"different rules of eligibility \(implant\)"):
        merge(tmp_path / "whole", [one, two], patients="apart")
    assert not (tmp_path / "whole").exists()


def test_real_and_synthetic_images_together_are_partly_synthetic(clinic, tmp_path):
    one, two = clinic("one", [1]), clinic("two", [2])
    facts = read_json(two / "cohort.json", CohortError)
    write_json(two / "cohort.json", {**facts, "synthetic": True})
    both = merge(tmp_path / "both", [one, two], patients="apart")
    assert (both.synthetic, both.partly_synthetic) == (True, True)
    alone = merge(tmp_path / "again", [tmp_path / "both", clinic("three", [3])], patients="apart")
    assert alone.partly_synthetic is True
