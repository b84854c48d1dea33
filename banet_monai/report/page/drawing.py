"""Panels as inline SVG over an embedded picture: lines stay sharp at any size, and a page can switch them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from banet_monai.report.outlines import Ring
from banet_monai.report.page.html import Html, el
from banet_monai.report.page.palette import PREDICTION, hexadecimal
from banet_monai.report.page.panels import Chord, Outline, Panel

__all__ = ["class_color", "data_uri", "panel_figure", "path_data"]

QUALITIES = (85, 75, 60, 45, 30)  # of JPEG, tried until the picture is small enough, ...
SMALLER = 0.7  # ... then its sides are cut to this share
SMALLEST_SIDE = 64
LONGEST_PATH = 24_000  # characters of one outline; beyond it the smallest rings go
TEXT_HEIGHT = 0.055  # of letters in a drawing, as a share of its longer side
TEXT_SHARES = (0.3, 0.7, 0.15, 0.85)  # along a diameter, where its length may stand; the first that is free
TICK_SHARE = 0.018


def panel_figure(panel: Panel, *, limit: int) -> Html:
    """A ``figure`` with the picture, its lines and its caption.

    Args:
        panel: what to draw.
        limit: bytes that the picture may have, before base64.
    """
    width, height = panel.size
    layers: list[Html] = []
    if panel.picture is not None:
        uri = data_uri(panel.picture, limit=limit)
        attributes = {"src": uri, "alt": panel.alt, "width": width, "height": height, "decoding": "async"}
        layers.append(el("img", attributes))
    lines = _lines(panel)
    if lines or panel.picture is None:
        told = {"role": "img", "aria-label": panel.alt} if panel.picture is None else {"aria-hidden": "true"}
        box = {"viewBox": f"0 0 {width} {height}", "width": width, "height": height, "focusable": "false"}
        layers.append(el("svg", {**box, **told}, lines))
    kind = "drawing" if panel.kind == "drawing" else "frame"
    note = f" ({panel.left_out} small regions not outlined)" if panel.left_out else ""
    return el(
        "figure", {"class": panel.kind}, el("div", {"class": kind}, layers), el("figcaption", None, panel.caption, note)
    )


def data_uri(picture: NDArray[np.uint8], *, limit: int) -> str:
    """A picture as JPEG in a data URI, in the best quality and size that keep it below a limit.

    Args:
        picture: ``(rows, columns, 3)`` uint8.
        limit: bytes before base64.
    """
    image = Image.fromarray(np.ascontiguousarray(picture))
    content = b""
    while True:
        for quality in QUALITIES:
            content = _jpeg(image, quality)
            if len(content) <= limit:
                break
        if len(content) <= limit or max(image.size) <= SMALLEST_SIDE:
            return f"data:image/jpeg;base64,{base64.b64encode(content).decode('ascii')}"
        width, height = (max(1, round(side * SMALLER)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=quality < QUALITIES[0])
    return buffer.getvalue()


def class_color(label: int) -> str:
    """Colour of the outline of a label, ``#rrggbb``."""
    return hexadecimal(PREDICTION[(label - 1) % len(PREDICTION)])


def path_data(rings: Sequence[Ring], *, longest: int = LONGEST_PATH) -> str:
    """Rings as the ``d`` of a path, relative steps of a tenth of a pixel, the largest rings first.

    Args:
        rings: ``(N, 2)``, the last point equal to the first, largest first.
        longest: characters; rings that do not fit are left out.
    """
    parts: list[str] = []
    length = 0
    for ring in rings:
        part = _ring_data(ring)
        length += len(part)
        if parts and length > longest:
            break
        parts.append(part)
    return "".join(parts)


