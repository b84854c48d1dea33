"""Pictures and masks of a data set, decoded, checked, and scaled alike."""

from __future__ import annotations

import io
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

__all__ = ["Scaling", "decode_mask", "decode_picture"]

EIGHT_BIT = ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
HALF = 128  # grey from here on is inside: JPEG rounds the edge of a mask
UNDECIDED = (64, 191)  # grey that is neither black nor white
UNDECIDED_AT_MOST = 0.1  # share of a mask's pixels; at the edges of JPEG masks it is a few hundredths


class Scaling(NamedTuple):
    """A rule by which pictures and masks become squares of one size.

    Args:
        rule: ``"crop"``: the largest centred square; ``"stretch"``: all of it, without its aspect.
        size: pixels of each side.
    """

    rule: Literal["crop", "stretch"]
    size: int

    @property
    def words(self) -> str:
        """The rule in words."""
        what = "largest centred square" if self.rule == "crop" else "whole picture"
        return (
            f"{what}, scaled to {self.size} x {self.size} (pictures bicubic with antialiasing; in masks a pixel is "
            "inside where at least half of what falls into it is)"
        )

    def picture(self, picture: Image.Image) -> Image.Image:
        """A picture by this rule."""
        return picture.resize((self.size, self.size), Image.Resampling.BICUBIC, self._box(picture))

    def mask(self, mask: Image.Image) -> Image.Image:
        """A mask of 0 and 255 by this rule, of 0 and 255 again."""
        share = mask.resize((self.size, self.size), Image.Resampling.BOX, self._box(mask))
        return _black_and_white(np.asarray(share) >= HALF)

    def _box(self, picture: Image.Image) -> tuple[int, int, int, int]:
        width, height = picture.size
        if self.rule == "stretch":
            return (0, 0, width, height)
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return (left, top, left + side, top + side)


def decode_picture(content: bytes) -> Image.Image:
    """Decode an 8-bit picture in the pixel grid that is stored; an EXIF orientation is not applied.

    Raises:
        ValueError: when it is truncated, no picture, or has more than 8 bits.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            picture = opened.copy()
    except Exception as error:  # PIL raises many kinds: OSError, SyntaxError, EOFError, struct.error, ...
        raise ValueError(f"is truncated, corrupt or no picture ({type(error).__name__})") from None
    if picture.mode not in EIGHT_BIT:
        raise ValueError(f"has more than 8 bits a pixel (mode {picture.mode}), unlike the official file")
    return picture


def decode_mask(content: bytes) -> Image.Image:
    """Decode a mask of one class, as 0 and 255.

    0/1 and 0/255 mean the same; of grey in between, as JPEG makes it along edges, 128 and more is inside.

    Raises:
        ValueError: when it cannot be decoded, or more than a tenth of it is grey, so that it is no mask.
    """
    grey = np.asarray(decode_picture(content).convert("L"))
    if grey.max(initial=0) <= 1:
        return _black_and_white(grey == 1)
    low, high = UNDECIDED
    undecided = float(np.mean((grey >= low) & (grey <= high)))
    if undecided > UNDECIDED_AT_MOST:
        raise ValueError(f"is no mask: {undecided:.0%} of its pixels are neither black nor white")
    return _black_and_white(grey >= HALF)


def _black_and_white(inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Image.Image:
    return Image.fromarray(inside.astype(np.uint8) * np.uint8(255))
