"""JPEG frames that lost data, or hold more than their image, against whole ones."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from mammoscope.dicom.jpeg import decode_jpeg, decode_twice
from mammoscope.errors import PixelDecodeError

END = b"\xff\xd9"


def tissue(bits, shape=(60, 90), seed=0):
    """A smooth image with noise, and black lines below, as where a breast ends."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = 0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 13)
    values = (smooth + rng.normal(0, 0.01, shape)) * ((1 << bits) - 1)
    values[-20:] = 0
    return values.clip(0, (1 << bits) - 1).astype(np.uint8 if bits <= 8 else np.uint16)


def lossless(bits, predictor=1, **kwargs):
    return imagecodecs.jpeg8_encode(
        tissue(bits, **kwargs), lossless=True, predictor=predictor, bitspersample=bits
    )


def data_of(frame):
    """Where the entropy-coded data begin and end."""
    scan = frame.index(b"\xff\xda")
    return scan + 2 + int.from_bytes(frame[scan + 2 : scan + 4]), frame.rindex(END)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_whole_lossless_frames_are_decoded_to_the_last_pixel(bits, predictor):
    notes = []
    values = decode_jpeg(lossless(bits, predictor), notes)
    np.testing.assert_array_equal(values, tissue(bits))
    assert notes == []


@pytest.mark.parametrize("seed", range(20))
def test_whole_frames_may_end_with_any_bits_and_with_fill_bytes(seed):
    frame = lossless(12, shape=(50, 33 + seed), seed=seed)
    for whole in (frame, frame[:-2] + b"\xff\xff" + END, frame + b"\0"):
        notes = []
        np.testing.assert_array_equal(
            decode_jpeg(whole, notes), tissue(12, shape=(50, 33 + seed), seed=seed)
        )
        assert notes == []


def test_whole_frames_are_decoded_once(monkeypatch):
    decoded = []
    codec = imagecodecs.jpeg8_decode
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda f: decoded.append(1) or codec(f))
    decode_jpeg(lossless(12), [])
    assert len(decoded) == 1


@pytest.mark.parametrize("shape", [(40, 3), (1, 31), (1, 400), (40, 32)])
def test_narrow_and_low_images_are_decoded(shape):
    frame = imagecodecs.jpeg8_encode(
        np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) % 4000,
        lossless=True,
        bitspersample=12,
    )
    notes = []
    values = decode_jpeg(frame, notes).ravel()
    np.testing.assert_array_equal(values, np.arange(values.size) % 4000)
    assert notes == []


def noticed(frame, lost):
    """In how many of 50 places a loss is refused or noted, and what else is decoded right."""
    values = decode_jpeg(frame, [])
    begin, end = data_of(frame)
    count = 0
    for at in np.linspace(begin, end - lost, 50).astype(int):
        notes = []
        try:
            decoded = decode_jpeg(frame[:at] + frame[at + lost :], notes)
        except (PixelDecodeError, imagecodecs.Jpeg8Error):
            count += 1
        else:
            count += bool(notes) or np.array_equal(decoded, values)
    return count


@pytest.mark.parametrize("predictor", [1, 4, 6])
@pytest.mark.parametrize(("lost", "least"), [(1, 28), (10, 48), (30, 50), (100, 50), (1000, 50)])
def test_lossless_frames_that_lost_data_are_noticed(lost, least, predictor):
    """A few bytes may be made up for by codes that are read wrongly: nothing shows those."""
    assert noticed(lossless(12, predictor), lost) >= least


@pytest.mark.parametrize(("bits", "lost"), [(8, 100), (12, 1000)])
def test_lossy_frames_that_lost_data_are_noticed(bits, lost):
    frame = imagecodecs.jpeg8_encode(tissue(bits), level=95, bitspersample=bits)
    notes = []
    near = decode_jpeg(frame, notes).astype(int) - tissue(bits)
    assert np.abs(near).mean() < 1 << (bits - 6)
    assert notes == []
    assert noticed(frame, lost) == 50


def test_the_message_says_from_where_on_pixels_would_be_invented():
    frame = lossless(12)
    begin, end = data_of(frame)
    with pytest.raises(PixelDecodeError, match=r"end before its image: from line 2\d of 60 on"):
        decode_jpeg(frame[: begin + 4 * (end - begin) // 9] + END, [])


def test_zeros_beyond_the_image_are_noted_and_the_pixels_are_the_same():
    frame, notes = lossless(12), []
    values = decode_jpeg(frame[:-2] + bytes(60) + END, notes)
    np.testing.assert_array_equal(values, tissue(12))
    assert notes == ["the codestream goes on with zeros where its image ends"]


@pytest.mark.parametrize("zeros", [1, 2, 60])
def test_zeros_that_are_codes_are_told_from_those_that_fill(zeros):
    """A black background is coded by bits of 0: without the last of them the image would be cut."""
    for seed in range(40):
        pixels = tissue(12, seed=seed)
        pixels[pixels.shape[0] // 2 :] = 0
        frame = imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=12)
        if frame[-3] == 0:  # Encoders fill a byte that is begun with ones.
            break
    assert frame[-3] == 0
    notes = []
    np.testing.assert_array_equal(decode_jpeg(frame[:-2] + bytes(zeros) + END, notes), pixels)
    assert notes == ["the codestream goes on with zeros where its image ends"]


def test_other_data_beyond_the_image_are_refused():
    with pytest.raises(PixelDecodeError, match="goes on where its image ends"):
        decode_jpeg(lossless(12)[:-2] + bytes(range(1, 60)) + END, [])


def test_data_lost_between_two_restarts_are_noticed():
    """The mark after them says where to go on, so the end of the frame shows nothing."""
    stream = io.BytesIO()
    Image.fromarray(tissue(8)).save(stream, "JPEG", quality=95, restart_marker_rows=1)
    frame = stream.getvalue()
    assert decode_jpeg(frame, []).shape == (60, 90)
    begin = frame.index(b"\xff\xd0") + 2
    end = frame.index(b"\xff\xd1")
    with pytest.raises(PixelDecodeError, match="from line 9 of 60"):
        decode_jpeg(frame[: (begin + end) // 2] + frame[end:], [])


@pytest.mark.parametrize("predictor", [1, 6])
def test_codes_that_are_damaged_in_their_middle_are_refused(predictor):
    for seed in range(12):
        frame = lossless(12, predictor, shape=(200, 150), seed=seed)
        begin, end = data_of(frame)
        middle = (begin + end) // 2
        damaged = frame[:middle] + bytes(1500) + frame[middle + 1500 :]
        with pytest.raises(PixelDecodeError):
            decode_jpeg(damaged, [])


@pytest.mark.parametrize("quality", [50, 95])
def test_lossy_frames_with_a_row_of_blocks_too_many_are_refused(quality):
    stream = io.BytesIO()
    Image.fromarray(tissue(8)).save(stream, "JPEG", quality=quality)
    frame = bytearray(stream.getvalue())
    at = frame.index(b"\xff\xc0") + 5
    assert int.from_bytes(frame[at : at + 2]) == 60
    frame[at : at + 2] = (40).to_bytes(2)
    with pytest.raises(PixelDecodeError, match="goes on where its image ends"):
        decode_jpeg(bytes(frame), [])


def test_any_codec_is_asked_twice():
    """A decoder that fills in what is missing gives itself away by the bits that it reads."""
    frame = lossless(12)

    def reads_on(ended):
        return np.frombuffer(ended[-20:-2], np.uint8).reshape(1, -1)

    with pytest.raises(PixelDecodeError, match="end before its image"):
        decode_twice(frame, reads_on)
