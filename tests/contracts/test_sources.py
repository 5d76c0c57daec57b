"""The contract of every source: one schema, every file accounted for, every finding in place."""

from __future__ import annotations

import shutil

import polars as pl
import pytest

from fixtures.layouts import LAYOUTS
from mammoscope.cohort.findings import FINDINGS_SCHEMA, KINDS, SHAPES, read_findings
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import MANIFEST_SCHEMA, read_manifest, read_rejects
from mammoscope.cohort.sources import SOURCES, find_source
from mammoscope.errors import CohortError, Reason

IMAGES = {".dcm", ".dicom", ".png", ".jpg", ".pgm"}


@pytest.fixture(params=SOURCES)
def name(request):
    return request.param


@pytest.fixture
def root(name, build_layout):
    return build_layout(name)


@pytest.fixture
def cohort(tmp_path):
    return tmp_path / "c"


def accounted(cohort):
    """Paths of the accepted and of the refused."""
    accepted = set(read_manifest(cohort)["path"])
    return accepted, {reject.path for reject in read_rejects(cohort)}


def test_a_source_knows_its_own_layout_and_gives_the_schemas(name, root, cohort):
    assert find_source(root).name == name
    made = ingest(root, cohort)
    manifest = read_manifest(cohort)
    assert dict(manifest.schema) == MANIFEST_SCHEMA
    assert (made.source, set(manifest["source"])) == (name, {name})
    for column in ("image_id", "patient_id", "exam_id", "path", "laterality", "view"):
        assert manifest[column].null_count() == 0
    assert manifest["image_id"].is_unique().all()
    assert all((root / path).is_file() for path in manifest["path"])
    assert set(manifest["cancer"].drop_nulls()) <= {0, 1}
    assert manifest["patient_id"].n_unique() < manifest.height or name == "folder"


def test_findings_are_in_their_images_and_in_our_words(name, root, cohort):
    ingest(root, cohort)
    findings = read_findings(cohort)
    assert dict(findings.schema) == FINDINGS_SCHEMA
    assert findings["finding_id"].is_unique().all()
    assert set(findings["kind"].drop_nulls()) <= set(KINDS)
    assert set(findings["shape"].drop_nulls()) <= set(SHAPES)
    assert set(findings["malignant"].drop_nulls()) <= {0, 1}
    sizes = read_manifest(cohort).select("image_id", "rows", "columns")
    placed = findings.drop_nulls("x_min").join(sizes, on="image_id", how="left", validate="m:1")
    assert placed["rows"].null_count() == 0
    inside = placed.filter(
        (pl.col("x_min") >= 0)
        & (pl.col("y_min") >= 0)
        & (pl.col("x_max") <= pl.col("columns"))
        & (pl.col("y_max") <= pl.col("rows"))
        & (pl.col("x_min") < pl.col("x_max"))
        & (pl.col("y_min") < pl.col("y_max"))
    )
    assert inside.height == placed.height
    for row in findings.iter_rows(named=True):
        assert (row["x_min"] is None) == (row["shape"] is None)
        assert (row["contour"] is not None) == (row["shape"] == "polygon")
        assert (row["mask"] is not None) or row["shape"] != "mask"
        assert row["mask"] is None or (root / row["mask"]).is_file()
    assert (findings.height > 0) == (name != "cmmd")


def test_no_file_is_lost(name, root, cohort):
    ingest(root, cohort)
    victim = sorted(read_manifest(cohort)["path"])[-1]
    (root / victim).write_bytes((root / victim).read_bytes()[:600])
    ingest(root, cohort, overwrite=True)
    accepted, refused = accounted(cohort)
    assert victim in refused
    assert accepted & refused == set()
    listed = find_source(root).list_images(root).images
    masks = {mask for image in listed for finding in image.findings for mask in finding.masks}
    files = {path for path in root.rglob("*") if path.is_file()} - masks
    patterns = LAYOUTS[name].annotations if name in LAYOUTS else ("*.csv",)
    beside = {path for path in files if any(path.match(pattern) for pattern in patterns)}
    lost = {path.relative_to(root).as_posix() for path in files - beside}
    assert lost <= accepted | refused
    assert accepted


def test_a_file_that_the_source_does_not_know_is_listed(name, root, cohort):
    ingest(root, cohort)
    known = root / sorted(read_manifest(cohort)["path"])[0]
    stray = known.with_name(f"stray{known.suffix}")
    shutil.copy(known, stray)
    ingest(root, cohort, overwrite=True)
    path = stray.relative_to(root).as_posix()
    accepted, refused = accounted(cohort)
    # Without a table a copy is found as what it is.
    assert (path in refused) != (path in accepted)
    assert len(accepted | refused) >= 2
    reasons = {r.reason for r in read_rejects(cohort)}
    assert reasons & {Reason.NO_TABLE_ROW, Reason.DUPLICATE}


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "mini-ddsm"])
def test_a_row_whose_file_is_gone_is_listed(name, root, cohort):
    ingest(root, cohort)
    before = len(read_rejects(cohort))
    rows = read_manifest(cohort).sort("path")
    # Of the breast's images the only one, where the table has a row per breast.
    breasts = rows.group_by("patient_id", "laterality").len().filter(pl.col("len") == 1)
    row = (
        rows.join(breasts, on=["patient_id", "laterality"])
        .filter(pl.col("cancer").is_not_null())
        .row(0, named=True)
    )
    (root / row["path"]).unlink()
    ingest(root, cohort, overwrite=True)
    rejects = read_rejects(cohort)
    assert len(rejects) > before
    assert Reason.MISSING_FILE in {reject.reason for reject in rejects}


def test_listing_is_in_a_stable_order_and_opens_no_image(name, root):
    for path in root.rglob("*"):
        if path.suffix in IMAGES:
            path.write_bytes(b"")
    listing = find_source(root, name).list_images(root)
    again = find_source(root, name).list_images(root)
    assert listing == again
    assert listing.images


def test_tables_do_not_depend_on_the_number_of_workers(name, root, tmp_path):
    ingest(root, tmp_path / "one", workers=1)
    ingest(root, tmp_path / "four", workers=4)
    for table in ("manifest.parquet", "findings.parquet", "rejects.csv", "cohort.json"):
        assert (tmp_path / "one" / table).read_bytes() == (tmp_path / "four" / table).read_bytes()


@pytest.mark.parametrize("name", [name for name in SOURCES if name not in ("rsna", "folder")])
def test_the_download_may_lie_in_a_folder_of_the_folder(name, root, cohort):
    ingest(root, cohort)
    direct = read_manifest(cohort).drop("path")
    outer = root.with_name("download")
    outer.mkdir()
    root.rename(outer / "set")
    if name == "inbreast":
        (outer / "set" / "INbreast Release 1.0").rename(outer / "INbreast Release 1.0")
    assert ingest(outer, cohort, overwrite=True).source == name
    assert read_manifest(cohort).drop("path").equals(direct)


def test_an_unknown_source_lists_the_known(tmp_path):
    with pytest.raises(CohortError, match=r"known: auto, rsna, cbis-ddsm, .*, folder"):
        find_source(tmp_path, "ddsm")


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "folder"])
def test_a_source_that_is_named_and_not_there_says_what_it_lacks(name, tmp_path):
    with pytest.raises(CohortError, match=r"holds no|is missing|cannot be read"):
        find_source(tmp_path, name).list_images(tmp_path)
