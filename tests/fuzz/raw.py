"""A DICOM file as a list of elements that may lie: what pydicom would mend, this writes."""

from __future__ import annotations

import copy
import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from pydicom import dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments, get_frame

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
# VRs whose length takes four bytes in explicit encodings (PS3.5, table 7.1-1).
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN"}) | {
    b"UR",
    b"UT",
    b"UV",
}


@dataclass
class Element:
    """One element: ``length`` is written in place of the true one where it is given."""

    tag: int
    vr: bytes
    value: bytes
    length: int | None = None


@dataclass
class RawFile:
    """Preamble, file meta information and data set, before they are made bytes."""

    meta: list[Element]
    elements: list[Element]
    order: str = "<"
    implicit: bool = False
    deflated: bool = False
    start: bytes = b"\0" * 128 + b"DICM"
    tail: bytes = b""
    group_length: int | None = field(default=None)

    def copy(self) -> RawFile:
        return copy.deepcopy(self)

    def get(self, keyword: str) -> Element | None:
        tag = tag_of(keyword)
        return next((e for e in (*self.meta, *self.elements) if e.tag == tag), None)

    def set(self, keyword: str, value: Any, vr: str | None = None) -> Element:
        """Set an element, in its place; numbers of US, text of all else."""
        tag = tag_of(keyword)
        kind = (vr or dictionary_VR(tag).split(" ")[0]).encode()
        element = Element(tag, kind, self.encoded(kind, value))
        within = self.meta if tag >> 16 == 2 else self.elements
        within[:] = sorted([e for e in within if e.tag != tag] + [element], key=lambda e: e.tag)
        return element

    def encoded(self, vr: bytes, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if vr in (b"US", b"SS"):
            values = value if isinstance(value, list) else [value]
            return struct.pack(f"{self.order}{len(values)}H", *(v & 0xFFFF for v in values))
        text = str(value).encode("latin-1")
        return text + b" " * (len(text) % 2)

    def number(self, keyword: str) -> int:
        element = self.get(keyword)
        return 0 if element is None else struct.unpack(f"{self.order}H", element.value[:2])[0]

    def frame(self) -> bytes | None:
        """The frame of encapsulated pixel data, or none."""
        pixels = self.get("PixelData")
        if pixels is None or pixels.length != UNDEFINED:
            return None
        return get_frame(pixels.value, 0, number_of_frames=1)

    def set_frame(self, frame: bytes) -> None:
        self.set("PixelData", encapsulate([frame]), "OB").length = UNDEFINED

    def fragments(self) -> list[bytes] | None:
        pixels = self.get("PixelData")
        if pixels is None or pixels.length != UNDEFINED:
            return None
        return list(generate_fragments(pixels.value))

    def sequence(self, *items: list[Element]) -> bytes:
        """The value of a sequence of items of defined length."""
        content = [b"".join(map(self.element_bytes, item)) for item in items]
        return b"".join(self._tag(ITEM) + self._pack("I", len(c)) + c for c in content)

    def element_bytes(self, element: Element) -> bytes:
        length = len(element.value) if element.length is None else element.length
        end = b""
        if element.length == UNDEFINED and element.tag == PIXEL_DATA:
            end = self._tag(SEQUENCE_END) + bytes(4)
        head = self._tag(element.tag)
        if self.implicit and element.tag >> 16 != 2:
            head += self._pack("I", length & UNDEFINED)
        elif element.vr in _LONG:
            head += element.vr + bytes(2) + self._pack("I", length & UNDEFINED)
        else:
            head += element.vr + self._pack("H", length & 0xFFFF)
        return head + element.value + end

    def to_bytes(self) -> bytes:
        """Write the file as it says it is."""
        little = RawFile([], [])
        meta = b"".join(map(little.element_bytes, self.meta))
        size = len(meta) if self.group_length is None else self.group_length
        first = little.element_bytes(
            Element(0x00020000, b"UL", struct.pack("<I", size & UNDEFINED))
        )
        data = b"".join(map(self.element_bytes, self.elements))
        if self.deflated:
            deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
            data = deflater.compress(data) + deflater.flush()
        return self.start + first + meta + data + self.tail

    def _tag(self, tag: int) -> bytes:
        return self._pack("HH", tag >> 16, tag & 0xFFFF)

    def _pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self.order + form, *values)


def tag_of(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


def parse(data: bytes) -> RawFile:
    """Take a sound file apart."""
    dataset = dcmread(io.BytesIO(data))
    syntax = dataset.file_meta.TransferSyntaxUID
    raw = RawFile(
        [],
        [],
        "<" if syntax.is_little_endian else ">",
        implicit=syntax.is_implicit_VR,
        deflated=syntax.is_deflated,
    )
    raw.meta = [e for e in _elements(dataset.file_meta, raw) if e.tag != 0x00020000]
    raw.elements = _elements(dataset, raw)
    return raw


def _elements(dataset: Dataset, raw: RawFile) -> list[Element]:
    elements = []
    for tag in sorted(dataset.keys()):
        item = dataset.get_item(tag)
        if isinstance(item, RawDataElement):
            vr = item.VR or dictionary_VR(tag).split(" ")[0]
            length = UNDEFINED if item.length == UNDEFINED else None
            elements.append(Element(int(tag), vr.encode(), item.value or b"", length))
        elif item.VR != "SQ":
            value = raw.encoded(item.VR.encode(), item.value)
            elements.append(Element(int(tag), item.VR.encode(), value))
    return elements
