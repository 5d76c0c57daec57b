"""The gate: all rules on one image, with a table believed over its header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from mammoscope.config import EligibilityConfig
from mammoscope.dicom.elements import shown, tag_name
from mammoscope.dicom.eligibility import kinds, projections
from mammoscope.dicom.eligibility.rule import Candidate, Rule
from mammoscope.dicom.header import ImageHeader
from mammoscope.errors import DicomError, IneligibleImageError, Reason
from mammoscope.types import Laterality, View

__all__ = ["RULES", "Admission", "admit"]

#: All rules, the gravest first: of several that refuse, the first gives the reason code.
RULES: tuple[Rule, ...] = (
    kinds.not_a_mammogram,
    kinds.tomosynthesis,
    kinds.synthetic_2d,
    kinds.multiframe,
    kinds.for_processing,
    kinds.quality_control,
    kinds.specimen,
    kinds.not_a_breast,
    kinds.biopsy,
    kinds.contrast_enhanced,
    kinds.marked_up,
    kinds.burned_in_annotation,
    kinds.secondary_capture,
    projections.spot_compression,
    projections.magnification,
    projections.supplementary_view,
    projections.implant_displaced,
    projections.implant,
    projections.partial_view,
    projections.wrong_size,
    projections.implausible_size,
    kinds.warped,
    projections.unknown_laterality,
    projections.unsupported_view,
    projections.unknown_view,
    kinds.unknown_vendor,
)

_SPELLINGS = {"LEFT": "L", "RIGHT": "R"}

Word = TypeVar("Word", Laterality, View)


@dataclass(frozen=True, slots=True)
class Admission:
    """An image that may be scored.

    Attributes:
        laterality: Which breast.
        view: Which projection.
        warnings: ``code: sentence`` of each rule that warns, then contradictions.
    """

    laterality: Laterality
    view: View
    warnings: tuple[str, ...]


def admit(
    header: ImageHeader | None,
    config: EligibilityConfig,
    *,
    laterality: str | None = None,
    view: str | None = None,
    implant: bool | None = None,
    size: tuple[int, int] | None = None,
) -> Admission:
    """Let an image through, or say why not. What a table says is believed over the header.

    Args:
        header: Its header, ``None`` for a plain picture.
        config: What each rule does.
        laterality: The table's word, if it has one.
        view: The table's word, if it has one.
        implant: What the table says, if it does.
        size: (rows, columns) of a plain picture.

    Raises:
        IneligibleImageError: With the code of the gravest rule that refuses, and the
            sentences of all of them.
        DicomError: If the table's word is not one of the standard's.
    """
    candidate, notes = _candidate(header, laterality, view, implant, size)
    refused: list[tuple[Reason, str]] = []
    warned: list[str] = []
    for rule in RULES:
        sentence = rule.fires(candidate, config)
        if sentence is None:
            continue
        action = rule.action(config, listed=candidate.listed)
        if action == "refuse":
            refused.append((rule.code, sentence))
        elif action == "warn":
            warned.append(f"{rule.code}: {sentence}")
    if refused:
        raise IneligibleImageError(refused[0][0], "; and ".join(text for _, text in refused))
    if candidate.laterality is None or candidate.view is None:
        raise AssertionError("the rules on laterality and view refuse what has none")
    warnings = (*warned, *notes)
    return Admission(candidate.laterality, candidate.view, warnings)


def _candidate(
    header: ImageHeader | None,
    laterality: str | None,
    view: str | None,
    implant: bool | None,
    size: tuple[int, int] | None,
) -> tuple[Candidate, list[str]]:
    """Combine the table's words with the header's, with a sentence for each contradiction."""
    said = header.projection if header is not None else None
    notes = list(said.notes) if said else []
    side = _read(laterality, Laterality)
    projection = _read(view, View)
    if said:
        _compare(side, said.laterality or said.laterality_word, "laterality", notes)
        _compare(projection, said.view or said.view_word, "view", notes)
    if header is not None and None not in (implant, header.implant) and implant != header.implant:
        notes.append(
            f"the table says implant {implant:d}, {tag_name('BreastImplantPresent')} "
            f"{header.implant:d}: table believed"
        )
    rows, columns = (header.rows, header.columns) if header is not None else size or (0, 0)
    candidate = Candidate(
        rows=rows,
        columns=columns,
        header=header,
        laterality=side or (said.laterality if said else None),
        view=projection or (said.view if said else None),
        listed=side is not None and projection is not None,
        implant=implant if implant is not None else (header.implant if header else None),
    )
    return candidate, notes


def _read(word: str | None, kind: type[Word]) -> Word | None:
    """Read a table's word.

    Raises:
        DicomError: If it is not one that is accepted.
    """
    if word is None or not word.strip():
        return None
    try:
        return kind(_SPELLINGS.get(word.strip().upper(), word.strip().upper()))
    except ValueError as error:
        accepted = ", ".join(kind.__members__)
        message = f"{kind.__name__.lower()} is {word!r} in the table; accepted: {accepted}"
        raise DicomError(message, Reason.INVALID_VALUE) from error


def _compare(table: Word | None, header: str | None, name: str, notes: list[str]) -> None:
    if table is not None and header is not None and header != table:
        said = shown(header)
        notes.append(f"the table says {name} {table}, the header {said}: table believed")
