"""Every attribute of PS3.15 Table E.1-1, filled with an identity, and what is left of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from fixtures.images import breast_pixels
from mammoscope.dicom import read_dicom
from mammoscope.dicom.confidentiality import Action, ProfileRow, action_for, profile_rows
from mammoscope.dicom.deidentify import METHOD_CODES, Deidentifier
from mammoscope.dicom.pseudonyms import PseudonymKey
from mammoscope.errors import MissingTagError

KEY = PseudonymKey(bytes(range(32)))
DAY = "19370615"
UID_ROOT = f"1.2.3.{DAY}"
SENTINELS = (b"sentinel", DAY.encode(), b"1937.0615")
# VR: a value that names somebody, and one that may stay where an option keeps it.
IDENTIFYING = {
    "AE": "SENTINEL", "AS": "093Y", "CS": "SENTINEL", "DA": DAY, "DS": "1937.0615",
    "DT": f"{DAY}101112.5+0100", "IS": DAY, "LO": "Sentinel", "LT": "Sentinel", "OB": b"sentinel",
    "OW": b"sentinel", "PN": "Sentinel^Jane=Sentinel", "SH": "Sentinel", "ST": "Sentinel",
    "TM": "101112.25", "UC": "Sentinel", "UI": UID_ROOT, "UN": b"sentinel",
    "UR": "http://sentinel", "US": 7777, "UT": "Sentinel",
}  # fmt: skip
KEPT = {
    "AS": "061Y", "CS": "KEPT", "DS": "1.5", "LO": "kept", "SH": "kept", "ST": "kept",
    "UC": "kept", "UI": "1.2.3.4.5", "US": 2, "UT": "kept",
}  # fmt: skip
TEMPORAL = ("DA", "DT", "TM")
# The image itself, which the test needs to stay readable.
REAL = {"PatientID", "SOPInstanceUID", "StudyInstanceUID", "PatientSex", "PatientAge"}

TYPE_1_OR_2 = {
    "AcquisitionContextSequence", "ContentDate", "ContentTime", "PatientID",
    "PatientSexNeutered", "ReferencedPerformedProcedureStepSequence",
}  # fmt: skip


def tags_of(row: ProfileRow) -> list[Tag]:
    """Return a row's tag, or examples of its repeating group."""
    if row.tag == "50xx,xxxx":
        return [Tag(0x50000005), Tag(0x50003000), Tag(0x501E2500)]
    if "x" in row.tag:
        return [Tag(row.tag.replace("xx", digits, 1).replace(",", "")) for digits in ("00", "1E")]
    return [Tag(row.tag.replace(",", ""))]


def vr_of(tag: Tag) -> str:
    if tag.group >> 8 == 0x50:
        return "OW"
    vr = dictionary_VR(tag) if dictionary_has_tag(tag) or tag.group >> 8 == 0x60 else "LO"
    return "OW" if vr == "OB or OW" else vr


def is_kept(row: ProfileRow, vr: str) -> bool:
    """Say whether an option of ours retains an attribute as it is."""
    return (row.device == "K" or row.patient == "K") and not (row.dates == "C" and vr in TEMPORAL)


def item_that_names() -> Dataset:
    item = Dataset()
    item.PatientName = "Sentinel^Nested"
    item.PersonName = "Sentinel^Nested"
    item.ReferencedSOPInstanceUID = f"{UID_ROOT}.7"
    item.StudyDate = DAY
    item.OperatorsName = ["Sentinel^A", "Sentinel^B"]
    item.PaddleDescription = "Sentinel, typed into an attribute that the table does not name"
    item.add_new(0x00190010, "LO", "SENTINEL CREATOR")
    item.add_new(0x00191001, "LT", "Sentinel in a private element")
    inner = Dataset()
    inner.PatientID, inner.TextValue = "Sentinel", "Sentinel"
    item.ReferencedInstanceSequence = [inner]
    return item


def put(dataset: Dataset, tag: Tag, row: ProfileRow) -> None:
    vr = vr_of(tag)
    if vr == "SQ":
        item = item_that_names()
        if row.basic.endswith("D") and not is_kept(row, vr):
            item.CodeMeaning = "Sentinel"  # kept elsewhere, but here all contents are replaced
        dataset.add_new(tag, vr, Sequence([item]))
    else:
        dataset.add_new(tag, vr, (KEPT if is_kept(row, vr) else IDENTIFYING)[vr])


