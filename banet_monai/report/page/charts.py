"""Histograms and scatter plots as inline SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from banet_monai.report.page.figures import written
from banet_monai.report.page.html import Html, el

__all__ = ["histogram", "scatter", "ticks"]

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 34, 18, 8, 34  # of the frame, in the units of the view box
MOST_BINS = 20
MOST_POINTS = 2000
EQUAL = 1e-6  # relative: values that differ by less are one value, rounded in different ways


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, math.floor(high / step + 1e-9) + 1)]


def histogram(values: Sequence[float], label: str, *, bounds: tuple[float, float] | None = None) -> Html:
    """How many cases have which value; NaN and infinity are left out and counted in the caption.

    Args:
        values: one per case.
        label: what they are, with the unit.
        bounds: ends of the axis; by default those of the values.
    """
    finite = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    missing = len(values) - len(finite)
    if not len(finite):
        return Html("")
    low, high = bounds or _round_bounds(float(finite.min()), float(finite.max()))
    bins = MOST_BINS if bounds else int(np.clip(round(math.sqrt(len(finite)) * 2), 5, MOST_BINS))
    counts, edges = np.histogram(np.clip(finite, low, high), bins=bins, range=(low, high))
    most = max(int(counts.max()), 1)
    width = (WIDTH - LEFT - RIGHT) / bins
    bars = [
        el(
            "rect",
            {
                "class": "bar",
                "x": f"{LEFT + index * width + 0.5:.2f}",
                "y": f"{_y(count, 0, most):.2f}",
                "width": f"{max(width - 1, 1):.2f}",
                "height": f"{_y(0, 0, most) - _y(count, 0, most):.2f}",
            },
            el("title", None, f"{count} cases from {written(edges[index], None)} to {written(edges[index + 1], None)}"),
        )
        for index, count in enumerate(counts.tolist())
        if count
    ]
    middle = float(np.median(finite))
    caption = f"Median {written(middle, None)}" + (f"; {missing} cases without a value" if missing else "")
    line = {"class": "median", "x1": f"{_x(middle, low, high):.2f}", "x2": f"{_x(middle, low, high):.2f}"}
    marker = el("line", {**line, "y1": TOP, "y2": HEIGHT - BOTTOM}, el("title", None, caption))
    told = (
        f"Histogram of {label} over {len(finite)} cases: {written(float(finite.min()), None)} to "
        f"{written(float(finite.max()), None)}, median {written(middle, None)}"
    )
    steps = [step for step in ticks(0, most, count=3) if step == round(step)]
    content = [_axes(low, high, label, [(step, _y(step, 0, most)) for step in steps]), bars, marker]
    return _chart(told, content, caption)


def scatter(x: Sequence[float], y: Sequence[float], names: Sequence[str], labels: tuple[str, str]) -> Html:
    """One figure against another, a point per case; cases that lack one of them are left out.

    Args:
        x: figures along the horizontal axis.
        y: figures along the vertical axis.
        names: of the cases.
        labels: of both axes.
    """
    points = [(a, b, name) for a, b, name in zip(x, y, names, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(points) < 3:
        return Html("")
    xs, ys = np.array([point[:2] for point in points], dtype=np.float64).T
    low, high = _round_bounds(float(xs.min()), float(xs.max()))
    bottom, top = _round_bounds(float(ys.min()), float(ys.max()))
    dots = [
        el(
            "circle",
            {"class": "dot", "cx": f"{_x(a, low, high):.1f}", "cy": f"{_y(b, bottom, top):.1f}", "r": 3},
            el("title", None, f"{name}: {a:.3g}, {b:.3g}"),
        )
        for a, b, name in points[:MOST_POINTS]
    ]
    rank = _rank_correlation(xs, ys)
    stated = "" if math.isnan(rank) else f"Rank correlation (Spearman) {rank:.2f} over {len(points)} cases"
    told = f"{labels[1]} against {labels[0]} of {len(points)} cases. {stated}"
    steps = [(step, _y(step, bottom, top)) for step in ticks(bottom, top, count=4)]
    return _chart(told, [_axes(low, high, f"{labels[0]} (across), {labels[1]} (up)", steps), dots], stated)


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:  # type: ignore[type-arg]
    from scipy.stats import rankdata

    first, second = rankdata(x), rankdata(y)
    if first.std() == 0 or second.std() == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _chart(told: str, content: object, caption: str) -> Html:
    svg = el("svg", {"class": "chart", "viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": told}, content)
    return el("figure", {"class": "plot"}, svg, el("figcaption", None, caption))


def _axes(low: float, high: float, label: str, heights: Sequence[tuple[float, float]]) -> Html:
    floor = HEIGHT - BOTTOM
    parts = [el("line", {"class": "axis", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": floor, "y2": floor})]
    for value in ticks(low, high):
        place = f"{_x(value, low, high):.2f}"
        parts.append(el("line", {"class": "axis", "x1": place, "x2": place, "y1": floor, "y2": floor + 4}))
        parts.append(el("text", {"x": place, "y": floor + 15, "text-anchor": "middle"}, _short(value)))
    for value, place_y in heights:
        y = f"{place_y:.2f}"
        parts.append(el("line", {"class": "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": y, "y2": y}))
        parts.append(el("text", {"x": LEFT - 5, "y": f"{place_y + 3.5:.2f}", "text-anchor": "end"}, _short(value)))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(el("text", {"class": "label", "x": middle, "y": HEIGHT - 4, "text-anchor": "middle"}, label))
    return Html("".join(parts))


def _short(value: float) -> str:
    """A number beside an axis: ``250k`` for 250000."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and letter == "M"):
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _round_bounds(low: float, high: float) -> tuple[float, float]:
    if high - low <= EQUAL * max(abs(low), abs(high)):
        spread = abs(low) * 0.1 or 0.5
        return low - spread, high + spread
    steps = ticks(low, high)
    step = steps[1] - steps[0] if len(steps) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)
