import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from mammoscope.config import PreprocessConfig
from mammoscope.dicom import decode, present, read_dicom
from mammoscope.dicom.presentation import apply_window, presentation
from mammoscope.errors import DicomError


def shown(path):
    file = read_dicom(path)
    return present(file, decode(file))


def independent(path):
    """pydicom's own chain, scaled to [0, 1] over the output range of 12 or 16 bits."""
    file = read_dicom(path)
    stored = decode(file).stored
    values = apply_voi_lut(apply_modality_lut(stored, file.dataset), file.dataset)
    return values, file


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(tmp_path, write_mammogram, function):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    path = write_mammogram(
        tmp_path / "a.dcm", values, WindowCenter=1800, WindowWidth=1100, VOILUTFunction=function
    )
    expected, _ = independent(path)
    np.testing.assert_allclose(shown(path), expected / 4095, atol=1e-6)


def test_ps3_3_worked_by_hand():
    """C.11.2.1.2: center 40, width 5 gives the ramp 38 to 42 for LINEAR."""
    values = np.array([37.0, 37.5, 38.0, 39.5, 41.0, 41.5, 42.0])
    linear = apply_window(values, 40, 5)
    np.testing.assert_allclose(linear, [0, 0, 0.125, 0.5, 0.875, 1, 1])
    exact = apply_window(values, 40, 5, "LINEAR_EXACT")
    np.testing.assert_allclose(exact, [0, 0, 0.1, 0.4, 0.7, 0.8, 0.9])
    sigmoid = apply_window(np.array([40.0, 45.0]), 40, 5, "SIGMOID")
    np.testing.assert_allclose(sigmoid, [0.5, 1 / (1 + np.exp(-4))])


def test_a_linear_window_of_width_one_is_a_step():
    np.testing.assert_array_equal(apply_window(np.array([39.0, 39.5, 39.6]), 40, 1), [0, 0, 1])