@pytest.fixture(scope="module")
def identifying(tmp_path_factory, write_mammogram) -> Path:
    """One mammogram with every attribute of the table, twice: in itself and in a sequence."""
    path = tmp_path_factory.mktemp("full") / "full.dcm"
    write_mammogram(path, ImageType=["ORIGINAL", "PRIMARY", ""], BurnedInAnnotation="NO")
    dataset = pydicom.dcmread(path)
    nested = Dataset()
    for row in profile_rows().values():
        for tag in tags_of(row):
            put(nested, tag, row)
            if tag.group >= 8:
                put(dataset, tag, row)
    dataset.AnatomicRegionSequence = [nested]
    dataset.PatientSex, dataset.PatientAge = "F", "093Y"
    dataset.PaddleDescription = "Sentinel"
    dataset.add_new(0x60000022, "LO", "Sentinel overlay")
    dataset.add_new(0x60001500, "LO", "Sentinel label")
    dataset.add_new(0x00290010, "LO", "SENTINEL CREATOR")
    dataset.add_new(0x00291010, "SQ", Sequence([item_that_names()]))
    dataset.add_new(0x00091011, "UN", b"sentinel")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID_ROOT
    dataset.file_meta.SourceApplicationEntityTitle = "SENTINEL"
    dataset.file_meta.PrivateInformationCreatorUID = UID_ROOT
    dataset.file_meta.PrivateInformation = b"sentinel"
    dataset.preamble = b"sentinel".ljust(128, b"\0")
    dataset.save_as(path, enforce_file_format=True)
    assert len(dataset) > 600
    return path


def run(path: Path, out: Path, *, key: PseudonymKey = KEY, **options) -> FileDataset:
    file = read_dicom(path)
    Deidentifier(key, **options).apply(file)
    file.dataset.save_as(out, enforce_file_format=True)
    return pydicom.dcmread(out)


@pytest.fixture(scope="module")
def clean(identifying) -> Path:
    out = identifying.with_name("clean.dcm")
    run(identifying, out)
    return out


@pytest.fixture(scope="module")
def result(clean) -> FileDataset:
    return pydicom.dcmread(clean)


def left_in(path: Path) -> list[bytes]:
    content = path.read_bytes().lower()
    return [
        content[m.start() - 12 : m.end() + 12] for s in SENTINELS for m in re.finditer(s, content)
    ]


def test_the_file_is_full_of_identities_before(identifying):
    assert len(left_in(identifying)) > 1500


def test_no_byte_of_an_identity_is_left(clean):
    assert left_in(clean) == []


@pytest.mark.parametrize("row", profile_rows().values(), ids=lambda row: row.tag)
def test_each_row_of_the_table_is_obeyed(row, result):
    dataset = result
    nested = dataset.AnatomicRegionSequence[0]
    for tag in tags_of(row):
        keyword = pydicom.datadict.keyword_for_tag(tag)
        # Alternatives depend on the type: most are optional in a mammogram itself.
        first = row.basic.split("/")[0 if keyword not in TYPE_1_OR_2 else -1]
        check_row(row, tag, dataset.get(tag), "U" if row.basic.endswith("U*") else first)
        check_row(row, tag, nested.get(tag), row.basic.split("/")[-1])


def check_row(row: ProfileRow, tag: Tag, element, basic: str) -> None:
    vr = vr_of(tag)
    keyword = pydicom.datadict.keyword_for_tag(tag)
    if tag.group < 8 or tag.group >> 8 in (0x50, 0x60):
        assert element is None
    elif keyword in REAL or keyword in ("PatientName",):
        return  # have their own tests
    elif row.dates == "C" and vr in TEMPORAL:
        assert element.value
        assert vr == "TM" or DAY not in str(element.value)
    elif is_kept(row, vr) and vr == "SQ":
        assert len(element.value) == 1
    elif is_kept(row, vr):
        assert element.value == KEPT[vr]
    elif basic == "X":
        assert element is None
    elif basic == "Z":
        assert element is not None
        assert not element.value
    else:
        assert element.value not in (None, "", b"")
        assert vr == "SQ" or element.value != IDENTIFYING[vr]


