"""A mask written tile by tile, as it is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from banet_monai.files import write_beside

__all__ = ["TILE", "write_mask_tiff"]

TILE = 512  # pixels, the side of a tile of the mask


def write_mask_tiff(path: Path, strips: Iterable[NDArray[np.uint8]], *, width: int, height: int) -> Path:
    """Write a mask as a tiled, DEFLATE-compressed TIFF; it has its name only once it is whole.

    Args:
        path: of the file.
        strips: the mask from top to bottom, ``(rows, width)`` each, any number of rows.
        width: of the mask.
        height: rows of all strips together.

    Returns:
        ``path``.

    Raises:
        OSError: when it cannot be written.
        ValueError: when the strips hold another number of rows.
    """

    def write(partial: Path) -> None:
        tiles = _tiles(strips, width, height)
        tifffile.imwrite(
            partial,
            tiles,
            shape=(height, width),
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="minisblack",
            compression="zlib",
            metadata=None,
        )
        for _ in tiles:  # none is left; what comes behind the last row is checked
            continue

    return write_beside(path, write)


def _tiles(strips: Iterable[NDArray[np.uint8]], width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """Tiles from left to right and top to bottom; those at the right and the lower border are filled up with zeros."""
    wide = -(-width // TILE) * TILE
    rows, filled, total = np.zeros((TILE, wide), np.uint8), 0, 0
    for strip in strips:
        total += len(strip)
        taken = 0
        while taken < len(strip):
            count = min(TILE - filled, len(strip) - taken)
            rows[filled : filled + count, :width] = strip[taken : taken + count]
            filled, taken = filled + count, taken + count
            if filled == TILE:
                yield from _row_of_tiles(rows)
                rows[:], filled = 0, 0
    if filled:
        yield from _row_of_tiles(rows)
    if total != height:
        raise ValueError(f"a mask of {height} rows was announced, and {total} came.")


def _row_of_tiles(rows: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for left in range(0, rows.shape[1], TILE):
        yield rows[:, left : left + TILE].copy()  # compressed later, when the rows hold others
