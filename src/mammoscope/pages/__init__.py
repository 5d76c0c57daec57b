"""The house style of pages: one sheet of CSS, markup that escapes, small drawings.

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

__all__ = [
    "Html",
    "data_uri",
    "document",
    "element",
    "house_style",
    "joined",
    "picture",
    "table",
]
