import numpy as np
import pytest

from mammoscope.dicom import read_dicom
from mammoscope.errors import DicomError, MissingTagError, NotAMammogramError, Reason
from mammoscope.types import Laterality


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


def test_a_header_that_is_cut_off_is_a_truncated_file(tmp_path, write_mammogram):
    """However early, where it has said that it is an image."""
    sop_class = b"1.2.840.10008.5.1.4.1.1.1.2"
    pixels = np.zeros((64, 64), np.uint16)
    path = write_mammogram(tmp_path / "a.dcm", pixels, SOPClassUID=sop_class.decode())
    whole = path.read_bytes()
    for size in range(whole.rindex(sop_class) + len(sop_class) + 8, len(whole) - 8000, 40):
        path.write_bytes(whole[:size])
        with pytest.raises(DicomError) as caught:
            read_dicom(path)
        assert caught.value.reason is Reason.TRUNCATED_FILE, size


def test_an_object_without_pixels_is_not_a_mammogram(tmp_path, write_mammogram):
    path = write_mammogram(
        tmp_path / "a.dcm",
        PixelData=None,
        Rows=None,
        Columns=None,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33",
    )
    with pytest.raises(NotAMammogramError, match="holds no image"):
        read_dicom(path)


def test_a_missing_tag_is_named_by_number_and_keyword(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", PhotometricInterpretation=None)
    with pytest.raises(MissingTagError, match=r"\(0028,0004\) PhotometricInterpretation"):
        read_dicom(path)


@pytest.mark.parametrize(
    ("keyword", "value"), [("PixelSpacing", [0, 0.1]), ("ImagerPixelSpacing", 0.1)]
)
def test_a_spacing_that_is_none_is_an_invalid_value_by_name(
    tmp_path, write_mammogram, keyword, value
):
    path = write_mammogram(tmp_path / "a.dcm", **{keyword: value})
    with pytest.raises(DicomError, match=rf"{keyword} is .*; two numbers above 0") as caught:
        read_dicom(path)
    assert caught.value.reason is Reason.INVALID_VALUE
