"""Two plots of a report, drawn with Pillow: learning curves, and the paired differences with their intervals."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from banet_monai.files import write_beside
from benchmarks.accuracy.folds import parts_of

if TYPE_CHECKING:
    from benchmarks.accuracy.tables import Report

__all__ = ["draw_curves", "draw_differences"]

SCALE = 2  # pixels of the file per pixel of the layout
FONT = 13
LINE = 24  # height of a row
LABELS = 230  # width of the column of names at least
PANEL = 330  # width of a panel of differences
MARGIN = 24
INK, FAINT, GRID = (40, 40, 40), (120, 120, 120), (225, 225, 225)
COLOURS = (  # Okabe and Ito: told apart by colour-blind eyes
    (0, 0, 0),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (0, 114, 178),
    (213, 94, 0),
    (150, 150, 150),
)
DIFFERENCES = (("ja", "JA"), ("boundary_iou", "Boundary IoU"))
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
MOST_TICKS = 7


@dataclass
class _Canvas:
    """A picture in layout pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width * SCALE, self.height * SCALE), "white")
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(FONT * SCALE)

    def line(self, points: Sequence[tuple[float, float]], color: tuple[int, int, int], width: float = 1) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.draw.line(scaled, fill=color, width=round(width * SCALE), joint="curve")

    def dot(self, x: float, y: float, color: tuple[int, int, int], radius: float = 4) -> None:
        box = [(value + sign * radius) * SCALE for sign in (-1, 1) for value in (x, y)]
        self.draw.ellipse(box, fill=color)

    def square(self, x: float, y: float, color: tuple[int, int, int], radius: float = 4) -> None:
        self.draw.rectangle([(value + sign * radius) * SCALE for sign in (-1, 1) for value in (x, y)], fill=color)

    def ring(self, x: float, y: float, color: tuple[int, int, int], radius: float = 4) -> None:
        self.dot(x, y, color, radius)
        self.dot(x, y, (255, 255, 255), radius - 2)

    def text(self, x: float, y: float, words: str, anchor: str = "lm", color: tuple[int, int, int] = INK) -> None:
        self.draw.text((x * SCALE, y * SCALE), words, fill=color, font=self.font, anchor=anchor)

    def save(self, path: Path) -> None:
        content = io.BytesIO()
        self.image.save(content, format="PNG", optimize=True)
        write_beside(path, lambda partial: partial.write_bytes(content.getvalue()))


def _width(words: str) -> int:
    """Of a text, in layout pixels."""
    return int(np.ceil(ImageFont.load_default(FONT * SCALE).getlength(words) / SCALE))


def ticks(low: float, high: float) -> list[float]:
    """Round values from ``low`` to ``high``, at most seven."""
    step = next((s for s in STEPS if (high - low) / s <= MOST_TICKS - 1), STEPS[-1])
    return [round(n * step, 6) for n in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]


def draw_differences(report: Report, path: Path) -> bool:
    """One row per method, one panel for JA and one for Boundary IoU: the method minus BA-Net.

    The dot is the mean, the thick line the interval over cases, the thin one that over cases and seeds, small grey dots
    the seeds.

    Returns:
        Whether there was anything to draw.
    """
    columns = [(label, report.differences(metric)) for metric, label in DIFFERENCES]
    names = list(columns[0][1])
    if not names:
        return False
    height = MARGIN + LINE * (len(names) + 3)
    labels = max(LABELS, *(_width(report.title(name)) + MARGIN for name in names))
    canvas = _Canvas(labels + len(columns) * (PANEL + MARGIN), height)
    top, bottom = MARGIN + LINE, MARGIN + LINE * (len(names) + 1)
    for row, name in enumerate(names):
        canvas.text(labels - 12, top + LINE * (row + 0.5), report.title(name), "rm")
    for number, (label, differences) in enumerate(columns):
        left = labels + number * (PANEL + MARGIN)
        shown = [(*d.by_cases, *(d.by_both or ()), *d.per_seed) for d in differences.values()]
        bounds = [0.0, *(value for values in shown for value in values)]
        low, high = min(bounds), max(bounds)
        room = 0.05 * (high - low) or 0.01
        low, high = low - room, high + room

        def at(value: float, left: float = left, low: float = low, high: float = high) -> float:
            return left + PANEL * (value - low) / (high - low)

        canvas.text(left + PANEL / 2, MARGIN, f"{label}, minus {report.title('banet')}", "mm")
        for tick in ticks(low, high):
            canvas.line([(at(tick), top), (at(tick), bottom)], FAINT if tick == 0 else GRID, 1.5 if tick == 0 else 1)
            canvas.text(at(tick), bottom + LINE / 2, f"{tick:+g}" if tick else "0", "mm", FAINT)
        for row, difference in enumerate(differences.values()):
            y = top + LINE * (row + 0.5)
            if difference.by_both is not None:
                canvas.line([(at(bound), y) for bound in difference.by_both], COLOURS[5], 1.5)
            canvas.line([(at(bound), y) for bound in difference.by_cases], COLOURS[5], 5)
            for value in difference.per_seed:
                canvas.dot(at(value), y + 8, COLOURS[7], 2)
            canvas.dot(at(difference.mean), y, COLOURS[6], 5)
    notes = "dot: mean; thick: 95 % over cases; thin: over cases and seeds; small grey dots: seeds"
    canvas.text(canvas.width - MARGIN, height - LINE / 2, notes, "rm", FAINT)
    canvas.save(path)
    return True


