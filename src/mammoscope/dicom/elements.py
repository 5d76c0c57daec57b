"""Values of single elements, read so that whatever is wrong with one is said of it by name.

pydicom reads an element when it is asked for, raises as its bytes happen to lie, and quotes them.
Messages from here name the tag, and quote no more of a value than a reader needs.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from mammoscope.errors import DicomError, Reason

__all__ = [
    "BROKEN",
    "items_of",
    "number_of",
    "numbers_of",
    "quoted",
    "tag_name",
    "text_of",
    "uid_of",
    "value_of",
    "whole_of",
]

# Of a sequence that is read: look-up tables of 65536 entries are 128 KiB each.
_MOST_SEQUENCE_BYTES = 4 << 20
# The texts read here have at most 64 characters by their VR (PS3.5, table 6.2-1).
_LONGEST_TEXT = 256
# Letters of a value that a message quotes.
_MOST_QUOTED = 40
#: What pydicom raises on elements that are not as they should be.
BROKEN = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    BytesLengthException,
    struct.error,
    zlib.error,
)


def tag_name(keyword: str) -> str:
    """Return ``"(0020,0062) ImageLaterality"`` for a keyword, as messages name tags."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    if tag is None:
        raise _invalid(f"{keyword} is not a DICOM keyword")
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword}"


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return a value, which pydicom reads when it is asked for; ``None`` where it is absent."""
    try:
        return dataset.get(keyword)
    except BROKEN as error:
        # pydicom's words quote the value.
        raise _invalid(f"{tag_name(keyword)} cannot be read as its VR says") from error


def quoted(value: Any) -> str:
    """Return a value as messages show it, if it is one that may be shown.

    An element that lies about its length swallows its neighbours, the patient's among them;
    it then holds their tags too, which are no text.
    """
    text = str(value)
    shown = len(text) <= _MOST_QUOTED and text.isprintable() and "\\x" not in text
    return repr(text) if shown else "not printable"


def whole_of(dataset: Dataset, keyword: str, default: int) -> int:
    """Return a whole number; the default where it is absent or empty."""
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return default
    if not isinstance(value, int):
        raise _invalid(f"{tag_name(keyword)} is {quoted(value)}, not a whole number")
    return int(value)


def items_of(dataset: Dataset, keyword: str) -> pydicom.Sequence:
    """Return the items of a sequence, none where it is absent or empty."""
    raw: Any = dataset.get_item(keyword) if keyword in dataset else None
    if isinstance(raw, RawDataElement) and len(raw.value or b"") > _MOST_SEQUENCE_BYTES:
        message = f"{tag_name(keyword)} holds {len(raw.value or b'')} bytes"
        raise DicomError(f"{message}; {_MOST_SEQUENCE_BYTES} are accepted", Reason.TOO_LARGE)
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return pydicom.Sequence()
    if not isinstance(value, pydicom.Sequence):
        raise _invalid(f"{tag_name(keyword)} is of VR {dataset[keyword].VR}; SQ is accepted")
    return value


def text_of(dataset: Dataset, keyword: str) -> str | None:
    """Return a value as text; several lie between backslashes, as they do in the file."""
    value = value_of(dataset, keyword)
    if isinstance(value, bytes | pydicom.Sequence):
        raise _invalid(f"{tag_name(keyword)} is of VR {dataset[keyword].VR}, which is no text")
    if isinstance(value, pydicom.multival.MultiValue):
        value = "\\".join(str(item) for item in value)
    text = "" if value is None else str(value).strip("\0 ")
    # Tabs, line ends and spaces that do not break are spaces to a table.
    text = "".join(" " if letter.isspace() else letter for letter in text)
    # Not quoted: what is not printable may be other elements, swallowed.
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise _invalid(
            f"{tag_name(keyword)} holds what is no text of at most {_LONGEST_TEXT} characters"
        )
    return text or None


def uid_of(dataset: Dataset, keyword: str) -> str | None:
    """Return a UID: digits and dots, at most 64 (PS3.5, section 9.1)."""
    text = text_of(dataset, keyword)
    if text is not None and not re.fullmatch(r"[0-9.]{1,64}", text):
        raise _invalid(f"{tag_name(keyword)} is {quoted(text)}, which is no UID")
    return text


def numbers_of(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Return a decimal string's values as finite floats, none where it is absent or empty."""
    value = value_of(dataset, keyword)
    if value is None or value == "":
        return ()
    several = isinstance(value, pydicom.multival.MultiValue)
    try:
        numbers = tuple(float(item) for item in (value if several else (value,)))
    except (ValueError, TypeError) as error:
        message = f"{tag_name(keyword)} is {quoted(value)}, which is no number"
        raise _invalid(message) from error
    if not all(map(math.isfinite, numbers)):
        raise _invalid(f"{tag_name(keyword)} is {quoted(value)}; finite numbers are accepted")
    return numbers


def number_of(dataset: Dataset, keyword: str, default: float) -> float:
    """Return a decimal string as float; of several values the first."""
    values = numbers_of(dataset, keyword)
    return values[0] if values else default


def _invalid(message: str) -> DicomError:
    return DicomError(message, Reason.INVALID_VALUE)
