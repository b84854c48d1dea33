"""The summary as one HTML file: the plot, what breaks, all figures. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from banet_monai.files import NOTICE
from banet_monai.report.page.html import Html, el, section
from banet_monai.robustness.plots import draw
from banet_monai.robustness.tables import card_cells, figures_cells, rule_in_words

__all__ = ["page"]

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --rule: #c8c8c8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --rule: #4a4f57; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--rule); padding: .3rem .6rem; text-align: left; vertical-align: top; }
.scroll { overflow-x: auto; }
svg { max-width: 100%; height: auto; background: #ffffff; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(summary: Mapping[str, Any], *, title: str = "Robustness") -> str:
    """The page as text.

    Args:
        summary: of :func:`banet_monai.robustness.summary.summarise`, with the facts of the run.
        title: heading.
    """
    failed = summary["failed"]
    missing = el("ul", None, [el("li", None, f"{name}: {reason}") for name, reason in failed.items()])
    body = [
        el("h1", None, title),
        el("p", None, f"{summary['cases']} cases under {len(summary['conditions'])} conditions. {NOTICE}"),
        section(
            "shifts",
            "Which shifts break the outlines",
            el("p", None, rule_in_words(summary)),
            _table(card_cells(summary)),
        ),
        section("plot", "Figures over strength", el("div", {"class": "scroll"}, Html(draw(summary)))),
        section(
            "figures",
            "All figures",
            el("p", None, "Mean with a 95 % interval over cases." if summary["cases"] > 1 else "Of a single case."),
            _table(figures_cells(summary)),
        ),
        section("failed", "Cases left out", missing) if failed else None,
        section("run", "The run", el("ul", None, [el("li", None, f"{k}: {v}") for k, v in _facts(summary).items()])),
    ]
    head = [
        el("meta", {"charset": "utf-8"}),
        el("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}),
        el("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        el("title", None, title),
        el("style", None, Html(STYLE)),
    ]
    return (
        "<!doctype html>\n"
        + str(el("html", {"lang": "en"}, el("head", None, head), el("body", None, el("main", None, body))))
        + "\n"
    )


def _facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    return dict(summary.get("facts", {}))


def _table(cells: Sequence[Sequence[str]]) -> Html:
    """A table whose first row is the head; ``**words**`` are bold."""
    head, *rows = cells
    body = [el("tr", None, [el("td", None, _cell(cell)) for cell in row]) for row in rows]
    top = el("tr", None, [el("th", {"scope": "col"}, cell) for cell in head])
    table = el("table", None, el("thead", None, top), el("tbody", None, body))
    return el("div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": f"Table, {head[0]}"}, table)


def _cell(text: str) -> object:
    return el("strong", None, text.strip("*")) if text.startswith("**") else text