def test_attributes_that_a_mammogram_needs_stay(tmp_path, write_mammogram):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "399162004", "SCT"
    code.CodeMeaning = "cranio-caudal"
    kept = {
        "ImageLaterality": "L", "ViewPosition": "CC", "PatientSex": "F", "PatientAge": "063Y",
        "ImagerPixelSpacing": [0.07, 0.07], "WindowCenter": 2048, "WindowWidth": 4096,
        "VOILUTFunction": "SIGMOID", "PresentationIntentType": "FOR PRESENTATION",
        "Manufacturer": "HOLOGIC, Inc.", "ManufacturerModelName": "Selenia Dimensions",
        "DeviceSerialNumber": "81234", "StationName": "MAMMO1", "SoftwareVersions": "1.9",
        "BreastImplantPresent": "NO", "PartialView": "NO", "KVP": 28, "BodyPartThickness": 55,
        "CompressionForce": 90, "AnodeTargetMaterial": "TUNGSTEN", "FilterMaterial": "RHODIUM",
        "PatientOrientation": ["A", "F"], "PixelPaddingValue": 0, "RescaleType": "US",
        "DetectorID": "D1", "BurnedInAnnotation": "NO", "OrganDose": 0.01,
    }  # fmt: skip
    path = write_mammogram(tmp_path / "a.dcm", ViewCodeSequence=[code], **kept)
    before = pydicom.dcmread(path)
    after = run(path, tmp_path / "b.dcm")
    for keyword in kept:
        assert after[keyword].value == before[keyword].value, keyword
    assert after.ViewCodeSequence[0] == before.ViewCodeSequence[0]
    for element in before.group_dataset(0x0028):
        assert after[element.tag] == element
    assert after.PixelData == before.PixelData


def test_what_was_done_is_written_into_the_file(clean):
    dataset = pydicom.dcmread(clean)
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
    assert all(len(text) <= 64 for text in dataset.DeidentificationMethod)
    found = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert found == ["113100", "113107", "113108", "113109"]
    assert dataset.PatientBirthDate == ""
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert clean.read_bytes()[:128].rstrip(b"\0").startswith(b"De-identified by mammoscope")


def test_method_codes_are_those_of_the_standard():
    standard = {code.value: code.meaning for code in codes.cid7050.concepts.values()}
    assert {code: standard[code] for code in METHOD_CODES} == METHOD_CODES


def test_burned_in_annotation_is_only_said_to_be_absent_when_that_is_known(
    tmp_path, write_mammogram
):
    unknown = write_mammogram(tmp_path / "a.dcm")
    assert "BurnedInAnnotation" not in run(unknown, tmp_path / "b.dcm")


def test_references_between_files_still_meet(tmp_path, write_mammogram):
    first = write_mammogram(tmp_path / "1.dcm", SOPInstanceUID="1.2.3.1")
    reference = Dataset()
    reference.ReferencedSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    reference.ReferencedSOPInstanceUID = "1.2.3.1"
    second = write_mammogram(
        tmp_path / "2.dcm",
        SourceImageSequence=[reference],
        FrameOfReferenceUID="1.2.3.9",
        IrradiationEventUID=["1.2.3.1", "1.2.3.2"],
    )
    one, two = run(first, tmp_path / "3.dcm"), run(second, tmp_path / "4.dcm")
    item = two.SourceImageSequence[0]
    assert item.ReferencedSOPInstanceUID == one.SOPInstanceUID == two.IrradiationEventUID[0]
    assert item.ReferencedSOPClassUID == DigitalMammographyXRayImageStorageForPresentation
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert two.FrameOfReferenceUID == KEY.uid("1.2.3.9")


def test_dates_of_a_patient_move_together_and_times_stay(tmp_path, write_mammogram):
    facts = {"StudyTime": "091500.5", "AcquisitionDateTime": "20200301091501.25"}
    first = write_mammogram(tmp_path / "1.dcm", StudyDate="20200301", **facts)
    later = write_mammogram(tmp_path / "2.dcm", StudyDate="20220228", ContentDate="20220301")
    other = write_mammogram(tmp_path / "3.dcm", StudyDate="20200301", patient="p2")
    one, two = run(first, tmp_path / "4.dcm"), run(later, tmp_path / "5.dcm")
    three = run(other, tmp_path / "6.dcm")
    assert days(two.StudyDate) - days(one.StudyDate) == days("20220228") - days("20200301")
    assert days(two.ContentDate) - days(two.StudyDate) == 1
    assert one.AcquisitionDateTime == one.StudyDate + "091501.25"
    assert one.StudyTime == "091500.5"
    assert 31 <= days("20200301") - days(one.StudyDate) <= 3652
    assert three.StudyDate != one.StudyDate


def days(text: str) -> int:
    return int(np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}").astype(int))


