"""The panels of a case as one PNG: for slides, mails and programs that show no SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from banet_monai.report.page.palette import FRAME, PREDICTION, TRUTH
from banet_monai.report.page.panels import Outline, Panel
from banet_monai.report.page.views import Strip

__all__ = ["draw_strips"]

FINE = 2  # lines are drawn at twice the size and scaled down
GAP, MARGIN, CAPTION = 8, 8, 18  # pixels
LINE, HALO = 1.7, 3.4
SMALLEST, LARGEST = 256, 400  # height of a row of panels
DASH, SPACE = 7.0, 5.0  # of the truth, in pixels
WHITE: tuple[int, int, int] = (255, 255, 255)
GREY: tuple[int, int, int] = (190, 196, 204)
Point = tuple[float, float]


def draw_strips(strips: Sequence[Strip]) -> Image.Image:
    """Rows of panels on a dark ground, captions below them: prediction solid, truth dashed.

    Args:
        strips: what :func:`banet_monai.report.page.views.strips_of` returned, at least one.

    Raises:
        ValueError: without any strip.
    """
    if not strips:
        raise ValueError("there is nothing to draw: no strip was given.")
    rows = [_row(strip) for strip in strips]
    width = max(row.width for row in rows) + 2 * MARGIN
    sheet = Image.new("RGB", (width, sum(row.height for row in rows) + GAP * (len(rows) - 1) + 2 * MARGIN), FRAME)
    top = MARGIN
    for row in rows:
        sheet.paste(row, (MARGIN, top))
        top += row.height + GAP
    return sheet


def _row(strip: Strip) -> Image.Image:
    panels = _of_one_size(strip.panels)
    pictures = [_panel(panel) for panel in panels]
    height = max(picture.height for picture in pictures) + CAPTION
    row = Image.new("RGB", (sum(p.width for p in pictures) + GAP * (len(pictures) - 1), height), FRAME)
    pen = ImageDraw.Draw(row)
    font = ImageFont.load_default(12)
    left = 0
    for panel, picture in zip(panels, pictures, strict=True):
        row.paste(picture, (left, 0))
        pen.text((left, picture.height + 3), panel.caption, fill=GREY, font=font)
        left += picture.width + GAP
    return row


def _of_one_size(panels: Sequence[Panel]) -> list[Panel]:
    """Panels of one scale (slices, projections) as they are or all enlarged, others of one height."""
    if len({panel.kind for panel in panels}) > 1:
        height = min(max(panels[0].size[1], SMALLEST), LARGEST)
        return [_resized(panel, height / panel.size[1]) for panel in panels]
    zoom = max(1.0, SMALLEST / max(panel.size[1] for panel in panels))
    return [_resized(panel, zoom) for panel in panels]


def _resized(panel: Panel, zoom: float) -> Panel:
    size = (max(1, round(panel.size[0] * zoom)), max(1, round(panel.size[1] * zoom)))
    if size == panel.size:
        return panel
    picture = panel.picture
    if picture is not None:
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
    scale = np.array(size) / np.array(panel.size)

    def moved(outlines: Sequence[Outline]) -> tuple[Outline, ...]:
        return tuple(Outline(o.label, tuple(ring * scale for ring in o.rings)) for o in outlines)

    chords = tuple(
        replace(c, start=tuple((np.array(c.start) * scale).tolist()), end=tuple((np.array(c.end) * scale).tolist()))
        for c in panel.chords
    )
    return replace(
        panel, size=size, picture=picture, prediction=moved(panel.prediction), truth=moved(panel.truth), chords=chords
    )


def _panel(panel: Panel) -> Image.Image:
    ground = Image.fromarray(panel.picture) if panel.picture is not None else Image.new("RGB", panel.size, FRAME)
    if not (panel.prediction or panel.truth or panel.chords):
        return ground
    width, height = panel.size
    layer = Image.new("RGBA", (width * FINE, height * FINE), (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)
    lines: list[tuple[Sequence[Point], tuple[int, int, int]]] = []
    for outline in panel.prediction:
        color = PREDICTION[(outline.label - 1) % len(PREDICTION)]
        lines += [(_points(ring), color) for ring in outline.rings]
    dashes = [piece for outline in panel.truth for ring in outline.rings for piece in _dashes(ring)]
    lines += [(piece, TRUTH) for piece in dashes]
    if panel.kind in ("drawing", "projection"):
        lines += [([_fine(chord.start), _fine(chord.end)], WHITE) for chord in panel.chords]
    for stroke, is_halo in ((HALO, True), (LINE, False)):
        for points, color in lines:
            pen.line(
                points, fill=(0, 0, 0, 140) if is_halo else (*color, 255), width=round(stroke * FINE), joint="curve"
            )
    drawn = layer.reduce(FINE)
    ground = ground.copy()
    ground.paste(drawn, (0, 0), drawn)
    if panel.kind == "drawing":
        _write_lengths(ground, panel)
    return ground


def _write_lengths(picture: Image.Image, panel: Panel) -> None:
    pen = ImageDraw.Draw(picture)
    size = max(11, round(max(panel.size) * 0.04))
    font = ImageFont.load_default(size)
    for row, chord in enumerate(panel.chords):
        pen.text((6, 4 + row * size * 1.3), chord.text, fill=WHITE, font=font, stroke_width=2, stroke_fill=FRAME)


def _points(ring: NDArray[np.float64]) -> list[Point]:
    return [(float(x), float(y)) for x, y in ring * FINE]


def _fine(point: Sequence[float]) -> Point:
    return point[0] * FINE, point[1] * FINE


def _dashes(ring: NDArray[np.float64]) -> Iterable[list[Point]]:
    """Pieces of a closed line of even length, with even gaps."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    total = float(lengths[-1])
    count = max(1, math.floor(total / (DASH + SPACE)))
    period = total / count
    for index in range(count):
        first, last = index * period, index * period + period * DASH / (DASH + SPACE)
        inner = lengths[(lengths > first) & (lengths < last)]
        places = np.concatenate([[first], inner, [last]])
        xs, ys = (np.interp(places, lengths, ring[:, axis]) for axis in (0, 1))
        yield [(float(x) * FINE, float(y) * FINE) for x, y in zip(xs, ys, strict=True)]
