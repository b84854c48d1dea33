"""The top of the page: counts, means with their intervals, and how the figures are spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from banet_monai.report.page.charts import histogram, scatter
from banet_monai.report.page.content import Page, PageCase
from banet_monai.report.page.figures import MISSING, written
from banet_monai.report.page.html import Html, el, section

__all__ = ["agreement", "overview"]

PLOTTED = ("ja", "boundary_iou", "hd95", "uncertainty", "area", "volume", "longest_diameter")
MOST_PLOTS = 6
FEWEST_PLOTTED = 5  # cases in a histogram
METRIC_NAMES = {"ja": "JA (Jaccard)", "boundary_iou": "Boundary IoU", "hd95": "HD95", "assd": "ASSD", "nsd": "NSD"}
IN_UNITS = ("hd95", "assd")


def overview(page: Page) -> Html:
    """How many cases there are, and how many of them want to be looked at."""
    tiles = [
        el("div", {"class": "alert" if is_alert and count else None}, el("dt", None, name), el("dd", None, count))
        for name, count, is_alert in _tiles(page)
    ]
    notes = [el("li", None, note) for note in page.results.notes]
    return section(
        "overview",
        "Overview",
        el("dl", {"class": "tiles"}, tiles),
        el("ul", {"class": "notes"}, notes) if notes else None,
    )


def _tiles(page: Page) -> list[tuple[str, int, bool]]:
    """Name, count, and whether a count above 0 should stand out."""
    failed = sum(case.fate == "failed" for case in page.results.failed)
    tiles = [("cases with a result", len(page.cases), False), ("failed", failed, True)]
    if overall := page.summary.get("overall"):
        tiles.append(("missed", int(overall.get("misses", 0)), True))
        low = page.summary.get("low_ja", 0.65)
        tiles.append((f"with JA below {low:g}", int(overall.get("ja_below_low", 0)), True))
    tiles.append(("without foreground", sum(_is_empty(case) for case in page.cases), True))
    tiles.append(("with notes", sum(bool(case.notes) for case in page.cases), False))
    return tiles


def _is_empty(case: PageCase) -> bool:
    sizes = [case.figures[key] for key in ("area", "volume") if key in case.figures]
    return bool(sizes) and max(sizes) == 0


def agreement(page: Page) -> Html | None:
    """Means with their intervals beside histograms; nothing where there is neither."""
    plots = _plots(page)
    tables = _metric_tables(page.summary)
    if not plots and not tables:
        return None
    grid = el("div", {"class": "plots"}, plots)
    if not tables:
        return section("figures-of-all", "Distributions", grid)
    return section(
        "figures-of-all", "Agreement with the truth", el("div", {"class": "beside"}, el("div", None, tables), grid)
    )


def _plots(page: Page) -> list[Html]:
    plots = []
    keys = {column.key for column in page.columns}
    if {"ja", "uncertainty"} <= keys:
        x, y = ([case.figures.get(key, math.nan) for case in page.cases] for key in ("uncertainty", "ja"))
        plots.append(scatter(x, y, [case.result.name for case in page.cases], ("Uncertainty", "JA")))
    for column, unit in page.columns_with_units:
        values = [case.figures.get(column.key, math.nan) for case in page.cases if case.unit_of(column) == unit]
        if column.key not in PLOTTED or len(values) < FEWEST_PLOTTED:
            continue
        label = f"{column.heading} ({unit})" if unit else column.heading
        plots.append(histogram(values, label, bounds=(0.0, 1.0) if column.key in ("ja", "boundary_iou") else None))
    return [plot for plot in plots if plot][:MOST_PLOTS]


def _metric_tables(summary: Mapping[str, Any]) -> list[Html]:
    """One table per class, and one over the classes where there are several."""
    if not summary:
        return []
    groups = dict(summary["classes"])
    if len(groups) > 1:
        groups = {"mean over classes": summary["overall"], **groups}
    return [_metric_table(name, group, summary) for name, group in groups.items()]


def _metric_table(name: str, group: Mapping[str, Any], summary: Mapping[str, Any]) -> Html:
    rows = []
    for key, figures in group["metrics"].items():
        cells = [el("td", {"colspan": 3}, "cases in mm and in pixels")] if figures is None else _cells(key, figures)
        rows.append(el("tr", None, el("th", {"scope": "row"}, _metric_name(key, summary)), cells))
    told = (
        f"{name}: {group['n']} cases, {group['misses']} missed, {group['false_alarms']} false alarms, "
        f"{group['ja_below_low']} with JA below {summary.get('low_ja', 0.65):g}"
    )
    interval = f"{100 * summary['interval']['level']:g} % interval"
    head = el("tr", None, [el("th", {"scope": "col"}, text) for text in ("Figure", "Mean", interval, "Median")])
    table = el("table", None, el("caption", None, told), el("thead", None, head), el("tbody", None, rows))
    return el("div", {"class": "scroll"}, table)


def _metric_name(key: str, summary: Mapping[str, Any]) -> str:
    name, unit = METRIC_NAMES.get(key, key.capitalize()), summary.get("unit", "px")
    if unit == "mixed":
        return name
    if key == "nsd":
        return f"{name} at {summary.get('nsd_tolerance', 2):g} {unit}"
    return f"{name} ({unit})" if key in IN_UNITS else name


def _cells(key: str, figures: Mapping[str, Any]) -> list[Html]:
    digits = 2 if key in IN_UNITS else 3
    interval = figures["interval"]
    ends = " to ".join(written(value, digits) for value in interval) if interval else MISSING  # one case has none
    return [
        el("td", None, written(figures["mean"], digits)),
        el("td", {"class": "interval"}, ends),
        el("td", None, written(figures["median"], digits)),
    ]
