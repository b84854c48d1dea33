"""What an image costs: a start, a price per image, per megapixel and per window of the network, fitted to measurements.

The seconds of one image are ``image + megapixel * M + window * W``: reading, bookkeeping and writing; resizing and
everything else that touches each pixel of the file; passes of the network. A process adds its start once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

__all__ = ["CostModel", "Observation", "count_windows", "fit_cost"]


@dataclass(frozen=True)
class Observation:
    """One measured image: megapixels of the file (megavoxels of a volume), windows of the network, seconds."""

    megapixels: float
    windows: int
    seconds: float


@dataclass(frozen=True)
class CostModel:
    """Prices in seconds, none below zero.

    Attributes:
        image_s: of every image.
        megapixel_s: of a million pixels or voxels of its file.
        window_s: of a window of the network.
    """

    image_s: float
    megapixel_s: float
    window_s: float

    def seconds(self, megapixels: float, windows: int) -> float:
        """Predicted seconds of one image."""
        return self.image_s + self.megapixel_s * megapixels + self.window_s * windows

    def hours(
        self, images: int, megapixels: float, windows: int, *, start_s: float = 0.0, images_per_start: int = 1000
    ) -> float:
        """Predicted hours of one machine for many images of a kind.

        Args:
            images: how many.
            megapixels: of each.
            windows: of each.
            start_s: seconds until a process is ready.
            images_per_start: images that a process does before the next one is started.
        """
        starts = math.ceil(images / images_per_start)
        return (starts * start_s + images * self.seconds(megapixels, windows)) / 3600

    def residual(self, seen: Observation) -> float:
        """Predicted over measured seconds, less 1: +0.1 where the model says a tenth too much."""
        return self.seconds(seen.megapixels, seen.windows) / seen.seconds - 1


def fit_cost(observations: Sequence[Observation]) -> CostModel:
    """Prices that predict the measured seconds best: least squares of relative errors, no price below zero.

    Raises:
        ValueError: for fewer than three observations, which any prices fit, or seconds that are not positive.
    """
    if len(observations) < 3:
        raise ValueError(f"three prices need at least three measured images, got {len(observations)}.")
    if any(seen.seconds <= 0 for seen in observations):
        raise ValueError("measured seconds must be positive.")
    seconds = np.array([seen.seconds for seen in observations])
    terms = np.array([[1.0, seen.megapixels, seen.windows] for seen in observations])
    prices, _ = nnls(terms / seconds[:, None], np.ones(len(seconds)))
    return CostModel(*(float(price) for price in prices))


def count_windows(sizes: Sequence[int], window: int, overlap: float) -> int:
    """Windows of a square or cubic side over an image, as ``SegmentationInferer`` lays them."""
    interval = max(1, int(window * (1 - overlap)))
    return math.prod(math.ceil(max(size - window, 0) / interval) + 1 for size in sizes)
