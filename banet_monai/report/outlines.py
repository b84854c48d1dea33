"""Closed outlines of masks and probability maps, finer than a pixel, as polygons with holes; and back to masks.

Pixels: x runs along the array's first axis (to the right), y along its second (down), and the top-left pixel covers
[0, 1] x [0, 1], so that its centre is (0.5, 0.5) and an array index is a coordinate less one half.

Rings follow the right-hand rule of RFC 7946 in the numbers (x, y): exteriors have a positive (shoelace) area, holes a
negative one. With y up that is counter-clockwise and clockwise; on a screen, where y runs down, it looks reversed.

What an outline runs along: of a map its level, linearly interpolated between pixel centres (marching squares); of a
mask half way between pixels inside and outside, corners cut; at the frame exactly the frame. It keeps 1/500 pixel away
from every pixel's centre, so that a pixel lies inside exactly if it belongs to the mask, also after rounding to 1/1000;
so no ring touches or crosses another one (without ``tolerance``). Pixels that share only a corner are not joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.measure import approximate_polygon, find_contours, label

__all__ = ["DECIMALS", "Polygon", "Ring", "filled_rings", "outlines", "polygons_of", "ring_area", "signed_field"]

DECIMALS = 3  # pixels are rounded to 1/1000
CLEARANCE = 0.002  # pixels between an outline and a pixel's centre; must survive the rounding
SMALLEST = 1e-6  # a value at the level itself counts as this share of the largest difference

Ring = NDArray[np.float64]  # (N, 2), the last point is the first one
Polygon = list[Ring]  # the exterior ring, then its holes


def outlines(values: ArrayLike, level: float = 0.5) -> list[Ring]:
    """Closed outlines of one map.

    Args:
        values: ``(x, y)`` floats, or a mask of 0 and 1; at or above ``level`` is inside.
        level: where the outline runs.

    Returns:
        Rings ``(N, 2)`` of picture coordinates as the module describes them, the last point equal to the first:
        exteriors, each followed by its holes.

    Raises:
        ValueError: when the values are not two-dimensional or not finite.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"outlines are of one picture (x, y), got the shape {array.shape}; pass one slice or channel.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("the values hold NaN or infinity; outlines need numbers everywhere.")
    field = signed_field(array.astype(np.float64) - level, array >= level)
    return [ring for polygon in polygons_of(field) for ring in polygon]


def signed_field(difference: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``difference`` to the level with the sign that ``inside`` says, and nowhere 0; for :func:`polygons_of`."""
    size = np.abs(difference)
    size = np.maximum(size, SMALLEST * max(1.0, float(size.max())))
    return np.where(inside, size, -size)


def polygons_of(field: NDArray[np.float64], tolerance: float = 0.0) -> list[Polygon]:
    """The regions above 0 of one map.

    Args:
        field: ``(x, y)``, nowhere 0, as :func:`signed_field` makes it.
        tolerance: points may go as long as the line stays this close, in pixels (Douglas and Peucker); 0 keeps all.
            Structures smaller than it vanish, and lines that lie that close may cross.

    Returns:
        One polygon per region joined along pixel sides, none for an empty map.
    """
    if not (field > 0).any():
        return []
    padded = np.pad(field, 1, mode="edge")
    for border in (padded[0], padded[-1], padded[:, 0], padded[:, -1]):
        border[:] = -np.abs(border)  # mirrored, the value is 0 exactly on the frame
    inside = padded > 0
    # Every region joined along pixel sides has one exterior, and its holes border on the same region.
    regions = label(inside, connectivity=1)  # type: ignore[no-untyped-call]
    exteriors: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for line in find_contours(padded, 0.0, positive_orientation="high"):  # type: ignore[no-untyped-call]
        low = np.floor(line)
        share = line - low  # points lie on lines between two pixel centres: one of two shares is 0
        kept = low + np.where(share > 0, np.clip(share, CLEARANCE, 1 - CLEARANCE), 0.0)
        ring = np.round(kept - 0.5, DECIMALS) + 0.0  # index i of the padded array is the coordinate i - 0.5
        area = ring_area(ring)
        ends = [tuple(end[0].astype(int)) for end in (low, np.ceil(line))]
        region = int(regions[ends[0] if inside[ends[0]] else ends[1]])
        ring = approximate_polygon(ring, tolerance)  # type: ignore[no-untyped-call]
        if len(ring) < 4 or ring_area(ring) * area <= 0:
            continue  # vanished within the tolerance
        if area > 0:
            exteriors[region] = ring
        else:
            holes.setdefault(region, []).append(ring)
    return [[ring, *holes.get(region, [])] for region, ring in exteriors.items()]


def ring_area(ring: Ring) -> float:
    """Signed area by the shoelace formula, positive for counter-clockwise numbers."""
    x, y = (ring - ring[0]).T
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2


def filled_rings(rings: Sequence[Ring], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill rings by the even-odd rule, so that holes stay empty.

    Args:
        rings: in picture coordinates, of any number of polygons.
        size: pixels along x and along y.

    Returns:
        ``(x, y)``: pixels whose centre lies inside.
    """
    if not rings:
        return np.zeros(size, dtype=bool)
    x0, y0 = np.concatenate([ring[:-1] for ring in rings]).T - 0.5  # picture coordinates -> indices of centres
    x1, y1 = np.concatenate([ring[1:] for ring in rings]).T - 0.5
    first = np.ceil(np.minimum(y0, y1)).astype(int)
    count = np.ceil(np.maximum(y0, y1)).astype(int) - first  # lines y = first, first + 1, ... that an edge crosses
    edge = np.repeat(np.arange(len(count)), count)
    y = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    x = x0[edge] + (y - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    is_on = (y >= 0) & (y < size[1])
    # A centre with an odd number of crossings to its left lies inside.
    crossings = np.zeros((size[0] + 1, size[1]), dtype=int)
    np.add.at(crossings, (np.clip(np.ceil(x[is_on]), 0, size[0]).astype(int), y[is_on]), 1)
    return cast("NDArray[np.bool_]", np.cumsum(crossings, axis=0)[:-1] % 2 == 1)
