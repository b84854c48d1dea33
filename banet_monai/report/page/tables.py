"""The table of all cases, which sorts by its headings, and the table of what has no result."""

from __future__ import annotations

import math
from collections.abc import Sequence

from banet_monai.report.page.content import Page, PageCase
from banet_monai.report.page.figures import Column, written
from banet_monai.report.page.html import Html, el, scrolling, section

__all__ = ["case_table", "left_out"]


def case_table(page: Page) -> Html | None:
    """One row per case, one column per figure."""
    if not page.cases:
        return None
    wanted = page.columns_with_units
    heads = [_heading(page, "Case", "", None, is_sorted=page.sorted_by == "name")]
    seen: set[str] = set()
    for column, unit in wanted:
        is_first = column.key not in seen  # of a figure in two units, the first one
        seen.add(column.key)
        is_sorted = is_first and column.key == page.sorted_by
        heads.append(_heading(page, column.heading, unit, column, is_sorted=is_sorted))
    table = el(
        "table",
        {"id": "figures", "class": "cases"},
        el("caption", None, "All cases. The headings sort the table and the pictures above."),
        el("thead", None, el("tr", None, heads)),
        el("tbody", None, [_row(case, number, wanted) for number, case in enumerate(page.cases, start=1)]),
    )
    return section("table", "Table", scrolling(table, "table-heading"))


def _heading(page: Page, text: str, unit: str, column: Column | None, *, is_sorted: bool) -> Html:
    button = el(
        "button",
        {"type": "button"},
        el("span", {"class": "name"}, text),
        el("span", {"class": "unit"}, f" {unit}") if unit else None,
    )
    direction = "ascending" if page.ascending else "descending"
    attributes = {
        "scope": "col",
        "aria-sort": direction if is_sorted else None,
        "data-kind": "text" if column is None else "number",
        "data-worst": "low" if column is None else column.worst,
        "data-name": f"{text} ({unit})" if unit else text,
    }
    return el("th", attributes, button)


def _row(case: PageCase, number: int, wanted: Sequence[tuple[Column, str]]) -> Html:
    name = el("bdi", None, case.result.name)
    first = el("a", {"href": f"#case-{number}"}, name) if case.has_card else name
    cells = [el("th", {"scope": "row", "data-value": case.result.name}, first)]
    for column, unit in wanted:
        value = case.figures.get(column.key, math.nan) if case.unit_of(column) == unit else math.nan
        data = "" if math.isnan(value) else f"{value:.9g}".replace("inf", "Infinity")  # as JavaScript reads it
        cells.append(el("td", {"data-value": data}, written(value, column.digits)))
    return el("tr", {"data-case": number, "data-name": case.result.name, "data-warned": bool(case.notes)}, cells)


def left_out(page: Page) -> Html | None:
    """Files that failed, then those that were skipped, each with the reason."""
    if not page.results.failed:
        return None
    rows = [
        el(
            "tr",
            None,
            el("th", {"scope": "row"}, el("bdi", None, item.path)),
            el("td", {"class": "text"}, item.fate),
            el("td", {"class": "text"}, item.reason),
        )
        for item in sorted(page.results.failed, key=lambda item: (item.fate != "failed", item.path))
    ]
    names = ("File", "What became of it", "Why")
    head = el("tr", None, [el("th", {"scope": "col", "class": "text"}, text) for text in names])
    told = f"{len(rows)} file{'' if len(rows) == 1 else 's'}"
    table = el("table", None, el("caption", None, told), el("thead", None, head), el("tbody", None, rows))
    return section("left-out", "Without a result", scrolling(table, "left-out-heading"))
