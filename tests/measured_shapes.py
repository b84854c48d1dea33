"""Masks of shapes whose size is known in closed form: a pixel belongs to a shape if its centre lies inside.

Axes are MONAI's (x, y[, z]); half axes, spacings and results are in one unit, and ``offset`` moves the centre of the
shape by shares of a pixel.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.special import ellipe, ellipeinc, ellipkinc

MARGIN = 2  # pixels of background around the shape


def coordinates(reach, spacing, offset):
    """(*shape, n): places of the pixel centres relative to the shape's, for a grid that holds a ball of ``reach``."""
    sizes = [2 * int(np.ceil(reach / step)) + 2 * MARGIN + 1 for step in spacing]
    lines = [(np.arange(n) - n // 2 - o) * s for n, s, o in zip(sizes, spacing, offset, strict=True)]
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)


def turned(angle):
    """(2, 2): columns are the directions of the two axes."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def ellipsoid(half_axes, spacing, *, axes=None, offset=None):
    """Ellipse or ellipsoid; ``axes`` (n, n) holds the directions of its axes as columns."""
    half_axes = np.asarray(half_axes, dtype=float)
    places = coordinates(half_axes.max(), spacing, np.zeros(len(half_axes)) if offset is None else offset)
    places = places if axes is None else places @ axes
    return ((places / half_axes) ** 2).sum(axis=-1) <= 1


def box(half_axes, spacing, *, axes=None, offset=None):
    """Rectangle or box."""
    half_axes = np.asarray(half_axes, dtype=float)
    places = coordinates(np.linalg.norm(half_axes), spacing, np.zeros(len(half_axes)) if offset is None else offset)
    places = places if axes is None else places @ axes
    return (np.abs(places) <= half_axes).all(axis=-1)


def ellipse_perimeter(a, b):
    """By the complete elliptic integral of the second kind."""
    a, b = max(a, b), min(a, b)
    return 4 * a * ellipe(1 - (b / a) ** 2)


def ellipsoid_surface(half_axes):
    """By incomplete elliptic integrals (Legendre)."""
    a, b, c = sorted(half_axes, reverse=True)
    if a - c < 1e-9 * a:
        return 4 * np.pi * a**2
    angle = np.arccos(c / a)
    modulus = a**2 * (b**2 - c**2) / (b**2 * (a**2 - c**2))
    parts = ellipeinc(angle, modulus) * np.sin(angle) ** 2 + ellipkinc(angle, modulus) * np.cos(angle) ** 2
    return 2 * np.pi * (c**2 + a * b / np.sin(angle) * parts)


def box_surface(half_axes):
    a, b, c = half_axes
    return 8 * (a * b + b * c + a * c)


def pixel_box_diameter(counts, spacing):
    """Longest line between points half way across the sides of the outer pixels of a box of so many pixels."""
    ends = []
    for axis in range(len(counts)):
        inner = np.array(counts, dtype=float) - 1
        inner[axis] += 1
        ends.append(np.linalg.norm(inner * spacing))
    return max(ends)


def all_orientations(mask):
    """The mask with its axes exchanged and mirrored in every way, and the order of axes of each."""
    for order in itertools.permutations(range(mask.ndim)):
        for flips in itertools.product((False, True), repeat=mask.ndim):
            turned_mask = mask.transpose(order)
            yield np.flip(turned_mask, [axis for axis, flip in enumerate(flips) if flip]), order
