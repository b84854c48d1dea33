"""One case on the page: its pictures, its figures, and what should be known about it."""

from __future__ import annotations

from collections.abc import Sequence

from banet_monai.report.page.content import PageCase
from banet_monai.report.page.drawing import class_color, panel_figure
from banet_monai.report.page.figures import Column, written
from banet_monai.report.page.html import Html, el
from banet_monai.report.page.views import Strip

__all__ = ["card", "line_sample", "strips_markup"]

MANY = 4  # panels in a row from which on they are small


def card(case: PageCase, number: int, columns: Sequence[Column], lead: Column | None) -> Html:
    """The article of one case.

    Args:
        case: what to show.
        number: its number on the page.
        columns: figures to show.
        lead: the figure that the first order goes by.
    """
    name = case.result.name
    said = ""
    if lead is not None and lead.key in case.figures:
        said = f"{lead.heading} {_figure(case, lead)}"
    large = el(
        "button",
        {"type": "button", "class": "script"},
        "Large view",
        el("span", {"class": "visually-hidden"}, f" of {name}"),
    )
    heading = el("h3", {"id": f"name-{number}"}, el("bdi", None, name))
    top = el("header", None, heading, el("span", {"class": "lead"}, said), large)
    values = [
        (column.heading, _figure(case, column)) for column in columns if column.on_card and column.key in case.figures
    ]
    rows = [el("div", None, el("dt", None, key), el("dd", None, text)) for key, text in values]
    rows += [el("div", {"class": "private"}, el("dt", None, k), el("dd", None, v)) for k, v in case.private.items()]
    figures = el("dl", {"class": "values"}, rows)
    notes = el("ul", {"class": "notes"}, [el("li", None, note) for note in case.notes]) if case.notes else None
    attributes = {"class": "case", "id": f"case-{number}", "data-case": number, "data-name": name}
    shown = case.pictures or el("p", {"class": "muted"}, "There is no picture to show.")
    pictures = el("div", {"class": "pictures"}, shown)
    beside = el("div", {"class": "body"}, pictures, el("div", {"class": "told"}, figures, _classes(case)))
    return el("article", {**attributes, "aria-labelledby": f"name-{number}"}, top, beside, notes)


def strips_markup(strips: Sequence[Strip], *, limit: int) -> Html:
    """Rows of panels.

    Args:
        strips: what to show.
        limit: bytes that all pictures together may have, before base64.
    """
    count = sum(panel.picture is not None for strip in strips for panel in strip.panels)
    parts: list[Html] = []
    for strip in strips:
        if strip.title:
            parts.append(el("p", {"class": "strip-title"}, strip.title))
        kind = "strip many" if len(strip.panels) > MANY else f"strip of-{len(strip.panels)}"
        parts.append(el("div", {"class": kind}, [panel_figure(p, limit=limit // max(count, 1)) for p in strip.panels]))
    return Html("".join(parts))


def _figure(case: PageCase, column: Column) -> str:
    value = case.figures[column.key]
    unit = case.unit_of(column)
    text = written(value, column.digits)
    return f"{text} {unit}".rstrip() if text[-1].isdigit() else text


def _classes(case: PageCase) -> Html | None:
    """Figures per class, where there are several."""
    classes = case.result.classes
    if len(classes) < 2:
        return None
    rows = [
        el(
            "tr",
            None,
            el("th", {"scope": "row"}, name),
            [el("td", None, written(row.get(key, float("nan")), 3)) for key in ("ja", "dice", "boundary_iou")],
        )
        for name, row in classes.items()
    ]
    head = el("tr", None, [el("th", {"scope": "col"}, text) for text in ("Class", "JA", "Dice", "Boundary IoU")])
    table = el(
        "table",
        None,
        el("caption", {"class": "visually-hidden"}, "Figures per class"),
        el("thead", None, head),
        el("tbody", None, rows),
    )
    return el("div", {"class": "scroll"}, table)


def line_sample(label: int | None) -> Html:
    """A short piece of an outline for the legend; None: of the truth."""
    place = {"d": "M4 8H36"}
    color = {"stroke": class_color(label)} if label is not None else {}
    group = el(
        "g", {"class": "truth" if label is None else "prediction"}, el("path", {"class": "line", **color, **place})
    )
    box = {"viewBox": "0 0 40 16", "width": 40, "height": 16, "aria-hidden": "true", "focusable": "false"}
    return el("span", {"class": "sample"}, el("svg", box, group))
