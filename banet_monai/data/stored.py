"""The pixel grid that a picture's file stores, of which Pillow turns some.

Pillow leaves an orientation tag of PNG and JPEG alone, and applies that of a TIFF by itself when it decodes. Here no
tag is applied, whatever the format, so that a mask lies on its picture in every program that ignores tags as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

__all__ = ["is_black_and_white", "open_picture", "stored_size", "undo_turn"]

_pillow_limit = threading.Lock()  # Pillow's own limit is a variable of its module
_WIDTH, _LENGTH, _ORIENTATION = 256, 257, 274  # tags of TIFF 6.0
# what undoes each orientation, on rows and columns
_UNDO: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda rows: rows[:, ::-1],
    3: lambda rows: rows[::-1, ::-1],
    4: lambda rows: rows[::-1],
    5: lambda rows: rows.swapaxes(0, 1),
    6: lambda rows: np.rot90(rows, 1),
    7: lambda rows: rows[::-1, ::-1].swapaxes(0, 1),
    8: lambda rows: np.rot90(rows, -1),
}


def open_picture(source: Path | BinaryIO) -> ImageFile.ImageFile:
    """``PIL.Image.open`` without Pillow's own limit of pixels, for those who have one. Nothing is decoded."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def stored_size(picture: Image.Image) -> tuple[int, int]:
    """Columns and rows of a picture that was opened and not decoded yet."""
    if picture.format != "TIFF":
        return picture.size
    tags = picture.tag_v2  # type: ignore[attr-defined]
    return int(tags[_WIDTH]), int(tags[_LENGTH])


def undo_turn(picture: Image.Image) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What brings the decoded rows of a picture back to the grid of its file; ask before it is decoded."""
    if picture.format != "TIFF":
        return _as_it_is
    turn = _UNDO.get(picture.tag_v2.get(_ORIENTATION, 1))  # type: ignore[attr-defined]
    if turn is not None:
        # a file with a name may be mapped into memory, where Pillow 12 takes its rows to be as long as the turned ones
        picture.filename = ""  # type: ignore[attr-defined]
    return _as_it_is if turn is None else lambda rows: np.ascontiguousarray(turn(rows))


def is_black_and_white(picture: Image.Image) -> bool:
    """Whether a palette picture shows black and white alone: then its indices mean nothing, and white may be the first.

    Label ids under a palette that says nothing, such as one that is black throughout, are not. Decodes the picture.
    """
    palette = picture.getpalette("RGB") if picture.mode == "P" else None
    if palette is None:
        return False
    colours = [tuple(palette[place : place + 3]) for place in range(0, len(palette), 3)]
    if set(colours) != {(0, 0, 0), (255, 255, 255)}:
        return False
    used = [index for _, index in picture.getcolors(1 << 8) or []]
    shown = {colours[index] for index in used if index < len(colours)}  # type: ignore[call-overload,operator]
    return len(shown) == len(used)


def _as_it_is(rows: NDArray[Any]) -> NDArray[Any]:
    return rows
