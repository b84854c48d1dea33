"""Two plots as SVG: reliability, and the error left when the least certain pictures go to a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banet_monai.files import write_beside
from banet_monai.report.page.html import Html, el

__all__ = ["Line", "draw_referral", "draw_reliability"]

WIDTH, HEIGHT, LEGEND = 420, 360, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 48
# Okabe and Ito: told apart by colour-blind eyes; grey for what is compared with
COLOURS = {"none": "#0072b2", "entropy": "#0072b2", "mc_dropout": "#d55e00", "tta": "#009e73", "ensemble": "#cc79a7"}
TITLES = {"entropy": "one pass", "mc_dropout": "MC dropout", "tta": "flips and turns", "ensemble": "ensemble"}
REFERENCE = "#777777"


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        name: in the legend.
        points: (x, y).
        color: of the line.
        dashes: as in SVG, "" for a solid line.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: str
    dashes: str = ""


def draw_reliability(results: dict[str, Any], path: Path) -> None:
    """Share of foreground over probability, per method, before and after its temperature."""
    lines = [Line("perfect", [(0, 0), (1, 1)], REFERENCE, "2 3")]
    for method, result in results.items():
        for key, dashes, note in (("calibration", "", ""), ("calibration_with_temperature", "5 3", ", temperature")):
            rows = [row for row in result[key]["reliability"] if row["pixels"]]
            points = [(row["confidence"], row["frequency"]) for row in rows]
            lines.append(Line(f"{TITLES[method]}{note}", points, COLOURS[method], dashes))
    axes = ("probability of foreground", "share of pixels that are foreground")
    _write(path, "Reliability", axes, lines, x=(0, 1), y=(0, 1), step=(0.2, 0.2))


def draw_referral(results: dict[str, Any], number: str, path: Path) -> None:
    """Mean 1 - JA of the pictures that stay, over the share that a person looks at."""
    first = next(iter(results.values()))
    share = first["referral"][number]["curve"]["share"]
    all_of_them = 1 - first["ja"]["mean"]
    lines = [Line("at random", [(0, all_of_them), (share[-1], all_of_them)], REFERENCE, "2 3")]
    for method, result in results.items():
        curve = result["referral"][number]["curve"]
        points = [(0.0, 1 - result["ja"]["mean"]), *zip(curve["share"], curve["error_left"], strict=True)]
        lines.append(Line(TITLES[method], points, COLOURS[method]))
    oracle = first["referral"][number]["curve"]["oracle"]
    lines.append(Line("worst first (oracle)", [(0, all_of_them), *zip(share, oracle, strict=True)], REFERENCE, "6 3"))
    axes = ("share of pictures that go to a person", "mean 1 - JA of those that stay")
    top = 0.05 * (int(max(y for line in lines for _, y in line.points) / 0.05) + 1)
    _write(path, "Error left after referral", axes, lines, x=(0, share[-1]), y=(0, top), step=(0.1, 0.05))


def _write(
    path: Path,
    title: str,
    axes: tuple[str, str],
    lines: Sequence[Line],
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    step: tuple[float, float],
) -> None:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return (
            LEFT + (right - LEFT) * (point[0] - x[0]) / (x[1] - x[0]),
            bottom - (bottom - TOP) * (point[1] - y[0]) / (y[1] - y[0]),
        )

    parts: list[Html] = [el("rect", {"width": WIDTH + LEGEND, "height": HEIGHT, "fill": "#ffffff"})]
    parts.append(_text(LEFT, 20, title, "start", 15))
    for number in range(round((x[1] - x[0]) / step[0]) + 1):
        value = x[0] + number * step[0]
        place = at((value, y[0]))[0]
        parts += [_rule(place, TOP, place, bottom), _text(place, bottom + 16, f"{value:g}", "middle")]
    for number in range(round((y[1] - y[0]) / step[1]) + 1):
        value = y[0] + number * step[1]
        place = at((x[0], value))[1]
        parts += [_rule(LEFT, place, right, place), _text(LEFT - 6, place + 4, f"{value:.2g}", "end")]
    parts.append(_text((LEFT + right) / 2, HEIGHT - 10, axes[0], "middle"))
    turned = {"transform": f"rotate(-90 14 {(TOP + bottom) / 2})"}
    parts.append(_text(14, (TOP + bottom) / 2, axes[1], "middle", 12, turned))
    for number, line in enumerate(lines):
        points = " ".join(f"{px:.1f},{py:.1f}" for px, py in map(at, line.points))
        style = {"fill": "none", "stroke": line.color, "stroke-width": 2, "stroke-dasharray": line.dashes or None}
        parts.append(el("polyline", {"points": points, **style}))
        place = TOP + 10 + 20 * number
        sample = {"x1": WIDTH, "y1": place, "x2": WIDTH + 26, "y2": place}
        parts += [el("line", {**sample, **style}), _text(WIDTH + 32, place + 4, line.name, "start")]
    size = {"width": WIDTH + LEGEND, "height": HEIGHT, "viewBox": f"0 0 {WIDTH + LEGEND} {HEIGHT}"}
    head = {
        "xmlns": "http://www.w3.org/2000/svg",
        **size,
        "font-family": "sans-serif",
        "role": "img",
        "aria-label": title,
    }
    text = str(el("svg", head, parts)) + "\n"
    write_beside(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _rule(x1: float, y1: float, x2: float, y2: float) -> Html:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    return el("line", {**ends, "stroke": "#dddddd"})


def _text(
    x: float, y: float, words: str, anchor: str, size: int = 12, further: dict[str, object] | None = None
) -> Html:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": size, "fill": "#222222"}
    return el("text", {**place, **(further or {})}, words)