@given(
    center=st.floats(-5000, 5000),
    width=st.floats(1, 10000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_every_window_is_monotonic_and_stays_in_range(center, width, function):
    out = apply_window(np.linspace(-6000, 6000, 300), center, width, function)
    assert out.min() >= 0
    assert out.max() <= 1
    assert (np.diff(out) >= 0).all()


@pytest.mark.parametrize(
    ("width", "function", "named"), [(0.5, "LINEAR", "WindowWidth"), (0, "SIGMOID", "WindowWidth")]
)
def test_a_width_that_the_standard_forbids_is_named(width, function, named):
    with pytest.raises(DicomError, match=named):
        apply_window(np.zeros(1), 0, width, function)


def test_an_unknown_function_lists_what_is_accepted():
    with pytest.raises(DicomError, match="accepted: LINEAR, LINEAR_EXACT, SIGMOID"):
        apply_window(np.zeros(1), 0, 1, "CUBIC")


def test_of_several_windows_the_first_serves(tmp_path, write_mammogram):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    one = write_mammogram(tmp_path / "a.dcm", values, WindowCenter=900, WindowWidth=300)
    four = write_mammogram(
        tmp_path / "b.dcm", values, WindowCenter=[900, 1, 2, 3], WindowWidth=[300, 9, 9, 9]
    )
    np.testing.assert_array_equal(shown(one), shown(four))


def test_monochrome1_is_inverted_after_the_window(tmp_path, write_mammogram):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    window = {"WindowCenter": 900, "WindowWidth": 300, "VOILUTFunction": "SIGMOID"}
    plain = write_mammogram(tmp_path / "a.dcm", values, **window)
    inverse = write_mammogram(
        tmp_path / "b.dcm", values, **window, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_allclose(shown(inverse), 1 - shown(plain), atol=1e-6)


def test_rescale_comes_before_the_window(tmp_path, write_mammogram):
    values = np.array([[0, 100, 200]], np.uint16)
    path = write_mammogram(
        tmp_path / "a.dcm",
        values,
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=100,
        WindowWidth=400,
        VOILUTFunction="LINEAR_EXACT",
    )
    np.testing.assert_allclose(shown(path), [[0.0, 0.5, 1.0]], atol=1e-6)


def test_a_voi_lut_sequence_comes_before_the_window_and_clamps(tmp_path, write_mammogram, lut_item):
    values = np.array([[0, 10, 11, 12, 4000]], np.uint16)
    path = write_mammogram(
        tmp_path / "a.dcm", values, VOILUTSequence=[lut_item([0, 51, 255], first=10, bits=8)]
    )
    np.testing.assert_allclose(shown(path), [[0, 0, 0.2, 1, 1]], atol=1e-6)


def test_a_modality_lut_sequence_replaces_the_rescale(tmp_path, write_mammogram, lut_item):
    values = np.array([[0, 1, 2]], np.uint16)
    path = write_mammogram(
        tmp_path / "a.dcm",
        values,
        ModalityLUTSequence=[lut_item([100, 200, 300], first=0, bits=16)],
        WindowCenter=200,
        WindowWidth=200,
        VOILUTFunction="LINEAR_EXACT",
    )
    np.testing.assert_allclose(shown(path), [[0, 0.5, 1]], atol=1e-6)


def test_a_lut_that_is_shorter_than_it_says_is_an_error(tmp_path, write_mammogram, lut_item):
    item = lut_item([0, 1, 2], first=0, bits=8)
    item.LUTDescriptor = [9, 0, 8]
    path = write_mammogram(tmp_path / "a.dcm", VOILUTSequence=[item])
    with pytest.raises(DicomError, match="VOILUTSequence holds 3 entries"):
        shown(path)


def test_without_a_window_the_range_without_padding_is_shown_and_padding_is_black(
    tmp_path, write_mammogram
):
    values = np.array([[4095, 100, 200, 300]], np.uint16)
    path = write_mammogram(
        tmp_path / "a.dcm", values, WindowCenter=None, WindowWidth=None, PixelPaddingValue=4095
    )
    np.testing.assert_allclose(shown(path), [[0, 0, 0.5, 1]], atol=1e-6)


@pytest.mark.parametrize(("value", "limit"), [(3000, 3200), (3200, 3000)])
def test_a_range_of_padding_is_black_whichever_end_is_named_first(
    tmp_path, write_mammogram, value, limit
):
    values = np.array([[2999, 3000, 3100, 3200, 3201]], np.uint16)
    path = write_mammogram(
        tmp_path / "a.dcm",
        values,
        WindowCenter=0,
        WindowWidth=1,
        PixelPaddingValue=value,
        PixelPaddingRangeLimit=limit,
    )
    np.testing.assert_array_equal(shown(path), [[1, 0, 0, 0, 1]])


def test_padding_of_a_negative_that_is_left_one_is_white(tmp_path, write_mammogram):
    """Its background is white, and a black rim around the skin would be no part of it."""
    path = write_mammogram(
        tmp_path / "a.dcm",
        np.array([[0, 100, 4000, 4095]], np.uint16),
        PixelPaddingValue=4095,
        PhotometricInterpretation="MONOCHROME1",
        WindowCenter=2048,
        WindowWidth=4096,
    )
    file = read_dicom(path)
    left = presentation(file, decode(file), PreprocessConfig(photometric=False))
    assert left.table[4095] == 1
    assert left.mixes
    assert presentation(file, decode(file)).table[4095] == 0


def test_padding_of_another_grey_forbids_that_neighbours_are_averaged(tmp_path, write_mammogram):
    values = np.array([[0, 100, 2000]], np.uint16)
    for photometric, mixes in (("MONOCHROME1", False), ("MONOCHROME2", True)):
        path = write_mammogram(
            tmp_path / "a.dcm",
            values,
            PixelPaddingValue=0,
            PhotometricInterpretation=photometric,
        )
        file = read_dicom(path)
        assert presentation(file, decode(file)).mixes is mixes


@pytest.mark.parametrize(
    ("photometric", "shape", "warned"),
    [
        ("MONOCHROME1", "INVERSE", False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_the_presentation_lut_shape_inverts_nothing_twice(
    tmp_path, write_mammogram, photometric, shape, warned
):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    path = write_mammogram(
        tmp_path / "a.dcm",
        values,
        PhotometricInterpretation=photometric,
        PresentationLUTShape=shape,
    )
    file = read_dicom(path)
    chain = presentation(file, decode(file))
    assert (chain.table[0] > chain.table[4095]) is np.bool_(photometric == "MONOCHROME1")
    assert any("PresentationLUTShape" in note for note in chain.warnings) is warned


def test_each_step_can_be_left_out(tmp_path, write_mammogram, lut_item):
    values = np.array([[0, 1, 2, 4]], np.uint16)
    path = write_mammogram(
        tmp_path / "a.dcm",
        values,
        RescaleSlope=2,
        RescaleIntercept=0,
        WindowCenter=[4, 2],
        WindowWidth=[8, 4],
        VOILUTFunction="LINEAR_EXACT",
        PhotometricInterpretation="MONOCHROME1",
        VOILUTSequence=[lut_item([0, 0, 0, 0, 255, 255, 255, 255, 255], 0, 8)],
    )

    file = read_dicom(path)

    def with_options(**options):
        return present(file, decode(file), PreprocessConfig(**options)).tolist()[0]

    assert with_options() == [1, 1, 0, 0]
    assert with_options(voi="window") == [1, 0.75, 0.5, 0]
    assert with_options(voi="window", voi_index=1) == [1, 0.5, 0, 0]
    assert with_options(voi="window", rescale=False) == [1, 0.875, 0.75, 0.5]
    assert with_options(voi="window", photometric=False) == [0, 0.25, 0.5, 1]
    assert with_options(voi="none", photometric=False) == [0, 0.25, 0.5, 1]


def test_a_window_that_the_header_lacks_is_replaced_and_said(tmp_path, write_mammogram):
    file = read_dicom(write_mammogram(tmp_path / "a.dcm"))
    beyond = presentation(file, decode(file), PreprocessConfig(voi_index=3))
    assert beyond.warnings == (
        "(0028,1050) WindowCenter has 1 values, number 3 was asked for: last used",
    )
    absent = presentation(file, decode(file), PreprocessConfig(voi="lut"))
    assert "VOILUTSequence is absent" in absent.warnings[0]


def test_as_many_centers_as_widths_are_needed(tmp_path, write_mammogram):
    path = write_mammogram(tmp_path / "a.dcm", WindowCenter=[1, 2], WindowWidth=[3])
    with pytest.raises(DicomError, match=r"WindowCenter has 2 values and .* WindowWidth 1"):
        read_dicom(path)


def test_signed_values_are_windowed_as_signed(tmp_path, write_mammogram):
    values = np.array([[-100, 0, 100]], np.int16)
    path = write_mammogram(
        tmp_path / "a.dcm", values, WindowCenter=0, WindowWidth=200, VOILUTFunction="LINEAR_EXACT"
    )
    np.testing.assert_allclose(shown(path), [[0, 0.5, 1]], atol=1e-6)
    assert shown(path).dtype == np.float32


def test_padding_written_without_its_sign_is_found_by_its_bits(tmp_path, write_mammogram):
    values = np.array([[-2000, 0, 1000]], np.int16)
    path = write_mammogram(
        tmp_path / "a.dcm", values, WindowCenter=None, WindowWidth=None, PixelPaddingValue=-2000
    )
    file = read_dicom(path)
    file.dataset["PixelPaddingValue"].VR = "US"
    file.dataset["PixelPaddingValue"].value = 63536
    file.dataset.save_as(path)
    assert read_dicom(path).header.pixel_padding == (-2000, -2000)
    np.testing.assert_array_equal(shown(path), [[0, 0, 1]])
