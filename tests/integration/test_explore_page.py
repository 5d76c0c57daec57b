"""The page of ``mammoscope explore`` in real Chromium: it fits, and it asks for nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from mammoscope.cohort.explore import explore
from mammoscope.cohort.ingest import ingest
from mammoscope.cohort.prepare import prepare
from mammoscope.config import PreprocessConfig

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture
def page_file(rsna_folder, tmp_path) -> Path:
    cohort = tmp_path / "cohort"
    ingest(rsna_folder, cohort)
    prepare(cohort, PreprocessConfig(height=256, width=128))
    return explore(cohort).path


def test_the_page_fits_its_window_in_light_and_dark_and_asks_for_nothing(page_file):
    if not Path(CHROMIUM).exists() and not os.environ.get("CI"):
        pytest.skip("Chromium is absent; scripts/install-system-packages.sh installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        backgrounds = set()
        for width, scheme in ((800, "light"), (1280, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(page_file.as_uri())
            assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            cut = "td => td.scrollWidth > td.clientWidth + 1"
            assert page.evaluate(f"[...document.querySelectorAll('td')].filter({cut}).length") == 0
            broken = "i => { i.loading = 'eager'; return i.decode().then(() => i.naturalWidth) }"
            widths = page.evaluate(f"Promise.all([...document.images].map({broken}))")
            assert len(widths) > 20
            assert min(widths) > 0
            backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.close()
        assert len(backgrounds) == 2
        browser.close()
