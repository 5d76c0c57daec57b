"""``model_card.html`` and ``.md``, ``checklists.html`` and ``.json``: a run's testimony in words.

Every sentence is read from the run; what a run cannot know is marked *not answered*.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

from mammoscope.artefacts import write_json
from mammoscope.evaluation.checklists import CARD, CHECKLISTS, filled
from mammoscope.evaluation.evidence import Evidence
from mammoscope.evaluation.page_frame import framed
from mammoscope.pages import Html, element, joined
from mammoscope.results import RESEARCH_NOTICE

__all__ = ["write_model_card"]

_SYNTHETIC = (
    "The model was trained and measured on generated pictures. It says nothing about women."
)
_STYLE = """
.answers td, .answers th { vertical-align: top; }
.answers p { margin: 0 0 .35rem; }
.answers .number { color: var(--soft); width: 3rem; }
.answers .asks { width: 15rem; }
.answers tr.part th { color: var(--soft); font-weight: 600; padding-top: 1.1rem; }
.left { color: var(--soft); font-size: .9rem; }
.none { color: var(--soft); font-style: italic; }
"""


def write_model_card(folder: Path, evidence: Evidence) -> None:
    """Write the card as a page and as Markdown, the checklists as a page, and all as JSON.

    Args:
        folder: The report's folder.
        evidence: From :func:`mammoscope.evaluation.evidence.gather`.
    """
    card = filled(CARD, evidence)
    lists = {name: filled(name, evidence) for name in CHECKLISTS}
    synthetic = bool(evidence["run"]["synthetic"])
    for name, title, body in (
        (CARD, "Model card", [_table(card, numbered=False)]),
        ("checklists", "Reporting checklists", [_checklist(made) for made in lists.values()]),
    ):
        page = _page(title, body, synthetic=synthetic)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    (folder / "model_card.md").write_text(_markdown(card, synthetic=synthetic), encoding="utf-8")
    write_json(
        folder / "checklists.json",
        {
            "format_version": 1,
            "kind": "checklists",
            "synthetic": synthetic,
            "lists": {CARD: card, **lists},
        },
    )


def _page(title: str, body: list[Html], *, synthetic: bool) -> str:
    note = (
        "Every sentence was filled from the run's own files. What they do not hold is marked not "
        "answered; it is for the authors to say."
    )
    return framed(
        f"mammoscope {title.lower()}",
        title,
        [element("p", note, class_="note"), *body],
        synthetic=_SYNTHETIC if synthetic else None,
        style=_STYLE,
    )


def _checklist(made: dict[str, Any]) -> Html:
    counts = Counter(item["status"] for item in made["items"])
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("answered", "in part", "not answered")
    )
    text = f"{made['source']}; items in our own short words. Of {len(made['items'])}: {told}."
    return joined([element("h2", made["title"]), element("p", text), _table(made, numbered=True)])


def _table(made: dict[str, Any], *, numbered: bool) -> Html:
    columns = 3 if numbered else 2
    body = []
    for section, items in groupby(made["items"], key=lambda item: str(item["section"])):
        head = element("th", section, colspan=columns, scope="rowgroup")
        body.append(element("tr", head, class_="part"))
        for item in items:
            number = element("td", item["number"], class_="number") if numbered else None
            asks = element("th", item["asks"], scope="row", class_="asks")
            body.append(element("tr", number, asks, element("td", _answer(item))))
    table = element("table", element("tbody", *body), class_="answers")
    return element("div", table, class_="scroll")


def _answer(item: dict[str, Any]) -> Html:
    told = [element("p", sentence) for sentence in item["answers"]]
    if not told:
        told.append(element("p", "not answered", class_="none"))
    if item["left"]:
        told.append(element("p", f"For the authors: {item['left']}.", class_="left"))
    return joined(told)


def _markdown(card: dict[str, Any], *, synthetic: bool) -> str:
    lines = [f"# {card['title']}", "", RESEARCH_NOTICE]
    if synthetic:
        lines += ["", f"**SYNTHETIC images.** {_SYNTHETIC}"]
    for section, items in groupby(card["items"], key=lambda item: str(item["section"])):
        lines += ["", f"## {section}"]
        for item in items:
            told = _escaped(" ".join(item["answers"])) or "*Not answered.*"
            lines += ["", f"**{item['asks']}.** {told}"]
            if item["left"]:
                lines += ["", f"*For the authors: {item['left']}.*"]
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    """Keep names from tables, of machines and sites, from being read as markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", " ".join(text.split()))
