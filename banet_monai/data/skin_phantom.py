"""Synthetic skin with one lesion, as arrays: pictures that look like dermoscopy, and a grey volume of such slices.

Pigment darkens the skin as an absorbing layer would: ``colour = skin * exp(-density * ABSORPTION)``, which gives the
yellow, brown and black of lesions from one density map. Nothing here stems from a patient.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage import measure

__all__ = ["skin_picture", "skin_volume"]

Floats = NDArray[np.float64]

SKIN_TONES = np.array(  # RGB in [0, 1], from light to dark skin as dermatoscopes show it
    [
        [0.93, 0.80, 0.76],
        [0.90, 0.72, 0.66],
        [0.86, 0.80, 0.66],
        [0.84, 0.64, 0.54],
        [0.76, 0.58, 0.47],
        [0.64, 0.53, 0.49],
        [0.58, 0.41, 0.31],
    ]
)
ABSORPTION = np.array([0.62, 1.08, 1.45])  # of melanin in red, green and blue: blue is lost first
VEIL = np.array([0.47, 0.50, 0.58])  # bluish white scattering above deep pigment
HAIR_COLOURS = np.array([[0.10, 0.07, 0.06], [0.22, 0.14, 0.09], [0.42, 0.29, 0.18]])
INK = np.array([0.16, 0.13, 0.13])
SUPERSAMPLING = 3


def skin_picture(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one picture of skin with a lesion.

    Args:
        rng: source of all randomness; the same state gives the same picture.
        height: rows, at least 32.
        width: columns, at least 32.

    Returns:
        The picture ``(height, width, 3)``, 8-bit RGB, and the lesion's mask ``(height, width)``.
    """
    shape = (height, width)
    unit = min(shape)
    depth, mask = _lesion_depth(rng, shape, unit)
    skin = _skin(rng, shape, unit)
    hue = ABSORPTION * rng.uniform((0.75, 0.9, 0.85), (1.2, 1.15, 1.1))
    picture = skin * np.exp(-_pigment(rng, depth, unit)[..., None] * hue)

    if rng.random() < 0.25:
        veil = _sigmoid(4 * (_noise(rng, shape, unit / 6) - 0.6)) * _sigmoid(depth / (0.05 * unit) - 2)
        picture += 0.55 * veil[..., None] * (VEIL - picture)
    picture = _with_hair(rng, picture, unit)
    if rng.random() < 0.3:
        picture = _with_ruler(rng, picture, unit)
    picture = _through_optics(rng, picture, unit)
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8), mask


