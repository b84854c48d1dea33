"""Colours of the page: outlines that colour-blind eyes tell apart, and text that stands out in light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DARK",
    "FRAME",
    "INFERNO",
    "LIGHT",
    "PREDICTION",
    "TRUTH",
    "contrast",
    "css_variables",
    "heat",
    "hexadecimal",
]

Rgb = tuple[int, int, int]

# Okabe and Ito 2008, without the hues of skin, mucosa and blood
TRUTH: Rgb = (240, 228, 66)  # yellow, dashed
PREDICTION: tuple[Rgb, ...] = (
    (86, 180, 233),  # sky blue, solid; further ones for further classes
    (213, 94, 0),
    (204, 121, 167),
    (0, 158, 115),
    (230, 159, 0),
)
FRAME: Rgb = (16, 18, 20)  # behind pictures, in light and dark

LIGHT: Mapping[str, str] = {
    "page": "#ffffff",
    "raised": "#f4f5f7",
    "text": "#1a1c1f",
    "muted": "#565b63",
    "line": "#d5d9df",
    "accent": "#0a58a8",
    "warning": "#8f3a00",
    "bar": "#5a87b5",
}
DARK: Mapping[str, str] = {
    "page": "#15171b",
    "raised": "#1f2228",
    "text": "#e8eaed",
    "muted": "#a6adb7",
    "line": "#393e47",
    "accent": "#82baf6",
    "warning": "#ffb37a",
    "bar": "#6f9cca",
}

# matplotlib's inferno at ten even steps (public domain, CC0): from black to pale yellow, brighter at every step
INFERNO = np.array(
    [
        (0, 0, 4),
        (27, 12, 65),
        (74, 12, 107),
        (120, 28, 109),
        (165, 44, 96),
        (207, 68, 70),
        (237, 105, 37),
        (251, 155, 6),
        (247, 209, 61),
        (252, 255, 164),
    ],
    dtype=np.float64,
)
NOT_A_NUMBER: Rgb = (120, 200, 255)  # no colour of the scale


def heat(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours of values from 0 to 1, with NaN in a colour of its own.

    Args:
        values: any shape; beyond 0 and 1 they are cut.

    Returns:
        The shape with a last axis of 3.
    """
    steps = np.linspace(0, 1, 256)
    table = np.stack([np.interp(steps, np.linspace(0, 1, len(INFERNO)), channel) for channel in INFERNO.T], axis=1)
    numbers = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    colors = np.rint(table).astype(np.uint8)[np.rint(np.clip(numbers, 0, 1) * 255).astype(np.uint8)]
    colors[np.isnan(values)] = NOT_A_NUMBER
    return colors


def hexadecimal(color: Rgb) -> str:
    """``#rrggbb``."""
    return "#" + "".join(f"{value:02x}" for value in color)


def contrast(first: str, second: str) -> float:
    """Contrast of two colours ``#rrggbb``, 1 to 21.

    Source:
        Web Content Accessibility Guidelines 2.1, "contrast ratio" and "relative luminance".
    """
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    levels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [level / 12.92 if level <= 0.03928 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def css_variables(colors: Mapping[str, str]) -> str:
    """Custom properties ``--name: #rrggbb;`` for a style sheet."""
    return " ".join(f"--{name}: {value};" for name, value in colors.items())
