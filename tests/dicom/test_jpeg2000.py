"""JPEG 2000 frames with damaged codes, and frames read at a fraction, beside Pillow's OpenJPEG."""

import io
import logging
import logging.config
import threading

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from mammoscope.dicom import read_dicom
from mammoscope.dicom.codestream import jpeg_2000_marks, read_codestream
from mammoscope.dicom.jpeg2000 import decode_jpeg_2000
from mammoscope.dicom.pixels import decode
from mammoscope.errors import PixelDecodeError

# What encoders choose, in Pillow's words; layers by their compression.
STYLES = {
    "plain": {},
    "by resolution": {"progression": "RLCP"},
    "by position": {"progression": "RPCL", "precinct_size": (128, 128)},
    "tiles": {"tile_size": (128, 128)},
    "lossy": {"irreversible": True, "quality_mode": "rates", "quality_layers": [12]},
    "layers by resolution": {
        "progression": "RLCP",
        "quality_mode": "rates",
        "quality_layers": [30, 10, 1],
    },
    "small blocks": {"codeblock_size": (16, 16)},
}


def tissue(shape=(301, 277), seed=0):
    """A smooth image with noise, black where there is no breast; 16 bits as Pillow keeps them."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), 9)
    values = 2000 + 500 * smooth / smooth.std() + rng.normal(0, 12, shape)
    values[:, shape[1] // 2 :] = 0
    return values.clip(0, 4095).astype(np.uint16)


def encoded(style="plain", **kwargs):
    stream = io.BytesIO()
    Image.fromarray(tissue(**kwargs)).save(
        stream, "JPEG2000", no_jp2=True, num_resolutions=4, **STYLES.get(style, {})
    )
    return stream.getvalue()


def by_pillow(frame, reduction):
    with Image.open(io.BytesIO(frame)) as image:
        image.reduce = reduction
        step = 1 << reduction
        image._size = tuple(-(-side // step) * step for side in image.size)
        image.load()
        return np.asarray(image)


def data_of(frame):
    """Where the first tile's packets begin and the last one's end."""
    return frame.index(b"\xff\x93") + 2, len(frame) - 2


@pytest.mark.parametrize("reduction", [0, 1, 2, 3])
@pytest.mark.parametrize("style", STYLES)
def test_whole_frames_are_read_at_every_fraction(style, reduction):
    frame = encoded(style)
    np.testing.assert_array_equal(decode_jpeg_2000(frame, reduction), by_pillow(frame, reduction))


def test_nearly_every_single_wrong_bit_is_refused():
    """Of some the code ends about where it should: these few no decoder can tell."""
    frame, rng, refused = encoded(), np.random.default_rng(0), 0
    begin, end = data_of(frame)
    for _ in range(60):
        damaged = bytearray(frame)
        damaged[int(rng.integers(begin + 400, end))] ^= 1 << int(rng.integers(8))
        try:
            decode_jpeg_2000(bytes(damaged), 0)
        except PixelDecodeError:
            refused += 1
    assert refused >= 45


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fill", ["zeros", "random"])
def test_lost_bytes_are_refused(style, fill):
    frame = encoded(style)
    begin, end = data_of(frame)
    middle = (begin + end) // 2
    lost = bytes(500) if fill == "zeros" else np.random.default_rng(0).bytes(500)
    with pytest.raises((PixelDecodeError, imagecodecs.Jpeg2kError)):
        decode_jpeg_2000(frame[:middle] + lost + frame[middle + 500 :], 0)


def test_damage_to_what_a_fraction_leaves_out_is_no_damage_to_it():
    frame = encoded()
    begin, end = data_of(frame)
    # The finest resolution is most of the data, and lies at their end.
    damaged = frame[: end - 600] + bytes(400) + frame[end - 200 :]
    np.testing.assert_array_equal(decode_jpeg_2000(damaged, 1), by_pillow(frame, 1))
    early = begin + (end - begin) // 40
    with pytest.raises(PixelDecodeError, match="damaged code blocks"):
        decode_jpeg_2000(frame[:early] + bytes(100) + frame[early + 100 :], 2)


def reordered(frame):
    """The frame with a change of order that changes nothing (POC, A.6.6)."""
    style = frame.index(b"\xff\x52")
    levels, layers = frame[style + 9], frame[style + 6 : style + 8]
    order = frame[style + 5 : style + 6]
    change = b"\0\0" + layers + bytes([levels + 1, 1]) + order
    end = style + 2 + int.from_bytes(frame[style + 2 : style + 4])
    return frame[:end] + b"\xff\x5f" + (len(change) + 2).to_bytes(2) + change + frame[end:]


@pytest.mark.parametrize(
    "options",
    [
        {"quality_mode": "rates", "quality_layers": [30, 10, 1]},
        {"progression": "CPRL", "precinct_size": (64, 64)},
        {"progression": "PCRL", "precinct_size": (64, 64)},
        {"change": True},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_frames_whose_fine_packets_come_early_are_judged_whole(options):
    """No decoder that tells damage reads them at a fraction."""
    stream, options = io.BytesIO(), dict(options)
    change = options.pop("change", False)
    Image.fromarray(tissue()).save(stream, "JPEG2000", no_jp2=True, num_resolutions=4, **options)
    frame = reordered(stream.getvalue()) if change else stream.getvalue()
    assert read_codestream(frame).reductions == 0
    assert read_codestream(encoded()).reductions == 3
    np.testing.assert_array_equal(decode_jpeg_2000(frame, 0), by_pillow(frame, 0))
    begin, end = data_of(frame)
    middle = (begin + end) // 2
    with pytest.raises(PixelDecodeError, match="damaged code blocks"):
        decode_jpeg_2000(frame[:middle] + bytes(400) + frame[middle + 400 :], 0)


@pytest.mark.parametrize(
    "silence",
    [
        lambda: logging.getLogger().setLevel(logging.CRITICAL),
        lambda: logging.getLogger("imagecodecs").setLevel(logging.CRITICAL),
        lambda: logging.disable(logging.CRITICAL),
        lambda: logging.config.dictConfig({"version": 1}),
    ],
    ids=["root level", "its level", "disabled", "by configuration"],
)
def test_damage_is_told_however_quiet_the_log_is(silence, monkeypatch):
    root, own = logging.getLogger(), logging.getLogger("imagecodecs")
    for logger in (root, own):
        monkeypatch.setattr(logger, "level", logger.level)
    every = {name: logging.getLogger(name) for name in logging.root.manager.loggerDict}
    for logger in every.values():
        monkeypatch.setattr(logger, "disabled", logger.disabled)
    frame = bytearray(encoded())
    begin, end = data_of(frame)
    frame[(begin + end) // 2 : (begin + end) // 2 + 300] = bytes(300)
    try:
        silence()
        with pytest.raises(PixelDecodeError, match="damaged code blocks"):
            decode_jpeg_2000(bytes(frame), 0)
    finally:
        logging.disable(logging.NOTSET)


def test_a_tile_part_that_ends_at_its_own_data_mark_ends_the_reading():
    """Its length counts the mark (A.4.2): followed blindly, it would be read for ever."""
    frame = bytearray(encoded())
    tile = frame.index(b"\xff\x90")
    frame[tile + 6 : tile + 10] = (12).to_bytes(4)
    assert [mark for mark, _ in jpeg_2000_marks(frame, 2)][-1] == 0xFF90
    read_codestream(bytes(frame))


def test_a_jpeg_that_passes_for_jpeg_2000_is_refused_by_its_file(tmp_path, write_mammogram):
    def encode(pixels, syntax):
        return encapsulate([imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=12)])

    path = write_mammogram(tmp_path / "a.dcm", tissue(), syntax=JPEG2000Lossless, encoder=encode)
    with pytest.raises(PixelDecodeError, match="the frame is no JPEG 2000 codestream"):
        decode(read_dicom(path))


@pytest.mark.parametrize(("tile", "expected"), [(104, 3), (100, 2), (99, 0), (400, 3)])
def test_tiles_are_halved_as_often_as_they_still_meet(tile, expected):
    stream = io.BytesIO()
    Image.fromarray(tissue()).save(
        stream, "JPEG2000", no_jp2=True, num_resolutions=4, tile_size=(tile, tile)
    )
    frame = stream.getvalue()
    assert read_codestream(frame).reductions == expected
    np.testing.assert_array_equal(decode_jpeg_2000(frame, expected), by_pillow(frame, expected))


def test_what_openjpeg_says_stays_out_of_the_log_and_in_its_thread(caplog):
    whole, noisy = encoded(), bytearray(encoded(seed=1))
    begin, end = data_of(noisy)
    noisy[(begin + end) // 2 : (begin + end) // 2 + 300] = bytes(300)
    failures = []

    def read(frame, refused):
        for _ in range(6):
            try:
                decode_jpeg_2000(bytes(frame), 0)
                failures.append(refused)
            except PixelDecodeError:
                failures.append(not refused)

    with caplog.at_level(logging.DEBUG):
        threads = [
            threading.Thread(target=read, args=job) for job in ((whole, False), (noisy, True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(failures) == 12
    assert not any(failures)
    assert not caplog.records
    # Whoever uses imagecodecs beside us still hears it.
    style = noisy.index(b"\xff\x52") + 12
    noisy[style] |= 0x10
    imagecodecs.jpeg2k_decode(bytes(noisy), verbose=2)
    assert "PTERM check failure" in caplog.text
