"""mini-DDSM: DDSM's scanned films at a smaller size, with its annotations.

Lekamlage et al. 2020, https://ardisdataset.github.io/MiniDDSM/; DDSM: Heath et al. 2000.

- Folders say Normal, Benign or Cancer of a **case**, not of a breast. ``cancer`` is 0 in Normal
  and Benign. In Cancer it is 1 for both views of a breast where an ``.OVERLAY`` file says
  MALIGNANT, unknown where one is UNPROVEN, and 0 for the other breast. Where no breast of the
  case is marked malignant, it is unknown for both.
- The patient is the case's letter and number. ``age`` and ``density`` (1 to 4 is A to D) are those
  of the ``.ics`` file.
- A finding is an abnormality of the ``.OVERLAY`` file; its boundary, drawn on the scanned film, is
  scaled by the film's size in the ``.ics`` file. A mask file (``…_Mask.png``), which may be an
  outline, belongs to the boundary that it agrees with, or is a finding of unknown kind.

The distribution holds each film several times (PNG of 16 bits, JPEG, a selection with more
masks): the 16-bit one is read where it is there, the others are refused as duplicates.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from mammoscope.cohort.findings import kind_of
from mammoscope.cohort.manifest import Reject
from mammoscope.cohort.sources.ddsm_files import Abnormality, Case, read_ics, read_overlay
from mammoscope.cohort.sources.listing import (
    ListedFinding,
    ListedImage,
    Listing,
    files_below,
    first_below,
)
from mammoscope.cohort.sources.tables import density_letter
from mammoscope.errors import CohortError, Reason
from mammoscope.preprocessing.reading import PICTURE_SUFFIXES

__all__ = ["MiniDdsmSource"]

_STATUSES = ("Normal", "Benign", "Cancer")
_FOLDERS = ("MINI-DDSM-Complete-PNG-16", "MINI-DDSM-Complete-*")
_FILM = re.compile(
    r"(?P<case>(?P<patient>[A-D]_\d+)_\d+)\.(?P<film>(?P<side>LEFT|RIGHT)_(?P<view>CC|MLO))"
)
_MASK = re.compile(r"_mask\d*$", re.IGNORECASE)


@dataclass(slots=True)
class _Case:
    """The files of one case."""

    status: str
    films: dict[Path, re.Match[str]] = field(default_factory=dict)
    masks: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    overlays: dict[str, tuple[Path, list[Abnormality]]] = field(default_factory=dict)
    facts: Case = field(default_factory=lambda: Case("", "", {}))


class MiniDdsmSource:
    """The download of ``MINI-DDSM-Complete-PNG-16`` or its JPEG twin."""

    name = "mini-ddsm"

    def recognises(self, root: Path) -> bool:
        """One of the distribution's folders, or one that holds it."""
        return _base(root) is not None

    def list_images(self, root: Path) -> Listing:
        """List the films by case, with what ``.ics`` and ``.OVERLAY`` files say."""
        base = _base(root)
        if base is None:
            raise CohortError(f"{root} holds no folder {_FOLDERS[0]} with {', '.join(_STATUSES)}")
        cases: dict[Path, _Case] = {}
        rejects: list[Reject] = []
        for path in files_below(base, [*PICTURE_SUFFIXES, ".ics", ".overlay"]):
            parts = path.relative_to(base).parts
            if parts[0] in _STATUSES and len(parts) > 1:
                case = cases.setdefault(path.parent, _Case(parts[0]))
                rejects += _take(root, case, path)
            else:
                rejects.append(_stray(root, path, f"it lies in none of {', '.join(_STATUSES)}"))
        images: list[ListedImage] = []
        for folder in sorted(cases):
            case = cases[folder]
            images += [_listed(root, case, path, film) for path, film in case.films.items()]
            rejects += _unclaimed(root, case)
        pictures = files_below(root, PICTURE_SUFFIXES)
        for path in pictures:
            if not path.is_relative_to(base):
                relative = path.relative_to(root).as_posix()
                message = f"{relative} is another copy of a film of {base.name}, which is read"
                rejects.append(Reject("ingest", relative, "", Reason.DUPLICATE, message))
        return Listing(images, rejects)


