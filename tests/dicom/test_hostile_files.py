"""Each was found by the fuzzer (tests/fuzz): files that crash, fill, stall or give away."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from fixtures.images import breast_pixels, encode
from fuzz.raw import parse, tag_of
from mammoscope.dicom import decode, encoded_pixels, read_dicom
from mammoscope.dicom import file as file_module
from mammoscope.dicom.codestream import read_codestream, run_length_segments
from mammoscope.dicom.decoders import DECODERS
from mammoscope.dicom.isolated import decode_apart
from mammoscope.dicom.presentation import presentation
from mammoscope.errors import DicomError, PixelDecodeError, Reason


@pytest.fixture
def values():
    return np.random.default_rng(3).integers(0, 4096, (40, 30)).astype(np.uint16)


def refusal(path):
    with pytest.raises(DicomError) as caught:
        presentation(read_dicom(path), decode(read_dicom(path)))
    return caught.value


def with_frame(write_mammogram, path, values, syntax, change):
    def changed(pixels, syntax):
        frame = get_frame(encode(pixels, syntax), 0, number_of_frames=1)
        return encapsulate([change(frame)])

    return write_mammogram(path, values, syntax=syntax, encoder=changed)


@pytest.mark.parametrize("depth", [300, 5000])
def test_sequences_without_end_are_refused(tmp_path, write_mammogram, values, depth):
    path = write_mammogram(tmp_path / "a.dcm", values)
    whole = path.read_bytes()
    at = whole.index(b"\x28\0\x02\0US")
    nested = (b"\x18\0\x12\x99SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * depth
    path.write_bytes(whole[:at] + nested + whole[at:])
    assert refusal(path).reason in (Reason.UNREADABLE_FILE, Reason.TRUNCATED_FILE)


def test_more_elements_than_any_mammogram_are_refused(
    tmp_path, write_mammogram, values, monkeypatch
):
    """200 KB can inflate to 25 million empty elements, which are read one by one."""
    dataset = dcmread(write_mammogram(tmp_path / "a.dcm", values))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = tmp_path / "deflated.dcm"
    dataset.save_as(path)
    whole = path.read_bytes()
    at = 128 + 4 + 12 + dcmread(path).file_meta.FileMetaInformationGroupLength
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = zlib.decompress(whole[at:], -zlib.MAX_WBITS) + bytes(8 * 3000)
    path.write_bytes(whole[:at] + deflater.compress(data) + deflater.flush())
    monkeypatch.setattr(file_module, "_MOST_READS", 2000)
    assert refusal(path).reason is Reason.TOO_LARGE


@pytest.mark.parametrize("keyword", ["Modality", "SOPClassUID", "PresentationIntentType"])
def test_an_element_that_swallows_the_patient_is_not_quoted(
    tmp_path, write_mammogram, values, keyword, caplog
):
    """pydicom warns and logs with the value; nobody else may."""
    path = write_mammogram(
        tmp_path / "a.dcm",
        values,
        patient="SECRET",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2",
        PresentationIntentType="FOR PRESENTATION",
    )
    file = parse(path.read_bytes())
    names = [element.tag for element in file.elements]
    first, last = names.index(tag_of(keyword)), names.index(tag_of("PatientID"))
    swallowed = b"".join(file.element_bytes(e) for e in file.elements[first + 1 : last + 1])
    file.elements[first].length = len(file.elements[first].value) + len(swallowed)
    path.write_bytes(file.to_bytes())
    with pytest.raises(DicomError) as caught:
        read_dicom(path)
    assert caught.value.reason is Reason.INVALID_VALUE
    assert keyword in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("Rows", "LO", "many"),
        ("NumberOfFrames", "LO", "two"),
        ("WindowCenter", "LO", "bright"),
        ("PhotometricInterpretation", "OB", b"MONOCHROME2 "),
        ("PixelData", "LT", "no bytes"),
        ("ViewCodeSequence", "LO", "R-10242"),
        ("PixelPaddingValue", "DS", "1.5"),
        ("SOPClassUID", "LO", "mammogram"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path, write_mammogram, values, keyword, vr, value):
    path = write_mammogram(tmp_path / "a.dcm", values, ViewPosition=None)
    dataset = dcmread(path)
    dataset.add_new(keyword, vr, value)
    dataset.save_as(path)
    error = refusal(path)
    assert error.reason is Reason.INVALID_VALUE
    assert keyword in str(error)


@pytest.mark.parametrize("value", ["nan", "inf", "1e400"])
def test_numbers_that_are_not_finite_are_invalid(tmp_path, write_mammogram, values, value):
    path = write_mammogram(tmp_path / "a.dcm", values)
    dataset = dcmread(path)
    dataset.add_new("WindowCenter", "LO", value)
    dataset.save_as(path)
    assert refusal(path).reason is Reason.INVALID_VALUE


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("LUTDescriptor", 4096), ("LUTDescriptor", [1, 2]), ("LUTData", "words")],
)
def test_a_look_up_table_that_is_none_is_invalid(
    tmp_path, write_mammogram, values, lut_item, keyword, value
):
    item = lut_item([0, 100, 4095], first=0, bits=12)
    item.add_new(keyword, "LO" if isinstance(value, str) else "US", value)
    path = write_mammogram(tmp_path / "a.dcm", values, VOILUTSequence=[item])
    assert refusal(path).reason is Reason.INVALID_VALUE


def test_a_jpeg_with_two_frame_headers_is_refused(tmp_path, write_mammogram, values):
    """The first says what the header says; decoders go by the second, or by neither."""

    def twice(frame):
        at = frame.index(b"\xff\xc3")
        segment = frame[at : at + 13]
        return frame[:at] + segment + segment[:5] + b"\xff\xff\xff\xff" + segment[9:] + frame[at:]

    path = with_frame(write_mammogram, tmp_path / "a.dcm", values, JPEGLosslessSV1, twice)
    with pytest.raises(PixelDecodeError, match="sound header"):
        encoded_pixels(read_dicom(path))


def test_a_decoder_that_leaves_a_part_out_is_not_believed(tmp_path, write_mammogram, values):
    """jpegsof3 returns memory that nobody wrote to where the data end early."""
    path = write_mammogram(tmp_path / "a.dcm", values, syntax=JPEGLosslessSV1)
    encoded = encoded_pixels(read_dicom(path))
    (sof3,) = [d for d in DECODERS[JPEGLosslessSV1] if d.name == "imagecodecs jpegsof3"]
    np.testing.assert_array_equal(sof3.decode(encoded.frame, encoded.file.header, 0, []), values)
    cut = encoded.frame[:600] + encoded.frame[-2:]
    with pytest.raises((ValueError, RuntimeError)):
        sof3.decode(cut, encoded.file.header, 0, [])


@pytest.mark.parametrize(
    ("at", "field"),
    [(36, ">I"), (32, ">I"), (43, ">B"), (24, ">I")],
    ids=["tile below", "tile beside", "subsampled", "tile of nothing"],
)
def test_jpeg_2000_sizes_that_cannot_be_are_not_decoded(values, at, field):
    frame = bytearray(imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k"))
    size = struct.calcsize(field)
    frame[at : at + size] = struct.pack(field, 0 if at == 24 else 40)
    assert read_codestream(bytes(frame)) is None


def test_a_box_that_looks_like_a_codestream_hides_none(values):
    frame = imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k")
    signature = b"\0\0\0\x0cjP  \r\n\x87\n"
    decoy = struct.pack(">I4s", 8 + 60, b"free") + frame[:60]
    larger = frame[:8] + struct.pack(">II", 60000, 60000) + frame[16:]
    file = signature + decoy + struct.pack(">I4s", 8 + len(larger), b"jp2c") + larger
    assert read_codestream(file).columns == 60000


def test_precincts_of_a_pixel_each_are_too_many(tmp_path, write_mammogram):
    """Few bytes of header by which a decoder makes room for millions of packets."""

    def small_precincts(frame):
        cod = frame.index(b"\xff\x52")
        levels = frame[cod + 9]
        size = 12 + levels + 1
        changed = struct.pack(">HB", size, 1) + frame[cod + 5 : cod + 14] + bytes(levels + 1)
        changed = changed[:4] + struct.pack(">H", 60000) + changed[6:]
        return frame[: cod + 2] + changed + frame[cod + 14 :]

    path = with_frame(
        write_mammogram,
        tmp_path / "a.dcm",
        np.ones((300, 200), np.uint16),
        JPEG2000Lossless,
        small_precincts,
    )
    with pytest.raises(PixelDecodeError, match="packets") as caught:
        encoded_pixels(read_dicom(path))
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_coding_style_of_a_tile_alone_is_refused(values):
    frame = imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k")
    cod, data = frame.index(b"\xff\x52"), frame.index(b"\xff\x93")
    hidden = frame[:data] + frame[cod : cod + 14] + frame[data:]
    assert read_codestream(frame) is not None
    assert read_codestream(hidden) is None


def test_a_cut_jpeg_2000_image_is_not_halved(values):
    frame = imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", resolutions=3)
    assert read_codestream(frame).reductions >= 1
    assert read_codestream(frame[:-200]).reductions == 0
    assert read_codestream(frame[:-200] + frame[-2:]).reductions == 0


def test_htj2k_is_halved_without_white_specks(tmp_path, write_mammogram):
    """OpenJPH wraps round what its filter takes below 0: white specks on a black ground."""
    values = breast_pixels(seed=5)
    path = write_mammogram(tmp_path / "a.dcm", values, syntax=JPEG2000Lossless)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.PixelData = encapsulate([bytes(imagecodecs.htj2k_encode(values))])
    dataset.save_as(path)
    encoded = encoded_pixels(read_dicom(path))
    assert encoded.reductions >= 2
    for reduction in (0, 1, 2):
        assert decode(encoded, reduction).stored.max() <= values.max() + 50


@pytest.mark.parametrize(
    "header", [(3, 64, 0x7FFFFFFF, 0x80000000), (2, 64, 63), (2, 0, 70), (0,), (2, 64, 99999)]
)
def test_run_length_headers_that_point_out_of_the_frame_reach_no_decoder(
    tmp_path, write_mammogram, values, header
):
    frame = struct.pack("<16I", *header, *[0] * (16 - len(header))) + bytes(200)
    assert run_length_segments(frame) is None
    path = write_mammogram(tmp_path / "a.dcm", values, syntax=JPEG2000Lossless)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([frame])
    dataset.save_as(path)
    with pytest.raises(PixelDecodeError, match="segments"):
        encoded_pixels(read_dicom(path))


def test_a_crash_of_the_last_decoder_is_a_failed_decode(values):
    """GDCM aborts its process on this; ours goes on."""
    frame = encode(values, JPEGLosslessSV1)
    frame = get_frame(frame, 0, number_of_frames=1)
    at = frame.index(b"\xff\xc4")
    options = {
        "transfer_syntax_uid": JPEGLosslessSV1,
        "rows": 40,
        "columns": 30,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "bits_allocated": 16,
        "bits_stored": 12,
        "pixel_representation": 0,
        "photometric_interpretation": "MONOCHROME2",
        "pixel_keyword": "PixelData",
    }
    broken = frame[: at + 4] + b"\x11" + frame[at + 5 :]
    with pytest.raises(RuntimeError):
        decode_apart("gdcm", broken, options)
    np.testing.assert_array_equal(decode_apart("gdcm", frame, options), values)


@pytest.mark.parametrize("rest", [b"", b"x", b"xyz"])
def test_bytes_swapped_in_pairs_may_be_an_odd_number(tmp_path, rest):
    golden = Path(__file__).parents[1] / "golden" / "pixels" / "explicit_big_8.dcm"
    file = parse(golden.read_bytes())
    pixels = file.get("PixelData")
    assert pixels.vr == b"OW"
    pixels.value += rest
    (tmp_path / "a.dcm").write_bytes(file.to_bytes())
    stored = decode(read_dicom(tmp_path / "a.dcm")).stored
    np.testing.assert_array_equal(stored, decode(read_dicom(golden)).stored)
