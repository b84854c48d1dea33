"""Small multiples as one SVG: a panel for each kind of shift, four figures over its strength.

Colours are those of Okabe and Ito, told apart by colour-blind eyes; dashes and marks tell the lines apart without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from banet_monai.report.page.html import Html, el
from banet_monai.robustness.catalogue import CLEAN
from banet_monai.robustness.summary import HOLDS, UNNOTICED
from banet_monai.robustness.tables import by_corruption

__all__ = ["draw"]

COLUMNS = 4
PANEL, TALL = 236, 190  # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 34, 14, 30, 44  # inside a panel
HEAD = 34  # for the legend
INK, GRID, PAPER, ALARM = "#222222", "#dddddd", "#ffffff", "#b30000"


class _Series(NamedTuple):
    """A figure and how its line looks."""

    figure: str
    name: str
    color: str
    dashes: str
    mark: str


SERIES = (
    _Series("ja", "JA", "#0072b2", "", "circle"),
    _Series("boundary_iou", "Boundary IoU", "#009e73", "6 3", "square"),
    _Series("expected_error", "expected error (the uncertainty number)", "#d55e00", "", "diamond"),
    _Series("ece", "ECE (calibration)", "#777777", "2 3", "none"),
)


def draw(summary: Mapping[str, Any]) -> str:
    """The plot as SVG text, complete in itself.

    Args:
        summary: of :func:`banet_monai.robustness.summary.summarise`.
    """
    groups = list(by_corruption(summary).values())
    clean = next(row for row in summary["conditions"] if row["corruption"] == CLEAN)
    columns = max(1, min(COLUMNS, len(groups)))
    lines = -(-len(groups) // columns)
    width, height = max(columns * PANEL, 3 * PANEL), HEAD + lines * TALL
    parts: list[Html] = [el("rect", {"width": width, "height": height, "fill": PAPER}), _legend()]
    for number, conditions in enumerate(groups):
        place = f"translate({number % columns * PANEL} {HEAD + number // columns * TALL})"
        parts.append(el("g", {"transform": place}, _panel(clean, conditions)))
    label = f"Figures of {summary['cases']} cases over the strength of {len(groups)} kinds of shift"
    head = {"xmlns": "http://www.w3.org/2000/svg", "width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
    return str(el("svg", {**head, "font-family": "sans-serif", "role": "img", "aria-label": label}, parts)) + "\n"


def _legend() -> Html:
    parts: list[Html] = []
    place = 8.0
    for series in SERIES:
        middle = HEAD / 2
        parts += [_line([(place, middle), (place + 30, middle)], series), _mark(place + 15, middle, series)]
        parts.append(_text(place + 36, middle + 4, series.name, "start"))
        place += 60 + 6.3 * len(series.name)
    return Html("".join(parts))


def _panel(clean: Mapping[str, Any], conditions: Sequence[Mapping[str, Any]]) -> Html:
    rows = [clean, *conditions]
    right, bottom = PANEL - RIGHT, TALL - BOTTOM
    step = (right - LEFT - 16) / max(1, len(rows) - 1)

    def at(index: int, value: float) -> tuple[float, float]:
        return LEFT + 8 + index * step, bottom - (bottom - TOP) * min(max(value, 0.0), 1.0)

    parts: list[Html] = [_text(LEFT, 18, conditions[0]["title"], "start", size=13, weight="bold")]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = at(0, value)[1]
        parts.append(el("line", {"x1": LEFT, "x2": right, "y1": f"{y:.1f}", "y2": f"{y:.1f}", "stroke": GRID}))
        if value in (0.0, 0.5, 1.0):
            parts.append(_text(LEFT - 5, y + 4, f"{value:g}", "end", size=11))
    for index, row in enumerate(rows):
        words = "clean" if row is clean else f"{row['amount']:g}"
        broken = row is not clean and row["verdict"] != HOLDS
        silent = broken and row["verdict"] == UNNOTICED
        weight = "bold" if broken else "normal"
        parts.append(
            _text(at(index, 0)[0], bottom + 15, words, "middle", size=11, weight=weight, color=ALARM if silent else INK)
        )
    parts.append(_text((LEFT + right) / 2, bottom + 30, conditions[0]["unit"], "middle", size=11))
    if any(row["verdict"] == UNNOTICED for row in conditions):
        parts.append(_text(right, 18, "breaks unnoticed", "end", size=11, weight="bold", color=ALARM))
    elif any(row["verdict"] != HOLDS for row in conditions):
        parts.append(_text(right, 18, "breaks, noticed", "end", size=11))
    for series in reversed(SERIES):  # JA on top
        points = [at(index, row[series.figure]["mean"]) for index, row in enumerate(rows)]
        for index, row in enumerate(rows):
            parts.append(_bar([at(index, end) for end in row[series.figure]["interval"] or ()], series))
        parts.append(_line(points, series))
        for row, point in zip(rows, points, strict=True):
            told = f"{series.name} {row[series.figure]['mean']:.3f}"
            parts.append(_mark(*point, series, told))
    return Html("".join(parts))


def _bar(ends: Sequence[tuple[float, float]], series: _Series) -> Html:
    """An interval from its lower to its upper end; nothing for a single case, which has none."""
    if not ends:
        return Html("")
    (x, low), (_, high) = ends
    return el(
        "line",
        {
            "x1": f"{x:.1f}",
            "x2": f"{x:.1f}",
            "y1": f"{low:.1f}",
            "y2": f"{high:.1f}",
            "stroke": series.color,
            "stroke-width": 1,
        },
    )


def _line(points: Sequence[tuple[float, float]], series: _Series) -> Html:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = {"fill": "none", "stroke": series.color, "stroke-width": 2, "stroke-dasharray": series.dashes or None}
    return el("polyline", {"points": path, **style})


def _mark(x: float, y: float, series: _Series, told: str = "") -> Html:
    title = el("title", None, told) if told else None
    if series.mark == "circle":
        return el("circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": 3.2, "fill": series.color}, title)
    if series.mark == "square":
        box = {"x": f"{x - 2.8:.1f}", "y": f"{y - 2.8:.1f}", "width": 5.6, "height": 5.6}
        return el("rect", {**box, "fill": series.color}, title)
    if series.mark == "diamond":
        corners = f"{x:.1f},{y - 4:.1f} {x + 4:.1f},{y:.1f} {x:.1f},{y + 4:.1f} {x - 4:.1f},{y:.1f}"
        return el("polygon", {"points": corners, "fill": series.color}, title)
    return Html("")


def _text(
    x: float, y: float, words: str, anchor: str, *, size: int = 12, weight: str = "normal", color: str = INK
) -> Html:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": size, "fill": color}
    return el("text", {**place, "font-weight": None if weight == "normal" else weight}, words)
