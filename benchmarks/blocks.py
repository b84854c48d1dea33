"""Blocks of a document that are written from results: ``<!-- KIND: NAME -->`` ... ``<!-- end -->``."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["fill_blocks"]


def fill_blocks(text: str, kind: str, known: Mapping[str, str]) -> str:
    """A document with its blocks as the results have them.

    Args:
        text: of the document.
        kind: the first word of its marks.
        known: Markdown by the name that a mark gives.

    Raises:
        ValueError: when it has no such block, or asks for one that there is not.
    """

    def written(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise ValueError(f"the document asks for the block '{kind}: {name}', the results give: {there}.")
        return f"<!-- {kind}: {name} -->\n\n{known[name]}\n\n<!-- end -->"

    filled, count = re.subn(rf"<!-- {kind}: (?P<name>\S+) -->\n.*?<!-- end -->", written, text, flags=re.DOTALL)
    if not count:
        raise ValueError(f"the document has no block '<!-- {kind}: NAME --> ... <!-- end -->'.")
    return filled
