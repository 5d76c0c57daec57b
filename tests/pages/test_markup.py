"""Text becomes safe where it enters a page, once."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from mammoscope.pages import (
    Html,
    data_uri,
    document,
    element,
    house_style,
    joined,
    picture,
    table,
)
from mammoscope.pages.drawing import bar, histogram, interval

HOSTILE = "<script>alert('x')</script>\"&"
SAFE = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;"


def test_text_and_attributes_are_escaped_and_markup_is_not_escaped_again():
    inner = element("b", HOSTILE, title=HOSTILE)
    assert inner == f'<b title="{SAFE}">{SAFE}</b>'
    assert element("p", inner, None, 3) == f"<p>{inner}3</p>"
    assert joined([inner, HOSTILE], " & ") == f"{inner} &amp; {SAFE}"
    assert element("p", Html("<i>"), class_="a", aria_label="b", id=None) == (
        '<p class="a" aria-label="b"><i></p>'
    )
    assert element("br") == "<br>"


def test_whatever_holds_a_word_escapes_it():
    parts = [
        table([HOSTILE], [[HOSTILE, HOSTILE]], HOSTILE),
        picture("data:,", HOSTILE),
        bar(0.5, HOSTILE),
        histogram([1.0, 2.0], HOSTILE, reference=[2.0, 1.0], ends=(HOSTILE, HOSTILE)),
        interval(0.2, 0.1, 0.4, upper=0.5, reference=0.3, label=HOSTILE),
        document(HOSTILE, joined([HOSTILE]), ""),
    ]
    for part in parts:
        assert "<script" not in part
        assert SAFE in part


def test_an_interval_is_drawn_where_its_numbers_lie():
    drawn = interval(0.25, 0.0, 0.9, upper=0.5, reference=0.5, label="")
    # 4 to 156 px: the middle, the left end, the right end (cut), the right end.
    assert 'cx="80.0"' in drawn
    assert 'x1="4.0" x2="156.0"' in drawn
    assert 'x1="156.0" x2="156.0"' in drawn


def test_a_picture_comes_back_out_of_its_uri():
    pixels = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
    head, _, body = data_uri(pixels).partition(",")
    assert head == "data:image/jpeg;base64"
    back = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_UNCHANGED)
    assert back.shape == (40, 50)
    assert np.abs(back.astype(int) - pixels).mean() < 3


def test_the_house_sheet_is_for_light_and_dark_and_asks_for_nothing():
    sheet = house_style()
    assert "prefers-color-scheme: dark" in sheet
    assert "url(" not in sheet
    assert "@import" not in sheet
