"""Which breast and which projection a header says: codes, words, and what contradicts.

The tables are PS3.16 CID 4014 "View for Mammography" and CID 4015 "View Modifier for
Mammography": SNOMED CT identifiers, and the older SNOMED RT ones, which devices go on
writing under the designators SRT and SNM3. Identifiers do not collide, so the designator
is not asked for. The words are the standard's "ACR MQCM 1999 equivalents", which View
Position (0018,5101) carries too: a modifier is a prefix (``MCC``), a suffix (``MLOID``) or
takes the view's place (``AT``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.dataset import Dataset

from mammoscope.dicom.elements import items, shown, tag_name, text, word
from mammoscope.types import Laterality, View

__all__ = [
    "MODIFIERS",
    "VIEWS",
    "Coded",
    "Projection",
    "parse_view_position",
    "read_projection",
]


@dataclass(frozen=True, slots=True)
class Coded:
    """One row of a context group: its word, its identifiers (old ones too), its meaning."""

    word: str
    codes: tuple[str, ...]
    meaning: str


#: CID 4014. The rows for XCC and the Y-codes are of earlier versions, which the standard
#: asks receivers to know.
VIEWS = (
    Coded("CC", ("399162004", "R-10242"), "cranio-caudal"),
    Coded("MLO", ("399368009", "R-10226"), "medio-lateral oblique"),
    Coded("ML", ("399260004", "R-10224"), "medio-lateral"),
    Coded("LM", ("399352003", "R-10228"), "latero-medial"),
    Coded("LMO", ("399099002", "R-10230"), "latero-medial oblique"),
    Coded("FB", ("399196006", "R-10244"), "caudo-cranial (from below)"),
    Coded("SIO", ("399188001", "R-102D0"), "superolateral to inferomedial oblique"),
    Coded("ISO", ("441555000", "R-40AAA"), "inferomedial to superolateral oblique"),
    Coded("XCCL", ("399192008", "R-1024A", "Y-X1770"), "cranio-caudal exaggerated laterally"),
    Coded("XCCM", ("399101009", "R-1024B", "Y-X1771"), "cranio-caudal exaggerated medially"),
    Coded("XCC", ("399265009", "R-102CF"), "cranio-caudal exaggerated"),
    Coded("SPECIMEN", ("127457009", "G-8310"), "tissue specimen from breast"),
)

#: CID 4015.
MODIFIERS = (
    Coded("CV", ("399161006", "R-102D2"), "cleavage"),
    Coded("AT", ("399011000", "R-102D1"), "axillary tail"),
    Coded("RL", ("399197002", "R-102D3"), "rolled lateral"),
    Coded("RM", ("399226006", "R-102D4"), "rolled medial"),
    Coded("RI", ("414493004", "R-102CA"), "rolled inferior"),
    Coded("RS", ("415670009", "R-102C9"), "rolled superior"),
    Coded("ID", ("399209000", "R-102D5"), "implant displaced"),
    Coded("M", ("399163009", "R-102D6"), "magnification"),
    Coded("S", ("399055006", "R-102D7"), "spot compression"),
    Coded("TAN", ("399110001", "R-102C2"), "tangential"),
    Coded("NP", ("442581004", "R-40AB3"), "nipple in profile"),
    Coded("AC", ("441752004", "P2-00161"), "anterior compression"),
    Coded("IMF", ("442593008", "R-40ABE"), "infra-mammary fold"),
    Coded("AX", ("442580003", "R-40AB2"), "axillary tissue"),
)

_VIEW_OF = {code: row.word for row in VIEWS for code in row.codes}
_MODIFIER_OF = {code: row.word for row in MODIFIERS for code in row.codes}

# CID 244 "Laterality", of which a region's modifier is taken.
_SIDE_OF = {
    "7771000": "L", "G-A101": "L", "24028007": "R", "G-A100": "R", "51440002": "B", "G-A102": "B",
}  # fmt: skip

_REPLACING = {"AT": ("MLO", ("AT",)), "CV": ("CC", ("CV",)), "TAN": (None, ("TAN",))}
# The longer word first. M and S behind the view are seen, though the standard has them before.
_POSITION = re.compile(
    r"([MS]{0,2})(XCCL|XCCM|XCC|SPECIMEN|LMO|MLO|SIO|ISO|CC|ML|LM|FB)"
    r"((?:IMF|RL|RM|RI|RS|ID|NP|AC|AX|AT|CV|M|S)*)"
)
_SUFFIX = re.compile(r"IMF|RL|RM|RI|RS|ID|NP|AC|AX|AT|CV|M|S")


@dataclass(frozen=True, slots=True)
class Projection:
    """What a header says of side and projection.

    Attributes:
        laterality: Which breast, where it is one.
        laterality_word: The header's word for it; ``B`` is both breasts in one image.
        view: The projection, where it is one of ours.
        view_word: The header's word for it, without modifiers: any of CID 4014, or what
            nobody knows.
        modifiers: Words of CID 4015, sorted.
        coded: A View Code Sequence with a known code is there.
        notes: A sentence for each contradiction within the header.
    """

    laterality: Laterality | None
    laterality_word: str | None
    view: View | None
    view_word: str | None
    modifiers: tuple[str, ...]
    coded: bool
    notes: tuple[str, ...]


def read_projection(dataset: Dataset) -> Projection:
    """Read laterality, view and view modifiers.

    Of the view, View Code Sequence (0054,0220) is believed over View Position (0018,5101),
    which it replaces (PS3.3 C.8.11.5.1.1). Of the side, the image's own element is believed
    over the frame's, the series' and the anatomic region's.
    """
    notes: list[str] = []
    side = _laterality_word(dataset, notes)
    view_word, modifiers, coded = _view_words(dataset, notes)
    return Projection(
        laterality=Laterality(side) if side and side in Laterality.__members__ else None,
        laterality_word=side,
        view=_house_view(view_word, modifiers),
        view_word=view_word,
        modifiers=modifiers,
        coded=coded,
        notes=tuple(notes),
    )


def parse_view_position(position: str) -> tuple[str | None, tuple[str, ...]]:
    """Take a View Position apart.

    Args:
        position: Such as ``MLO``, ``CCID``, ``MLO ID``, ``SMCC``, ``AT``.

    Returns:
        The view's word of CID 4014 (``None`` where there is none that we know), and the
        words of its modifiers, sorted.
    """
    plain = re.sub(r"[\s_-]", "", position.upper())
    if plain in _REPLACING:
        return _REPLACING[plain]
    match = _POSITION.fullmatch(plain)
    if match is None:
        return None, ()
    return match[2], tuple(sorted({*match[1], *_SUFFIX.findall(match[3])}))


def _view_words(dataset: Dataset, notes: list[str]) -> tuple[str | None, tuple[str, ...], bool]:
    position = word(dataset, "ViewPosition")
    positioned, modifiers = parse_view_position(position) if position else (None, ())
    codes = items(dataset, "ViewCodeSequence")
    views = {_VIEW_OF[code] for code in map(_code, codes) if code in _VIEW_OF}
    found = set(modifiers) | _modifiers(dataset, codes, notes)
    if len(views) > 1:
        # Nobody can say which of them it is.
        return ", ".join(sorted(views)), tuple(sorted(found)), True
    if views:
        (coded,) = views
        if positioned not in (None, coded):
            notes.append(
                f"{tag_name('ViewCodeSequence')} says {coded}, {tag_name('ViewPosition')} "
                f"{positioned}: the code is believed"
            )
        return coded, tuple(sorted(found)), True
    unknown = position or next(filter(None, map(_code, codes)), None)
    return positioned or unknown, tuple(sorted(found)), False


def _modifiers(dataset: Dataset, views: tuple[Dataset, ...], notes: list[str]) -> set[str]:
    """Read the modifiers inside the view's items, where they belong, and beside them."""
    found: set[str] = set()
    for holder in (dataset, *views):
        for code in map(_code, items(holder, "ViewModifierCodeSequence")):
            if code in _MODIFIER_OF:
                found.add(_MODIFIER_OF[code])
            elif code:
                notes.append(
                    f"{tag_name('ViewModifierCodeSequence')} holds {shown(code)}, which is not "
                    "of CID 4015: not understood"
                )
    return found


