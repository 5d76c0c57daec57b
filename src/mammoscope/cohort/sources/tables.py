"""Owners' tables, CSV and Excel, as rows of words."""

from __future__ import annotations

import csv
import math
import warnings
import zipfile
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from mammoscope.errors import CohortError

__all__ = [
    "density_letter",
    "number_or_none",
    "numbers",
    "read_csv_rows",
    "read_xlsx_rows",
    "yes_or_no",
]

_YES_OR_NO = {
    "": None, "nan": None, "0": 0, "0.0": 0, "no": 0, "false": 0,
    "1": 1, "1.0": 1, "yes": 1, "true": 1,
}  # fmt: skip


def read_csv_rows(
    path: Path, required: tuple[str, ...], delimiter: str = ","
) -> list[dict[str, str]]:
    """Read a table of labels as rows of stripped words.

    Raises:
        CohortError: If it is missing, not CSV in UTF-8, or lacks a required column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter)
            names = [name.strip() for name in reader.fieldnames or ()]
            _check_columns(path, names, required)
            reader.fieldnames = names
            return [
                {key: (value or "").strip() for key, value in row.items() if key is not None}
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"{path} cannot be read as CSV: {error}") from error


def read_xlsx_rows(path: Path, required: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a worksheet as rows of stripped words; its first row names the columns.

    Of several sheets the one called ``all`` serves, else the first that has the columns.
    Empty rows at the end are left out.

    Raises:
        CohortError: If it is not a workbook, or no sheet has the required columns.
        ModuleNotFoundError: If openpyxl is not installed (the extra ``sources``).
    """
    # An extra: two public data sets need it.
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings():
            # Of drop-down lists and styles that openpyxl does not know.
            warnings.simplefilter("ignore", UserWarning)
            sheets = load_workbook(path, data_only=True).worksheets
    except (
        OSError,
        InvalidFileException,
        zipfile.BadZipFile,
        ParseError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        raise CohortError(f"{path} cannot be read as an Excel workbook: {error}") from error
    nearest: list[str] = []
    for sheet in sorted(sheets, key=lambda sheet: sheet.title.lower() != "all"):
        rows = [[_word(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
        while rows and not any(rows[-1]):
            rows.pop()
        names = rows[0] if rows else []
        if set(required) <= set(names):
            return [dict(zip(names, row, strict=True)) for row in rows[1:]]
        nearest = max(nearest, names, key=lambda found: len(set(required) & set(found)))
    _check_columns(path, nearest, required)
    raise CohortError(f"{path} holds no worksheet")


def _check_columns(path: Path, names: list[str], required: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise CohortError(f"{path} lacks the columns {', '.join(missing)}; found {names}")


def _word(cell: Any) -> str:
    """Return a cell as text: 49.0 is 49, as the sheet shows it."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell).strip()


def numbers(*words: str) -> tuple[float, ...]:
    """Read words as finite numbers.

    Raises:
        ValueError: If one is none; the message names them.
    """
    message = f"{', '.join(map(repr, words))} are not all finite numbers"
    try:
        values = tuple(float(word) for word in words)
    except ValueError as error:
        raise ValueError(message) from error
    if not all(math.isfinite(value) for value in values):
        raise ValueError(message)
    return values


def number_or_none(word: object) -> float | None:
    """Read a word as a finite number; nothing is none.

    Raises:
        ValueError: If it is no number.
    """
    return None if word in (None, "") else numbers(str(word))[0]


def yes_or_no(word: str) -> int | None:
    """Read a label: 1, 0, or nothing where it is empty.

    Raises:
        ValueError: If it is none of the words that tables use.
    """
    if word.lower() not in _YES_OR_NO:
        raise ValueError(f"{word!r} is not 0, 1 or nothing")
    return _YES_OR_NO[word.lower()]


def density_letter(word: str) -> str:
    """Turn ACR's numbers 1 to 4 of earlier editions into A to D; nothing where it is neither.

    ACR BI-RADS, fifth edition (2013), names the same four classes by letters.
    """
    letter = {"1": "A", "2": "B", "3": "C", "4": "D"}.get(word, word.upper())
    return letter if letter in ("A", "B", "C", "D") else ""
