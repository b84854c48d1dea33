"""Maps as pictures with a caption, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from banet_monai.report.overlays import draw_outline
from banet_monai.report.page.palette import heat

__all__ = ["Tile", "draw_tiles", "heat_tile", "outline_tile"]

CAPTION = 20  # height in pixels
GAP = 4
INK, GROUND = (235, 235, 235), (24, 26, 28)
FONT = 13
PERCENTILE = 98

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Tile:
    """A picture with its caption.

    Attributes:
        picture: ``(rows, columns, 3)`` uint8.
        caption: what it shows, a few words.
    """

    picture: Rgb
    caption: str


def heat_tile(values: torch.Tensor, caption: str, *, largest: float | None = None) -> Tile:
    """A map from black over red to pale yellow.

    Args:
        values: ``(*plane)``, MONAI's axis order (x first), 0 and more.
        caption: of the tile.
        largest: shown as pale yellow, and all above. None: the 98th percentile, so that a corner where the padding
            of convolutions adds up does not darken the rest.
    """
    numbers = values.detach().cpu().float().numpy()
    top = float(np.nanpercentile(numbers, PERCENTILE)) if largest is None else largest
    return Tile(heat((numbers / top if top > 0 else numbers).T), caption)


def outline_tile(picture: Rgb, mask: torch.Tensor, caption: str) -> Tile:
    """The outline of label ids ``(*plane)`` (x first) on a picture of that size."""
    return Tile(draw_outline(picture, mask.detach().cpu().numpy().astype(np.uint8).T), caption)


def draw_tiles(rows: Sequence[Sequence[Tile]], *, cell: int = 224) -> Rgb:
    """Rows of tiles, each scaled to fit a square, with the captions below.

    Args:
        rows: at least one tile in all.
        cell: longer side of a tile in pixels.

    Returns:
        ``(rows, columns, 3)`` uint8.

    Raises:
        ValueError: without any tile.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("there is nothing to draw: no tile was given.")
    pictures = [[_fitted(tile.picture, cell) for tile in row] for row in rows]
    heights = [max((picture.height for picture in row), default=0) + CAPTION + GAP for row in pictures]
    width = cell + GAP
    sheet = Image.new("RGB", (columns * width - GAP, sum(heights) - GAP), GROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for line, (row, shown) in enumerate(zip(rows, pictures, strict=True)):
        top, bottom = sum(heights[:line]), sum(heights[: line + 1]) - GAP - CAPTION
        for column, (tile, picture) in enumerate(zip(row, shown, strict=True)):
            left = column * width
            sheet.paste(picture, (left + (cell - picture.width) // 2, top + (bottom - top - picture.height) // 2))
            pen.text((left + cell / 2, bottom + CAPTION / 2), tile.caption, fill=INK, font=font, anchor="mm")
    return np.asarray(sheet)


def _fitted(picture: Rgb, cell: int) -> Image.Image:
    scale = cell / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
