"""Every decoder of every transfer syntax against the pixels of an independent decoder."""

import json
from pathlib import Path

import numpy as np
import pytest

from mammoscope.dicom import decode, encoded_pixels, read_dicom
from mammoscope.dicom import pixels as pixels_module
from mammoscope.dicom.decoders import DECODERS

GOLDEN = Path(__file__).parents[1] / "golden" / "pixels"
INDEX = json.loads((GOLDEN / "index.json").read_text())
# Lossy codecs may round differently; the standard's own tolerance is one step.
ROUNDING = {
    "jpeg_baseline_8": 1,
    "jpeg_extended_12": 1,
    "jpeg2000_lossy_12": 1,
    "htj2k_lossy_16": 2,
}
CHAINS = [
    pytest.param(name, number, id=f"{name}-{decoder.name}")
    for name, facts in INDEX.items()
    for number, decoder in enumerate(DECODERS.get(facts["transfer_syntax"], ()))
    # GDCM reads JPEG extended of 8 bits and refuses that of 12.
    if (name, decoder.name) != ("jpeg_extended_12", "gdcm")
]


def reference(name):
    return np.load(GOLDEN / "expected.npz")[name]


def assert_same(name, values):
    expected = reference(name)
    assert values.dtype.kind == expected.dtype.kind
    if INDEX[name]["lossless"] or name not in ROUNDING:
        np.testing.assert_array_equal(values, expected)
    else:
        difference = np.abs(values.astype(int) - expected)
        assert difference.max() <= ROUNDING[name]


@pytest.mark.parametrize("name", INDEX)
def test_our_pixels_equal_an_independent_decoders(name):
    decoded = decode(read_dicom(GOLDEN / f"{name}.dcm"))
    assert decoded.warnings == ()
    assert_same(name, decoded.stored)


def test_every_transfer_syntax_has_a_decoder_to_fall_back_on():
    for syntax, chain in DECODERS.items():
        names = {name for name, facts in INDEX.items() if facts["transfer_syntax"] == syntax}
        served = [n for n, _ in (case.values for case in CHAINS) if n in names]
        assert min(map(served.count, names)) >= 2, (syntax, chain)


@pytest.mark.parametrize(("name", "number"), CHAINS)
def test_every_decoder_of_a_chain_reads_the_same_pixels(name, number, monkeypatch):
    syntax = INDEX[name]["transfer_syntax"]
    decoder = DECODERS[syntax][number]
    monkeypatch.setitem(pixels_module.DECODERS, syntax, (decoder,))
    decoded = decode(read_dicom(GOLDEN / f"{name}.dcm"))
    assert decoded.decoder == decoder.name
    assert_same(name, decoded.stored)


def test_every_transfer_syntax_has_a_reference_file():
    assert set(DECODERS) <= {facts["transfer_syntax"] for facts in INDEX.values()}


@pytest.mark.parametrize("name", [name for name in INDEX if "2000" in name or "htj2k" in name])
def test_halved_images_are_centred_on_every_other_pixel(name):
    """Sample k of an image halved r times stands for the pixels around k * 2**r."""
    encoded = encoded_pixels(read_dicom(GOLDEN / f"{name}.dcm"))
    assert encoded.reductions >= 2
    full = decode(encoded).stored.astype(float)
    for reduction in (1, 2):
        halved = decode(encoded, reduction)
        step = 1 << reduction
        assert halved.reduction == reduction
        assert halved.stored.shape == tuple(-(-side // step) for side in full.shape)
        near = full[::step, ::step]
        between = (full[:-1, :-1] + full[1:, 1:])[step // 2 :: step, step // 2 :: step] / 2
        inner = np.s_[2:-2, 2:-2]
        missed = np.abs(halved.stored[inner] - near[inner]).mean()
        shape = np.minimum(halved.stored.shape, between.shape)
        shifted = halved.stored[: shape[0], : shape[1]] - between[: shape[0], : shape[1]]
        assert missed < np.abs(shifted[inner]).mean()


def test_the_next_decoder_serves_where_one_fails_and_the_result_says_so(monkeypatch):
    def broken(frame, header, reduction, notes):
        raise RuntimeError("codec refuses")

    name = "jpeg2000_lossless_12"
    syntax = INDEX[name]["transfer_syntax"]
    first, *rest = DECODERS[syntax]
    chain = (type(first)("broken", broken), *rest)
    monkeypatch.setitem(pixels_module.DECODERS, syntax, chain)
    decoded = decode(read_dicom(GOLDEN / f"{name}.dcm"))
    assert decoded.decoder == rest[0].name
    assert "codec refuses" in decoded.warnings[0]
    assert_same(name, decoded.stored)
