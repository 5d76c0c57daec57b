"""Dates moved by whole days: intervals of a patient stay, the calendar does not.

Values are those of PS3.5 section 6.2: DA, DT and TM. What is not one is ``None``, so that
text in the wrong place never passes.
"""

from __future__ import annotations

import re
from datetime import date, timedelta

__all__ = ["shift"]

_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_DATE_TIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?((?:\d{2}){0,3}(?:\.\d{1,6})?)(?:[+-]\d{4})?")
_TIME = re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?|\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?")


def shift(vr: str, value: str, days: int) -> str | None:
    """Move a value by whole days.

    The time of day stays, so intervals keep their seconds. An offset from UTC is cut off,
    as Timezone Offset From UTC (0008,0201) is removed: it says where the patient was.

    Args:
        vr: ``DA``, ``DT`` or ``TM``.
        value: The value; a year or a month alone moves with its first day.
        days: How far.

    Returns:
        The new value, or ``None`` if the old one is not of this value representation.
    """
    text = value.strip().strip("\0")
    if vr == "TM":
        return text if _TIME.fullmatch(text) else None
    if vr == "DA":
        match = _DATE.fullmatch(text)
        return _moved(match[1], match[2], match[3], days) if match else None
    match = _DATE_TIME.fullmatch(text)
    if match is None or (match[4] and match[3] is None):
        return None
    moved = _moved(match[1], match[2] or "01", match[3] or "01", days)
    if moved is None:
        return None
    digits = 8 if match[3] else 6 if match[2] else 4
    return moved[:digits] + match[4]


def _moved(year: str, month: str, day: str, days: int) -> str | None:
    try:
        moved = date(int(year), int(month), int(day)) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved:%Y%m%d}".rjust(8, "0")
