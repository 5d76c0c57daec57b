"""The contract of every source: one manifest schema, every file accounted for."""

from __future__ import annotations

import polars as pl
import pytest

from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.manifest import MANIFEST_SCHEMA, read_manifest, read_rejects
from mammoscope.cohort.sources import SOURCES, find_source
from mammoscope.errors import CohortError


@pytest.fixture
def layouts(rsna_folder, tmp_path, write_mammogram):
    """A folder in the layout of each source."""
    folder = tmp_path / "tree"
    for number, side in enumerate("LRL"):
        path = folder / f"visit{number}" / "image.dcm"
        write_mammogram(path, laterality=side, seed=number, patient=f"p{number}")
    return {"rsna": rsna_folder, "folder": folder}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_knows_its_own_layout_and_gives_the_manifest_schema(name, layouts, tmp_path):
    root = layouts[name]
    assert find_source(root).name == name
    made = ingest(root, tmp_path / "c")
    manifest = read_manifest(tmp_path / "c")
    assert dict(manifest.schema) == MANIFEST_SCHEMA
    assert made.source == name
    assert set(manifest["source"]) == {name}
    for column in ("image_id", "patient_id", "exam_id", "path", "laterality", "view"):
        assert manifest[column].null_count() == 0
    assert manifest["image_id"].is_unique().all()
    assert all((root / path).is_file() for path in manifest["path"])


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_is_accepted_or_refused(name, layouts, tmp_path):
    root = layouts[name]
    first = next(iter(sorted(root.rglob("*.dcm"))))
    first.write_bytes(first.read_bytes()[:600])
    files = {path.relative_to(root).as_posix() for path in root.rglob("*.dcm")}
    ingest(root, tmp_path / "c")
    accepted = set(read_manifest(tmp_path / "c")["path"])
    refused = {reject.path for reject in read_rejects(tmp_path / "c")}
    assert accepted | refused == files
    assert accepted & refused == set()


@pytest.mark.parametrize("name", SOURCES)
def test_listing_is_in_a_stable_order_and_opens_no_image(name, layouts):
    root = layouts[name]
    for path in root.rglob("*.dcm"):
        path.write_bytes(b"")
    listing = find_source(root, name).list_images(root)
    again = find_source(root, name).list_images(root)
    assert [image.path for image in listing.images] == [image.path for image in again.images]
    assert listing.images


def test_an_unknown_source_lists_the_known(tmp_path):
    with pytest.raises(CohortError, match="known: auto, rsna, folder"):
        find_source(tmp_path, "ddsm")


def test_labels_of_a_source_are_typed(layouts, tmp_path):
    ingest(layouts["rsna"], tmp_path / "c")
    manifest = read_manifest(tmp_path / "c")
    assert manifest["cancer"].dtype == pl.Int8()
    assert set(manifest["cancer"]) == {0, 1}
