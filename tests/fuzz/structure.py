"""Mutations of the data set: elements, lengths, sequences, and what the header says."""

from __future__ import annotations

import struct
import zlib
from random import Random

from pydicom.uid import DeflatedExplicitVRLittleEndian

from fuzz.raw import ITEM, ITEM_END, PIXEL_DATA, SEQUENCE_END, UNDEFINED, Element, RawFile
from fuzz.registry import damaged, mutation
from fuzz.seeds import seeds
from mammoscope.dicom.decoders import DECODERS

_LIES = (0, 1, 2, 3, 7, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, UNDEFINED)
_VRS = b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OW PN SH SL SQ SS ST TM UI UL UN US UT UV"
_SIZES = (0, 1, 2, 3, 7, 60, 255, 4096, 9216, 32767, 32768, 65534, 65535)
_NUMBERS = ("", "abc", "NaN", "inf", "-inf", "1e400", "-1", "0", "1e-320", "9" * 40, "9" * 5000)
_NUMBERS += ("1\\2\\3", "\\", "1,5", "0x10", "1e5", "-32769", "65536", "2147483648", "\xff\xfe")
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


@mutation
def drop_tags(file: RawFile, draw: Random) -> None:
    for _ in range(draw.randint(1, 4)):
        file.elements.pop(draw.randrange(len(file.elements)))


@mutation
def repeat_and_shuffle_tags(file: RawFile, draw: Random) -> None:
    file.elements.append(draw.choice(file.elements))
    draw.shuffle(file.elements)