def _base(root: Path) -> Path | None:
    """Return the folder that holds Normal, Benign and Cancer."""
    if root.resolve().match("MINI-DDSM-Complete-*") and any((root / s).is_dir() for s in _STATUSES):
        return root
    return first_below(root, _FOLDERS[:1]) or first_below(root, _FOLDERS[1:])


def _take(root: Path, case: _Case, path: Path) -> list[Reject]:
    """Add one file to its case; returns why where it is no part of one."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".ics":
            case.facts = read_ics(path.read_text(encoding="latin-1"))
            return []
        stem = _MASK.sub("", path.stem)
        film = _FILM.fullmatch(stem)
        if film is None:
            return [_stray(root, path, "its name is not of the form A_1699_1.LEFT_CC")]
        if suffix == ".overlay":
            case.overlays[stem] = path, read_overlay(path.read_text(encoding="latin-1"))
        elif stem != path.stem:
            case.masks[stem].append(path)
        else:
            case.films[path] = film
    except (OSError, ValueError) as error:
        origin = path.relative_to(root).as_posix()
        message = f"{origin} cannot be read: {error}"
        return [Reject("ingest", origin, "", Reason.INVALID_FINDING, message)]
    return []


def _listed(root: Path, case: _Case, path: Path, film: re.Match[str]) -> ListedImage:
    findings: list[ListedFinding] = []
    if path.stem in case.overlays:
        overlay, abnormalities = case.overlays[path.stem]
        origin = overlay.relative_to(root).as_posix()
        drawn_on = case.facts.sizes.get(film["film"])
        findings = [
            ListedFinding(
                origin=origin,
                kind=kind_of(lesion),
                malignant={"MALIGNANT": 1, "UNPROVEN": None}.get(abnormality.pathology, 0),
                birads=abnormality.assessment or None,
                description=f"{lesion} {described}".strip(),
                contour=abnormality.contour,
                drawn_on=drawn_on,
            )
            for abnormality in abnormalities
            for lesion, described in abnormality.lesions
        ]
    malignant = 0 if case.status != "Cancer" else None
    findings += [
        ListedFinding(mask.relative_to(root).as_posix(), malignant=malignant, masks=(mask,))
        for mask in case.masks[path.stem]
    ]
    assessments = [finding.birads for finding in findings if finding.birads]
    words = {
        "image_id": path.stem,
        "patient_id": film["patient"],
        "exam_id": film["case"],
        "laterality": film["side"],
        "view": film["view"],
        "cancer": _cancer(case, film["side"]),
        "birads": max(assessments, default=""),
        "age": case.facts.age,
        "density": density_letter(case.facts.density),
    }
    return ListedImage(path, words, tuple(findings))


def _cancer(case: _Case, side: str) -> str:
    """Say of a breast what its case's status and its overlays say together."""
    if case.status != "Cancer":
        return "0"
    pathologies: dict[str, set[str]] = {"LEFT": set(), "RIGHT": set()}
    for stem, (_, abnormalities) in case.overlays.items():
        breast = "LEFT" if ".LEFT_" in stem else "RIGHT"
        pathologies[breast] |= {abnormality.pathology for abnormality in abnormalities}
    if "MALIGNANT" in pathologies[side]:
        return "1"
    marked = any("MALIGNANT" in found for found in pathologies.values())
    return "0" if marked and "UNPROVEN" not in pathologies[side] else ""


def _unclaimed(root: Path, case: _Case) -> list[Reject]:
    """List overlays and masks of films that are not there."""
    films = {path.stem for path in case.films}
    files = [path for stem, (path, _) in case.overlays.items() if stem not in films]
    files += [path for stem, paths in case.masks.items() if stem not in films for path in paths]
    return [_stray(root, path, "its film is not there") for path in files]


def _stray(root: Path, path: Path, why: str) -> Reject:
    relative = path.relative_to(root).as_posix()
    return Reject("ingest", relative, "", Reason.NO_TABLE_ROW, f"{relative} is not used: {why}")