def draw_curves(report: Report, path: Path) -> bool:
    """JA of the learning curve by epoch, mean over seeds and folds, one line per method.

    Returns:
        Whether there was anything to draw.
    """
    runs = {name: [part for result in group for part in parts_of(result)] for name, group in report.results.items()}
    curves = {name: _mean_curve([run["curve"] for run in group]) for name, group in runs.items()}
    curves = {name: curve for name, curve in curves.items() if len(curve[0]) > 1}
    if not curves:
        return False
    width, height = 640, max(320, LINE * (len(curves) + 4))
    legend = max(LABELS, *(32 + _width(report.curve_title(name)) + MARGIN for name in curves))
    canvas = _Canvas(width + legend, height)
    left, right, top, bottom = 56, width - MARGIN, MARGIN + LINE, height - 2 * LINE
    epochs = [epoch for curve in curves.values() for epoch in curve[0]]
    values = [value for curve in curves.values() for value in curve[1]]
    low, high = min(values), max(values) + 0.01
    last = max(epochs)

    def at(epoch: float, value: float) -> tuple[float, float]:
        return left + (right - left) * epoch / last, bottom - (bottom - top) * (value - low) / (high - low)

    canvas.text(left, MARGIN / 2 + 4, "JA of the held-back cases of the curve, on the working grid; mean over runs")
    for tick in ticks(low, high):
        canvas.line([at(0, tick), at(last, tick)], GRID)
        canvas.text(left - 8, at(0, tick)[1], f"{tick:g}", "rm", FAINT)
    for tick in [tick for tick in ticks(0, last) if tick == int(tick)]:
        canvas.text(at(tick, low)[0], bottom + LINE / 2, f"{tick:g}", "mm", FAINT)
    canvas.text((left + right) / 2, bottom + 1.3 * LINE, "epoch", "mm", FAINT)
    for number, (name, (steps, means)) in enumerate(curves.items()):
        color, y = COLOURS[number % len(COLOURS)], top + LINE * number
        points = [at(epoch, value) for epoch, value in zip(steps, means, strict=True)]
        canvas.line(points, color, 2)
        canvas.line([(width, y), (width + 24, y)], color, 3)
        mark = (None, canvas.dot, canvas.square, canvas.ring)[number // len(COLOURS) % 4]  # of the same colour again
        if mark:
            for point in [*points, (width + 12, y)]:
                mark(*point, color)
        canvas.text(width + 32, y, report.curve_title(name))
    canvas.save(path)
    return True


def _mean_curve(curves: Sequence[dict[str, list[float]]]) -> tuple[list[int], list[float]]:
    """Epochs that all seeds have, from 1, and the mean of their JA."""
    tables = [dict(zip(curve["epoch"], curve["val_ja"], strict=True)) for curve in curves]
    common = sorted(set.intersection(*(set(table) for table in tables)) - {0})
    return [int(epoch) for epoch in common], [float(np.mean([table[epoch] for table in tables])) for epoch in common]