def skin_volume(rng: np.random.Generator, shape: tuple[int, int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Stack grey slices of skin through one lesion whose outline changes from slice to slice.

    Args:
        rng: source of all randomness.
        shape: rows, columns and slices; the lesion is missing from the outermost slices.

    Returns:
        The volume in 8-bit grey and the lesion's mask, both of ``shape``.
    """
    rows, columns, slices = shape
    unit = min(rows, columns)
    height = np.linspace(-1.25, 1.25, slices)
    waist = np.sqrt(np.clip(1 - height**2, 0, None))  # a ball's cross-sections
    y, x = np.mgrid[:rows, :columns]
    drift = 0.08 * unit * height
    rho, theta = _polar(y[..., None] - rows / 2 - drift, x[..., None] - columns / 2 + 0.5 * drift)
    wobble = sum(
        rng.uniform(0.03, 0.08) * np.cos(k * theta + rng.uniform(0, 6.28) + rng.uniform(-1.2, 1.2) * height)
        for k in (2, 3, 5, 7)
    )
    depth = 0.32 * unit * waist * (1 + wobble) - rho + 0.02 * unit * _noise(rng, shape, unit / 12)
    depth[..., waist == 0] = -float(unit)
    mask = _largest_part(depth > 0)

    density = _sigmoid(depth / (0.012 * unit)) * (1.0 + 0.18 * _noise(rng, shape, unit / 10))
    skin = 0.76 + 0.02 * _noise(rng, shape, unit / 3) + 0.012 * _noise(rng, shape, unit / 40)
    grey = skin * np.exp(-density) * _vignette(rows, columns, 0.12)[..., None] + rng.normal(0, 0.012, shape)
    return (255 * np.clip(grey, 0, 1) + 0.5).astype(np.uint8), mask


def _noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Floats:
    """Smooth noise, mean 0 and standard deviation 1, with features about ``scale`` pixels wide in every axis."""
    coarse = [int(np.ceil(n / max(scale, 1.0))) + 3 for n in shape]
    noise: NDArray[np.floating] = rng.standard_normal(coarse)
    for length, knots in zip(shape, coarse, strict=True):  # the axes take turns at the front
        noise = np.moveaxis(np.tensordot(_spline(length, knots), noise, axes=(1, 0)), 0, -1)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9), dtype=np.float64)


@functools.lru_cache(maxsize=512)
def _spline(length: int, knots: int) -> Floats:
    """Cubic B-spline weights ``(length, knots)`` of evenly spaced places from the second to the last but one knot."""
    place = np.linspace(1, knots - 2, length)
    distance = np.abs(place[:, None] - np.arange(knots))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -40, 40))))


def _polar(y: Floats, x: Floats) -> tuple[Floats, Floats]:
    return np.hypot(y, x), np.arctan2(y, x)


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part, without holes."""
    parts = np.asarray(measure.label(mask))  # type: ignore[no-untyped-call]
    largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1 if parts.any() else mask
    return np.asarray(ndimage.binary_fill_holes(largest), dtype=bool)


def _lesion_depth(rng: np.random.Generator, shape: tuple[int, int], unit: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Roughly how many pixels deep inside the lesion each pixel lies, negative outside; and the mask of the inside."""
    height, width = shape
    radius = unit * rng.uniform(0.13, 0.42)
    slack = np.maximum(np.array(shape) / 2 - 0.75 * radius, 0)
    centre = np.array(shape) / 2 + rng.uniform(-0.75, 0.75, 2) * slack
    y, x = np.mgrid[:height, :width].astype(float) - centre[:, None, None]
    y += 0.10 * radius * _noise(rng, shape, radius / 1.5) + 0.03 * radius * _noise(rng, shape, radius / 5)
    x += 0.10 * radius * _noise(rng, shape, radius / 1.5) + 0.03 * radius * _noise(rng, shape, radius / 5)

    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.62, 1.0)
    along, across = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch
    rho, theta = _polar(across, along)
    irregularity = rng.uniform(0.3, 1.6)
    outline = 1 + irregularity * sum(
        rng.normal(0, 0.12 / k) * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in range(2, 10)
    )
    depth = radius * outline - rho
    depth += 0.024 * rng.uniform() ** 2 * unit * _noise(rng, shape, unit / 50)  # ragged edge
    return depth, _largest_part(depth > 0)


def _skin(rng: np.random.Generator, shape: tuple[int, int], unit: int) -> Floats:
    tone = rng.dirichlet(np.full(len(SKIN_TONES), 0.12)) @ SKIN_TONES
    skin = np.ones((*shape, 3)) * np.clip(tone * rng.uniform(0.92, 1.06), 0, 0.97)

    # Mottling: blood (green and blue absorbed) and melanin; pores and the crossing lines of the skin's surface.
    blood = (
        0.5 * _noise(rng, shape, unit / 3) + 0.35 * _noise(rng, shape, unit / 10) + 0.2 * _noise(rng, shape, unit / 30)
    )
    melanin = 0.6 * _noise(rng, shape, unit / 2) + 0.3 * _noise(rng, shape, unit / 25)
    redness, tan = rng.uniform(0.02, 0.09), rng.uniform(0.02, 0.06)
    lines = sum(_lines(rng, shape, unit, angle) for angle in (rng.uniform(0, np.pi) + np.array([0, 1.1])))
    relief = 0.012 * lines * rng.uniform(0.3, 1.2) + 0.010 * _noise(rng, shape, 1.6)
    absorbed = redness * blood[..., None] * np.array([0.25, 1.0, 0.8]) + tan * melanin[..., None] * ABSORPTION

    # Freckles: pale, small, no lesion.
    spots = np.zeros(shape)
    for _ in range(rng.poisson(2.5)):
        spot_y, spot_x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        spread = unit * rng.uniform(0.006, 0.018)
        y, x = np.ogrid[: shape[0], : shape[1]]
        spots += rng.uniform(0.06, 0.16) * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / (2 * spread**2))
    return np.asarray(skin * np.exp(-absorbed - spots[..., None] * ABSORPTION) * (1 + relief[..., None]))


def _lines(rng: np.random.Generator, shape: tuple[int, int], unit: int, angle: float) -> Floats:
    """Fine, wavy, nearly parallel furrows."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    phase = (x * np.cos(angle) + y * np.sin(angle)) / (unit * rng.uniform(0.018, 0.03))
    return np.asarray(
        np.sin(2 * np.pi * (phase + 0.8 * _noise(rng, shape, unit / 8))) * _sigmoid(_noise(rng, shape, unit / 6))
    )


def _pigment(rng: np.random.Generator, depth: Floats, unit: int) -> Floats:
    """Density of pigment: zero outside, with a border that is sharp on one side and blurred on the other."""
    shape = depth.shape
    blur = unit * rng.uniform(0.006, 0.03) * np.exp(0.6 * _noise(rng, shape, unit / 2))
    cover = _sigmoid(2.5 * depth / blur)
    inner = np.clip(depth / (0.25 * unit), 0, 1)
    density = rng.uniform(0.25, 1.15) + rng.uniform(-0.1, 0.8) * inner

    density = density + rng.uniform(0.03, 0.22) * _noise(rng, shape, unit / 8) + 0.06 * _noise(rng, shape, unit / 30)
    if rng.random() < 0.6:  # pigment network: dark meshes around pale holes
        mesh = np.abs(_noise(rng, shape, unit / rng.uniform(36, 56)))
        density = density + rng.uniform(0.10, 0.32) * (0.8 - np.clip(mesh, 0, 1.6)) * _sigmoid(
            _noise(rng, shape, unit / 5)
        )
    if rng.random() < 0.4:  # globules and dots
        dots = np.clip(_noise(rng, shape, unit / rng.uniform(28, 45)) - 1.2, 0, 1)
        density = density + rng.uniform(0.3, 0.8) * dots
    if rng.random() < 0.5:  # a second, darker part
        part = _sigmoid(5 * (_noise(rng, shape, unit / 4) - rng.uniform(0.3, 1.0)))
        density = density + rng.uniform(0.3, 1.0) * part
    return np.asarray(cover * np.clip(density, 0.18, 2.6))


def _with_hair(rng: np.random.Generator, picture: Floats, unit: int) -> Floats:
    if (amount := rng.random()) < 0.35:
        return picture
    count = int(rng.integers(1, 7) if amount < 0.8 else rng.integers(7, 26))
    height, width = picture.shape[:2]
    colour = HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))]
    combed, t = rng.uniform(0, 2 * np.pi), np.linspace(0, 1, 24)[:, None]
    layer = _Layer(height, width)
    for _ in range(count):
        angle = combed + rng.normal(0, 0.5)
        start = rng.uniform(0, 1, 2) * (width, height)
        step = unit * rng.uniform(0.3, 1.1) * np.array([np.cos(angle), np.sin(angle)])
        bend = np.array([-step[1], step[0]]) * rng.normal(0, 0.3)
        curve = start + step * (t - 0.5) + bend * (4 * t * (1 - t))
        layer.line(curve, unit * rng.uniform(0.004, 0.009))
    return layer.painted(picture, colour, opacity=rng.uniform(0.65, 0.95))