def _laterality_word(dataset: Dataset, notes: list[str]) -> str | None:
    """Return the first word that says a side; the others are compared with it."""
    said = [
        ("ImageLaterality", word(dataset, "ImageLaterality")),
        ("FrameLaterality", _frame_laterality(dataset)),
        ("Laterality", word(dataset, "Laterality")),
        ("AnatomicRegionModifierSequence", _region_laterality(dataset)),
    ]
    known = [(keyword, side) for keyword, side in said if side in ("L", "R", "B")]
    if not known:
        return next((side for _, side in said if side), None)
    first, believed = known[0]
    notes += [
        f"{tag_name(first)} is {believed}, {tag_name(keyword)} {side}: the former is believed"
        for keyword, side in known[1:]
        if side != believed
    ]
    return believed


def _frame_laterality(dataset: Dataset) -> str | None:
    """Read the side from the functional groups that all frames share (PS3.3 C.7.6.16.2.8)."""
    for group in items(dataset, "SharedFunctionalGroupsSequence"):
        for anatomy in items(group, "FrameAnatomySequence"):
            return word(anatomy, "FrameLaterality")
    return None


def _region_laterality(dataset: Dataset) -> str | None:
    sides = {
        _SIDE_OF[code]
        for region in items(dataset, "AnatomicRegionSequence")
        for code in map(_code, items(region, "AnatomicRegionModifierSequence"))
        if code in _SIDE_OF
    }
    return "B" if len(sides) > 1 else next(iter(sides), None)


def _house_view(view: str | None, modifiers: tuple[str, ...]) -> View | None:
    """Return the view in the RSNA table's words; AT is a modifier of MLO in the standard."""
    if view == "MLO" and "AT" in modifiers:
        return View.AT
    return View(view) if view and view in View.__members__ else None


def _code(item: Dataset) -> str:
    return (text(item, "CodeValue") or "").upper()