@mutation
def lie_about_a_length(file: RawFile, draw: Random) -> None:
    element = draw.choice(file.elements)
    true = len(element.value)
    element.length = draw.choice((*_LIES, true + 1, true - 1, true + 2, true * 2, true // 2))


@mutation
def wrong_vr(file: RawFile, draw: Random) -> None:
    for element in draw.sample(file.elements, draw.randint(1, 3)):
        element.vr = draw.choice((*_VRS.split(), b"ZZ", b"\0\0", b"  ", b"ob", b"\xff\xff"))


@mutation
def wrong_vr_of_what_is_needed(file: RawFile, draw: Random) -> None:
    words = ("PatientID", "Rows", "BitsAllocated", "PixelData", "PhotometricInterpretation")
    words += ("ImageLaterality", "ViewPosition", "StudyInstanceUID", "SOPInstanceUID", "Modality")
    element = file.get(draw.choice(words))
    if element is not None:
        element.vr = draw.choice(_VRS.split())


@mutation
def empty_values(file: RawFile, draw: Random) -> None:
    for element in draw.sample(file.elements, draw.randint(1, 4)):
        element.value, element.length = b"", None


@mutation
def garbage_values(file: RawFile, draw: Random) -> None:
    for element in draw.sample(file.elements, draw.randint(1, 3)):
        element.value, element.length = draw.randbytes(draw.choice((1, 2, 3, 8, 64, 500))), None


@mutation
def several_values(file: RawFile, draw: Random) -> None:
    for element in draw.sample(file.elements[:-1], draw.randint(1, 3)):
        if element.vr not in (b"OB", b"OW", b"SQ"):
            joint = b"" if element.vr in (b"US", b"SS", b"UL", b"FD") else b"\\"
            element.value = joint.join([element.value] * draw.choice((2, 3, 100)))


@mutation
def nested_sequences(file: RawFile, draw: Random) -> None:
    """A sequence in a sequence in a sequence, of undefined length, ended or not."""
    depth = draw.choice((1, 20, 200, 400, 1000, 5000, 50_000))
    explicit = b"" if file.implicit else b"SQ\0\0"
    head = struct.pack(f"{file.order}HH", 0x0054, 0x0220) + explicit + b"\xff" * 4
    head += struct.pack(f"{file.order}HHI", ITEM >> 16, ITEM & 0xFFFF, UNDEFINED)
    ends = b"".join(
        struct.pack(f"{file.order}HHI", tag >> 16, tag & 0xFFFF, 0)
        for tag in (ITEM_END, SEQUENCE_END)
    )
    inner = head * depth + ends * (depth if draw.random() < 0.7 else depth // 2)
    _insert(file, Element(0x00540220, b"SQ", inner[len(head) - 8 : -8], UNDEFINED))


@mutation
def sequences_of_known_length_nested(file: RawFile, draw: Random) -> None:
    inner = b""
    for _ in range(draw.choice((10, 100, 500, 1500))):
        inner = file.sequence([Element(0x00540220, b"SQ", inner)])
    _insert(file, Element(0x00540220, b"SQ", inner))


@mutation
def sequence_that_lies(file: RawFile, draw: Random) -> None:
    """A view code whose item is not as long as it says, or no item at all."""
    item = [Element(0x00080100, b"SH", b"R-10242 ", draw.choice((None, *_LIES)))]
    value = draw.choice((file.sequence(item), damaged(file.sequence(item), draw), b"\0" * 8, b""))
    file.set("ViewPosition", "")
    _insert(file, Element(0x00540220, b"SQ", value, draw.choice((None, None, UNDEFINED, 4))))


@mutation
def many_items(file: RawFile, draw: Random) -> None:
    count = draw.choice((10, 1000, 50_000))
    file.set("ViewPosition", "")
    _insert(file, Element(0x00540220, b"SQ", file.sequence(*[[]] * count)))


@mutation
def undefined_length_where_none_may_be(file: RawFile, draw: Random) -> None:
    draw.choice(file.elements).length = UNDEFINED


@mutation
def huge_private_tags(file: RawFile, draw: Random) -> None:
    size = draw.choice((100, 70_000, 4_000_000))
    lie = draw.choice((None, None, size * 2, 0x7FFFFFFF))
    for tag in (0x00990010, 0x00991001):
        _insert(file, Element(tag, draw.choice((b"UN", b"OB", b"LT", b"UT")), b"A" * size, lie))


@mutation
def many_private_tags(file: RawFile, draw: Random) -> None:
    count = draw.choice((100, 10_000, 60_000))
    at = next((i for i, e in enumerate(file.elements) if e.tag > 0x00110000), 0)
    file.elements[at:at] = [Element(0x00110000 + n, b"LO", b"v ") for n in range(count)]


@mutation
def character_set_garbage(file: RawFile, draw: Random) -> None:
    sets = ("ISO_IR 999", "ISO 2022 IR 87", "\\ISO 2022 IR 149", "utf-7", "\xff" * 16, "GB18030")
    sets += ("ISO_IR 192", "\\".join(["ISO 2022 IR 58"] * 500), "rot13", "zlib", "unicode_escape")
    file.set("SpecificCharacterSet", draw.choice(sets))
    for keyword in ("PatientName", "Manufacturer", "PatientID"):
        if draw.random() < 0.6:
            text = draw.choice((b"\x1b$B", b"\x1b$)C", b"\xc3\x28", b"\0", b"\x1b", b'\n,"'))
            file.set(keyword, text + b"XYZZYPATIENT" + draw.randbytes(6))


@mutation
def broken_meta(file: RawFile, draw: Random) -> None:
    """File meta information that lacks, lies or lasts too long."""
    kind = draw.randrange(6)
    if kind == 0:
        file.meta = draw.sample(file.meta, draw.randrange(len(file.meta)))
    elif kind == 1:
        file.group_length = draw.choice((*_LIES, 12, 100, 1000))
    elif kind == 2:
        draw.choice(file.meta).length = draw.choice(_LIES)
    elif kind == 3:
        draw.choice(file.meta).value = draw.randbytes(draw.choice((0, 2, 30)))
    elif kind == 4:
        draw.choice(file.meta).vr = draw.choice(_VRS.split())
    else:
        file.meta += [Element(0x00020100, b"UI", b"1.2 "), Element(0x00020102, b"OB", b"A" * 9999)]


@mutation
def no_preamble(file: RawFile, draw: Random) -> bytes:
    whole = file.to_bytes()
    return draw.choice(
        (whole[128:], whole[132:], whole[1:], whole[:128] + b"DCIM" + whole[132:], b"P5 " + whole)
    )


@mutation
def another_transfer_syntax(file: RawFile, draw: Random) -> None:
    known = [*DECODERS, *_NATIVE, DeflatedExplicitVRLittleEndian]
    strange = (
        "1.2.840.10008.1.2.4.100",
        "1.2.840.10008.1.2.4.95",
        "1.2.3",
        "",
        "garbage",
        "1" * 70,
    )
    file.set("TransferSyntaxUID", draw.choice((*known, *strange)))


@mutation
def sizes(file: RawFile, draw: Random) -> None:
    for keyword in draw.sample(("Rows", "Columns"), draw.randint(1, 2)):
        file.set(keyword, draw.choice(_SIZES))


@mutation
def as_large_as_can_be_said(file: RawFile, draw: Random) -> None:
    file.set("Rows", draw.choice((65535, 9219, 9000)))
    file.set("Columns", draw.choice((65535, 9219, 9000)))


@mutation
def bits(file: RawFile, draw: Random) -> None:
    for keyword in draw.sample(("BitsAllocated", "BitsStored", "HighBit"), draw.randint(1, 3)):
        file.set(keyword, draw.choice((0, 1, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 32, 64, 65535)))
    if draw.random() < 0.3:
        file.set("PixelRepresentation", draw.choice((0, 1, 2, 65535)))


@mutation
def samples_frames_photometric(file: RawFile, draw: Random) -> None:
    kind = draw.randrange(4)
    if kind == 0:
        file.set("SamplesPerPixel", draw.choice((0, 2, 3, 4, 65535)))
    elif kind == 1:
        file.set("NumberOfFrames", draw.choice((*_NUMBERS, "2", "65536")))
    elif kind == 2:
        words = ("RGB", "YBR_FULL_422", "PALETTE COLOR", "MONOCHROME3", "", "\xff", "monochrome2")
        file.set("PhotometricInterpretation", draw.choice((*words, "MONOCHROME1")))
    else:
        file.set("PixelRepresentation", draw.choice((0, 1, 2, 65535)))


@mutation
def numbers(file: RawFile, draw: Random) -> None:
    """Decimal and integer strings that are no numbers, or no sensible ones."""
    words = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "NumberOfFrames")
    words += ("ImagerPixelSpacing", "PixelSpacing", "InstanceNumber", "PatientAge")
    for keyword in draw.sample(words, draw.randint(1, 3)):
        values = [draw.choice(_NUMBERS) for _ in range(draw.choice((1, 1, 2, 50)))]
        file.set(keyword, "\\".join(values))
    if draw.random() < 0.3:
        file.set("VOILUTFunction", draw.choice(("SIGMOID", "LINEAR_EXACT", "linear", "CUBIC")))


@mutation
def padding(file: RawFile, draw: Random) -> None:
    file.set("PixelPaddingValue", draw.choice((0, 1, 2000, 65535)), draw.choice(("US", "SS", "DS")))
    file.set("PixelPaddingRangeLimit", draw.choice((0, 4095, 65535)), draw.choice(("US", "SS")))


@mutation
def lut_that_lies(file: RawFile, draw: Random) -> None:
    """Look-up tables whose descriptor and data do not agree, or make no sense."""
    entries = draw.choice((0, 1, 2, 100, 4096, 65535))
    held = draw.choice((entries, entries, 0, 1, 100, 65536, 200_000))
    descriptor = [entries, draw.choice((0, 1, 32768, 65535)), draw.choice((0, 8, 12, 16, 17, 200))]
    parts = [
        Element(0x00283002, b"US", file.encoded(b"US", descriptor[: draw.choice((3, 3, 3, 2, 1))])),
        Element(0x00283006, draw.choice((b"US", b"OW", b"OB", b"DS")), draw.randbytes(2 * held)),
    ]
    item = parts if draw.random() < 0.8 else [draw.choice(parts)]
    items = draw.choice(([item], [item], [], [[]], [item] * 300 if held < 200 else [item]))
    keyword = draw.choice(("ModalityLUTSequence", "VOILUTSequence"))
    file.set(keyword, file.sequence(*items), draw.choice(("SQ", "SQ", "SQ", "UN", "LO")))


@mutation
def overlay_in_pixels(file: RawFile, draw: Random) -> None:
    value = draw.choice((b"\x10\0", b"", b"\0", b"abcdef", b"\xff\xff"))
    _insert(file, Element(0x60000100, draw.choice((b"US", b"LO", b"SQ", b"OW")), value))
    file.set("HighBit", draw.choice((11, 13, 15)))


@mutation
def pixel_data_cut(file: RawFile, draw: Random) -> bool | None:
    pixels = file.get("PixelData")
    if pixels is None:
        return False
    pixels.value = pixels.value[: draw.randrange(len(pixels.value) + 1)]
    return None


@mutation
def pixel_data_too_long(file: RawFile, draw: Random) -> bool | None:
    pixels = file.get("PixelData")
    if pixels is None:
        return False
    pixels.value += draw.randbytes(draw.choice((1, 2, 100, 100_000)))
    return None


@mutation
def other_pixel_data(file: RawFile, draw: Random) -> None:
    """Float pixel data (7FE0,0008) or a URL beside or in place of the integers."""
    if draw.random() < 0.7:
        file.elements = [e for e in file.elements if e.tag != PIXEL_DATA]
    tag, vr = draw.choice(((0x7FE00008, b"OF"), (0x7FE00009, b"OD"), (0x00287FE0, b"UR")))
    _insert(file, Element(tag, vr, draw.randbytes(4 * 61 * 45)))


@mutation
def another_kind_of_object(file: RawFile, draw: Random) -> None:
    classes = ("1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.2")
    for keyword in ("SOPClassUID", "MediaStorageSOPClassUID"):
        file.set(keyword, draw.choice((*classes, "1.2.840.10008.5.1.4.1.1.13.1.3", "x", "")))
    file.set("Modality", draw.choice(("MG", "CT", "SR", "", "\xff\xff", "MG\\CT")))


@mutation
def deflate_bomb(file: RawFile, draw: Random) -> bytes:
    """A data set of a few hundred bytes that inflates to hundreds of millions."""
    file.set("TransferSyntaxUID", DeflatedExplicitVRLittleEndian)
    size = draw.choice((1 << 20, 200 << 20, 300 << 20))
    plain = RawFile(file.meta, [e for e in file.elements if e.tag != PIXEL_DATA])
    whole = plain.to_bytes()
    at = len(RawFile(file.meta, []).to_bytes())
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, draw.choice((size, UNDEFINED, 2)))
    parts = [deflater.compress(whole[at:] + head)]
    parts += [deflater.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return whole[:at] + b"".join(parts) + deflater.flush()


@mutation
def deflate_damaged(file: RawFile, draw: Random) -> bytes | bool:
    if not file.deflated:
        return False
    whole = file.to_bytes()
    return whole[:400] + damaged(whole[400:], draw)


@mutation
def bytes_flipped(file: RawFile, draw: Random) -> bytes:
    return damaged(file.to_bytes(), draw)


@mutation
def header_bytes_flipped(file: RawFile, draw: Random) -> bytes:
    whole = file.to_bytes()
    return damaged(whole[:1200], draw) + whole[1200:]


@mutation
def file_cut(file: RawFile, draw: Random) -> bytes:
    whole = file.to_bytes()
    return whole[: draw.randrange(len(whole))]


@mutation
def file_goes_on(file: RawFile, draw: Random) -> None:
    file.tail = draw.choice((draw.randbytes(500), bytes(1000), file.to_bytes(), b"\xff" * 999))


@mutation
def splice(file: RawFile, draw: Random) -> bytes:
    """The head of one file and the tail of another."""
    first, second = file.to_bytes(), draw.choice(list(seeds().values())).to_bytes()
    return first[: draw.randrange(len(first))] + second[draw.randrange(len(second)) :]


@mutation
def pixels_of_another(file: RawFile, draw: Random) -> bool | None:
    other = draw.choice(list(seeds().values()))
    theirs, ours = other.get("PixelData"), file.get("PixelData")
    if ours is None or theirs is None:
        return False
    ours.value, ours.length = theirs.value, theirs.length
    if draw.random() < 0.7:
        for keyword in ("Rows", "Columns"):
            file.set(keyword, other.number(keyword))
    return None


@mutation
def no_dicom_at_all(file: RawFile, draw: Random) -> bytes:
    head = file.to_bytes()[:132]
    return draw.choice(
        (b"", b"\0", head, head + b"\0" * 2000, draw.randbytes(3000), b"text\n" * 99)
    )


def _insert(file: RawFile, element: Element) -> None:
    kept = [e for e in file.elements if e.tag != element.tag]
    file.elements = sorted([*kept, element], key=lambda e: e.tag)
