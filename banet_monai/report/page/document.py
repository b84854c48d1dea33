"""The page from its parts, with a policy that lets nothing in from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from banet_monai.files import NOTICE
from banet_monai.report.page.case_list import case_list, large_view
from banet_monai.report.page.content import Page
from banet_monai.report.page.html import Html, el, section
from banet_monai.report.page.overview import agreement, overview
from banet_monai.report.page.script import SCRIPT
from banet_monai.report.page.style import style_sheet
from banet_monai.report.page.tables import case_table, left_out

__all__ = ["page_markup"]

LONGEST_MANIFEST = 200_000  # characters shown
SECTIONS = (("#overview", "Overview"), ("#cases", "Cases"), ("#table", "Table"), ("#run", "The run"))
PRIVATE = "This page shows data of patients, as it was asked to. Keep it accordingly."


def page_markup(page: Page) -> str:
    """The whole document as text."""
    has_private = any(case.private for case in page.cases)
    main = el(
        "main",
        None,
        el("p", {"class": "banner", "role": "note"}, PRIVATE) if has_private else None,
        overview(page),
        agreement(page),
        case_list(page),
        case_table(page),
        left_out(page),
        _run(page.results.manifest),
    )
    skip = el("a", {"class": "skip", "href": "#cases"}, "Skip to the cases")
    footer = el("footer", None, el("p", None, NOTICE, " This page is one file and loads nothing from elsewhere."))
    body = el("body", None, skip, _header(page), main, footer, large_view(), el("script", None, Html(SCRIPT)))
    return f"<!doctype html>\n{el('html', {'lang': 'en'}, _head(page), body)}\n"


def _head(page: Page) -> Html:
    style = style_sheet()
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(SCRIPT)}'"
    )
    return el(
        "head",
        None,
        el("meta", {"charset": "utf-8"}),
        el("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        el("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        el("meta", {"name": "color-scheme", "content": "light dark"}),
        el("meta", {"name": "robots", "content": "noindex"}),
        el("meta", {"name": "referrer", "content": "no-referrer"}),
        el("link", {"rel": "icon", "href": "data:,"}),  # else browsers ask for one
        el("title", None, page.title),
        el("style", None, Html(style)),
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _header(page: Page) -> Html:
    manifest = page.results.manifest
    versions = manifest.get("versions")
    version = versions.get("banet_monai", "") if isinstance(versions, Mapping) else ""
    facts = [
        f"{len(page.cases)} case{'' if len(page.cases) == 1 else 's'}",
        str(manifest.get("started", ""))[:10],
        f"banet-monai {version}" if version else "",
    ]
    there = [(place, text) for place, text in SECTIONS if page.cases or place != "#table"]
    nav = el("nav", {"aria-label": "Sections"}, [el("a", {"href": place}, text) for place, text in there])
    theme = el("button", {"type": "button", "id": "theme", "class": "script"}, "Dark page")
    told = el("p", {"class": "facts"}, " · ".join(fact for fact in facts if fact))
    return el("header", {"class": "top"}, el("h1", None, page.title), nav, theme, told)


def _run(manifest: Mapping[str, Any]) -> Html:
    """Where the results came from: the run's facts, and its manifest as it stands."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    is_cut = len(text) > LONGEST_MANIFEST
    said = f"\n… cut here; manifest.json has all of its {len(text)} characters." if is_cut else ""
    facts = [(el("dt", None, name), el("dd", None, value)) for name, value in _facts(manifest)]
    shown = el("pre", {"tabindex": "0"}, text[:LONGEST_MANIFEST], said)
    return section(
        "run",
        "The run",
        el("dl", {"class": "provenance"}, facts),
        el("details", None, el("summary", None, "manifest.json"), shown),
    )


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(key.capitalize(), str(manifest.get(key, ""))) for key in ("started", "ended", "device")]
    weights = manifest.get("weights")
    if isinstance(weights, Mapping) and weights:
        facts.append(("Weights", f"{weights.get('file', '')}, SHA-256 {weights.get('sha256', '')}"))
    versions = manifest.get("versions")
    if isinstance(versions, Mapping):
        facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return [(name, value) for name, value in facts if value]
