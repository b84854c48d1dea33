"""Plots of measurements that span powers of ten, as PNG, drawn with Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from banet_monai.files import write_beside

__all__ = ["Line", "draw", "log_ticks"]

SCALE, FONT = 2, 13  # pixels of the file per pixel of the layout; pixels of the letters
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, LEGEND = 400, 300, 62, 24, 30, 44, 20
INK, GRID = (40, 40, 40), (225, 225, 225)
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115))  # Okabe and Ito: told apart by colour-blind eyes
MOST_TICKS, WIDE = 6, 8

Box = tuple[float, float, float, float]
Panel = tuple[str, str, "Sequence[Line]"]  # titles of the two axes, and what is drawn


@dataclass(frozen=True)
class Line:
    """Measurements with a name for the legend; y above zero."""

    name: str
    points: Sequence[tuple[float, float]]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose a range, or powers alone where these would be too many."""
    for steps in ((1, 2, 5), (1,)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        below = [tick for tick in every if tick <= low * (1 + 1e-9)]
        above = [tick for tick in every if tick >= high * (1 - 1e-9)]
        ticks = [tick for tick in every if below[-1] <= tick <= above[0]]
        if len(ticks) <= MOST_TICKS:
            break
    return ticks


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Panels side by side, each with its own axes and the names of its lines below.

    Args:
        path: a PNG.
        panels: for each the title of its x axis, of its y axis (logarithmic) and its lines. The x axis is logarithmic
            where it spans a factor of 8; its ticks are the measured values.
    """
    most = max(len(lines) for _, _, lines in panels)
    size = (len(panels) * WIDTH, HEIGHT + (LEGEND * most if most > 1 else 0))
    image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), "white")
    canvas = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        _draw_panel(canvas, number * WIDTH, panel)
    file = io.BytesIO()
    image.quantize(64).save(file, format="PNG", optimize=True)
    write_beside(path, lambda partial: partial.write_bytes(file.getvalue()))


def _draw_panel(canvas: ImageDraw.ImageDraw, offset: float, panel: Panel) -> None:
    x_title, y_title, lines = panel
    xs = sorted({x for line in lines for x, _ in line.points})
    ys = [y for line in lines for _, y in line.points]
    y_ticks = log_ticks(min(ys), max(ys))
    log_x = 0 < WIDE * xs[0] <= xs[-1]
    box = (offset + LEFT, TOP, offset + WIDTH - RIGHT, HEIGHT - BOTTOM)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            box[0] + (box[2] - box[0]) * _share(x, xs[0], xs[-1], log=log_x),
            box[3] - (box[3] - box[1]) * _share(y, y_ticks[0], y_ticks[-1], log=True),
        )

    for tick in y_ticks:
        place = at(xs[0], tick)[1]
        _line(canvas, [(box[0], place), (box[2], place)], GRID)
        _text(canvas, (box[0] - 6, place), f"{tick:g}", "rm")
    for tick in xs:
        place = at(tick, y_ticks[0])[0]
        _line(canvas, [(place, box[1]), (place, box[3])], GRID)
        _text(canvas, (place, box[3] + 6), f"{tick:g}", "mt")
    _text(canvas, ((box[0] + box[2]) / 2, HEIGHT - 6), x_title, "mb")
    _text(canvas, (offset + 8, 6), y_title, "lt")
    for number, line in enumerate(lines):
        color = COLOURS[number]
        places = [at(x, y) for x, y in line.points]
        _line(canvas, places, color, 2)
        for x, y in places:
            canvas.ellipse([(x - 3) * SCALE, (y - 3) * SCALE, (x + 3) * SCALE, (y + 3) * SCALE], fill=color)
        if len(lines) > 1:
            below = HEIGHT + LEGEND * number + LEGEND / 2
            _line(canvas, [(box[0], below), (box[0] + 24, below)], color, 2)
            _text(canvas, (box[0] + 30, below), line.name, "lm")


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    """How far a value lies from the low to the high end of an axis; the middle of an axis without length."""
    if high == low:
        return 0.5
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _line(
    canvas: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: tuple[int, int, int], width: int = 1
) -> None:
    canvas.line([(x * SCALE, y * SCALE) for x, y in points], fill=color, width=width * SCALE)


def _text(canvas: ImageDraw.ImageDraw, place: tuple[float, float], words: str, anchor: str) -> None:
    font = ImageFont.load_default(FONT * SCALE)
    canvas.text((place[0] * SCALE, place[1] * SCALE), words, fill=INK, font=font, anchor=anchor)
