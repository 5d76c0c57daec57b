"""Single elements of a header as plain values, and how a message names them."""

from __future__ import annotations

import math
import re
from typing import Any

import pydicom
from pydicom.dataset import Dataset

__all__ = ["items", "number", "numbers", "shown", "tag_name", "text", "word", "words"]

_SHOWN_LENGTH = 64


def tag_name(keyword: str) -> str:
    """Return ``"(0020,0062) ImageLaterality"`` for a keyword, as messages name tags."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"{keyword} is not a DICOM keyword")
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {keyword}"


def shown(value: object) -> str:
    """Return a found value as a message may show it: one line, of bounded length."""
    plain = re.sub(r"[^\x20-\x7e]+", "?", str(value)).strip()
    return plain if len(plain) <= _SHOWN_LENGTH else plain[: _SHOWN_LENGTH - 1] + "…"


def text(dataset: Dataset, keyword: str) -> str | None:
    """Return an element as stripped text, ``None`` where it is absent or empty."""
    value = dataset.get(keyword)
    stripped = "" if value is None else str(value).strip()
    return stripped or None


def word(dataset: Dataset, keyword: str) -> str | None:
    """Return a code string in capitals; of several values the first that is not empty."""
    return next((value for value in words(dataset, keyword) if value), None)


def words(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of a code string in capitals, empty ones kept in their places."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, pydicom.multival.MultiValue | list | tuple) else [value]
    return tuple(str(item).strip().upper() for item in values)


def number(dataset: Dataset, keyword: str, default: Any) -> Any:
    """Return a decimal string as float; of several values the first (PS3.3 C.11.2.1.2).

    Raises:
        ValueError: If it is no finite number; tag and keyword are named.
    """
    return next(iter(numbers(dataset, keyword)), default)


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the values of a decimal or integer string as floats.

    Raises:
        ValueError: If one is no finite number; tag and keyword are named.
    """
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
        found = tuple(float(item) for item in values)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{tag_name(keyword)} is no number: {error}") from error
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{tag_name(keyword)} is {found}; finite numbers are accepted")
    return found


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence; none where the element is absent or no sequence."""
    value = dataset.get(keyword)
    if not isinstance(value, pydicom.sequence.Sequence | list):
        return ()
    return tuple(item for item in value if isinstance(item, Dataset))
