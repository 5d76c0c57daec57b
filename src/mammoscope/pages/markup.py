"""Markup that escapes by itself: text becomes safe where it enters, and only there."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

import cv2
import numpy as np

from mammoscope.types import ByteImage

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

_VOID = frozenset({"img", "meta", "br", "hr", "col"})
_JPEG_QUALITY = 88


class Html(str):
    """Markup that is safe already; any other value is escaped where it meets one."""

    __slots__ = ()


def joined(parts: Iterable[object], separator: str = "") -> Html:
    """Join values, escaping each that is not markup; ``None`` is left out."""
    return Html(escape(separator).join(_safe(part) for part in parts if part is not None))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return one element.

    Args:
        tag: Its name.
        children: Markup or plain values, which are escaped; ``None`` is left out.
        attributes: ``class_`` and ``aria_label`` become ``class`` and ``aria-label``;
            ``None`` is left out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{joined(children)}</{tag}>")


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    caption: object = None,
    **attributes: object,
) -> Html:
    """Return a table whose first column names the rows, in a box that scrolls if it must.

    Args:
        head: A value per column.
        rows: Values per column.
        caption: What was counted, and how.
        attributes: Of the table.
    """
    body = [
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])
        )
        for row in rows
    ]
    made = element(
        "table",
        None if caption is None else element("caption", caption),
        element("thead", element("tr", *(element("th", cell, scope="col") for cell in head))),
        element("tbody", *body),
        **attributes,
    )
    return element("div", made, class_="scroll")


def picture(uri: str, alt: str, **attributes: object) -> Html:
    """Return an image from a data URI, with words for those who cannot see it."""
    return element("img", src=uri, alt=alt, loading="lazy", **attributes)


def data_uri(pixels: ByteImage) -> str:
    """Return a grey image, (H, W) uint8, or RGB, (H, W, 3), as a JPEG in a data URI."""
    # OpenCV's order of colours is BGR.
    ordered = np.ascontiguousarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    done, stream = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError(f"an image of shape {pixels.shape} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(stream.tobytes()).decode("ascii")


def house_style() -> str:
    """Return the sheet that every page of the house shares."""
    return files(__package__).joinpath("house.css").read_text(encoding="utf-8")


def document(title: str, body: Html, style: str) -> str:
    """Return a whole page.

    Args:
        title: Plain text.
        body: What stands between the body's tags.
        style: CSS of ours.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _safe(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value), quote=True)
