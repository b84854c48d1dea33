"""Strokes, shapes and discs as soft covers, and how a cover is painted over a normalised picture.

Points are ``(n, 2)`` in pixels along the two spatial axes of the picture, pixel centres at whole numbers. A cover is
``(x, y)`` float32 in [0, 1]: the share of each pixel that is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from banet_monai.transforms.intensity import IMAGENET_MEAN, IMAGENET_STD, LUMINANCE

__all__ = ["Layer", "Stroke", "disc_cover", "keep_meta", "paint", "stroke_cover"]

SUPERSAMPLING = 3  # odd, so that a line of one pixel lies symmetrically about its centre
MAX_COLOUR_CHANNELS = 3
Points = NDArray[np.floating]


@dataclass(frozen=True)
class Stroke:
    """A line through points, or the area that they enclose.

    Attributes:
        points: ``(n, 2)`` in pixels.
        width: of the line, in pixels; thinner than a third of a pixel is drawn as a third.
        filled: the polygon instead of the line; ``width`` has no meaning then.
    """

    points: Points
    width: float = 1.0
    filled: bool = False


@dataclass(frozen=True)
class Layer:
    """A cover, opacity included, and the colour that it is painted in.

    Attributes:
        cover: ``(x, y)`` float32 in [0, 1].
        colour: RGB in [0, 1].
    """

    cover: torch.Tensor
    colour: Sequence[float]


def stroke_cover(size: Sequence[int], strokes: Sequence[Stroke]) -> torch.Tensor:
    """Cover of all strokes together, anti-aliased; where they cross nothing is counted twice.

    Args:
        size: of the picture, ``(x, y)`` in pixels.
        strokes: what to draw; parts beyond the picture are cut off.
    """
    canvas = Image.new("L", (size[1] * SUPERSAMPLING, size[0] * SUPERSAMPLING))  # PIL's first axis is our second
    pen = ImageDraw.Draw(canvas)
    for stroke in strokes:
        fine = (np.asarray(stroke.points)[:, ::-1] + 0.5) * SUPERSAMPLING - 0.5
        path = [(x, y) for x, y in fine.tolist()]
        if stroke.filled:
            pen.polygon(path, fill=255)
        else:
            width = max(1, round(stroke.width * SUPERSAMPLING))
            # rounded joints take time and show in wide lines alone
            pen.line(path, fill=255, width=width, joint="curve" if width > 2 * SUPERSAMPLING else None)
    return torch.from_numpy(np.array(canvas.reduce(SUPERSAMPLING))).float().div_(255)


def disc_cover(size: Sequence[int], centre: Sequence[float], radius: float, softness: float) -> torch.Tensor:
    """Cover of all that lies outside a disc, as the tube of a dermatoscope leaves it dark.

    Args:
        size: of the picture, ``(x, y)`` in pixels.
        centre: of the disc in pixels.
        radius: in pixels; there the cover is one half.
        softness: width of the transition in pixels, above 0: at ``radius - softness`` the cover is 0, at
            ``radius + softness`` 1, linear between.
    """
    squares = [(torch.arange(length) - place) ** 2 for length, place in zip(size, centre, strict=True)]
    distance = (squares[0][:, None] + squares[1]).sqrt_()
    return distance.sub_(radius - softness).div_(2 * softness).clamp_(0.0, 1.0)


def paint(picture: torch.Tensor, layers: Sequence[Layer]) -> torch.Tensor:
    """Paint layers over a picture, one after the other: ``picture + cover * (colour - picture)``.

    Args:
        picture: ``(1 or 3, x, y)``, normalised by ImageNet's mean and standard deviation as
            :class:`banet_monai.transforms.NormalizeImaged` does by default; one channel is painted in grey.
        layers: covers of the picture's size.

    Returns:
        Tensor of the same shape and type; the given one stays as it is.

    Raises:
        ValueError: for a volume or another number of channels.
    """
    channels = picture.shape[0]
    if picture.ndim != 3 or channels not in (1, MAX_COLOUR_CHANNELS):
        raise ValueError(f"only pictures (1 or 3, x, y) can be painted over, got shape {tuple(picture.shape)}.")
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    for layer in layers:
        colour = torch.tensor([float(value) for value in layer.colour])
        if channels == 1:
            grey = (colour * torch.tensor(LUMINANCE)).sum()
            value = ((grey - mean.mean()) / std.mean()).reshape(1)
        else:
            value = (colour - mean) / std
        picture = torch.lerp(picture, value.to(picture)[:, None, None], layer.cover.to(picture))
    return picture


def keep_meta(values: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """``values`` with the metadata of the picture that they were made from, if that has any."""
    if not isinstance(source, MetaTensor):
        return values
    return MetaTensor(values, meta=source.meta, applied_operations=source.applied_operations)
