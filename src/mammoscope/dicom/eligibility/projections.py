"""Rules on what is shown of the breast: side, view, its modifiers, implants, and size."""

from __future__ import annotations

from collections.abc import Iterable

from mammoscope.config import EligibilityConfig
from mammoscope.dicom.elements import tag_name
from mammoscope.dicom.eligibility.rule import Candidate, candidate_rule, rule, sentence, typed
from mammoscope.dicom.header import ImageHeader
from mammoscope.dicom.views import MODIFIERS
from mammoscope.errors import Reason
from mammoscope.types import View

_SUPPLEMENTARY = frozenset({"CV", "RL", "RM", "RI", "RS", "TAN", "IMF", "AX"})
_MEANING = {row.word: row.meaning for row in MODIFIERS}


@rule(
    Reason.SPOT_COMPRESSION,
    "PS3.16 CID 4015",
    "ViewModifierCodeSequence",
    "ViewPosition",
    "SeriesDescription",
    "PaddleDescription",
)
def spot_compression(header: ImageHeader) -> str | None:
    """Compression of a part of the breast with a small paddle."""
    found = _modified(header, ["S"], "views of the whole breast")
    if found or header.projection.coded:
        return found
    keywords = ["SeriesDescription", "PaddleDescription"]
    return typed(header, r"\bspot\b", "spot compression", keywords)


@candidate_rule(
    Reason.MAGNIFICATION,
    "PS3.16 CID 4015; PS3.3 C.8.11.7",
    "ViewModifierCodeSequence",
    "ViewPosition",
    "EstimatedRadiographicMagnificationFactor",
    "SeriesDescription",
)
def magnification(candidate: Candidate, config: EligibilityConfig) -> str | None:
    """A view of a part of the breast, enlarged by its distance from the detector."""
    header = candidate.header
    if header is None:
        return None
    found = _modified(header, ["M"], "contact views")
    if found:
        return found
    factor = header.magnification
    if factor is not None and factor > config.max_magnification:
        keyword = "EstimatedRadiographicMagnificationFactor"
        return sentence(keyword, factor, f"up to {config.max_magnification:g}")
    if header.projection.coded:
        return None
    words = r"\bmag(?:nif(?:ied|ication))?\b"
    return typed(header, words, "a magnification view", ["SeriesDescription"])


@rule(Reason.SUPPLEMENTARY_VIEW, "PS3.16 CID 4015", "ViewModifierCodeSequence", "ViewPosition")
def supplementary_view(header: ImageHeader) -> str | None:
    """A view that shows a part or is turned: cleavage, rolled, tangential and such."""
    return _modified(header, _SUPPLEMENTARY, "views as for screening")


@rule(
    Reason.IMPLANT_DISPLACED,
    "PS3.16 CID 4015",
    "ViewModifierCodeSequence",
    "ViewPosition",
    "SeriesDescription",
)
def implant_displaced(header: ImageHeader) -> str | None:
    """An implant pushed back behind the compressed breast (Eklund)."""
    found = _modified(header, ["ID"], "views with the implant in place")
    if found or header.projection.coded:
        return found
    words = r"\bimplant[ -]displaced\b|\bEklund\b"
    return typed(header, words, "an implant-displaced view", ["SeriesDescription"])


@candidate_rule(Reason.IMPLANT, "PS3.3 C.8.11.7", "BreastImplantPresent")
def implant(candidate: Candidate, _: EligibilityConfig) -> str | None:
    """A breast with an implant, by the table or the header."""
    if not candidate.implant:
        return None
    if candidate.header is not None and candidate.header.implant:
        return sentence("BreastImplantPresent", "YES", "NO")
    return f"the table says implant ({tag_name('BreastImplantPresent')}) is 1; accepted: 0"


@rule(Reason.PARTIAL_VIEW, "PS3.3 C.8.11.7.1.3", "PartialView", "PartialViewCodeSequence")
def partial_view(header: ImageHeader) -> str | None:
    """One of several images of a breast that is larger than the detector."""
    if header.partial_view != "YES":
        return None
    return sentence("PartialView", "YES", "NO, the whole breast in one image")


