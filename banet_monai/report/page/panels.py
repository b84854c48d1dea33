"""Panels: one picture each with the lines over it, in pixels of the picture as it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import label as connected

from banet_monai.report.outlines import Ring, polygons_of, ring_area
from banet_monai.report.page.palette import heat

__all__ = ["Chord", "Outline", "Panel", "Plane", "drawing_panel", "fitted_picture", "image_panel", "map_panel"]

MAP_SIDE = 320  # pixels; maps are smooth
DRAWING_SIDE = 512
MARGIN = 0.12  # around the shape of a drawing, as a share of its longer side
MOST_REGIONS = 100  # outlined per label and panel, the largest ones
STEP = 0.4  # between the points of an outline, in pixels of the panel, at least

Size = tuple[int, int]


@dataclass(frozen=True)
class Outline:
    """Closed lines around one label: rings ``(N, 2)`` of (x, y), the largest first, to be filled even-odd."""

    label: int
    rings: tuple[Ring, ...]


@dataclass(frozen=True)
class Outlines:
    """Outlines of all labels of a plane, and how many of their regions are too many to be outlined."""

    items: tuple[Outline, ...]
    left_out: int


@dataclass(frozen=True)
class Chord:
    """A diameter between two points, in array indices of a case, or in pixels of a panel."""

    start: tuple[float, ...]
    end: tuple[float, ...]
    text: str
    is_main: bool


@dataclass(frozen=True)
class Panel:
    """One picture with lines over it.

    Attributes:
        caption: what it shows, in a few words.
        alt: the same for those who cannot see it.
        kind: ``"image"``, ``"map"``, ``"drawing"`` or ``"projection"``.
        size: width and height in pixels.
        picture: ``(rows, columns, 3)`` uint8; None: lines alone.
        prediction: outlines per label.
        truth: outlines per label.
        chords: diameters.
        left_out: regions too many to be outlined.
        border: the image's border in a drawing, as x, y, width and height.
    """

    caption: str
    alt: str
    kind: str
    size: Size
    picture: NDArray[np.uint8] | None = None
    prediction: tuple[Outline, ...] = ()
    truth: tuple[Outline, ...] = ()
    chords: tuple[Chord, ...] = ()
    left_out: int = 0
    border: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Plane:
    """A plane through a case.

    Attributes:
        labels: label ids ``(columns, rows)``.
        steps: width and height of a pixel.
        shown: ``(rows, columns, 3)`` uint8; None where there is no picture.
        truth: like ``labels``.
        chords: diameters in the indices of ``labels``.
    """

    labels: NDArray[np.uint8]
    steps: tuple[float, float]
    shown: NDArray[np.uint8] | None = None
    truth: NDArray[np.uint8] | None = None
    chords: tuple[Chord, ...] = ()

    @cached_property
    def prediction(self) -> Outlines:
        """Outlines of ``labels`` in pixels of the plane."""
        return outlined(self.labels)


def image_panel(plane: Plane, caption: str, alt: str, *, longest: int, kind: str = "image") -> Panel:
    """The picture of a plane with its outlines, pixels as high as wide, its longer side at most ``longest``."""
    columns, rows = plane.labels.shape
    size = square_size(columns, rows, plane.steps)
    picture, fitted = (None, _fit(size, longest)) if plane.shown is None else fitted_picture(plane.shown, size, longest)
    scale = (fitted[0] / columns, fitted[1] / rows)
    prediction = _placed(plane.prediction, scale)
    truth = () if plane.truth is None else _placed(outlined(plane.truth), scale)
    chords = _scaled(plane.chords, scale)
    return Panel(caption, alt, kind, fitted, picture, prediction, truth, chords, plane.prediction.left_out)


def drawing_panel(plane: Plane, caption: str, alt: str) -> Panel:
    """The outline alone with its diameters, as large as it fits into the proportions of the plane.

    Raises:
        ValueError: when there is nothing to draw.
    """
    xs, ys = (np.flatnonzero(plane.labels.any(axis=axis)) for axis in (1, 0))
    if not xs.size:
        raise ValueError("a drawing needs foreground, and the mask is empty.")
    steps = np.array(plane.steps)
    whole = np.array(plane.labels.shape) * steps
    start = np.array([xs[0], ys[0]], dtype=np.float64)
    shape = (np.array([xs[-1], ys[-1]]) + 1 - start) * steps  # in the unit of the steps, as all below
    needed = shape + 2 * MARGIN * shape.max()
    view = whole * (needed / whole).max()
    scale = DRAWING_SIDE / view.max() * steps  # pixels of the panel per pixel of the labels
    shift = (view - shape) / 2 * (scale / steps) - start * scale
    across, down = scale.tolist()
    prediction = _placed(plane.prediction, (across, down), shift)
    chords = tuple(
        replace(chord, start=_plus(chord.start, shift), end=_plus(chord.end, shift))
        for chord in _scaled(plane.chords, (across, down))
    )
    width, height = (max(1, round(side)) for side in (view * scale / steps).tolist())
    border = (float(shift[0]), float(shift[1]), *(whole * scale / steps).tolist())
    left_out = plane.prediction.left_out
    size = (width, height)
    return Panel(caption, alt, "drawing", size, None, prediction, (), chords, left_out, border)


def map_panel(values: NDArray[Any], steps: tuple[float, float], caption: str, alt: str) -> Panel:
    """A map of values from 0 to 1, ``(columns, rows)``, in colours; NaN in one of its own."""
    columns, rows = values.shape
    size = _fit(square_size(columns, rows, steps), MAP_SIDE)
    is_missing = np.isnan(values)
    numbers = Image.fromarray(np.ascontiguousarray(np.nan_to_num(values).T, dtype=np.float32))
    shown = np.asarray(numbers.resize(size, Image.Resampling.BILINEAR)).copy()
    told = alt
    if is_missing.any():
        told = f"{alt}, not a number at {int(is_missing.sum())} of {values.size} pixels"
        holes = Image.fromarray(np.ascontiguousarray(is_missing.T)).convert("L")
        shown[np.asarray(holes.resize(size, Image.Resampling.BILINEAR)) > 0] = np.nan
    return Panel(caption, told, "map", size, heat(shown))


def square_size(columns: int, rows: int, steps: tuple[float, float]) -> Size:
    """Width and height with pixels as high as wide, none of them smaller than it was."""
    finest = min(steps)
    return max(1, round(columns * steps[0] / finest)), max(1, round(rows * steps[1] / finest))


def _fit(size: Size, longest: int) -> Size:
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def fitted_picture(picture: NDArray[np.uint8], size: Size, longest: int) -> tuple[NDArray[np.uint8], Size]:
    """A picture stretched to ``size`` and made smaller where its longer side is beyond ``longest``."""
    fitted = _fit(size, longest)
    if fitted == (picture.shape[1], picture.shape[0]):
        return picture, fitted
    how = Image.Resampling.LANCZOS if max(size) > longest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(fitted, how)), fitted


def _plus(point: Sequence[float], shift: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple((np.asarray(point) + shift).tolist())


def _scaled(chords: Sequence[Chord], scale: tuple[float, float]) -> tuple[Chord, ...]:
    """Array indices as places in the panel; the centre of pixel 0 lies at one half."""

    def place(point: Sequence[float]) -> tuple[float, float]:
        return (point[0] + 0.5) * scale[0], (point[1] + 0.5) * scale[1]

    return tuple(replace(chord, start=place(chord.start), end=place(chord.end)) for chord in chords)


def outlined(ids: NDArray[np.uint8]) -> Outlines:
    """Outlines per label of a plane ``(columns, rows)``, in its pixels, and how many small regions are left out."""
    outlines, left_out = [], 0
    ends = np.array(ids.shape, dtype=np.float64)
    counts = np.bincount(ids.ravel(), minlength=2)
    for number in (np.flatnonzero(counts[1:]) + 1).tolist():
        inside = ids == number
        xs, ys = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        region, fewer = _largest(inside[xs[0] : xs[-1] + 1, ys[0] : ys[-1] + 1])
        left_out += fewer
        field = np.pad(region, 1).astype(np.float64) - 0.5
        corner = np.array([xs[0], ys[0]], dtype=np.float64) - 1
        rings = [ring for polygon in polygons_of(field) for ring in polygon]
        placed = [np.clip(ring + corner, 0, ends) for ring in rings]
        placed.sort(key=lambda ring: -abs(ring_area(ring)))
        outlines.append(Outline(number, tuple(placed)))
    return Outlines(tuple(outlines), left_out)


def _placed(
    outlines: Outlines, scale: tuple[float, float], shift: NDArray[np.float64] | None = None
) -> tuple[Outline, ...]:
    """Outlines in pixels of a panel, of which a pixel of the plane takes ``scale``."""
    moved = np.zeros(2) if shift is None else shift
    return tuple(
        Outline(outline.label, tuple(_thinned(ring * scale + moved) for ring in outline.rings))
        for outline in outlines.items
    )


def _thinned(ring: Ring) -> Ring:
    """A closed line with fewer points, where they lie closer than :data:`STEP`."""
    lengths = np.cumsum(np.hypot(*np.diff(ring, axis=0).T))
    if len(ring) < 8 or lengths[-1] >= STEP * len(ring):
        return ring
    _, first = np.unique(np.floor(lengths / STEP), return_index=True)
    kept: Ring = ring[np.concatenate([[0], first + 1])]
    kept[-1] = ring[0]
    return kept if len(kept) >= 4 else ring


def _largest(region: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """The largest connected parts, and how many others there are."""
    numbered, count = connected(region, connectivity=1, return_num=True)  # type: ignore[no-untyped-call]
    if count <= MOST_REGIONS:
        return region, 0
    sizes = np.bincount(numbered.ravel())[1:]
    kept = np.argsort(sizes, kind="stable")[::-1][:MOST_REGIONS] + 1
    return np.isin(numbered, kept), count - MOST_REGIONS
