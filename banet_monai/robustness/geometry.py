"""Corruptions that move pixels, and the way back for what is predicted on them."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Rotate

from banet_monai.robustness.corruptions import Corruptiond, plain
from banet_monai.transforms.grid import resize_linear

__all__ = ["SliceThicknessd", "Turnd"]


class Turnd(Corruptiond):
    """A turn about the centre, in the plane of the picture or slice; ``amount``: the angle in degrees.

    The size stays; what comes in at the corners mirrors the image. Predictions are turned back by the same angle. The
    corners that left the frame cannot be predicted: :meth:`seen` tells which pixels stayed inside.
    """

    least, most = -180.0, 180.0

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        return self._turned(image, self.amount, padding="reflection")

    def undo(self, pred: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """The prediction turned back, linear between pixels."""
        return self._turned(pred, -self.amount, padding="reflection")

    def seen(self, size: tuple[int, ...]) -> torch.Tensor | None:
        """Pixels that lie inside the frame after the turn."""
        if self.amount == 0:
            return None
        there = self._turned(torch.ones(1, *size), self.amount, padding="zeros")
        return self._turned(there, -self.amount, padding="zeros")[0] > 0.999

    def _turned(self, image: torch.Tensor, degrees: float, *, padding: str) -> torch.Tensor:
        if degrees == 0:
            return image
        radians = math.radians(degrees)
        angle = radians if image.ndim == 3 else (0.0, 0.0, radians)
        turn = Rotate(angle, keep_size=True, mode="bilinear", padding_mode=padding, align_corners=False)
        return plain(turn(image.float())).contiguous()


class SliceThicknessd(Corruptiond):
    """Fewer, thicker slices along the last axis of a volume; ``amount``: how many times thicker, 1 or more.

    A thick slice is the mean of those that it takes the place of.

    The network is given the volume of fewer slices, as such a scan would come; predictions are resampled back to the
    slices of the truth.

    Raises:
        ValueError: for an amount below 1, or an image that is no volume.
    """

    least = 1.0

    def corrupt(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        size = list(image.shape[1:])
        if len(size) != 3:
            raise ValueError(f"slices have a thickness in volumes (C, H, W, D), got shape {tuple(image.shape)}.")
        fewer = max(1, round(size[-1] / self.amount))
        return F.adaptive_avg_pool1d(image.flatten(0, 2), fewer).reshape(image.shape[0], *size[:-1], fewer)

    def undo(self, pred: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """The prediction on as many slices as the truth has, linear between slices."""
        return resize_linear(pred, size)
