"""Elements of a page as text, safe by construction: what is not markup of ours is escaped wherever it stands."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Html", "el", "escape", "join", "scrolling", "section"]

VOID = frozenset({"br", "col", "img", "input", "link", "meta"})
NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # what no document may hold
REPLACEMENT = "\ufffd"


class Html(str):
    """Markup that this package has made; any other text is escaped before it becomes part of a page."""

    __slots__ = ()


Child = Any  # Html, text, a number, None, or an iterable of these


def escape(text: object) -> Html:
    """Text as markup, for the content of an element or the value of an attribute.

    Args:
        text: anything; control characters and halves of surrogate pairs (file names that are no UTF-8) become U+FFFD.
    """
    return text if isinstance(text, Html) else Html(html.escape(NO_TEXT.sub(REPLACEMENT, str(text)), quote=True))


def join(children: Child) -> Html:
    """Children one after the other; None is nothing, nested lists are flat."""
    if children is None:
        return Html("")
    if isinstance(children, str) or not isinstance(children, Iterable):
        return escape(children)
    return Html("".join(join(child) for child in children))


def el(tag: str, attributes: Mapping[str, object] | None = None, /, *children: Child) -> Html:
    """One element.

    Args:
        tag: its name; elements without content, such as ``img``, have no end tag.
        attributes: None and False leave an attribute out, True gives it without a value. Order stays.
        children: content; text is escaped.
    """
    parts = [tag]
    for name, value in (attributes or {}).items():
        if value is True:
            parts.append(name)
        elif value is not None and value is not False:
            parts.append(f'{name}="{html.escape(NO_TEXT.sub(REPLACEMENT, str(value)), quote=True)}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening) if tag in VOID else Html(f"{opening}{join(children)}</{tag}>")


def section(identifier: str, heading: str, *children: Child) -> Html:
    """A part of the page with its heading, which names it for screen readers."""
    named = f"{identifier}-heading"
    return el(
        "section",
        {"id": identifier, "aria-labelledby": named, "tabindex": "-1"},
        el("h2", {"id": named}, heading),
        children,
    )


def scrolling(table: Html, heading: str) -> Html:
    """A wide table in a box that the keyboard can scroll; ``heading``: id of what names it."""
    return el("div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-labelledby": heading}, table)