@candidate_rule(Reason.WRONG_SIZE, "PS3.3 C.7.6.3", "Rows", "Columns")
def wrong_size(candidate: Candidate, config: EligibilityConfig) -> str | None:
    """A thumbnail."""
    rows, columns = candidate.rows, candidate.columns
    if min(rows, columns) >= config.min_side_px:
        return None
    return (
        f"{tag_name('Rows')} x {tag_name('Columns')} is {rows} x {columns}; accepted: "
        f"{config.min_side_px} pixels and more on either side"
    )


@candidate_rule(
    Reason.IMPLAUSIBLE_SIZE, "PS3.3 10.7, C.8.11.4", "PixelSpacing", "ImagerPixelSpacing"
)
def implausible_size(candidate: Candidate, config: EligibilityConfig) -> str | None:
    """A long side that no mammogram has: a patch, or a wrong spacing."""
    header = candidate.header
    if header is None or header.pixel_spacing_mm is None:
        return None
    row, column = header.pixel_spacing_mm
    long_side = max(candidate.rows * row, candidate.columns * column)
    if config.min_long_side_mm <= long_side <= config.max_long_side_mm:
        return None
    return (
        f"the long side is {long_side:.4g} mm by {tag_name('PixelSpacing')} or "
        f"{tag_name('ImagerPixelSpacing')} {row:.4g}, {column:.4g} mm; accepted: "
        f"{config.min_long_side_mm:g} to {config.max_long_side_mm:g} mm"
    )


@candidate_rule(
    Reason.UNKNOWN_LATERALITY,
    "PS3.3 C.8.11.7; PS3.16 CID 244",
    "ImageLaterality",
    "FrameLaterality",
    "Laterality",
    "AnatomicRegionModifierSequence",
)
def unknown_laterality(candidate: Candidate, _: EligibilityConfig) -> str | None:
    """Neither table nor header says which breast, or the header says both."""
    if candidate.laterality is not None:
        return None
    said = candidate.header.projection.laterality_word if candidate.header else None
    if said:
        return sentence("ImageLaterality", said, "L, R; no table says it either")
    return f"laterality is in neither the table nor {tag_name('ImageLaterality')}; accepted: L, R"


@candidate_rule(Reason.UNSUPPORTED_VIEW, "PS3.16 CID 4014", "ViewCodeSequence", "ViewPosition")
def unsupported_view(candidate: Candidate, _: EligibilityConfig) -> str | None:
    """A projection that is known and that no model of ours is trained for."""
    if candidate.view is not None or candidate.header is None:
        return None
    if not _unsupported(candidate.header):
        return None
    said = candidate.header.projection.view_word
    return (
        f"{tag_name('ViewCodeSequence')} or {tag_name('ViewPosition')} is {said}; accepted: "
        f"{', '.join(View)}"
    )


@candidate_rule(Reason.UNKNOWN_VIEW, "PS3.16 CID 4014", "ViewCodeSequence", "ViewPosition")
def unknown_view(candidate: Candidate, _: EligibilityConfig) -> str | None:
    """Neither table nor header says a projection that we know."""
    if candidate.view is not None or _unsupported(candidate.header):
        return None
    said = candidate.header.projection.view_word if candidate.header else None
    if said:
        return sentence("ViewPosition", said, f"{', '.join(View)}; no table says it either")
    return (
        f"view is in neither the table, {tag_name('ViewPosition')} nor "
        f"{tag_name('ViewCodeSequence')}; accepted: {', '.join(View)}"
    )


def _modified(header: ImageHeader, words: Iterable[str], accepted: str) -> str | None:
    """Say which of these view modifiers is there."""
    there = sorted(set(header.projection.modifiers) & set(words))
    if not there:
        return None
    found = ", ".join(f"{word} ({_MEANING[word]})" for word in there)
    return (
        f"{tag_name('ViewModifierCodeSequence')} or {tag_name('ViewPosition')} is {found}; "
        f"accepted: {accepted}"
    )


def _unsupported(header: ImageHeader | None) -> bool:
    views = {"XCC", "XCCL", "XCCM", "FB", "SIO", "ISO", "SPECIMEN"}
    return header is not None and header.projection.view_word in views