@pytest.mark.parametrize(
    ("elements", "age"),
    [
        ({"PatientAge": "089Y"}, "089Y"),
        ({"PatientAge": "090Y"}, "090Y"),
        ({"PatientAge": "101Y"}, "090Y"),
        ({"PatientBirthDate": "19600302", "StudyDate": "20200301"}, "059Y"),
        ({"PatientBirthDate": "19200302", "StudyDate": "20200301"}, "090Y"),
        ({"PatientBirthDate": "19600302"}, None),
        ({}, None),
    ],
)
def test_ages_over_89_are_gathered_and_a_missing_age_is_worked_out(
    tmp_path, write_mammogram, elements, age
):
    path = write_mammogram(tmp_path / "a.dcm", **elements)
    assert run(path, tmp_path / "b.dcm").get("PatientAge") == age


def test_patient_characteristics_go_when_not_wanted(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", PatientAge="063Y", PatientSex="F", PatientWeight=70)
    after = run(path, tmp_path / "b.dcm", patient_characteristics=False)
    assert "PatientAge" not in after
    assert "PatientWeight" not in after
    assert after.PatientSex == ""
    found = [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
    assert found == ["113100", "113107", "113109"]


def test_text_in_the_place_of_a_date_does_not_pass(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    for keyword, text in (("StudyDate", "Smith"), ("StudyTime", "Jane"), ("ContentDate", "Smith")):
        dataset[keyword] = DataElement(keyword, "LO", text)
        dataset[keyword].VR = dictionary_VR(keyword)
    dataset.save_as(path)
    after = run(path, tmp_path / "b.dcm")
    assert b"Smith" not in (tmp_path / "b.dcm").read_bytes()
    assert (after.StudyDate, after.StudyTime) == ("", "")
    assert after.ContentDate == "19000101"


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("KVP", "LO", "Sentinel"),
        ("KVP", "DS", "Sentinel"),
        ("ViewPosition", "LT", "Sentinel"),
        ("DateOfManufacture", "CS", DAY),
        ("PatientSize", "DS", "Sentinel"),
        ("PaddleDescription", "CS", "SENTINEL"),
    ],
)
def test_a_value_of_another_representation_does_not_pass(
    tmp_path, write_mammogram, keyword, vr, value
):
    path = write_mammogram(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset[keyword] = DataElement(keyword, "LO", value)
    dataset[keyword].VR = vr
    dataset.save_as(path)
    assert value.encode() in path.read_bytes()
    run(path, tmp_path / "b.dcm")
    assert left_in(tmp_path / "b.dcm") == []


def test_what_cannot_be_looked_into_is_not_kept():
    sequence = Tag(0x0018100A)  # UDI Sequence, which Retain Device Identity keeps
    known, unknown = (
        action_for(sequence, vr, nested=False, patient_characteristics=True) for vr in ("SQ", "UN")
    )
    assert (known, unknown) == (Action.KEEP, Action.REMOVE)


def test_the_same_key_gives_the_same_file_and_another_another(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", StudyDate="20200301")
    run(path, tmp_path / "b.dcm")
    run(path, tmp_path / "c.dcm")
    other = run(path, tmp_path / "d.dcm", key=PseudonymKey(b"x" * 32))
    assert (tmp_path / "b.dcm").read_bytes() == (tmp_path / "c.dcm").read_bytes()
    first = pydicom.dcmread(tmp_path / "b.dcm")
    for keyword in ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "StudyDate"):
        assert first[keyword].value != other[keyword].value


@pytest.mark.parametrize("keyword", ["PatientID", "SOPInstanceUID", "SOPClassUID"])
def test_without_an_identity_there_is_nothing_to_map(tmp_path, write_mammogram, keyword):
    path = write_mammogram(tmp_path / "a.dcm")
    file = read_dicom(path)
    file.dataset.pop(keyword, None)
    for name in ("MediaStorageSOPInstanceUID", "MediaStorageSOPClassUID"):
        del file.dataset.file_meta[tag_for_keyword(name)]
    if keyword == "SOPClassUID":
        file = type(file)(path, file.dataset, stripped(file.header))
    with pytest.raises(MissingTagError, match=keyword):
        Deidentifier(KEY).apply(file)


def stripped(header):
    from dataclasses import replace

    return replace(header, sop_class_uid=None)


def test_encoding_stays_as_it_was(tmp_path, write_mammogram):
    pixels = breast_pixels(seed=3)
    path = write_mammogram(tmp_path / "a.dcm", pixels, syntax="1.2.840.10008.1.2.4.70")
    after = run(path, tmp_path / "b.dcm")
    assert after.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    assert after.PixelData == pydicom.dcmread(path).PixelData
    assert after.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian
