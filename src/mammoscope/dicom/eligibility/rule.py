"""What a rule of the gate is: what it looks at, what it answers, and how it is worded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mammoscope.config import EligibilityConfig
from mammoscope.dicom.elements import shown, tag_name
from mammoscope.dicom.header import ImageHeader
from mammoscope.errors import Reason
from mammoscope.types import Laterality, View

__all__ = ["Candidate", "Rule", "candidate_rule", "rule", "sentence", "typed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An image at the gate.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        header: Its header, ``None`` for a plain picture.
        laterality: Which breast, by the table or else the header.
        view: Which projection, by the table or else the header.
        listed: A table gives both.
        implant: Whether there is an implant, by the table or else the header.
    """

    rows: int
    columns: int
    header: ImageHeader | None
    laterality: Laterality | None
    view: View | None
    listed: bool
    implant: bool | None


OfCandidate = Callable[[Candidate, EligibilityConfig], str | None]
OfHeader = Callable[[ImageHeader], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: Its reason code, and its key in :class:`EligibilityConfig` if it has one.
        standard: Where DICOM defines what it reads.
        reads: Keywords of the elements that it looks at.
        fires: Gives a sentence (tag and keyword, value found, what is accepted), or ``None``.
    """

    code: Reason
    standard: str
    reads: tuple[str, ...]
    fires: OfCandidate

    def action(self, config: EligibilityConfig, *, listed: bool) -> str:
        """Return ``accept``, ``warn`` or ``refuse`` for an image that the rule fires on.

        A rule without a key in the configuration refuses: nothing could be scored.
        """
        action = str(getattr(config, self.code, "refuse"))
        if action == "listed":
            return "warn" if listed else "refuse"
        return action


def candidate_rule(code: Reason, standard: str, *reads: str) -> Callable[[OfCandidate], Rule]:
    """Make a rule of a function of the candidate and the configuration."""
    return lambda fires: Rule(code, standard, reads, fires)


def rule(code: Reason, standard: str, *reads: str) -> Callable[[OfHeader], Rule]:
    """Make a rule of a function of the header alone; on a picture it never fires."""

    def make(look: OfHeader) -> Rule:
        def fires(candidate: Candidate, _: EligibilityConfig) -> str | None:
            return None if candidate.header is None else look(candidate.header)

        return Rule(code, standard, reads, fires)

    return make


def sentence(keyword: str, value: object, accepted: str) -> str:
    """Return the sentence of an element with a value that is not accepted."""
    return f"{tag_name(keyword)} is {shown(value)}; accepted: {accepted}"


def typed(header: ImageHeader, pattern: str, kind: str, keywords: Iterable[str]) -> str | None:
    """Search what people typed: the last resort, where no code says it.

    Only the word that matched is shown, since such texts may name the patient.
    """
    for keyword, text in header.descriptions:
        match = re.search(pattern, text, re.IGNORECASE) if keyword in keywords else None
        if match is not None:
            return (
                f"{tag_name(keyword)} holds {shown(match[0])!r}, which tells of {kind}; "
                "accepted: descriptions without it"
            )
    return None