def _with_ruler(rng: np.random.Generator, picture: Floats, unit: int) -> Floats:
    height, width = picture.shape[:2]
    angle = rng.normal(0, 0.08) + rng.choice([0.0, np.pi / 2])
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    margin = rng.choice([-0.44, 0.44]) * abs(across @ (width, height))
    origin = np.array([width, height]) / 2 + across * margin - along * 0.35 * abs(along @ (width, height))
    length, tick = 0.7 * abs(along @ (width, height)), 0.035 * unit
    layer = _Layer(height, width)
    layer.line(np.array([origin, origin + along * length]), 0.004 * unit)
    for number, place in enumerate(np.linspace(0, length, 21)):
        foot = origin + along * place
        inwards = -np.sign(margin) * across * tick * (1.0 if number % 5 == 0 else 0.55)
        layer.line(np.array([foot, foot + inwards]), 0.004 * unit)
    return layer.painted(picture, INK, opacity=0.85)


class _Layer:
    """Anti-aliased strokes, painted over a picture of ``height`` x ``width``."""

    def __init__(self, height: int, width: int) -> None:
        self.size = (height, width)
        self.canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        self.pen = ImageDraw.Draw(self.canvas)

    def line(self, points: Floats, stroke: float) -> None:
        """Draw a line through ``points`` (x, y), ``stroke`` pixels wide."""
        path = [(float(x), float(y)) for x, y in points * SUPERSAMPLING]
        self.pen.line(path, fill=255, width=max(2, round(stroke * SUPERSAMPLING)), joint="curve")

    def painted(self, picture: Floats, colour: Floats, *, opacity: float) -> Floats:
        height, width = self.size
        fine = np.asarray(self.canvas, dtype=np.float64) / 255
        cover = opacity * fine.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING).mean(axis=(1, 3))[..., None]
        return np.asarray(picture + cover * (colour - picture))


def _vignette(height: int, width: int, strength: float) -> Floats:
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(1 - strength * (x**2 + y**2) / 2)


def _through_optics(rng: np.random.Generator, picture: Floats, unit: int) -> Floats:
    """Light, lens and sensor: uneven light, vignette, now and then a black tube, slight blur, white balance, noise."""
    height, width = picture.shape[:2]
    picture = picture * _vignette(height, width, rng.uniform(0.05, 0.4))[..., None]
    if rng.random() < 0.2:
        y, x = np.mgrid[:height, :width]
        rim = rng.uniform(0.62, 0.72) * min(unit * 1.25, max(height, width)) - np.hypot(y - height / 2, x - width / 2)
        picture = picture * _sigmoid(rim / (0.006 * unit))[..., None]
    picture = ndimage.gaussian_filter(picture, (*[rng.uniform(0.3, 0.9)] * 2, 0))
    picture = picture * rng.uniform(0.95, 1.05, 3) * rng.uniform(0.88, 1.06)
    return np.asarray(picture + rng.normal(0, rng.uniform(0.004, 0.014), picture.shape))
