"""Pages that follow from code are current, and links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from mammoscope.errors import Reason

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def test_every_reason_code_has_its_line():
    page = (ROOT / "docs" / "reference" / "reasons.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert listed == {reason.value for reason in Reason}


def test_the_settings_page_is_current():
    script = runpy.run_path(str(ROOT / "scripts" / "write_reference.py"))
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    assert page == script["settings_page"](), "run make reference"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_two_commands_stand_on_the_first_screen():
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:20])
    assert "make demo" in first_screen
    assert "make test" in first_screen
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, re.MULTILINE)
    assert re.search(r"^test:", makefile, re.MULTILINE)


def test_verbs_in_the_readme_exist():
    from mammoscope.cli.app import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"^\s+mammoscope (\w+) ", text, re.MULTILINE))
    assert named <= known
    assert len(named) >= 9
