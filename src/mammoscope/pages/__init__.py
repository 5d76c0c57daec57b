"""The house style of pages: one sheet of CSS, markup that escapes, small drawings, scores in words.

A page is one file with everything inside: no script, no font, no address.
"""

from mammoscope.pages.markup import (
    Html,
    data_uri,
    document,
    element,
    house_style,
    joined,
    picture,
    table,
)
from mammoscope.pages.scores import written_score

__all__ = [
    "Html",
    "data_uri",
    "document",
    "element",
    "house_style",
    "joined",
    "picture",
    "table",
    "written_score",
]
