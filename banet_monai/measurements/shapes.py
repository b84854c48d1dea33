"""Diameters, convex hull and asymmetry of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from banet_monai.measurements.grids import Grid

__all__ = ["Hull", "asymmetry", "diameters", "hull_of", "longest_lines", "perpendicular_line"]

Ends = tuple[NDArray[np.float64], NDArray[np.float64]]  # two points, in the unit of the grid

BLOCK = 1024  # points compared with all others at a time
TIE = 1e-9  # relative: lines that differ by less are equally long
MOST_TIES = 12  # longest lines that are looked at
DECIMALS = 9  # of lengths that are compared
MOST_CUTS = 512  # cuts of the hull in search of the perpendicular diameter
MOST_POINTS = 200_000  # pixels mirrored; of more, evenly chosen ones
LEVEL_TOLERANCE = 1e-9  # of the hull's extent: what lies in one cut


@dataclass(frozen=True)
class Hull:
    """Convex hull of a mask.

    Args:
        points: (N, n), its corners in the unit of the grid.
        edges: (M, 2), numbers of the points that each edge joins; of a solid also diagonals of its faces.
        size: area or volume.
    """

    points: NDArray[np.float64]
    edges: NDArray[np.intp]
    size: float


def hull_of(mask: NDArray[np.bool_], grid: Grid, start: NDArray[np.intp]) -> Hull:
    """Convex hull of the points half way between pixels inside and outside.

    These are where marching squares and cubes cross the grid, and where scikit-image's Feret diameter and IBSI's
    maximum 3D diameter begin and end: an object of k pixels in a row is k pixels long.

    Args:
        mask: not empty, (x, y[, z]), the bounding box of the object.
        grid: of the picture.
        start: index of the box's first pixel.
    """
    points = []
    for axis in range(mask.ndim):
        lines = np.moveaxis(mask, axis, -1)
        hits = np.argwhere(lines.any(axis=-1))
        first = lines.argmax(axis=-1)[tuple(hits.T)] - 0.5
        last = lines.shape[-1] - 0.5 - lines[..., ::-1].argmax(axis=-1)[tuple(hits.T)]
        points += [np.insert(hits.astype(np.float64), axis, ends, axis=1) for ends in (first, last)]
    real = grid.real(np.concatenate(points) + start)
    hull = ConvexHull(real)
    sides = np.concatenate([hull.simplices[:, pair] for pair in ([0, 1], [1, 2], [0, 2])[: 1 if mask.ndim == 2 else 3]])
    corners = np.sort(hull.vertices)
    edges = np.unique(np.sort(np.searchsorted(corners, sides), axis=1), axis=0)
    return Hull(real[corners], edges, float(hull.volume))


def diameters(hull: Hull) -> tuple[Ends, Ends]:
    """The longest line in a hull, and the longest one perpendicular to it.

    Of several longest ones, as a grid makes them, the one with the longest perpendicular: so neither the order of axes
    nor rounding decides.
    """
    pairs = [(longest, perpendicular_line(hull, longest[1] - longest[0])) for longest in longest_lines(hull.points)]
    return max(pairs, key=lambda pair: round(float(np.linalg.norm(np.subtract(*pair[1]))), DECIMALS))


def longest_lines(points: NDArray[np.float64]) -> list[Ends]:
    """The pairs of points that are farthest apart, exactly, by comparing all; at most ``MOST_TIES`` equal ones."""
    longest = -1.0
    pairs: list[Ends] = []
    for first in range(0, len(points), BLOCK):
        apart = cdist(points[first : first + BLOCK], points[first:])
        peak = float(apart.max())
        if peak > longest * (1 + TIE):
            pairs = []
        longest = max(longest, peak)
        for one, other in np.argwhere(apart >= longest * (1 - TIE)):
            if other > one:
                pairs.append((points[first + one], points[first + other]))
    return pairs[:MOST_TIES]


def perpendicular_line(hull: Hull, along: NDArray[np.float64]) -> Ends:
    """The longest line in the hull that is perpendicular to ``along``.

    Between two corners of the hull, the length of a line across it is a convex function of the place of the cut, so the
    longest one lies at the height of a corner.
    """
    heights = hull.points @ (along / np.linalg.norm(along))
    low, high = np.sort(heights[hull.edges], axis=1).T
    order = np.take_along_axis(hull.edges, np.argsort(heights[hull.edges], axis=1), axis=1)
    lower, upper = hull.points[order[:, 0]], hull.points[order[:, 1]]
    slack = LEVEL_TOLERANCE * float(np.ptp(heights))
    cuts = np.unique(heights)
    if len(cuts) > MOST_CUTS:
        cuts = cuts[np.linspace(0, len(cuts) - 1, MOST_CUTS).round().astype(int)]
    best, ends = -1.0, (hull.points[0], hull.points[0])
    for cut in cuts:
        crossed = (low <= cut + slack) & (high >= cut - slack)
        span = high[crossed] - low[crossed]
        share = np.clip((cut - low[crossed]) / np.where(span > slack, span, 1.0), 0.0, 1.0)
        crossings = lower[crossed] + share[:, None] * (upper[crossed] - lower[crossed])
        level = hull.points[np.abs(heights - cut) <= slack]  # both ends of edges that lie in the cut
        met = np.concatenate([crossings, level])
        apart = cdist(met, met)
        first, second = np.unravel_index(int(apart.argmax()), apart.shape)
        pair = met[first], met[second]
        if (length := float(np.linalg.norm(pair[1] - pair[0]))) > best + slack:
            best, ends = length, pair
    return ends


def asymmetry(mask: NDArray[np.bool_], grid: Grid) -> tuple[float, ...]:
    """Share of a mask that finds no counterpart when mirrored along each principal axis, the longest first.

    The mirror stands perpendicular to the axis and goes through the centroid. With ``S`` the mask and ``S'`` its mirror
    image the share is ``|S - S'| / |S|``, from 0 for a symmetrical shape towards 1.

    Args:
        mask: not empty, the bounding box of the object.
        grid: of the picture.
    """
    inside = np.argwhere(mask)
    centre = inside.mean(axis=0)
    spread = np.atleast_2d(np.cov(inside.T, bias=True))
    _, axes = np.linalg.eigh(grid.matrix @ spread @ grid.matrix.T)
    some = grid.real(inside[:: max(1, len(inside) // MOST_POINTS)] - centre)
    values = mask.astype(np.float32)
    shares = []
    for axis in axes.T[::-1]:
        mirrored = grid.indices(some - 2 * np.outer(some @ axis, axis)) + centre
        found = map_coordinates(values, mirrored.T, order=1, mode="grid-constant", cval=0.0)
        shares.append(float((found < 0.5 - LEVEL_TOLERANCE).mean()))
    return tuple(shares)
