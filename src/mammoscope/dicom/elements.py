"""Single elements of a header as plain values, and how a message names them.

pydicom reads an element when it is asked for, raises as its bytes happen to lie, and quotes
them. Messages from here name the tag, and quote no more of a value than a reader needs: an
element that lies about its length holds its neighbours, the patient's among them.
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
from pydicom.multival import MultiValue

from mammoscope.errors import DicomError, Reason

__all__ = [
    "BROKEN",
    "items",
    "number",
    "numbers",
    "read_value",
    "shown",
    "tag_name",
    "text",
    "uid",
    "whole",
    "word",
    "words",
]

# Of a sequence that is read: look-up tables of 65536 entries are 128 KiB each.
_MOST_SEQUENCE_BYTES = 4 << 20
# The texts read here have at most 64 characters by their VR (PS3.5, table 6.2-1).
_LONGEST_TEXT = 256
# Letters of a value that a message quotes.
_MOST_SHOWN = 64
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
        raise ValueError(f"{keyword} is not a DICOM keyword")
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword}"


def shown(found: object) -> str:
    """Return a found value as a message may show it: one line, and nothing that hides others."""
    plain = str(found).strip()
    seemly = len(plain) <= _MOST_SHOWN and plain.isascii() and plain.isprintable()
    seemly = seemly and "\\x" not in plain
    return plain if seemly else "not printable"


def read_value(dataset: Dataset, keyword: str) -> Any:
    """Return a value; ``None`` where it is absent or empty.

    Raises:
        DicomError: ``invalid_value`` if its bytes are not what its VR says.
    """
    try:
        value = dataset.get(keyword)
    except BROKEN as error:
        raise _invalid(f"{tag_name(keyword)} cannot be read as its VR says") from error
    # A comparison of several values with "" would compare each.
    return None if value is None or (isinstance(value, str) and not value) else value


def whole(dataset: Dataset, keyword: str, default: int) -> int:
    """Return a whole number; the default where it is absent or empty.

    Raises:
        DicomError: ``invalid_value`` if it is none.
    """
    value = read_value(dataset, keyword)
    if value is None:
        return default
    if not isinstance(value, int):
        raise _invalid(f"{tag_name(keyword)} is {shown(value)}, not a whole number")
    return int(value)


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence; none where the element is absent or empty.

    Raises:
        DicomError: ``invalid_value`` if it is no sequence, ``too_large`` if it is one that
            no mammogram has.
    """
    raw: Any = dataset.get_item(keyword) if keyword in dataset else None
    if isinstance(raw, RawDataElement) and len(raw.value or b"") > _MOST_SEQUENCE_BYTES:
        message = f"{tag_name(keyword)} holds {len(raw.value or b'')} bytes"
        raise DicomError(f"{message}; {_MOST_SEQUENCE_BYTES} are accepted", Reason.TOO_LARGE)
    value = read_value(dataset, keyword)
    if value is None:
        return ()
    if not isinstance(value, pydicom.Sequence):
        raise _invalid(f"{tag_name(keyword)} is of VR {dataset[keyword].VR}; SQ is accepted")
    return tuple(value)


def text(dataset: Dataset, keyword: str) -> str | None:
    """Return a value as text, ``None`` where it is absent or empty.

    Several values lie between backslashes, as they do in the file.

    Raises:
        DicomError: ``invalid_value`` if it is no printable text of a length that its VR allows.
    """
    value = read_value(dataset, keyword)
    if isinstance(value, bytes | pydicom.Sequence):
        raise _invalid(f"{tag_name(keyword)} is of VR {dataset[keyword].VR}, which is no text")
    if isinstance(value, MultiValue):
        value = "\\".join(str(item) for item in value)
    plain = "" if value is None else str(value).strip("\0 ")
    # Tabs, line ends and spaces that do not break are spaces to a table.
    plain = "".join(" " if letter.isspace() else letter for letter in plain).strip()
    if len(plain) > _LONGEST_TEXT or not plain.isprintable():
        raise _invalid(
            f"{tag_name(keyword)} holds what is no text of at most {_LONGEST_TEXT} characters"
        )
    return plain or None


def word(dataset: Dataset, keyword: str) -> str | None:
    """Return a code string in capitals; of several values the first that is not empty."""
    return next((found for found in words(dataset, keyword) if found), None)


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a code string in capitals, empty ones kept in their places."""
    plain = text(dataset, keyword)
    return () if plain is None else tuple(part.strip().upper() for part in plain.split("\\"))


def uid(dataset: Dataset, keyword: str) -> str | None:
    """Return a UID: digits and dots, at most 64 (PS3.5, section 9.1)."""
    plain = text(dataset, keyword)
    if plain is not None and not re.fullmatch(r"[0-9.]{1,64}", plain):
        raise _invalid(f"{tag_name(keyword)} is {shown(plain)}, which is no UID")
    return plain


def number(dataset: Dataset, keyword: str, default: Any) -> Any:
    """Return a decimal string as float; of several values the first (PS3.3 C.11.2.1.2)."""
    return next(iter(numbers(dataset, keyword)), default)


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the values of a decimal or integer string as floats.

    Raises:
        DicomError: ``invalid_value`` if one is no finite number.
    """
    value = read_value(dataset, keyword)
    if value is None:
        return ()
    try:
        found = tuple(float(item) for item in (value if isinstance(value, MultiValue) else [value]))
    except (ValueError, TypeError, OverflowError) as error:
        message = f"{tag_name(keyword)} is {shown(value)}, which is no number"
        raise _invalid(message) from error
    if not all(map(math.isfinite, found)):
        raise _invalid(f"{tag_name(keyword)} is {shown(value)}; finite numbers are accepted")
    return found


def _invalid(message: str) -> DicomError:
    return DicomError(message, Reason.INVALID_VALUE)