def _ring_data(ring: Ring) -> str:
    tenths = np.rint(ring[:-1] * 10).astype(int)
    steps = np.diff(tenths, axis=0)
    steps = steps[(steps != 0).any(axis=1)]
    start = f"M{_tenth(int(tenths[0, 0]))} {_tenth(int(tenths[0, 1]))}"
    if not len(steps):
        return f"{start}Z"
    turns = np.concatenate([[True], (steps[1:] != steps[:-1]).any(axis=1)])  # equal steps are one longer step
    merged = np.add.reduceat(steps, np.flatnonzero(turns), axis=0)
    words = [_tenth(value) for value in merged.ravel().tolist()]
    return f"{start}l{words[0]}{''.join(word if word[0] == '-' else f' {word}' for word in words[1:])}Z"


def _tenth(value: int) -> str:
    """Tenths as a short number: ``5`` is ``.5``, ``-10`` is ``-1``."""
    text = f"{abs(value) // 10 or ''}{f'.{abs(value) % 10}' if value % 10 else ''}" or "0"
    return f"-{text}" if value < 0 else text


def _lines(panel: Panel) -> list[Html]:
    if panel.kind == "drawing":
        return [*_silhouette(panel), *_border(panel), *_chords(panel)]
    parts = [_outline(outline, "prediction") for outline in panel.prediction]
    parts += [_outline(outline, "truth") for outline in panel.truth]
    if panel.chords:
        role = "chords" if panel.kind == "image" else "measure"  # a projection always has them
        parts.append(el("g", {"class": role}, [_chord_line(chord) for chord in panel.chords]))
    return parts


def _outline(outline: Outline, role: str) -> Html:
    data = {"d": path_data(outline.rings)}
    color = {"stroke": class_color(outline.label)} if role == "prediction" else {}
    return el(
        "g", {"class": role}, el("path", {"class": "halo", **data}), el("path", {"class": "line", **color, **data})
    )


def _silhouette(panel: Panel) -> list[Html]:
    return [
        el("path", {"class": "shape", "fill-rule": "evenodd", "d": path_data(outline.rings)})
        for outline in panel.prediction
    ]


def _border(panel: Panel) -> list[Html]:
    """The border of the image, where it lies inside the drawing."""
    if panel.border is None:
        return []
    x, y, width, height = (f"{value:.1f}" for value in panel.border)
    return [el("rect", {"class": "border", "x": x, "y": y, "width": width, "height": height})]


def _chord_line(chord: Chord) -> Html:
    (x1, y1), (x2, y2) = chord.start, chord.end
    place = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    return Html(el("line", {"class": "halo", **place}) + el("line", {"class": "line", **place}))


def _chords(panel: Panel) -> list[Html]:
    """Diameters of a drawing with ticks at their ends and their lengths beside them."""
    side = max(panel.size)
    parts: list[Html] = []
    places: list[tuple[float, float]] = []
    for chord in panel.chords:
        start, end = np.array(chord.start), np.array(chord.end)
        length = float(np.hypot(*(end - start)))
        along = (end - start) / length if length else np.array([1.0, 0.0])
        across = np.array([-along[1], along[0]]) * side * TICK_SHARE
        lines = [(start, end), (start - across, start + across), (end - across, end + across)]
        data = "".join(f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in lines)
        parts.append(el("path", {"class": "chord" if chord.is_main else "chord cross", "d": data}))
        options = [_text_place(chord.text, start + (end - start) * share, panel.size) for share in TEXT_SHARES]
        places.append(max(options, key=lambda place: min((math.dist(place, other) for other in places), default=0.0)))
    height = max(panel.size) * TEXT_HEIGHT
    for chord, (x, y) in zip(panel.chords, places, strict=True):
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": f"{height:.1f}", "text-anchor": "middle"}
        parts.append(el("text", place, chord.text))
    return parts


def _text_place(text: str, near: NDArray[np.float64], size: tuple[int, int]) -> tuple[float, float]:
    """Where a length stands: right of a point of its line, and inside the panel."""
    height = max(size) * TEXT_HEIGHT
    half = len(text) * height * 0.28
    x = float(np.clip(near[0] + height * 0.4 + half, half, size[0] - half))
    return x, float(np.clip(near[1] + height * 0.35, height, size[1] - height * 0.3))
