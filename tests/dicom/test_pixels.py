import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from fixtures.images import encode
from mammoscope.dicom import decode, pixels, read_dicom
from mammoscope.errors import DicomError, PixelDecodeError, Reason

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1]


@pytest.fixture
def values():
    return np.random.default_rng(3).integers(0, 4096, (97, 61)).astype(np.uint16)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pixels_equal_an_independent_decoders(tmp_path, write_mammogram, values, syntax):
    path = write_mammogram(tmp_path / "a.dcm", values, syntax=syntax)
    decoded = decode(read_dicom(path))
    assert decoded.decoder in ("native", "imagecodecs")
    np.testing.assert_array_equal(decoded.stored, values)
    options = {} if syntax in SYNTAXES[:2] else {"decoding_plugin": "gdcm"}
    np.testing.assert_array_equal(decoded.stored, pixel_array(dcmread(path), raw=True, **options))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1])
def test_the_fallback_serves_the_same_pixels_and_says_so(
    tmp_path, write_mammogram, values, syntax, monkeypatch
):
    def broken(data):
        raise RuntimeError("codec refuses")

    monkeypatch.setitem(pixels.CODECS, syntax, broken)
    decoded = decode(read_dicom(write_mammogram(tmp_path / "a.dcm", values, syntax=syntax)))
    assert decoded.decoder == "pydicom"
    assert "codec refuses" in decoded.warnings[0]
    np.testing.assert_array_equal(decoded.stored, values)


def test_rle_goes_to_pydicom(tmp_path, write_mammogram, values):
    dataset = dcmread(write_mammogram(tmp_path / "a.dcm", values))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    decoded = decode(read_dicom(tmp_path / "rle.dcm"))
    assert decoded.decoder == "pydicom"
    np.testing.assert_array_equal(decoded.stored, values)


def test_signed_values_keep_their_sign(tmp_path, write_mammogram):
    signed = np.array([[-2048, -1], [0, 2047]], np.int16)
    stored = decode(read_dicom(write_mammogram(tmp_path / "a.dcm", signed))).stored
    np.testing.assert_array_equal(stored, signed)


def test_signed_12_bit_values_stored_without_sign_extension(tmp_path, write_mammogram):
    raw = np.array([[0x800, 0xFFF], [0, 0x7FF]], np.uint16)
    path = write_mammogram(tmp_path / "a.dcm", raw, PixelRepresentation=1)
    np.testing.assert_array_equal(decode(read_dicom(path)).stored, [[-2048, -1], [0, 2047]])


def test_a_damaged_codestream_names_the_transfer_syntax(tmp_path, write_mammogram, values):
    def damaged(array, syntax):
        from pydicom.encaps import encapsulate

        return encapsulate([b"\xff\x4f\xff\x51" + bytes(200)])

    path = write_mammogram(tmp_path / "a.dcm", values, syntax=JPEG2000Lossless, encoder=damaged)
    with pytest.raises(PixelDecodeError, match="JPEG 2000 Image Compression \\(Lossless Only\\)"):
        decode(read_dicom(path))


def test_values_beyond_bits_stored_are_a_contradiction(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", np.full((8, 8), 5000, np.uint16))
    with pytest.raises(PixelDecodeError, match=r"5000.*\(0028,0101\) BitsStored 12"):
        decode(read_dicom(path))


@pytest.mark.parametrize(
    ("element", "value", "named"),
    [("SamplesPerPixel", 3, "SamplesPerPixel"), ("NumberOfFrames", 2, "NumberOfFrames")],
)
def test_colour_and_several_frames_are_refused(tmp_path, write_mammogram, element, value, named):
    pixels_twice = np.zeros((30, 8), np.uint16)
    path = write_mammogram(
        tmp_path / "a.dcm", pixels_twice, Rows=10, **{element: value, "Columns": 8}
    )
    with pytest.raises(PixelDecodeError, match=named):
        decode(read_dicom(path))


def test_a_size_that_the_codestream_contradicts_is_an_error(tmp_path, write_mammogram, values):
    path = write_mammogram(tmp_path / "a.dcm", values, syntax=JPEG2000Lossless, Rows=96)
    with pytest.raises(PixelDecodeError, match="Rows"):
        decode(read_dicom(path))


def test_short_native_pixel_data_is_a_truncated_file(tmp_path, write_mammogram, values):
    path = write_mammogram(tmp_path / "a.dcm", values, Rows=500)
    with pytest.raises(DicomError, match="bytes where") as caught:
        read_dicom(path)
    assert caught.value.reason is Reason.TRUNCATED_FILE


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1])
def test_a_cut_codestream_is_refused_and_never_filled_in(
    tmp_path, write_mammogram, values, syntax, share
):
    """libjpeg fills what is missing without a word: the file is whole, its frame is not."""

    def cut(pixels, syntax):
        frame = get_frame(encode(pixels, syntax), 0, number_of_frames=1)
        return encapsulate([frame[: int(share * len(frame))]])

    path = write_mammogram(tmp_path / "a.dcm", values, syntax=syntax, encoder=cut)
    with pytest.raises(PixelDecodeError, match="JPEG"):
        decode(read_dicom(path))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1])
def test_a_frame_of_another_size_is_refused_before_it_is_decoded(
    tmp_path, write_mammogram, values, syntax, monkeypatch
):
    path = write_mammogram(tmp_path / "a.dcm", values, syntax=syntax, Rows=50, Columns=50)
    monkeypatch.setitem(pixels.CODECS, syntax, lambda _: pytest.fail("it was decoded"))
    with pytest.raises(PixelDecodeError, match=r"of \(97, 61\) where .* say \(50, 50\)"):
        decode(read_dicom(path))


def test_more_pixels_than_any_detector_has_are_refused(tmp_path, write_mammogram, values):
    path = write_mammogram(
        tmp_path / "a.dcm", values, syntax=JPEG2000Lossless, Rows=60000, Columns=60000
    )
    with pytest.raises(PixelDecodeError, match="more pixels than"):
        decode(read_dicom(path))


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path, write_mammogram, values):
    dataset = dcmread(write_mammogram(tmp_path / "a.dcm", values))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    with pytest.raises(DicomError, match="Deflated Explicit VR Little Endian"):
        read_dicom(tmp_path / "deflated.dcm")
