import pytest
from pydicom.dataset import Dataset

from mammoscope.dicom import read_dicom
from mammoscope.dicom.eligibility import check_eligibility, resolve_laterality_and_view
from mammoscope.errors import DicomError, MissingTagError, NotAMammogramError, Reason
from mammoscope.types import Laterality, View


def reason_of(path):
    with pytest.raises(DicomError) as caught:
        read_dicom(path)
    return caught.value.reason


def test_an_rsna_like_header_is_read_for_what_it_says(tmp_path, write_mammogram):
    path = write_mammogram(
        tmp_path / "a.dcm",
        Modality=None,
        ViewPosition=None,
        WindowCenter=[1802.31, 1802.31, 2020.704, 1583.916],
        WindowWidth=[1091.97] * 4,
        VOILUTFunction="SIGMOID",
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=3044,
        PatientAge="063Y",
    )
    header = read_dicom(path).header
    assert header.sop_class_uid == "1.2.840.10008.5.1.4.1.1.1.1"
    assert header.modality is None
    assert header.view is None
    assert header.laterality is Laterality.L
    assert header.windows[0] == (1802.31, 1091.97)
    assert [center for center, _ in header.windows] == [1802.31, 1802.31, 2020.704, 1583.916]
    assert header.voi_lut_function == "SIGMOID"
    assert header.pixel_padding == (3044, 3044)
    assert header.age == 63
    check_eligibility(header)


def test_the_view_is_read_from_its_code_where_the_position_is_missing(tmp_path, write_mammogram):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "399368009", "SCT"
    path = write_mammogram(tmp_path / "a.dcm", ViewPosition=None, ViewCodeSequence=[code])
    assert read_dicom(path).header.view is View.MLO


def test_unequal_spacing_gives_the_pixel_aspect(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", PixelSpacing=[0.2, 0.1])
    assert read_dicom(path).header.pixel_aspect == 0.5


def test_an_empty_file(tmp_path):
    (tmp_path / "a.dcm").touch()
    assert reason_of(tmp_path / "a.dcm") is Reason.EMPTY_FILE


def test_a_text_file(tmp_path):
    (tmp_path / "a.dcm").write_text("not an image" * 50)
    assert reason_of(tmp_path / "a.dcm") is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_file_cut_anywhere_in_its_pixels(tmp_path, write_mammogram, share):
    path = write_mammogram(tmp_path / "a.dcm")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert reason_of(path) is Reason.TRUNCATED_FILE


def test_a_compressed_file_cut_in_its_pixels(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", syntax="1.2.840.10008.1.2.4.90")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert reason_of(path) is Reason.TRUNCATED_FILE


def test_an_object_without_pixels_is_not_a_mammogram(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", PixelData=None, Rows=None, Columns=None)
    with pytest.raises(NotAMammogramError, match="holds no image"):
        read_dicom(path)


def test_a_missing_tag_is_named_by_number_and_keyword(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", PhotometricInterpretation=None)
    with pytest.raises(MissingTagError, match=r"\(0028,0004\) PhotometricInterpretation"):
        read_dicom(path)


def test_a_value_that_is_no_number_is_an_invalid_value(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", PixelSpacing=[0, 0.1])
    assert reason_of(path) is Reason.INVALID_VALUE


@pytest.mark.parametrize(
    ("element", "value"),
    [
        ("Modality", "CT"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.13.1.3"),
        ("PhotometricInterpretation", "RGB"),
    ],
)
def test_other_kinds_are_refused_with_what_is_accepted(tmp_path, write_mammogram, element, value):
    header = read_dicom(write_mammogram(tmp_path / "a.dcm", **{element: value})).header
    with pytest.raises(NotAMammogramError, match=rf"{element} is .*accepted"):
        check_eligibility(header)


def test_the_table_is_believed_over_the_header_and_the_contradiction_told(
    tmp_path, write_mammogram
):
    header = read_dicom(write_mammogram(tmp_path / "a.dcm")).header
    side, view, notes = resolve_laterality_and_view(header, "RIGHT", "cc")
    assert (side, view) == (Laterality.R, View.CC)
    assert notes == ("the table says laterality R, the header L: table believed",)


@pytest.mark.parametrize(
    ("removed", "tag"),
    [("ImageLaterality", r"\(0020,0062\) ImageLaterality"), ("ViewPosition", r"\(0018,5101\)")],
)
def test_laterality_and_view_must_come_from_somewhere(tmp_path, write_mammogram, removed, tag):
    header = read_dicom(write_mammogram(tmp_path / "a.dcm", **{removed: None})).header
    with pytest.raises(MissingTagError, match=tag):
        resolve_laterality_and_view(header, None, "")


def test_a_word_that_is_no_view_is_refused(tmp_path, write_mammogram):
    with pytest.raises(DicomError, match="accepted: CC, MLO"):
        resolve_laterality_and_view(None, "L", "SIDEWAYS")
