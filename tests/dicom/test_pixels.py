import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import MPEG2MPML, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1

from fixtures.images import encode
from mammoscope.dicom import decode, pixels, read_dicom
from mammoscope.dicom import file as file_module
from mammoscope.dicom.decoders import Decoder
from mammoscope.errors import DicomError, PixelDecodeError, Reason


@pytest.fixture
def values():
    return np.random.default_rng(3).integers(0, 4096, (97, 61)).astype(np.uint16)


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
    monkeypatch.setitem(
        pixels.DECODERS, syntax, (Decoder("none", lambda *_: pytest.fail("decoded")),)
    )
    with pytest.raises(PixelDecodeError, match=r"of \(97, 61\) where .* say \(50, 50\)"):
        decode(read_dicom(path))


def test_more_pixels_than_any_detector_has_are_refused(tmp_path, write_mammogram, values):
    path = write_mammogram(
        tmp_path / "a.dcm", values, syntax=JPEG2000Lossless, Rows=60000, Columns=60000
    )
    with pytest.raises(PixelDecodeError, match="more pixels than"):
        decode(read_dicom(path))


def test_a_deflated_file_that_inflates_beyond_measure_is_refused(
    tmp_path, write_mammogram, values, monkeypatch
):
    dataset = dcmread(write_mammogram(tmp_path / "a.dcm", values))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    np.testing.assert_array_equal(decode(read_dicom(tmp_path / "deflated.dcm")).stored, values)
    monkeypatch.setattr(file_module, "_MOST_BYTES", 8000)
    with pytest.raises(DicomError, match="inflates to more than the 8000 bytes"):
        read_dicom(tmp_path / "deflated.dcm")


def test_a_cut_deflated_file_is_truncated(tmp_path, write_mammogram, values):
    dataset = dcmread(write_mammogram(tmp_path / "a.dcm", values))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    whole = (tmp_path / "deflated.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DicomError) as caught:
        read_dicom(tmp_path / "cut.dcm")
    assert caught.value.reason is Reason.TRUNCATED_FILE


def test_a_transfer_syntax_that_no_mammogram_has_is_named(tmp_path, write_mammogram, values):
    path = write_mammogram(tmp_path / "a.dcm", values, syntax=JPEG2000Lossless)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.save_as(path)
    with pytest.raises(PixelDecodeError, match=r"MPEG2 .*1\.2\.840\.10008\.1\.2\.4\.100.*accepted"):
        decode(read_dicom(path))


def test_a_high_bit_above_the_stored_bits_shifts_values_down_and_says_so(tmp_path, write_mammogram):
    values = np.array([[0, 1], [2, 4095]], np.uint16)
    path = write_mammogram(tmp_path / "a.dcm", values << 4 | 0b1010, HighBit=15)
    decoded = decode(read_dicom(path))
    np.testing.assert_array_equal(decoded.stored, values)
    assert "HighBit is 15" in decoded.warnings[0]


def test_a_high_bit_that_cannot_be_is_an_error(tmp_path, write_mammogram, values):
    path = write_mammogram(tmp_path / "a.dcm", values, HighBit=7)
    with pytest.raises(PixelDecodeError, match=r"\(0028,0102\) HighBit is 7.* 11 to 15"):
        decode(read_dicom(path))


def test_an_overlay_in_unused_bits_is_left_out_and_said(tmp_path, write_mammogram, values):
    path = write_mammogram(tmp_path / "a.dcm", values | 0x8000)
    dataset = dcmread(path)
    dataset.add_new((0x6000, 0x0100), "US", 16)
    dataset.add_new((0x6000, 0x0102), "US", 15)
    dataset.save_as(path)
    decoded = decode(read_dicom(path))
    np.testing.assert_array_equal(decoded.stored, values)
    assert "overlay" in decoded.warnings[0]


def test_bytes_beyond_the_image_are_ignored_and_counted(tmp_path, write_mammogram, values):
    path = write_mammogram(tmp_path / "a.dcm", values, PixelData=values.tobytes() + b"\1" * 64)
    decoded = decode(read_dicom(path))
    np.testing.assert_array_equal(decoded.stored, values)
    assert f"holds {values.nbytes + 64} bytes" in decoded.warnings[0]


def test_a_codestream_of_fewer_bits_than_stored_is_a_warning(tmp_path, write_mammogram, values):
    def encoder(pixels, syntax):
        stream = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, bitspersample=12)
        return encapsulate([bytes(stream)])

    path = write_mammogram(
        tmp_path / "a.dcm",
        values,
        syntax=JPEG2000Lossless,
        encoder=encoder,
        BitsStored=16,
        HighBit=15,
    )
    decoded = decode(read_dicom(path))
    np.testing.assert_array_equal(decoded.stored, values)
    assert "of 12 bits where (0028,0101) BitsStored says 16" in decoded.warnings[0]


@pytest.mark.parametrize(("lowest", "refused"), [(0, False), (-5, True)])
def test_a_signed_codestream_under_an_unsigned_header(tmp_path, write_mammogram, lowest, refused):
    values = np.arange(lowest, lowest + 64, dtype=np.int16).reshape(8, 8)
    path = write_mammogram(
        tmp_path / "a.dcm", values, syntax=JPEG2000Lossless, PixelRepresentation=0
    )
    if refused:
        with pytest.raises(PixelDecodeError, match=r"-5 where \(0028,0103\) PixelRepresentation"):
            decode(read_dicom(path))
    else:
        decoded = decode(read_dicom(path))
        np.testing.assert_array_equal(decoded.stored, values)
        assert "codestream is signed" in decoded.warnings[0]


def test_a_codestream_of_three_components_contradicts_its_header(tmp_path, write_mammogram, values):
    def encoder(pixels, syntax):
        coloured = np.dstack([pixels] * 3)
        return encapsulate([bytes(imagecodecs.jpeg2k_encode(coloured, level=0, reversible=True))])

    path = write_mammogram(tmp_path / "a.dcm", values, syntax=JPEG2000Lossless, encoder=encoder)
    with pytest.raises(PixelDecodeError, match=r"3 components where .* SamplesPerPixel says 1"):
        decode(read_dicom(path))


def test_a_reduction_that_the_codestream_does_not_hold_is_a_mistake_of_the_caller(
    tmp_path, write_mammogram, values
):
    file = read_dicom(write_mammogram(tmp_path / "a.dcm", values))
    with pytest.raises(ValueError, match="0 to 0 are possible"):
        decode(file, 1)


def test_signed_values_beyond_bits_stored_are_a_contradiction(tmp_path, write_mammogram):
    values = np.array([[0, 1], [-1, 5524]], np.int16)
    path = write_mammogram(tmp_path / "a.dcm", values)
    with pytest.raises(PixelDecodeError, match="from -1 to 5524, beyond the 12 signed bits"):
        decode(read_dicom(path))


def test_a_signed_codestream_of_fewer_bits_than_stored_keeps_its_sign(tmp_path, write_mammogram):
    values = np.arange(-32, 32, dtype=np.int8).reshape(8, 8)

    def encoder(pixels, _):
        narrow = pixels.astype(np.int8).view(np.uint8)
        stream = imagecodecs.jpeg8_encode(narrow, lossless=True, predictor=1)
        return encapsulate([bytes(stream)])

    path = write_mammogram(
        tmp_path / "a.dcm", values.astype(np.int16), syntax=JPEGLosslessSV1, encoder=encoder
    )
    decoded = decode(read_dicom(path))
    np.testing.assert_array_equal(decoded.stored, values)
    assert "of 8 bits where (0028,0101) BitsStored says 12" in decoded.warnings[0]
