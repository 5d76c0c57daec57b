"""Reporting checklists as data, filled from a run; what a run cannot answer says so.

A list is a YAML file of items: number, section, ``asks`` (ours, not the paper's words),
``answer`` (names of :func:`~mammoscope.evaluation.checklists.answers.answers_of`) and ``left``,
what the authors still have to say. A new list is a new file.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from mammoscope.evaluation.checklists.answers import answers_of
from mammoscope.evaluation.evidence import Evidence

__all__ = ["CARD", "CHECKLISTS", "filled", "read_list"]

CARD = "model_card"
#: Names of the checklists, in the order of the page.
CHECKLISTS = ("claim_2024", "tripod_ai_2024")


def read_list(name: str) -> dict[str, Any]:
    """Return a list's title, source and items."""
    text = files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def filled(name: str, evidence: Evidence) -> dict[str, Any]:
    """Fill a list from a run.

    Returns:
        Title, source, and items with ``number``, ``section``, ``asks``, ``answers``
        (sentences), ``left`` (what remains to be said, or ``None``) and ``status``:
        *answered*, *in part* or *not answered*.
    """
    made, answers = read_list(name), answers_of(evidence["config"]["task"])
    items = []
    for item in made["items"]:
        named = [answers[answer](evidence) for answer in item.get("answer", ())]
        told = [sentence for sentence in named if sentence]
        left = item.get("left")
        status = ("in part" if left else "answered") if told else "not answered"
        items.append(
            {
                "number": str(item["number"]),
                "section": item["section"],
                "asks": item["asks"],
                "status": status,
                "answers": told,
                "left": left,
            }
        )
    return {"title": made["title"], "source": made["source"], "items": items}
