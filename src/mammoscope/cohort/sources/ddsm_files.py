"""DDSM's own annotation files: ``.ics`` of a case and ``.OVERLAY`` of an image.

Heath et al. 2000; the formats are described at
http://www.eng.usf.edu/cvprg/Mammography/DDSM/case_description.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Abnormality", "Case", "read_ics", "read_overlay"]

# (x, y) of chain code 0 to 7: up, then clockwise.
_STEPS = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))


@dataclass(frozen=True, slots=True)
class Case:
    """What an ``.ics`` file says.

    Attributes:
        age: PATIENT_AGE, a word.
        density: DENSITY, a word: 1 to 4.
        sizes: (rows, columns) of each scanned film, by name such as ``LEFT_CC``.
    """

    age: str
    density: str
    sizes: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Abnormality:
    """One abnormality of an ``.OVERLAY`` file.

    Attributes:
        lesions: (type, description) of each LESION_TYPE; there may be two.
        assessment: ASSESSMENT, a word.
        pathology: PATHOLOGY, a word.
        contour: Its boundary: centres of pixels of the scanned film, x0, y0, x1, y1 and so on.
    """

    lesions: tuple[tuple[str, str], ...]
    assessment: str
    pathology: str
    contour: tuple[float, ...]


def read_ics(text: str) -> Case:
    """Read an ``.ics`` file; what it does not say is empty."""
    fields: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        size = re.search(r"\bLINES (\d+) PIXELS_PER_LINE (\d+)", value)
        if size is not None:
            sizes[key] = int(size[1]), int(size[2])
        else:
            fields[key] = value.strip()
    return Case(fields.get("PATIENT_AGE", ""), fields.get("DENSITY", ""), sizes)


def read_overlay(text: str) -> list[Abnormality]:
    """Read an ``.OVERLAY`` file: its abnormalities with their outer boundaries.

    Cores, which lie within a boundary, are left out.

    Raises:
        ValueError: If an abnormality has no boundary, or one that is no chain code.
    """
    found: list[Abnormality] = []
    for block in re.split(r"^ABNORMALITY\s+\d+\s*$", text, flags=re.MULTILINE)[1:]:
        lesions = re.findall(r"^LESION_TYPE\s+(\S+)[ \t]*(.*?)\s*$", block, re.MULTILINE)
        boundary = re.search(r"^\s*BOUNDARY\s*\n([\d\s]+)#", block, re.MULTILINE)
        if boundary is None:
            raise ValueError(f"abnormality {len(found) + 1} has no BOUNDARY that ends in #")
        found.append(
            Abnormality(
                tuple(lesions) or (("", ""),),
                _field(block, "ASSESSMENT"),
                _field(block, "PATHOLOGY"),
                _follow([int(word) for word in boundary[1].split()]),
            )
        )
    return found


def _field(block: str, name: str) -> str:
    match = re.search(rf"^{name}\s+(\S+)", block, re.MULTILINE)
    return match[1] if match else ""


def _follow(numbers: list[int]) -> tuple[float, ...]:
    """Turn a start (column, row) and a chain code into the corners of a contour."""
    if len(numbers) < 2 or any(step > 7 for step in numbers[2:]):
        raise ValueError("a BOUNDARY is a column, a row and steps of 0 to 7")
    x, y = numbers[:2]
    points = [(x, y)]
    last = -1
    for step in numbers[2:]:
        x, y = x + _STEPS[step][0], y + _STEPS[step][1]
        if step == last:
            points[-1] = (x, y)
        else:
            points.append((x, y))
        last = step
    return tuple(value + 0.5 for point in points for value in point)
